"""What is reported is read back from the finished folds, each cell once."""

import dataclasses

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from sem_search.errors import FailedTrialError, StoreError
from sem_search.records import Cell, FinishedFold, TrialOutcome
from sem_search.search.results.outcome import read_finished_folds, read_stored_outcome, read_study_outcome
from sem_search.search.trials.attributes import RANK, REASON, RUN_ID
from sem_search.search.trials.results import get_cell, list_results

RATES, SIZES = [0.1, 0.01], [8, 16]


def add_trial(
    study: optuna.Study,
    *,
    cell: Cell,
    state: TrialState = TrialState.COMPLETE,
    value: float | None = None,
    n_reported: int = 3,
    **attributes: object,
) -> None:
    """Put a trial into the study as Optuna keeps it."""
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=value,
            params={"learning_rate": cell.learning_rate, "batch_size": cell.batch_size},
            distributions={
                "learning_rate": optuna.distributions.CategoricalDistribution(RATES),
                "batch_size": optuna.distributions.CategoricalDistribution(SIZES),
            },
            intermediate_values=dict.fromkeys(range(n_reported), 0.5),
            user_attrs=attributes,
        )
    )


CELLS = [Cell(learning_rate=rate, batch_size=size) for rate in RATES for size in SIZES]


def test_the_winner_is_the_complete_trial_of_the_highest_objective(study, prepared, store_folds) -> None:
    for cell in CELLS:
        store_folds(cell=cell)
    add_trial(study, cell=CELLS[0], value=0.5, **{RUN_ID: "run0"})
    add_trial(study, cell=CELLS[1], value=0.9, **{RUN_ID: "run1"})
    add_trial(study, cell=CELLS[2], state=TrialState.PRUNED, value=0.99, n_reported=1)
    add_trial(study, cell=CELLS[3], value=0.9)
    outcome = read_study_outcome(study, prepared=prepared)
    assert outcome.winner_number == 1, "of equals the earliest"
    assert outcome.winner.cell == CELLS[1]
    assert [(trial.number, trial.state, len(trial.folds), trial.run_id) for trial in outcome.trials] == [
        (0, "complete", 3, "run0"),
        (1, "complete", 3, "run1"),
        (2, "pruned", 1, None),
        (3, "complete", 3, None),
    ]
    assert (outcome.name, outcome.backbone, outcome.select_on) == ("a study", "tiny", "validation")
    assert outcome.tiles is prepared.data.tiles
    assert outcome.winner is outcome.chosen is outcome.trials[1]


def test_the_served_heads_of_the_winner_are_those_that_were_trained_again(study, prepared, store_folds) -> None:
    searched = store_folds(cell=CELLS[0])
    add_trial(study, cell=CELLS[0], value=0.5)
    settings = prepared.settings.model_copy(update={"refit": True})
    for number, one in enumerate(searched):
        with pytest.raises(StoreError, match=rf"lr1e-01_bs8/refit_{number}.bin is not there, or damaged.*again"):
            read_stored_outcome(study, name="a study", settings=settings, data=prepared.data)
        turned = dataclasses.replace(one.outcome, test_probabilities=one.outcome.test_probabilities[:, ::-1])
        again = FinishedFold(outcome=turned, head_weights=tuple(weight + 1 for weight in one.head_weights))
        prepared.store.refits.write(again, cell=CELLS[0])
    outcome = read_stored_outcome(study, name="a study", settings=settings, data=prepared.data)
    assert (outcome.winner.number, outcome.winner.is_refit, outcome.chosen.is_refit) == (0, True, False)
    for served, chosen in zip(outcome.winner.folds, outcome.chosen.folds, strict=True):
        np.testing.assert_array_equal(served.test_probabilities, chosen.test_probabilities[:, ::-1])
        np.testing.assert_array_equal(served.validation_probabilities, chosen.validation_probabilities)
    for trial, added in ((outcome.winner, 1), (outcome.chosen, 0)):
        for kept, one in zip(read_finished_folds(prepared, trial=trial), searched, strict=True):
            np.testing.assert_array_equal(kept.head_weights[0], one.head_weights[0] + added)


def test_folds_that_were_on_disk_but_not_reported_do_not_count(study, prepared, store_folds) -> None:
    """A pruned cell's later folds may lie on disk from another run; its score is that of the folds it was told."""
    store_folds(cell=CELLS[0])
    store_folds(cell=CELLS[1])
    add_trial(study, cell=CELLS[0], value=0.5)
    add_trial(study, cell=CELLS[1], state=TrialState.PRUNED, n_reported=2)
    assert [len(trial.folds) for trial in read_study_outcome(study, prepared=prepared).trials] == [3, 2]


