"""Whether a fold can still catch up with the best cell: asked after each epoch.

A pruner that is asked between folds cannot spare a slow cell its first folds, and slow cells are the dear ones: at a
small learning rate every epoch is a little better than the last, so that early stopping never ends them. Where such a
fold is heading shows after a few epochs. A straight line through the latest validation accuracies, drawn on to the last
epoch, is generous, for learning curves flatten; if even the line stays below what the best cell reached on the same
fold, by more than two standard errors of the difference, the cell is ended.
Source of the idea: Domhan, Springenberg and Hutter 2015, who extrapolate with parametric curves instead of a line.
docs/decisions/007-pruner.md gives the epochs saved and the scores lost.

A race ends cells and never changes a score: a fold that is finished is the same whoever it ran against.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from sem_search.evaluation.outcomes import TrainingCurves
from sem_search.transfer.stopping import EpochFigures

WINDOW = 10
"""Epochs that the line is drawn through, and that every fold is granted."""

STANDARD_ERRORS = 2.0

ACCURACIES = "validation_accuracies"
"""Where a complete trial keeps the validation accuracy of each fold, so that a worker needs no files of another."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """What the best finished cell reached on a fold."""

    trial: int
    accuracy: float
    """Share of right validation tiles at the epoch that was kept."""


def find_rival(study: optuna.Study, *, fold: int) -> Rival | None:
    """Return the best complete trial's accuracy on a fold; None while no trial is complete."""
    known = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if ACCURACIES in trial.user_attrs and trial.value is not None
    ]
    if not known:
        return None
    best = max(known, key=lambda trial: trial.value or 0.0)
    return Rival(trial=best.number, accuracy=float(best.user_attrs[ACCURACIES][fold]))


def extrapolate_accuracy(accuracies: Sequence[float], *, n_epochs: int) -> float:
    """Return what the latest accuracies come to at the last epoch, if they go on rising as they do.

    Args:
        accuracies: After each epoch so far, at least `WINDOW`, each 0 to 1.
        n_epochs: Most epochs of a fold.

    Returns:
        The least-squares line through the last `WINDOW` accuracies at epoch `n_epochs`; where it falls, its value now.
    """
    slope, now = np.polyfit(np.arange(1 - WINDOW, 1), np.asarray(accuracies[-WINDOW:]), 1)
    return float(now + max(slope, 0.0) * (n_epochs - len(accuracies)))


def compute_allowance(accuracy: float, *, n_tiles: int) -> float:
    """Return `STANDARD_ERRORS` of the difference of two shares near `accuracy`, each over `n_tiles` tiles.

    Both heads answer the same tiles, so that the true error of the difference is smaller: the allowance is generous.
    """
    return STANDARD_ERRORS * math.sqrt(2 * accuracy * (1 - accuracy) / n_tiles)


class FoldRace:
    """One fold of a cell against the best cell on the same fold."""

    def __init__(self, *, fold: int, n_epochs: int, n_tiles: int, rival: Rival | None) -> None:
        """Begin a fold.

        Args:
            fold: Its number.
            n_epochs: Most epochs.
            n_tiles: Validation tiles.
            rival: Whom to catch up with; None lets the fold run to its end.
        """
        self._fold = fold
        self._n_epochs = n_epochs
        self._n_tiles = n_tiles
        self._rival = rival
        self._figures: list[EpochFigures] = []

    @property
    def curves(self) -> TrainingCurves:
        """What has been trained so far."""
        return TrainingCurves(
            training_loss=np.array([epoch.training_loss for epoch in self._figures]),
            training_accuracy=np.array([epoch.training_accuracy for epoch in self._figures]),
            validation_loss=np.array([epoch.validation_loss for epoch in self._figures]),
            validation_accuracy=np.array([epoch.validation_accuracy for epoch in self._figures]),
        )

    def add(self, figures: EpochFigures) -> None:
        """Take in the next epoch.

        Raises:
            optuna.TrialPruned: The fold can no longer catch up.
        """
        self._figures.append(figures)
        if self._rival is None or len(self._figures) < WINDOW:
            return
        reachable = extrapolate_accuracy([one.validation_accuracy for one in self._figures], n_epochs=self._n_epochs)
        if reachable < self._rival.accuracy - compute_allowance(self._rival.accuracy, n_tiles=self._n_tiles):
            raise optuna.TrialPruned(
                f"in fold {self._fold + 1}, after epoch {len(self._figures)} of {self._n_epochs}: validation accuracy "
                f"{figures.validation_accuracy:.3f}, on its way to {min(reachable, 1.0):.3f} at best, cannot reach the "
                f"{self._rival.accuracy:.3f} of trial {self._rival.trial} on this fold"
            )
