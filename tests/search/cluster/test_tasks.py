"""Tasks for other hands: data in, data out, results in shared storage; and the search's side of it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from sem_search.errors import ClusterError, FailedTrialError, SettingsError, StoreError
from sem_search.places import CACHE_VARIABLE
from sem_search.records import Cell, TrainingCurves
from sem_search.search.cluster import tasks as executing
from sem_search.search.cluster import worker_context as bench_module
from sem_search.search.cluster.feature_shards import list_missing_shards
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.cluster.tasks import (
    Hands,
    RemoteFolds,
    await_result,
    compute_shards,
    count_wanted,
    run_fold_task,
    run_shard_task,
)
from sem_search.search.cluster.worker_context import open_bench, publish_bench
from sem_search.search.folds.store import FoldStore, name_fold
from sem_search.search.prepare.features import get_feature_key, read_shard_tiles
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, Incumbent

CELL, NEXT = Cell(learning_rate=0.1, batch_size=8), Cell(learning_rate=0.01, batch_size=8)
N_EPOCHS = 12
BEYOND = Incumbent(trial=0, accuracy=1.0)


@pytest.fixture
def shared(tmp_path: Path) -> SharedStore:
    return SharedStore(url=str(tmp_path / "shared"))


@pytest.fixture
def bench(
    settings, data, network, shared: SharedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name of a bench in shared storage; its worker, in this process, has an empty cache of its own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "worker"))
    monkeypatch.setattr(bench_module, "configure_tensorflow", lambda **_: None)  # TensorFlow is at work already
    longer = settings.model_copy(update={"epochs": N_EPOCHS, "patience": 0})
    yield publish_bench(longer, study="a study", data=data, network=network, shared=shared)
    bench_module._open.clear()


@pytest.fixture
def hands() -> Iterator[Hands]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield Hands(executor=pool, count=lambda: 1)


@pytest.fixture
def shards(bench: str, hands: Hands, shared: SharedStore, settings, data, network) -> None:
    """Every feature shard, computed by the hands."""
    compute_shards(
        hands,
        bench=bench,
        shared=shared,
        key=get_feature_key(data, network=network),
        n_tiles=data.tiles.n_tiles,
        read_tiles=lambda index: read_shard_tiles(data, index=index),
    )


def make_task(bench: str, shared: SharedStore, *, fold: int = 1, incumbent: Incumbent | None = None) -> str:
    task: dict[str, Any] = {"shared": shared.url, "bench": bench, "learning_rate": 0.1, "batch_size": 8, "fold": fold}
    told = (
        None
        if incumbent is None
        else {"trial": incumbent.trial, "accuracy": incumbent.accuracy, "leads": list(incumbent.leads)}
    )
    return json.dumps({**task, "incumbent": told})


@pytest.mark.usefixtures("shards")
def test_a_worker_without_micrographs_gives_the_search_s_numbers(
    bench: str, shared: SharedStore, data, network, features, tmp_path: Path
) -> None:
    key = get_feature_key(data, network=network)
    assert list_missing_shards(shared, key=key, n_tiles=data.tiles.n_tiles) == []
    assert run_fold_task(make_task(bench, shared)) == '{"curves": null}'
    kept = FoldStore(folder=tmp_path / "a study", shared=shared).read(cell=CELL, fold=1)
    at_work = open_bench(bench, shared=shared)
    for array, other in zip(at_work.get_trainer()._kept._features, features.arrays, strict=True):
        np.testing.assert_array_equal(np.asarray(array), np.asarray(other))
    fold, tiles = data.folds.folds[1], data.tiles
    own = at_work.get_trainer().train_fold(
        fold=1,
        learning_rate=0.1,
        batch_size=8,
        training=tiles.get_tiles_of(fold.training),
        validation=tiles.get_tiles_of(fold.validation),
        test=tiles.get_tiles_of(fold.test),
    )
    assert kept is not None
    np.testing.assert_array_equal(kept.outcome.test_probabilities, own.test_probabilities)
    assert len(kept.outcome.curves.validation_loss) == N_EPOCHS


@pytest.mark.usefixtures("shards")
def test_a_task_whose_work_is_done_finds_it_done(
    bench: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_fold_task(make_task(bench, shared))
    before = (Path(shared.url) / name_fold("a study", cell=CELL, fold=1)).stat().st_mtime_ns
    monkeypatch.setattr(executing, "train_fold", lambda *_, **__: pytest.fail("trained twice"))
    assert run_fold_task(make_task(bench, shared, incumbent=BEYOND)) == '{"curves": null}'
    assert (Path(shared.url) / name_fold("a study", cell=CELL, fold=1)).stat().st_mtime_ns == before


@pytest.mark.usefixtures("shards")
def test_a_fold_that_cannot_catch_up_is_ended_and_not_kept(
    bench: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sem_search.search.pruning.curve_extrapolation.compute_allowance", lambda *_, **__: -1.0)
    curves = json.loads(run_fold_task(make_task(bench, shared, incumbent=BEYOND)))["curves"]
    assert {len(curve) for curve in curves.values()} == {10}
    assert not shared.has(name_fold("a study", cell=CELL, fold=1))


def make_source(
    bench: str, hands: Hands, shared: SharedStore, data, progress, tmp_path: Path, **given: Any
) -> RemoteFolds:
    return RemoteFolds(
        hands=hands,
        bench=bench,
        shared=shared,
        store=FoldStore(folder=tmp_path / "studies" / "a study", shared=shared),
        folds=data.folds.folds,
        progress=progress,
        **{"list_next": lambda: [], "find_incumbent": lambda _: None, **given},
    )


class Course:
    """Judges by one incumbent, and remembers how many epochs of stopped folds it has seen."""

    def __init__(self, incumbent: Incumbent | None) -> None:
        self.incumbent = incumbent
        self.stopped: list[int] = []

    def find_incumbent(self) -> Incumbent | None:
        return self.incumbent

    def stop_fold(self, curves: TrainingCurves) -> None:
        self.stopped.append(len(curves.validation_loss))
        fold = FoldExtrapolation(fold=1, n_epochs=N_EPOCHS, n_tiles=12)
        fold.replace(curves)
        fold.check(self.incumbent)


@pytest.mark.usefixtures("shards")
def test_a_fold_ended_by_another_rival_than_its_own_is_trained_again(
    bench: str, hands: Hands, shared: SharedStore, data, progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sem_search.search.pruning.curve_extrapolation.compute_allowance", lambda *_, **__: -1.0)
    source = make_source(bench, hands, shared, data, progress, tmp_path, find_incumbent=lambda _: BEYOND)
    source._flying[CELL.name, 1] = source._submit(CELL, 1, incumbent=BEYOND)
    course = Course(None)
    finished = source.obtain(cell=CELL, fold=data.folds.folds[1], course=course)
    assert course.stopped == [10], "the search looked at what was trained, and did not end the cell"
    assert len(finished.outcome.curves.validation_loss) == N_EPOCHS
    assert source.store.is_whole(cell=CELL, fold=1), "kept in the search's own folder, too"


@pytest.mark.usefixtures("shards")
def test_a_fold_ended_by_its_own_rival_ends_the_cell(
    bench: str, hands: Hands, shared: SharedStore, data, progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sem_search.search.pruning.curve_extrapolation.compute_allowance", lambda *_, **__: -1.0)
    source = make_source(bench, hands, shared, data, progress, tmp_path)
    with pytest.raises(optuna.TrialPruned, match="after epoch 10 of 12"):
        source.obtain(cell=CELL, fold=data.folds.folds[1], course=Course(BEYOND))


class Shelf(Executor):
    """Takes tasks and does nothing."""

    def __init__(self) -> None:
        self.tasks: list[dict[str, Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> "Future[Any]":
        self.tasks.append(json.loads(args[0]))
        return Future()

    @property
    def places(self) -> list[tuple[float, int]]:
        return [(task["learning_rate"], task["fold"]) for task in self.tasks]


def test_hands_are_kept_busy_with_the_folds_to_come_each_once(
    shared: SharedStore, data, progress, tmp_path: Path, store_folds, prepared
) -> None:
    shelf, n_hands = Shelf(), [3]
    hands = Hands(executor=shelf, count=lambda: n_hands[0])
    source = make_source(
        "bench", hands, shared, data, progress, tmp_path, list_next=lambda: [NEXT], find_incumbent=lambda fold: BEYOND
    )
    store_folds(cell=NEXT, n_folds=1)
    source.store = prepared.store
    first, *_ = data.folds.folds
    for _ in range(2):
        source._keep_busy(CELL, first)
    assert shelf.places == [(0.1, 1), (0.1, 2), (0.01, 1), (0.01, 2)], "fold 0 of the next cell is kept already"
    assert shelf.tasks[0]["incumbent"] == {"trial": 0, "accuracy": 1.0, "before": [], "leads": []}
    assert count_wanted(hands) == 4
    source._forget_others(NEXT)
    assert set(source._flying) == {(NEXT.name, 1), (NEXT.name, 2)}
    n_hands[0] = 0
    assert count_wanted(hands) == 1


class KilledWorker(Exception):
    """As Dask's."""


