"""The workers' loop: every cell once, dead ones taken up, timeouts and failures survived."""

import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from sem_search.errors import FailedTrialError, StoreError
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.space import suggest_cell
from sem_search.search.trials.stale_trials import PROCESS
from sem_search.search.trials.study import QUEUED, count_finished, enqueue_cells, open_study
from sem_search.search.trials.worker_loop import work
from sem_search.settings import SearchSettings, build_settings


@dataclass
class FakeObjective:
    """Remembers which cells it was asked for."""

    settings: SearchSettings
    cells: list[str] = field(default_factory=list)
    error: type[Exception] | None = None

    @property
    def prepared(self) -> SimpleNamespace:
        return SimpleNamespace(settings=self.settings)

    def __call__(self, trial: optuna.Trial) -> float:
        if self.settings.sampler == "grid" and QUEUED not in trial.user_attrs:
            raise FailedTrialError("surplus")
        trial.set_user_attr(
            PROCESS, describe_process()
        )  # as the real one: unsigned, it would pass for dead after a while
        cell = suggest_cell(trial, settings=self.settings)
        self.cells.append(cell.name)
        if self.error is not None:
            raise self.error("for a reason of its own")
        return cell.learning_rate


@pytest.fixture
def settings(tmp_path: Path) -> SearchSettings:
    return build_settings(
        {
            "storage": f"sqlite:///{tmp_path}/optuna.db",
            "learning_rates": "1e-1,1e-2",
            "batch_sizes": "16,32",
            "pruner": "none",
        }
    )


def open_it(settings: SearchSettings) -> optuna.Study:
    study = open_study(settings, name="a", fingerprint={})
    enqueue_cells(study, settings=settings)
    return study


def test_every_cell_is_visited_once(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings)
    work(study, objective=objective)
    assert sorted(objective.cells) == ["lr1e-01_bs16", "lr1e-01_bs32", "lr1e-02_bs16", "lr1e-02_bs32"]
    work(study, objective=objective)
    assert len(objective.cells) == 4, "a finished study has nothing left to do"


def test_two_workers_share_the_cells_and_double_none(settings: SearchSettings) -> None:
    open_it(settings)
    objectives = [FakeObjective(settings), FakeObjective(settings)]
    threads = [
        threading.Thread(
            target=work,
            args=(open_study(settings, name="a", fingerprint={}),),
            kwargs={"objective": objective},
        )
        for objective in objectives
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(objectives[0].cells + objectives[1].cells) == len({*objectives[0].cells, *objectives[1].cells}) == 4


def test_a_trial_is_claimed_by_one_worker_though_both_saw_it_waiting(settings: SearchSettings) -> None:
    """Both workers have read the same list of waiting trials; whoever comes second must be refused each of them."""
    open_it(settings)
    studies = [open_study(settings, name="a", fingerprint={}) for _ in range(2)]
    waiting = [trial._trial_id for trial in studies[0].get_trials(states=(TrialState.WAITING,))]
    barrier, claimed = threading.Barrier(2), []

    def claim(study: optuna.Study) -> None:
        for trial_id in waiting:
            barrier.wait(timeout=60)
            if study._storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                claimed.append(trial_id)

    threads = [threading.Thread(target=claim, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(claimed) == sorted(waiting)


def test_the_trial_of_a_dead_process_is_taken_up(settings: SearchSettings) -> None:
    study = open_it(settings)
    study.ask().set_user_attr(PROCESS, "nobody")
    dead = study.get_trials()[0]
    study._storage.set_trial_user_attr(dead._trial_id, PROCESS, f"{socket.gethostname()}:999999:1.00")
    objective = FakeObjective(settings)
    work(study, objective=objective)
    assert len(set(objective.cells)) == 4
    assert {trial.state for trial in study.get_trials()} == {TrialState.COMPLETE}


def test_a_failed_trial_does_not_stop_the_study(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings, error=FailedTrialError)
    work(study, objective=objective)
    assert len(objective.cells) == 4
    assert {trial.state for trial in study.get_trials()} == {TrialState.FAIL}


def test_any_other_error_stops_it(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings, error=StoreError)
    with pytest.raises(StoreError):
        work(study, objective=objective)
    assert len(objective.cells) == 1


def test_a_timeout_begins_no_further_trial(settings: SearchSettings) -> None:
    short = settings.model_copy(update={"timeout": 1e-9})
    study, objective = open_it(short), FakeObjective(short)
    work(study, objective=objective)
    assert objective.cells == []


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sampler_runs_as_many_trials_as_asked(settings: SearchSettings, sampler: str) -> None:
    drawn = settings.model_copy(update={"sampler": sampler, "trials": 6})
    study, objective = open_it(drawn), FakeObjective(drawn)
    work(study, objective=objective)
    assert count_finished(study) == 6


def test_a_resumed_study_stops_at_the_trials_that_are_asked_for_now(settings: SearchSettings) -> None:
    study = open_it(settings)
    few = settings.model_copy(update={"trials": 1})
    objective = FakeObjective(few)
    work(study, objective=objective)
    assert len(objective.cells) == 1, "four cells are queued, one was asked for"
