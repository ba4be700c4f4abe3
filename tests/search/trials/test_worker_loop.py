"""The workers' loop: every rank once, those of killed workers too, timeouts, failures and interruptions survived."""

import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState

from sem_search.errors import FailedTrialError, ReleasedTrialError, StoreError
from sem_search.search.trials.attributes import PROCESS, RANK, REASON
from sem_search.search.trials.ranks import check_turn, count_ranks, enqueue_rank, get_rank, holds_rank
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.search.trials.space import order_cells, suggest_cell
from sem_search.search.trials.stale_trials import StaleTrials
from sem_search.search.trials.study import open_study
from sem_search.search.trials.worker_loop import Timeout, work
from sem_search.settings import AS_THE_PAPER, SearchSettings, build_settings


@dataclass
class FakeObjective:
    """Remembers which cells it was asked for."""

    settings: SearchSettings
    process: str = "another machine:1:1.00"
    error: BaseException | None = None
    cells: list[str] = field(default_factory=list)
    stale: StaleTrials = field(default_factory=StaleTrials)
    progress: SearchProgress = field(default_factory=lambda: SearchProgress(n_folds_total=4, n_folds_done=0))

    @property
    def prepared(self) -> SimpleNamespace:
        return SimpleNamespace(settings=self.settings)

    def __call__(self, trial: optuna.Trial) -> float:
        trial.set_user_attr(PROCESS, self.process)
        trials = trial.study.get_trials(deepcopy=False)
        check_turn(trials, number=trial.number, n_ranks=count_ranks(self.settings))
        cell = suggest_cell(trial, settings=self.settings)
        self.cells.append(cell.name)
        if isinstance(self.error, FailedTrialError):
            trial.set_user_attr(REASON, "for a reason of its own")
        if self.error is not None:
            raise self.error
        return cell.learning_rate


@pytest.fixture
def settings(tmp_path: Path) -> SearchSettings:
    return build_settings(
        {
            "storage": f"sqlite:///{tmp_path}/optuna.db",
            **AS_THE_PAPER,
            "learning_rates": "1e-1,1e-2",
            "batch_sizes": "16,32",
            "pruner": "none",
        }
    )


def open_it(settings: SearchSettings) -> optuna.Study:
    return open_study(settings, name="a", fingerprint={})


def list_results(study: optuna.Study) -> list[tuple[int, TrialState]]:
    return sorted((get_rank(trial), trial.state) for trial in study.get_trials() if holds_rank(trial))


def test_every_cell_is_visited_once_in_its_order(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings)
    work(study, objective=objective, timeout=Timeout(None))
    assert objective.cells == [cell.name for cell in order_cells(settings)]
    work(study, objective=objective, timeout=Timeout(None))
    assert len(objective.cells) == 4, "a finished study has nothing left to do"