class CommClosedError(OSError):
    """As Dask's."""


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (CancelledError(), ClusterError, "scheduler went away, or took a task back. What is finished is kept"),
        (CommClosedError("closed"), ClusterError, "could not be reached any more"),
        (PermissionError(13, "Permission denied", "/cache"), StoreError, r"PermissionError: .*denied: '/cache'\. Mend"),
        (TimeoutError("nfs"), StoreError, "could not do its task: TimeoutError: nfs"),
        (OSError("at postgresql://me:s3cret@host"), StoreError, r"at postgresql://me:\*\*\*@host"),
        (KilledWorker(), FailedTrialError, "every worker that was given this task died at it"),
        (SettingsError("not found"), SettingsError, "not found"),
        (FailedTrialError("memory"), FailedTrialError, "memory"),
        (KeyError("a bug"), KeyError, "a bug"),
    ],
)
def test_what_a_task_raises_says_what_to_do(error: Exception, expected: type[Exception], words: str) -> None:
    future: Future[str] = Future()
    future.set_exception(error)
    with pytest.raises(expected, match=words):
        await_result(future, hands=Hands(executor=Shelf(), count=lambda: 1))


def test_a_task_that_was_taken_back_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing, "LOOK_EVERY_S", 0.01)
    future: Future[str] = Future()
    with pytest.raises(ClusterError, match="took a task back"):
        await_result(future, hands=Hands(executor=Shelf(), count=lambda: 1), while_waiting=future.cancel)


