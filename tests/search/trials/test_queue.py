"""Counting and claiming in the database's own words is what Optuna would say, only sooner."""

from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from sem_search.search.trials.queue import claim_next, count_states, read_running

from sem_search.search.trials.study import enqueue_cells, open_study
from sem_search.settings import SearchSettings, build_settings


@pytest.fixture
def settings(tmp_path: Path) -> SearchSettings:
    return build_settings(
        {"storage": f"sqlite:///{tmp_path}/optuna.db", "learning_rates": "1e-1,1e-2", "batch_sizes": "16,32"}
    )


def open_it(settings: SearchSettings) -> optuna.Study:
    study = open_study(settings, name="a", fingerprint={})
    enqueue_cells(study, settings=settings)
    return study


def test_trials_are_claimed_in_their_order_until_none_is_left(settings: SearchSettings) -> None:
    study = open_it(settings)
    claimed = [claim_next(study) for _ in range(5)]
    assert [trial and trial.number for trial in claimed] == [0, 1, 2, 3, None]
    assert count_states(study) == Counter({TrialState.RUNNING: 4})
    assert len(study.get_trials()) == 4, "no trial is made that is nobody's"


def test_what_is_counted_is_what_optuna_counts(settings: SearchSettings) -> None:
    study = open_it(settings)
    for state in (TrialState.COMPLETE, TrialState.PRUNED, None):
        trial = claim_next(study)
        assert trial is not None
        trial.suggest_categorical("batch_size", [16, 32])
        if state is not None:
            study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state=state)
    assert count_states(study) == Counter(trial.state for trial in study.get_trials())
    assert [trial.number for trial in read_running(study)] == [2]
    assert read_running(study)[0].params == {"batch_size": study.get_trials()[2].params["batch_size"]}


def test_a_trial_that_was_queued_later_is_claimed_too(settings: SearchSettings) -> None:
    one = open_it(settings)
    other = open_study(settings, name="a", fingerprint={})
    other.get_trials()
    one.enqueue_trial({"learning_rate": 0.01, "batch_size": 16})
    numbers = [trial.number for trial in iter(lambda: claim_next(other), None)]
    assert numbers == [0, 1, 2, 3, 4]


def test_a_claimed_trial_has_its_cell(settings: SearchSettings) -> None:
    study = open_it(settings)
    waiting = study.get_trials()[0].system_attrs["fixed_params"]
    trial = claim_next(study)
    assert trial is not None
    assert trial.suggest_categorical("learning_rate", [0.1, 0.01]) == waiting["learning_rate"]
    assert trial.suggest_categorical("batch_size", [16, 32]) == waiting["batch_size"]


def test_a_study_in_memory_is_asked_by_optuna_itself(study: optuna.Study) -> None:
    assert claim_next(study) is None
    study.enqueue_trial({"x": 1})
    assert count_states(study) == Counter({TrialState.WAITING: 1})
    trial = claim_next(study)
    assert trial is not None
    assert [running.number for running in read_running(study)] == [trial.number]
