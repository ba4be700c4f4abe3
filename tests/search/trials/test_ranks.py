"""Ranks: each has one result, the lowest free one is taken next, and a trial that may not begin is refused."""

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from sem_search.errors import ReleasedTrialError
from sem_search.search.trials.attributes import RANK, REASON
from sem_search.search.trials.ranks import (
    check_turn,
    count_ranks,
    enqueue_rank,
    find_free_rank,
    get_rank,
    list_next_cells,
)
from sem_search.search.trials.space import order_cells, suggest_cell
from sem_search.settings import SearchSettings

WAITING, RUNNING, FAIL = TrialState.WAITING, TrialState.RUNNING, TrialState.FAIL
COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED
Spec = tuple[TrialState, int | None]


def make_trials(specs: list[Spec], *, reasons: tuple[int, ...] = ()) -> list[FrozenTrial]:
    """Return trials of these states and ranks, by number; those of `reasons` have failed for good."""
    study = optuna.create_study()
    for number, (state, rank) in enumerate(specs):
        attributes = ({} if rank is None else {RANK: rank}) | ({REASON: "x"} if number in reasons else {})
        value = 0.5 if state == COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value, user_attrs=attributes))
    return study.get_trials()


@pytest.mark.parametrize(
    ("specs", "reasons", "expected"),
    [
        ([], (), 0),
        ([(COMPLETE, 0), (PRUNED, 1), (RUNNING, 2), (WAITING, 3)], (), None),
        ([(COMPLETE, 0), (FAIL, 1), (RUNNING, 2)], (), 1),  # its worker was killed
        ([(COMPLETE, 0), (FAIL, 1), (RUNNING, 2)], (1,), 3),  # it failed for good
        ([(FAIL, 0), (FAIL, 0), (COMPLETE, 0)], (), 1),
        ([(COMPLETE, None), (FAIL, None), (WAITING, None)], (), 1),  # of an older version: the rank is the number
    ],
)
def test_the_lowest_rank_without_a_result_is_free(
    specs: list[Spec], reasons: tuple[int, ...], expected: int | None
) -> None:
    assert find_free_rank(make_trials(specs, reasons=reasons), n_ranks=4) == expected


@pytest.mark.parametrize(
    ("specs", "number", "refusal"),
    [
        ([(COMPLETE, 0), (RUNNING, 1)], 1, None),
        ([(RUNNING, 0), (RUNNING, 1)], 1, None),
        ([(RUNNING, 0), (RUNNING, 0)], 0, None),  # two workers found it free at once: the lower number goes on
        ([(RUNNING, 0), (RUNNING, 0)], 1, "another worker has taken"),
        ([(WAITING, 0), (RUNNING, 0)], 1, "another worker has taken"),
        ([(FAIL, 0), (RUNNING, 0)], 1, None),
        ([(FAIL, 0), (RUNNING, 1)], 1, "an earlier rank has not begun"),
        ([(WAITING, 0), (RUNNING, 1)], 1, "an earlier rank has not begun"),
        ([(COMPLETE, 0), (COMPLETE, 1), (COMPLETE, 2), (COMPLETE, 3), (RUNNING, 4)], 4, "was not asked for"),
    ],
)
def test_a_trial_begins_when_it_is_its_turn(specs: list[Spec], number: int, refusal: str | None) -> None:
    trials = make_trials(specs)
    if refusal is None:
        check_turn(trials, number=number, n_ranks=4)
    else:
        with pytest.raises(ReleasedTrialError, match=refusal):
            check_turn(trials, number=number, n_ranks=4)


@pytest.mark.parametrize(
    ("sampler", "trials", "expected"),
    [("grid", None, 4), ("grid", 2, 2), ("grid", 9, 4), ("random", None, 4), ("tpe", 9, 9)],
)
def test_a_grid_has_no_more_ranks_than_cells(
    settings: SearchSettings, sampler: str, trials: int | None, expected: int
) -> None:
    assert count_ranks(settings.model_copy(update={"sampler": sampler, "trials": trials})) == expected


def test_a_rank_of_a_grid_is_its_cell(settings: SearchSettings, study: optuna.Study) -> None:
    assert list_next_cells(study, settings=settings) == list(order_cells(settings))
    for rank in (0, 2):
        enqueue_rank(study, rank=rank, settings=settings)
    assert list_next_cells(study, settings=settings) == list(order_cells(settings)), "none has begun"
    for rank in (0, 2):
        trial = study.ask()
        assert get_rank(trial) == rank
        assert suggest_cell(trial, settings=settings) == order_cells(settings)[rank]
    cells = order_cells(settings)
    assert list_next_cells(study, settings=settings) == [cells[1], cells[3]]
    assert list_next_cells(study, settings=settings.model_copy(update={"trials": 2})) == [cells[1]]
    assert list_next_cells(study, settings=settings.model_copy(update={"sampler": "tpe"})) == []