def test_a_cluster_without_workers_is_waited_for_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(executing, "LOOK_EVERY_S", 0.01)
    future: Future[str] = Future()
    n_looks = []

    def look() -> None:
        n_looks.append(1)
        if len(n_looks) == 3:
            threading.Thread(target=lambda: (time.sleep(0.02), future.set_result("done"))).start()

    assert await_result(future, hands=Hands(executor=Shelf(), count=lambda: 0), while_waiting=look) == "done"
    assert capsys.readouterr().err.count("no worker at this moment") == 1


def test_a_result_that_is_not_to_be_seen_is_a_wrong_place(
    shared: SharedStore, data, progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executing, "VISIBLE_S", 0.0)
    source = make_source("bench", Hands(executor=Shelf(), count=lambda: 1), shared, data, progress, tmp_path)
    with pytest.raises(SettingsError, match="shared must be one place for the search and every worker"):
        source._fetch(CELL, 0)


def test_a_worker_that_does_not_reach_the_place_says_so(tmp_path: Path) -> None:
    elsewhere = SharedStore(url=str(tmp_path / "elsewhere"))
    with pytest.raises(SettingsError, match=r"The worker on .* does not find studies/a/bench\.bin in shared="):
        run_shard_task(json.dumps({"shared": elsewhere.url, "bench": "studies/a/bench.bin", "index": 0}), b"")


def test_a_worker_with_another_library_is_refused(
    bench: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench_module.describe_versions()
    monkeypatch.setattr(bench_module, "describe_versions", lambda: {**real, "tensorflow": "1.0"})
    with pytest.raises(SettingsError, match=r"would not give the search's numbers: tensorflow \S+ there and 1\.0 here"):
        open_bench(bench, shared=shared)


def test_a_worker_that_has_computed_with_other_threads_is_refused(
    bench: str, shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("Intra op parallelism cannot be modified after initialization.")

    monkeypatch.setattr(bench_module, "configure_tensorflow", refuse)
    with pytest.raises(SettingsError, match="another number of threads than threads=1"):
        open_bench(bench, shared=shared)


def test_a_worker_that_lacks_a_shard_says_which(bench: str, shared: SharedStore) -> None:
    with pytest.raises(SettingsError, match="does not find feature shard 0 of study 'a study'"):
        run_fold_task(make_task(bench, shared))


def test_a_bench_is_opened_once_and_published_once(bench: str, shared: SharedStore, settings, data, network) -> None:
    assert open_bench(bench, shared=shared) is open_bench(bench, shared=shared)
    stamps = {path: path.stat().st_mtime_ns for path in Path(shared.url).rglob("*.bin")}
    longer = settings.model_copy(update={"epochs": N_EPOCHS, "patience": 0})
    assert publish_bench(longer, study="a study", data=data, network=network, shared=shared) == bench
    assert {path: path.stat().st_mtime_ns for path in Path(shared.url).rglob("*.bin")} == stamps
