"""The trial of a process that is gone fails without a reason; those of living ones are left alone."""

from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from sem_search.search.trials import stale_trials
from sem_search.search.trials.attributes import PROCESS
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.ranks import find_free_rank
from sem_search.search.trials.stale_trials import UNSIGNED_S, StaleTrials
from sem_search.search.trials.storage import GRACE_S, HEARTBEAT_S, open_storage

ELSEWHERE = "another machine:17:1.00"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """This process's own clock, which stands still."""
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(stale_trials, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


@pytest.mark.parametrize(
    ("process", "is_own", "is_released"),
    [("dead", False, True), ("here", True, False), ("here", False, True), (ELSEWHERE, False, False)],
)
def test_a_trial_is_released_if_its_process_is_gone(
    study: optuna.Study, dead_process: str, process: str, is_own: bool, is_released: bool
) -> None:
    """One of this very process, which trains none, is left from before an outage of the database."""
    trial = study.ask()
    names = {"dead": dead_process, "here": describe_process()}
    trial.set_user_attr(PROCESS, names.get(process, process))
    trial.report(0.5, step=0)
    StaleTrials().release(study, own=trial.number if is_own else None)
    (found,) = study.get_trials()
    assert found.state == (TrialState.FAIL if is_released else TrialState.RUNNING)
    assert (find_free_rank([found], n_ranks=1) == 0) == is_released


def test_a_trial_that_no_process_has_signed_is_released_after_a_while(
    study: optuna.Study, clock: SimpleNamespace
) -> None:
    study.ask()
    stale = StaleTrials()
    for pause_s, state in ((0.0, TrialState.RUNNING), (UNSIGNED_S - 1, TrialState.RUNNING), (1.0, TrialState.FAIL)):
        clock.now_s += pause_s
        stale.release(study)
        assert study.get_trials()[0].state == state


@pytest.mark.parametrize("is_silent", [False, True])
def test_another_machine_s_trial_is_released_when_its_heartbeat_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_silent: bool
) -> None:
    assert GRACE_S >= 6 * HEARTBEAT_S
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/optuna.db"))
    looker = optuna.load_study(study_name=study.study_name, storage=open_storage(f"sqlite:///{tmp_path}/optuna.db"))
    states = []

    def run(trial: optuna.Trial) -> float:
        trial.set_user_attr(PROCESS, ELSEWHERE)
        if is_silent:
            with open_storage(f"sqlite:///{tmp_path}/optuna.db").engine.begin() as connection:
                connection.exec_driver_sql("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'")
        StaleTrials().release(looker)
        states.append(looker.get_trials()[0].state)
        return 0.5

    if is_silent:
        with pytest.raises(AssertionError):  # Optuna's own, of a trial that it cannot end twice
            study.optimize(run, n_trials=1)
    else:
        study.optimize(run, n_trials=1)
    assert states == [TrialState.FAIL if is_silent else TrialState.RUNNING]
