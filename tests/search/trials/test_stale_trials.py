"""Dead trials go back under their own number; living ones are left alone, whatever the clocks say."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from sem_search.search.trials import stale_trials as reviving
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.stale_trials import (
    GRACE_S,
    PROCESS,
    UNSIGNED_S,
    TrialWatch,
    keep_heartbeat,
    put_back,
    read_claim,
)
from sem_search.search.trials.study import enqueue_cells, open_study
from sem_search.settings import SearchSettings, build_settings

ELSEWHERE = "another machine:17:1.00"


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(reviving.time, "monotonic", clock.monotonic)
    yield clock


@pytest.fixture
def settings(tmp_path: Path) -> SearchSettings:
    return build_settings({"storage": f"sqlite:///{tmp_path}/optuna.db"})


@pytest.fixture
def study(settings: SearchSettings) -> optuna.Study:
    study = open_study(settings, name="a", fingerprint={})
    enqueue_cells(study, settings=settings)
    return study


def get_states(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials()[:2]]


def test_a_dead_trial_goes_back_under_its_own_number(study: optuna.Study, dead_process: str) -> None:
    first = study.ask()
    first.set_user_attr(PROCESS, dead_process)
    first.report(0.5, step=0)
    assert TrialWatch().take_back_dead(study) == 1
    again = study.ask()
    assert again.number == first.number
    assert study.get_trials()[again.number].intermediate_values == {0: 0.5}


def test_a_trial_that_goes_back_leaves_neither_signature_nor_heartbeat(study: optuna.Study, dead_process: str) -> None:
    """Or the next one to claim it, until it has signed, would pass for dead, and a third would claim it, too."""
    watch = TrialWatch()
    first = study.ask()
    study._storage.record_heartbeat(first._trial_id)
    first.set_user_attr(PROCESS, dead_process)
    assert watch.take_back_dead(study) == 1
    again = study.ask()
    assert PROCESS not in again.user_attrs
    assert watch.take_back_dead(study) == 0
    with study._storage._backend.engine.begin() as connection:
        assert connection.execute(sqlalchemy.text("select count(*) from trial_heartbeats")).scalar() == 0


@pytest.mark.usefixtures("clock")
def test_a_living_trial_of_this_process_is_left_alone(study: optuna.Study, clock: Clock) -> None:
    study.ask().set_user_attr(PROCESS, describe_process())
    watch = TrialWatch()
    for _ in range(3):
        assert watch.take_back_dead(study) == 0
        clock.now_s += 10 * GRACE_S
    assert get_states(study) == [TrialState.RUNNING, TrialState.WAITING]


def test_a_silent_trial_of_another_machine_is_given_up_after_the_grace(study: optuna.Study, clock: Clock) -> None:
    trial = study.ask()
    trial.set_user_attr(PROCESS, ELSEWHERE)
    study._storage.record_heartbeat(trial._trial_id)
    watch = TrialWatch()
    assert watch.take_back_dead(study) == 0
    clock.now_s += GRACE_S - 1
    assert watch.take_back_dead(study) == 0
    clock.now_s += 1
    assert watch.take_back_dead(study) == 1
    assert study.ask().number == trial.number


def beat_at(study: optuna.Study, trial_id: int, *, moment: datetime) -> None:
    with study._storage._backend.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("update trial_heartbeats set heartbeat = :moment where trial_id = :trial"),
            {"moment": moment.isoformat(sep=" "), "trial": trial_id},
        )


def test_a_database_whose_clock_jumps_kills_no_worker(study: optuna.Study, clock: Clock) -> None:
    """Forwards by a year, backwards by two: the beats go on, so the worker lives."""
    trial = study.ask()
    trial.set_user_attr(PROCESS, ELSEWHERE)
    study._storage.record_heartbeat(trial._trial_id)
    watch, now = TrialWatch(), datetime(2026, 1, 1)
    for days in (0, 365, -365, -364):
        beat_at(study, trial._trial_id, moment=now + timedelta(days=days))
        assert watch.take_back_dead(study) == 0
        clock.now_s += GRACE_S - 1


def test_a_claim_that_nobody_signed_is_given_up_after_a_while(study: optuna.Study, clock: Clock) -> None:
    study.ask()
    watch = TrialWatch()
    watch.take_back_dead(study)
    clock.now_s += UNSIGNED_S - 1
    assert watch.take_back_dead(study) == 0
    clock.now_s += 1
    assert watch.take_back_dead(study) == 1


def test_a_trial_that_another_has_claimed_meanwhile_is_not_put_back(study: optuna.Study) -> None:
    """Two processes find the same trial dead; the second comes when a third is at work on it."""
    trial = study.ask()
    seen = read_claim(study, trial._trial_id)
    assert put_back(study, trial._trial_id, claimed=seen)
    assert not put_back(study, trial._trial_id, claimed=seen), "it waits already"
    assert study.ask().number == trial.number
    assert not put_back(study, trial._trial_id, claimed=seen)
    assert get_states(study) == [TrialState.RUNNING, TrialState.WAITING]


def test_a_finished_trial_is_never_put_back(study: optuna.Study) -> None:
    trial = study.ask()
    seen = read_claim(study, trial._trial_id)
    study.tell(trial, 0.5)
    assert not put_back(study, trial._trial_id, claimed=seen)
    assert get_states(study)[0] == TrialState.COMPLETE


def test_the_heart_beats_while_a_trial_runs_and_stops_with_it(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = study._storage._backend
    monkeypatch.setattr(backend, "heartbeat_interval", 0.01)
    beats: list[int] = []
    three = reviving.threading.Event()

    def record(trial_id: int) -> None:
        beats.append(trial_id)
        if len(beats) == 1:  # the database is away for one beat
            raise optuna.exceptions.StorageInternalError("away")
        if len(beats) == 3:
            three.set()

    monkeypatch.setattr(backend, "record_heartbeat", record)
    trial = study.ask()
    with keep_heartbeat(study, trial._trial_id):
        assert three.wait(timeout=30), "one missed beat ended the thread"
    n_beats = len(beats)
    assert not three.wait(timeout=0) or len(beats) == n_beats
    assert set(beats) == {trial._trial_id}


def test_a_study_in_memory_has_no_heart_and_still_takes_trials_back(dead_process: str) -> None:
    study = optuna.create_study()
    trial = study.ask()
    with keep_heartbeat(study, trial._trial_id):
        trial.set_user_attr(PROCESS, dead_process)
    assert TrialWatch().take_back_dead(study) == 1
    assert study.get_trials()[0].state == TrialState.WAITING
