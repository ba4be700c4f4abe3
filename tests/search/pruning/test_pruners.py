"""Which cells are ended early: those that lose to the best one fold by fold, and none before their third fold."""

import optuna
import pytest

from sem_search.search.pruning.pruners import build_pruner
from sem_search.settings import build_settings

BEST = [0.90, 0.80, 0.95, 0.85, 0.70]


def prune_after(values: list[float], *, pruner: str, finished: list[list[float]]) -> int | None:
    """Return after how many folds a cell of these scores is ended, beside cells that have finished; None: never."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", pruner=build_pruner(build_settings({"pruner": pruner})))
    for scores in finished:
        study.add_trial(
            optuna.trial.create_trial(value=sum(scores) / len(scores), intermediate_values=dict(enumerate(scores)))
        )
    trial = study.ask()
    for fold, value in enumerate(values):
        trial.report(value, step=fold)
        if trial.should_prune():
            return fold + 1
    return None


def shift(scores: list[float], by: float) -> list[float]:
    return [score + by for score in scores]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (shift(BEST, -0.3), 3),
        (shift(BEST, -0.06), 3),  # a little worse, but on every fold: folds differ far more than that
        (shift(BEST, 0.05), None),
        ([0.80, 0.90, 0.96, 0.84, 0.71], None),  # worse on some, better on others
        ([0.2, 0.1], None),  # every cell is granted two folds
    ],
)
def test_wilcoxon_compares_fold_by_fold_with_the_best_cell(values: list[float], expected: int | None) -> None:
    assert prune_after(values, pruner="wilcoxon", finished=[BEST, shift(BEST, -0.4)]) == expected


def test_wilcoxon_has_nothing_to_compare_the_first_cell_with() -> None:
    assert prune_after([0.1] * 5, pruner="wilcoxon", finished=[]) is None


@pytest.mark.parametrize(
    ("by", "finished", "expected"),
    [
        (-0.4, [BEST], None),
        (-0.4, [BEST, shift(BEST, -0.1)], 2),
        (0.0, [BEST, shift(BEST, -0.1)], None),
    ],
)
def test_median_waits_for_two_cells_and_two_folds(by: float, finished: list[list[float]], expected: int | None) -> None:
    assert prune_after(shift(BEST, by), pruner="median", finished=finished) == expected


def test_none_prunes_nothing() -> None:
    assert prune_after([0.0] * 5, pruner="none", finished=[BEST, BEST, BEST]) is None