def test_workers_share_the_cells_and_double_none(settings: SearchSettings) -> None:
    open_it(settings)
    objectives = [FakeObjective(settings) for _ in range(3)]
    threads = [
        threading.Thread(
            target=work, args=(open_it(settings),), kwargs={"objective": objective, "timeout": Timeout(None)}
        )
        for objective in objectives
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    cells = [cell for objective in objectives for cell in objective.cells]
    assert sorted(cells) == sorted(cell.name for cell in order_cells(settings))
    assert list_results(open_it(settings)) == [(rank, TrialState.COMPLETE) for rank in range(4)]


def test_a_waiting_trial_is_claimed_by_one_worker_though_all_have_seen_it(settings: SearchSettings) -> None:
    """SQLite knows no lock on rows: without turns, two workers were seen to claim one trial."""
    study = open_it(settings)
    for _ in range(20):
        study.enqueue_trial({})
    studies = [open_it(settings) for _ in range(3)]
    barrier, claimed = threading.Barrier(3), []

    def claim(study: optuna.Study) -> None:
        for _ in range(6):
            barrier.wait(timeout=60)
            claimed.append(study.ask().number)

    threads = [threading.Thread(target=claim, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(claimed) == list(range(18))


def test_the_rank_of_a_killed_worker_is_taken_up_first(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings)
    for rank in (0, 1):
        enqueue_rank(study, rank=rank, settings=settings)
        study.ask().set_user_attr(PROCESS, f"{socket.gethostname()}:999999:1.00")
    work(study, objective=objective, timeout=Timeout(None))
    assert objective.cells == [cell.name for cell in order_cells(settings)]
    assert list_results(study) == [(rank, TrialState.COMPLETE) for rank in range(4)]


def test_a_queue_of_an_older_version_is_worked_off_in_its_order(settings: SearchSettings) -> None:
    """All cells wait there without a rank, and the trial of a worker that was killed is the second of them."""
    study, objective = open_it(settings), FakeObjective(settings)
    for cell in order_cells(settings):
        study.enqueue_trial({"learning_rate": cell.learning_rate, "batch_size": cell.batch_size})
    study.tell(study.ask(), 0.5)
    study.ask().set_user_attr(PROCESS, f"{socket.gethostname()}:999999:1.00")
    work(study, objective=objective, timeout=Timeout(None))
    assert objective.cells == [cell.name for cell in order_cells(settings)[1:]]
    assert list_results(study) == [(rank, TrialState.COMPLETE) for rank in range(4)]


def test_a_trial_that_was_enqueued_by_a_killed_worker_is_begun(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings)
    enqueue_rank(study, rank=0, settings=settings)
    work(study, objective=objective, timeout=Timeout(None))
    assert [trial.user_attrs[RANK] for trial in study.get_trials()] == [0, 1, 2, 3]


def test_a_trial_that_no_worker_enqueued_has_the_cell_of_its_rank(settings: SearchSettings) -> None:
    """A search with fewer `trials` took this worker's own from the queue; Optuna then makes one without a cell."""
    study = open_it(settings)
    for rank in range(3):
        enqueue_rank(study, rank=rank, settings=settings)
        study.tell(study.ask(), 0.5)
    assert suggest_cell(study.ask(), settings=settings) == order_cells(settings)[3]


def test_a_failed_trial_does_not_stop_the_study(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings, error=FailedTrialError("too large"))
    work(study, objective=objective, timeout=Timeout(None))
    assert list_results(study) == [(rank, TrialState.FAIL) for rank in range(4)]


@pytest.mark.parametrize("error", [StoreError("full"), ValueError("a fault"), KeyboardInterrupt(), SystemExit()])
def test_any_other_error_stops_it_and_the_rank_stays_free(settings: SearchSettings, error: BaseException) -> None:
    study, objective = open_it(settings), FakeObjective(settings, error=error)
    with pytest.raises(type(error)):
        work(study, objective=objective, timeout=Timeout(None))
    assert len(objective.cells) == 1
    objective.error, objective.process = None, f"{socket.gethostname()}:999999:1.00"
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # Optuna does not record an exit
        study.tell(trial.number, state=TrialState.FAIL)
    work(study, objective=objective, timeout=Timeout(None))
    assert list_results(study) == [(rank, TrialState.COMPLETE) for rank in range(4)]


def test_a_trial_that_another_worker_took_for_stale_ends_quietly(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings)
    is_taken = []

    def call(trial: optuna.Trial) -> float:
        value = FakeObjective.__call__(objective, trial)
        if not is_taken:
            is_taken.append(trial.number)
            open_it(settings).tell(trial.number, state=TrialState.FAIL)
        return value

    stand_in = SimpleNamespace(prepared=objective.prepared, stale=objective.stale, progress=objective.progress)
    work(
        study,
        objective=type("Objective", (), {"__call__": lambda _self, trial: call(trial), **vars(stand_in)})(),
        timeout=Timeout(None),
    )
    assert is_taken == [0]
    assert list_results(study) == [(rank, TrialState.COMPLETE) for rank in range(4)]


def test_a_trial_that_gives_way_is_taken_up_again(settings: SearchSettings) -> None:
    study, objective = (
        open_it(settings),
        FakeObjective(settings, error=ReleasedTrialError("an earlier rank has not begun")),
    )

    class Once(FakeObjective):
        def __call__(self, trial: optuna.Trial) -> float:
            if len(self.cells) == 1:
                self.error = None
            return super().__call__(trial)

    once = Once(settings, error=objective.error)
    work(study, objective=once, timeout=Timeout(None))
    assert once.cells == [order_cells(settings)[0].name, *(cell.name for cell in order_cells(settings))]


def test_a_timeout_does_not_count_anew_when_an_outage_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("sem_search.search.trials.worker_loop.time.monotonic", lambda: now[0])
    timeout = Timeout(10.0)
    assert not timeout.is_over()
    now[0] = 14.0
    assert not timeout.is_over()
    now[0] = 15.0
    assert timeout.is_over()


def test_a_timeout_begins_no_further_trial(settings: SearchSettings) -> None:
    study, objective = open_it(settings), FakeObjective(settings)
    work(study, objective=objective, timeout=Timeout(1e-9))
    assert objective.cells == []


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_sampler_runs_as_many_trials_as_asked_and_is_resumed_as_if_undisturbed(
    settings: SearchSettings, sampler: str
) -> None:
    drawn = settings.model_copy(update={"sampler": sampler, "trials": 6})
    undisturbed = FakeObjective(drawn)
    work(open_it(drawn), objective=undisturbed, timeout=Timeout(None))
    assert len(undisturbed.cells) == 6
    study = open_study(drawn, name="b", fingerprint={})
    disturbed = FakeObjective(drawn)
    enqueue_rank(study, rank=0, settings=drawn)
    study.ask().set_user_attr(PROCESS, f"{socket.gethostname()}:999999:1.00")
    work(study, objective=disturbed, timeout=Timeout(None))
    assert disturbed.cells == undisturbed.cells


def test_a_resumed_study_stops_at_the_trials_that_are_asked_for_now(settings: SearchSettings) -> None:
    few = settings.model_copy(update={"trials": 1})
    for chosen, n_cells in ((few, 1), (settings, 3), (few, 0)):
        objective = FakeObjective(chosen)
        work(open_it(settings), objective=objective, timeout=Timeout(None))
        assert len(objective.cells) == n_cells
