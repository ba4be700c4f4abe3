"""Whether a fold can still catch up with the incumbent, the best cell so far: its curve is extrapolated at each epoch.

A pruner that is asked between folds cannot spare a slow cell its first folds, and slow cells cost most: at a small
learning rate every epoch is a little better than the last, so that early stopping never ends them. Where such a fold is
heading shows after a few epochs. A straight line through the latest validation accuracies, drawn on to the last epoch,
is generous, for learning curves flatten. The incumbent is the best cell with the same head. The cell is pruned if even
the extrapolated accuracy

1. is lower than the incumbent's on the same folds, by more than two standard errors of the difference; or
2. is pruned by the test between folds: the signed-rank test over the finished folds and this one says that the cell is
   worse. So a third fold is stopped as soon as it cannot change the outcome of the first two.

Source of the idea: Domhan, Springenberg and Hutter 2015, who extrapolate with parametric curves instead of a line.
docs/decisions/007-pruner.md gives the epochs saved and the scores lost.

This prunes cells and never changes a score: a fold that is finished is the same whatever it was compared with. And
whether it was stopped is a function of its curve and of the incumbent alone, so that a fold which was trained before
the incumbent was known can be compared afterwards (see `in_order`).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import wilcoxon

from sem_search.heads import Head
from sem_search.records import EpochFigures, FoldOutcome, TrainingCurves
from sem_search.search.pruning.pruners import FIRST_STEPS, WILCOXON_P
from sem_search.search.trials.attributes import ACCURACIES

WINDOW = 10
"""Epochs that the line is drawn through, and that every fold is granted."""

STANDARD_ERRORS = 2.0


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """What the best finished cell reached on a fold."""

    trial: int
    accuracy: float
    """On validation tiles, at the best epoch."""
    before: tuple[float, ...] = ()
    """Its accuracy on the folds that both have finished."""
    leads: tuple[float, ...] = ()
    """By how much its accuracy was higher on them."""

    @property
    def mean_accuracy(self) -> float:
        """Its accuracy over the finished folds and this one."""
        return sum((*self.before, self.accuracy)) / (len(self.before) + 1)


def get_accuracy(fold: FoldOutcome) -> float:
    """Return the accuracy on validation tiles at the best epoch."""
    return float(fold.curves.validation_accuracy[fold.best_epoch])


def find_incumbent(
    trials: Iterable[FrozenTrial], *, fold: int, head: Head, finished: Sequence[FoldOutcome] = ()
) -> Incumbent | None:
    """Return what the best complete one of these trials with the same head reached on a fold; None where there is none.

    Curves follow the tiles as they are, but the objective is of answers over all views, by which one head may gain
    several per cent more than another (docs/decisions/036-no-first-look.md).

    Args:
        trials: Of the study.
        fold: The fold that is compared.
        head: Of the cell that is compared.
        finished: The folds before it, of the cell that is compared.
    """
    known = [
        trial
        for trial in trials
        if trial.state == TrialState.COMPLETE
        and trial.params.get("head", "finetune") == head
        and ACCURACIES in trial.user_attrs
        and trial.value is not None
    ]
    if not known:
        return None
    best = max(known, key=lambda trial: trial.value or 0.0)
    accuracies = [float(accuracy) for accuracy in best.user_attrs[ACCURACIES]]
    return Incumbent(
        trial=best.number,
        accuracy=accuracies[fold],
        before=tuple(accuracies[outcome.fold] for outcome in finished),
        leads=tuple(accuracies[outcome.fold] - get_accuracy(outcome) for outcome in finished),
    )


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


def compute_allowance(accuracy: float, other: float | None = None, *, n_tiles: int) -> float:
    """Return `STANDARD_ERRORS` of the difference of two shares, each over `n_tiles` tiles.

    One right and one wrong tile are added to either (Agresti and Caffo, Am. Stat. 54 (2000) 280): without them the
    error of a share is 0 at 1, and too small near it. Both heads answer the same tiles, so that the true error of the
    difference is smaller: the allowance is generous.

    Args:
        accuracy: One share.
        other: The other; by default it is the same.
        n_tiles: Tiles of each.
    """
    shares = (_adjust(accuracy, n_tiles=n_tiles), _adjust(accuracy if other is None else other, n_tiles=n_tiles))
    return STANDARD_ERRORS * math.sqrt(sum(share * (1 - share) for share in shares) / (n_tiles + 2))


def should_prune(leads: Sequence[float], *, accuracy: float, n_tiles: int) -> bool:
    """Tell whether a cell cannot catch up with the incumbent any more.

    Args:
        leads: The incumbent's accuracy less the cell's on each fold so far, the last fold extrapolated.
        accuracy: Of the incumbent, its mean over these folds.
        n_tiles: Validation tiles of a fold.
    """
    n_all = n_tiles * len(leads)
    promised = accuracy - sum(leads) / len(leads)
    lead = _adjust(accuracy, n_tiles=n_all) - _adjust(promised, n_tiles=n_all)
    return lead > compute_allowance(accuracy, promised, n_tiles=n_all) or is_worse(leads)


def _adjust(accuracy: float, *, n_tiles: int) -> float:
    """Return a share with one right and one wrong tile more."""
    return (accuracy * n_tiles + 1) / (n_tiles + 2)


def is_worse(leads: Sequence[float]) -> bool:
    """Tell whether a cell is worse over the folds, by the test that the pruner makes between folds.

    Args:
        leads: Its accuracy less the other's, on each fold.
    """
    if len(leads) <= FIRST_STEPS or sum(leads) <= 0:
        return False
    return bool(wilcoxon(leads, alternative="greater", zero_method="zsplit").pvalue < WILCOXON_P)


class FoldExtrapolation:
    """One fold of a cell, compared with the incumbent on the same fold.

    Epochs are taken in as they are trained, or all at once from a finished fold, and looked at once the incumbent is
    known: the fold is stopped at the same epoch either way.
    """

    def __init__(self, *, fold: int, n_epochs: int, n_tiles: int) -> None:
        """Begin a fold of at most `n_epochs` epochs, with `n_tiles` validation tiles."""
        self.fold = fold
        self._n_epochs = n_epochs
        self._n_tiles = n_tiles
        self._figures: list[EpochFigures] = []
        self._n_seen = 0

    @property
    def curves(self) -> TrainingCurves:
        """What has been trained so far, or until the fold was stopped."""
        return TrainingCurves.from_epochs(self._figures)

    def add(self, figures: EpochFigures) -> None:
        """Take in the next epoch."""
        self._figures.append(figures)

    def replace(self, curves: TrainingCurves) -> None:
        """Replace the epochs known so far by those of a fold that another worker, or an earlier search, trained."""
        self._figures = curves.list_epochs()
        self._n_seen = 0

    def check(self, incumbent: Incumbent | None) -> None:
        """Look at every epoch that was not looked at yet.

        Args:
            incumbent: What to catch up with; None lets the fold run to its end.

        Raises:
            optuna.TrialPruned: At the first epoch after which the fold could no longer catch up; what was trained
                beyond it is forgotten.
        """
        while self._n_seen < len(self._figures):
            self._n_seen += 1
            if incumbent is not None and self._n_seen >= WINDOW:
                self._check_epoch(incumbent)

    def _check_epoch(self, incumbent: Incumbent) -> None:
        accuracies = [one.validation_accuracy for one in self._figures[: self._n_seen]]
        reachable = min(extrapolate_accuracy(accuracies, n_epochs=self._n_epochs), 1.0)
        leads = [*incumbent.leads, incumbent.accuracy - reachable]
        if should_prune(leads, accuracy=incumbent.mean_accuracy, n_tiles=self._n_tiles):
            self._figures = self._figures[: self._n_seen]
            raise optuna.TrialPruned(
                f"in fold {self.fold + 1}, after epoch {self._n_seen} of {self._n_epochs}: validation accuracy "
                f"{accuracies[-1]:.3f}, on its way to {reachable:.3f} at best, is too far behind the "
                f"{incumbent.accuracy:.3f} of trial {incumbent.trial}"
                + (f", which led by {np.mean(incumbent.leads):.3f} on the folds before" if incumbent.leads else "")
            )