@pytest.mark.parametrize(
    ("states", "reported"),
    [
        ([TrialState.COMPLETE, TrialState.COMPLETE], 0),
        ([TrialState.PRUNED, TrialState.COMPLETE], 1),
        ([TrialState.FAIL, TrialState.PRUNED], 1),
    ],
)
def test_a_cell_that_two_workers_drew_at_one_moment_is_reported_once(
    study, prepared, store_folds, states: list[TrialState], reported: int
) -> None:
    store_folds(cell=CELLS[0])
    store_folds(cell=CELLS[1])
    for state in states:
        add_trial(study, cell=CELLS[0], state=state, value=0.5 if state == TrialState.COMPLETE else None)
    add_trial(study, cell=CELLS[1], value=0.4)
    assert [trial.number for trial in read_study_outcome(study, prepared=prepared).trials] == [reported, 2]
    assert sorted(trial.number for trial in list_results(study)) == [reported, 2]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_fold_is_missed_and_no_later_one_stands_for_it(study, prepared, store_folds, lost: int) -> None:
    store_folds(cell=CELLS[0])
    store_folds(cell=CELLS[1])
    add_trial(study, cell=CELLS[0], value=0.5)
    add_trial(study, cell=CELLS[1], state=TrialState.PRUNED, n_reported=2)
    (prepared.store.folder / CELLS[1].name / f"fold_{lost}.bin").unlink()
    with pytest.raises(StoreError, match=r"1 of 2 finished folds are lost or damaged"):
        read_study_outcome(study, prepared=prepared)


def test_what_is_no_result_of_its_own_is_left_out(study, prepared, store_folds) -> None:
    store_folds(cell=CELLS[0])
    add_trial(study, cell=CELLS[0], value=0.5)
    add_trial(study, cell=CELLS[0], value=0.5, repeats=0)
    add_trial(study, cell=CELLS[1], state=TrialState.RUNNING, n_reported=1)
    add_trial(study, cell=CELLS[2], state=TrialState.WAITING, n_reported=0)
    study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))  # gave its rank back
    add_trial(study, cell=CELLS[3], state=TrialState.FAIL, n_reported=0, **{REASON: "no memory"})
    outcome = read_study_outcome(study, prepared=prepared)
    assert [(trial.number, trial.state) for trial in outcome.trials] == [(0, "complete"), (5, "failed")]


def test_trials_are_reported_by_rank_whatever_their_number(study, prepared, store_folds) -> None:
    """The first rank's worker was killed; equal cells are won by the lower rank, as in an undisturbed study."""
    for cell in CELLS[:2]:
        store_folds(cell=cell)
    add_trial(study, cell=CELLS[0], state=TrialState.FAIL, n_reported=1, **{RANK: 0})
    add_trial(study, cell=CELLS[1], value=0.5, **{RANK: 1})
    add_trial(study, cell=CELLS[0], value=0.5, **{RANK: 0})
    outcome = read_study_outcome(study, prepared=prepared)
    assert [trial.number for trial in outcome.trials] == [2, 1]
    assert outcome.winner_number == 2


def test_of_equals_the_linear_head_wins_since_it_is_the_simplest(study, prepared, store_folds) -> None:
    linear = Cell(head="linear")
    for cell in (linear, CELLS[0]):
        store_folds(cell=cell)
    add_trial(study, cell=CELLS[0], value=0.5, **{RANK: 1})
    study.add_trial(
        optuna.trial.create_trial(
            value=0.5,
            params={"head": "linear"},
            distributions={"head": optuna.distributions.CategoricalDistribution(["linear", "finetune"])},
            intermediate_values=dict.fromkeys(range(3), 0.5),
            user_attrs={RANK: 0},
        )
    )
    outcome = read_study_outcome(study, prepared=prepared)
    assert outcome.winner.cell == linear
    assert [len(trial.folds) for trial in outcome.trials] == [3, 3]


def test_a_trial_that_did_not_finish_says_why(study, prepared, store_folds) -> None:
    store_folds(cell=CELLS[0])
    add_trial(study, cell=CELLS[0], value=0.5, **{REASON: "of an earlier attempt"})
    add_trial(study, cell=CELLS[1], state=TrialState.PRUNED, n_reported=0, **{REASON: "worse than the best"})
    add_trial(study, cell=CELLS[2], state=TrialState.FAIL, n_reported=0, **{REASON: "no memory"})
    trials = read_study_outcome(study, prepared=prepared).trials
    assert [trial.message for trial in trials] == [None, "worse than the best", "no memory"]


@pytest.mark.parametrize("state", [None, TrialState.PRUNED, TrialState.FAIL])
def test_without_a_finished_trial_there_is_no_winner(study, prepared, state: TrialState | None) -> None:
    if state is not None:
        add_trial(study, cell=CELLS[0], state=state, n_reported=0)
    with pytest.raises(FailedTrialError, match=r"No trial of study 'a study' has finished.*traceback\.txt"):
        read_study_outcome(study, prepared=prepared)


def test_kept_folds_are_read_in_order_as_far_as_they_go(prepared, store_folds) -> None:
    trial = TrialOutcome(number=0, cell=CELLS[0], state="complete", folds=())
    assert read_finished_folds(prepared, trial=trial) == ()
    store_folds(cell=CELLS[0], n_folds=2)
    assert [kept.outcome.fold for kept in read_finished_folds(prepared, trial=trial)] == [0, 1]
    elsewhere = prepared.settings.model_copy(update={"study_folder": "elsewhere"})
    assert read_finished_folds(dataclasses.replace(prepared, settings=elsewhere), trial=trial) == ()


def test_the_cell_of_a_trial(study) -> None:
    add_trial(study, cell=CELLS[2], value=0.1)
    assert get_cell(study.trials[0]) == CELLS[2]
