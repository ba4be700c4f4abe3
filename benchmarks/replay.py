"""What early stopping and pruning would have spent and chosen on a grid that was trained in full.

A plain study (`heads=finetune`, `patience=0`, `pruner=none`) keeps the curves of every epoch
of every fold of every cell. A policy is replayed over them: it sees what it would have seen, and is charged for the
epochs it would have trained. The score of a fold at an epoch is its validation accuracy there; the choice is by its
mean over the folds, and the regret is the difference between the best cell of the whole grid and the chosen one, both
at the epochs that the policy kept. `loss` is the difference to the plain grid's best cell: negative where early
stopping kept better epochs than the last.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from benchmarks.pruners import PRUNERS
from benchmarks.searching import read_grid
from sem_search.records import Cell, FoldOutcome
from sem_search.search.pruning.curve_extrapolation import WINDOW, Incumbent, extrapolate_accuracy, should_prune
from sem_search.search.pruning.pruners import build_pruner
from sem_search.search.trials.space import order_cells
from sem_search.settings import build_settings

PATIENCES = (5, 10, 15, 30)


@dataclass(frozen=True, kw_only=True)
class StoppedFold:
    """Where a patience ends a fold, and what it keeps."""

    n_epochs: int
    score: float
    accuracies: tuple[float, ...]
    """Validation accuracy after each of the `n_epochs`."""
    n_tiles: int
    """Validation tiles."""
    n_most_epochs: int
    """Epochs that the plain grid allowed."""

    def find_end(self, incumbent: Incumbent) -> int | None:
        """Return after how many epochs the extrapolation is lost; None where it is not."""
        for n_epochs in range(WINDOW, self.n_epochs + 1):
            line = extrapolate_accuracy(self.accuracies[:n_epochs], n_epochs=self.n_most_epochs)
            leads = [*incumbent.leads, incumbent.accuracy - min(line, 1.0)]
            if should_prune(leads, accuracy=incumbent.mean_accuracy, n_tiles=self.n_tiles):
                return n_epochs
        return None


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a policy spends and chooses."""

    n_epochs: int
    n_first_epochs: int
    """Of these, those of cells ended within their first fold: all that a first look at fewer images could spare."""
    score: float
    """Mean score of the cell that is chosen."""


def measure_replay(study_folder: Path) -> dict[str, float]:
    """Return, for each patience and pruner, the share of the plain grid's epochs and the regret.

    Args:
        study_folder: `studies/<study>` of a study with `patience=0` and `pruner=none`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    grid = read_grid(study_folder)
    n_folds = max(len(folds) for folds in grid.folds_of.values())
    complete = {cell: folds for cell, folds in grid.folds_of.items() if len(folds) == n_folds}
    cells = [
        cell for cell in order_cells(build_settings({"preset": "standard", "heads": "finetune"})) if cell in complete
    ]
    lengths = [len(fold.curves.training_loss) for cell in cells for fold in complete[cell]]
    n_plain, most = sum(lengths), max(lengths)
    plain = max(float(np.mean([stop_fold(fold, patience=0).score for fold in complete[cell]])) for cell in cells)
    figures = {"replay.cells": float(len(cells)), "replay.plain_epochs": float(n_plain)}
    for patience in (0, *(one for one in PATIENCES if one < most)):
        stopped = {cell: [stop_fold(fold, patience=patience) for fold in complete[cell]] for cell in cells}
        best = max(float(np.mean([fold.score for fold in stopped[cell]])) for cell in cells)
        ways = {name: (build(), False) for name, build in PRUNERS.items()}
        ways["extrapolation"] = (build_pruner(build_settings({})), True)
        for name, (pruner, is_extrapolating) in ways.items():
            replayed = _replay(cells, stopped=stopped, pruner=pruner, is_extrapolating=is_extrapolating)
            key = f"replay.patience_{patience}.{name}"
            figures |= {
                f"{key}.share_of_epochs": replayed.n_epochs / n_plain,
                f"{key}.share_of_first_folds": replayed.n_first_epochs / n_plain,
                f"{key}.regret": best - replayed.score,
                f"{key}.loss": plain - replayed.score,
            }
    return figures


def stop_fold(fold: FoldOutcome, *, patience: int) -> StoppedFold:
    """Return where early stopping on the validation loss ends a fold; patience 0 never does."""
    n_epochs, best = _find_stop(fold.curves.validation_loss, patience=patience)
    accuracies = fold.curves.validation_accuracy
    return StoppedFold(
        n_epochs=n_epochs,
        score=float(accuracies[best]),
        accuracies=tuple(map(float, accuracies[:n_epochs])),
        n_tiles=len(fold.validation_tiles),
        n_most_epochs=len(fold.curves.training_loss),
    )


def _find_stop(losses: np.ndarray, *, patience: int) -> tuple[int, int]:
    """Return the number of epochs, and the index of the one that is kept."""
    if patience == 0:
        return len(losses), len(losses) - 1
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best] or not np.isfinite(losses[best]):
            best = epoch
        if epoch - best >= patience:
            return epoch + 1, best
    return len(losses), best


def _replay(
    cells: list[Cell],
    *,
    stopped: dict[Cell, list[StoppedFold]],
    pruner: optuna.pruners.BasePruner,
    is_extrapolating: bool,
) -> Replayed:
    """Return what a pruner lets be trained, and what is chosen."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    n_epochs, n_first, chosen = 0, 0, 0.0
    incumbents: list[float] | None = None
    for cell in cells:
        trial = study.ask()
        folds = stopped[cell]
        for number, fold in enumerate(folds):
            end = None
            if is_extrapolating and incumbents is not None:
                before = tuple(incumbents[:number])
                leads = tuple(incumbent - one.score for incumbent, one in zip(before, folds, strict=False))
                incumbent = Incumbent(trial=0, accuracy=incumbents[number], before=before, leads=leads)
                end = fold.find_end(incumbent)
            n_epochs += end or fold.n_epochs
            if end is not None:
                n_first += end if number == 0 else 0
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
            trial.report(fold.score, step=number)
            if number + 1 < len(folds) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            mean = float(np.mean([fold.score for fold in folds]))
            study.tell(trial, mean)
            if mean > chosen:
                chosen, incumbents = mean, [fold.score for fold in folds]
    return Replayed(n_epochs=n_epochs, n_first_epochs=n_first, score=chosen)
