"""The search's side of a cluster: what it has trained when, and what it takes for finished."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import optuna
import pytest

from sem_search.errors import SettingsError
from sem_search.records import Cell, TrainingCurves
from sem_search.search.cluster import remote_folds
from sem_search.search.cluster.client import ClusterClient
from sem_search.search.cluster.remote_folds import RemoteFolds, get_shared
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, Incumbent
from tests.search.cluster.conftest import N_EPOCHS

CELL, NEXT = Cell(learning_rate=0.1, batch_size=8), Cell(learning_rate=0.01, batch_size=8)
BEYOND = Incumbent(trial=0, accuracy=1.0)


class Course:
    """Compares with one cell, and remembers how many epochs of stopped folds it has seen."""

    def __init__(self, incumbent: Incumbent | None) -> None:
        self.incumbent = incumbent
        self.stopped: list[int] = []

    def find_incumbent(self) -> Incumbent | None:
        return self.incumbent

    def stop_fold(self, curves: TrainingCurves) -> None:
        self.stopped.append(len(curves.validation_loss))
        race = FoldExtrapolation(fold=1, n_epochs=N_EPOCHS, n_tiles=12)
        race.replace(curves)
        race.check(self.incumbent)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """One cell is still to come, and a better one is known for its folds."""
    monkeypatch.setattr(remote_folds, "list_next_cells", lambda *_, **__: [NEXT])
    monkeypatch.setattr(RemoteFolds, "_find_incumbent", lambda *_: BEYOND)


@pytest.fixture
def source(client: ClusterClient, remote, study: optuna.Study, progress) -> RemoteFolds:
    return RemoteFolds(client=client, prepared=remote, study=study, progress=progress)


@pytest.mark.usefixtures("shards", "impatient")
def test_a_fold_stopped_by_another_cell_than_its_own_is_trained_again(source: RemoteFolds, data, progress) -> None:
    source._futures[CELL, 1] = source._submit(CELL, fold=1, incumbent=BEYOND)
    course = Course(None)
    finished = source.obtain(cell=CELL, fold=data.folds.folds[1], course=course)
    assert course.stopped == [10], "the search looked at what was trained, and did not prune the cell"
    assert len(finished.outcome.curves.validation_loss) == N_EPOCHS
    assert source.prepared.store._locate(CELL, 1).is_file(), "in the search's own folder, too"
    assert progress.told == [("fold", CELL.name, 1, True)]


@pytest.mark.usefixtures("shards", "impatient")
def test_a_fold_stopped_by_its_own_rival_prunes_the_cell(source: RemoteFolds, data) -> None:
    with pytest.raises(optuna.TrialPruned, match="after epoch 10 of 12"):
        source.obtain(cell=CELL, fold=data.folds.folds[1], course=Course(BEYOND))


def test_a_finished_fold_is_not_trained_again(source: RemoteFolds, store_folds, data, progress) -> None:
    store_folds()
    finished = source.obtain(cell=CELL, fold=data.folds.folds[1], course=Course(None))
    assert finished.outcome.fold == 1
    assert progress.told == [("fold", CELL.name, 1, False)]


@pytest.mark.usefixtures("shards")
def test_workers_train_the_winner_s_heads_again(source: RemoteFolds, store_folds, data, progress) -> None:
    store_folds()
    source.refit(CELL, folds=data.folds.folds[1:])
    refits = source.prepared.store.refits
    assert [refits.is_whole(cell=CELL, fold=number) for number in range(3)] == [False, True, True]
    assert all(refits._locate(CELL, number).is_file() for number in (1, 2)), "in the search's own folder, too"
    assert progress.told == [("fold", CELL.name, 1, True), ("fold", CELL.name, 2, True)]


class Shelf(Executor):
    """Takes tasks and does nothing."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []

    def submit(self, fn: Callable[..., Any], /, *_: Any, **named: Any) -> "Future[Any]":
        self.tasks.append(named)
        return Future()


@pytest.mark.usefixtures("ahead")
def test_workers_are_kept_busy_with_the_folds_to_come_each_once(source: RemoteFolds, store_folds, data) -> None:
    shelf = Shelf()
    source.client = ClusterClient(executor=shelf, count_threads=lambda: 3)
    store_folds(cell=NEXT, n_folds=1)
    for _ in range(2):
        source._keep_busy(CELL, fold=data.folds.folds[0])
    assert [(task["cell"], task["fold"]) for task in shelf.tasks] == [(CELL, 1), (CELL, 2), (NEXT, 1), (NEXT, 2)]
    assert shelf.tasks[0]["incumbent"] == BEYOND
    futures = {place: future for place, future in source._futures.items() if future is not None}
    source._forget_ended(NEXT)
    assert set(source._futures) == {(NEXT, 0), (NEXT, 1), (NEXT, 2)}, "fold 0 of the next cell is on disk already"
    assert [future.cancelled() for future in futures.values()] == [True, True, False, False]


def test_a_result_that_cannot_be_seen_is_a_wrong_place(source: RemoteFolds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_folds, "VISIBLE_S", 0.0)
    with pytest.raises(SettingsError, match="shared must be one place for the search and every worker"):
        source._fetch(source.prepared.store, cell=CELL, fold=0)


def test_a_cluster_needs_shared_storage(settings) -> None:
    with pytest.raises(SettingsError, match="cluster needs shared=FOLDER_OR_URL"):
        get_shared(settings)
