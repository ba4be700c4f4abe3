"""What early stopping and pruning would have spent and chosen on a grid that was trained in full.

A plain study (`patience=0`, `pruner=none`) keeps the curves of every epoch of every fold of every cell. A policy is
replayed over them: it sees what it would have seen, and is charged for the epochs it would have trained. The score of
a fold at an epoch is its validation accuracy there; the choice is by its mean over the folds, and the regret is the
difference between the best cell of the whole grid and the chosen one, both at the epochs that the policy kept.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from benchmarks.pruners import PRUNERS
from benchmarks.searching import read_grid
from sem_search.evaluation.outcomes import Cell, FoldOutcome
from sem_search.search.space import order_cells
from sem_search.settings import DEFAULT_PATIENCE, build_settings

PATIENCES = (5, 10, DEFAULT_PATIENCE, 30)


@dataclass(frozen=True, kw_only=True)
class StoppedFold:
    """Where a patience ends a fold, and what it keeps."""

    n_epochs: int
    score: float


def measure_replay(study_folder: Path) -> dict[str, float]:
    """Return, for each patience and pruner, the share of the plain grid's epochs and the regret.

    Args:
        study_folder: `studies/<study>` of a study with `patience=0` and `pruner=none`.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    grid = read_grid(study_folder)
    n_folds = max(len(folds) for folds in grid.folds_of.values())
    complete = {cell: folds for cell, folds in grid.folds_of.items() if len(folds) == n_folds}
    cells = [cell for cell in order_cells(build_settings({"preset": "standard"})) if cell in complete]
    n_plain = sum(len(fold.curves.training_loss) for cell in cells for fold in complete[cell])
    figures = {"replay.cells": float(len(cells)), "replay.plain_epochs": float(n_plain)}
    for patience in (0, *PATIENCES):
        stopped = {cell: [stop_fold(fold, patience=patience) for fold in complete[cell]] for cell in cells}
        best = max(float(np.mean([fold.score for fold in stopped[cell]])) for cell in cells)
        for name, build_pruner in PRUNERS.items():
            n_epochs, chosen = _replay(cells, stopped=stopped, pruner=build_pruner())
            key = f"replay.patience_{patience}.{name}"
            figures |= {f"{key}.share_of_epochs": n_epochs / n_plain, f"{key}.regret": best - chosen}
    return figures


def stop_fold(fold: FoldOutcome, *, patience: int) -> StoppedFold:
    """Return where early stopping on the validation loss ends a fold; patience 0 never does."""
    losses, accuracies = fold.curves.validation_loss, fold.curves.validation_accuracy
    if patience == 0:
        return StoppedFold(n_epochs=len(losses), score=float(accuracies[-1]))
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best] or not np.isfinite(losses[best]):
            best = epoch
        if epoch - best >= patience:
            return StoppedFold(n_epochs=epoch + 1, score=float(accuracies[best]))
    return StoppedFold(n_epochs=len(losses), score=float(accuracies[best]))


def _replay(
    cells: list[Cell], *, stopped: dict[Cell, list[StoppedFold]], pruner: optuna.pruners.BasePruner
) -> tuple[int, float]:
    """Return the epochs that a pruner lets be trained, and the mean score of the cell that is chosen."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    n_epochs, chosen = 0, 0.0
    for cell in cells:
        trial = study.ask()
        folds = stopped[cell]
        for number, fold in enumerate(folds):
            n_epochs += fold.n_epochs
            trial.report(fold.score, step=number)
            if number + 1 < len(folds) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            mean = float(np.mean([fold.score for fold in folds]))
            study.tell(trial, mean)
            chosen = max(chosen, mean)
    return n_epochs, chosen
