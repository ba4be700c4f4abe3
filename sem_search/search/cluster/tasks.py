"""Folds and feature shards in other processes: any `concurrent.futures.Executor` will do, a cluster's above all.

Tasks are data: a line of JSON, for shards the tiles' bytes, too; answers are lines of JSON, and results lie in shared
storage under their hash. A task that is repeated, because its worker died after its work was done, finds the result.

The searching process alone asks and tells Optuna, trial after trial, as without a cluster. To keep all hands busy it
lets them train folds of the next cells ahead of their turn, against the best cell that is known then. When a cell's
turn comes, it is judged as one process would have judged it: a fold that was trained to its end is as good as any, and
one that was ended early counts only if the incumbent it must meet would have ended it, too; else it is trained again.
docs/decisions/019-cluster.md tells why nothing but time can depend on the cluster.
"""

import dataclasses
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
import optuna

from sem_search.errors import ClusterError, FailedTrialError, SettingsError, StoreError
from sem_search.micrographs.folds import Fold
from sem_search.micrographs.tiles import FloatTiles
from sem_search.records import Cell, TrainingCurves
from sem_search.search.cluster.feature_shards import list_missing_shards, write_shard
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.cluster.worker_context import open_bench
from sem_search.search.folds.store import FinishedFold, FoldStore, name_fold, pack_fold, unpack_fold
from sem_search.search.folds.train import train_fold
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, Incumbent
from sem_search.search.pruning.in_order import CellCourse
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.secrets import mask_secrets
from sem_search.transfer.heads.stopping import EpochFigures

LOOK_EVERY_S = 0.5
"""Between two looks at how many hands there are while a result is awaited."""

IS_KEPT = "What is finished is kept: give the same command again when it is there."

VISIBLE_S = 30.0
"""How long a result may take to be seen here after its worker has written it: network folders cache."""


@dataclass(frozen=True, kw_only=True)
class Hands:
    """Other processes that work."""

    executor: Executor
    count: Callable[[], int]
    """Returns how many tasks can be worked on at this moment; it may be none for a while."""


def run_shard_task(task: str, tiles: bytes) -> str:
    """Compute a feature shard and keep it; runs on a worker.

    Args:
        task: JSON: `shared`, `bench`, `index`.
        tiles: A `.npy` file of grey tiles in [0, 1], shape (n, tile_px, tile_px).

    Returns:
        JSON: `index`.
    """
    given = json.loads(task)
    shared = SharedStore(url=given["shared"])
    bench = open_bench(given["bench"], shared=shared)
    with bench.lock:
        features = bench.compute_features(np.load(io.BytesIO(tiles), allow_pickle=False))
    write_shard(shared, features, key=bench.key, index=given["index"])
    return json.dumps({"index": given["index"]})


def run_fold_task(task: str) -> str:
    """Train a fold and keep it, or end it against a incumbent; runs on a worker.

    Args:
        task: JSON: `shared`, `bench`, `learning_rate`, `batch_size`, `fold`, and `incumbent`: null, or a
            `Incumbent` by its fields.

    Returns:
        JSON: `curves` of a fold that was ended; null of one that is kept.
    """
    given = json.loads(task)
    shared = SharedStore(url=given["shared"])
    bench = open_bench(given["bench"], shared=shared)
    cell = Cell(learning_rate=given["learning_rate"], batch_size=given["batch_size"])
    fold = next(fold for fold in bench.folds.folds if fold.number == given["fold"])
    incumbent = None
    if given["incumbent"] is not None:
        folds_before = {name: tuple(given["incumbent"].get(name, ())) for name in ("before", "leads")}
        incumbent = Incumbent(
            trial=given["incumbent"]["trial"], accuracy=given["incumbent"]["accuracy"], **folds_before
        )
    name = name_fold(bench.study, cell=cell, fold=fold.number)
    race = FoldExtrapolation(
        fold=fold.number,
        n_epochs=bench.settings["epochs"],
        n_tiles=len(bench.tiles.get_tiles_of(fold.validation)),
    )

    def watch(figures: EpochFigures) -> None:
        race.add(figures)
        race.check(incumbent)

    with bench.lock:
        archive = shared.read(name)
        if archive is None or unpack_fold(archive, fold=fold.number) is None:
            try:
                kept = train_fold(bench.get_trainer(), tiles=bench.tiles, cell=cell, fold=fold, on_epoch=watch)
            except optuna.TrialPruned:
                return json.dumps({"curves": {name: values.tolist() for name, values in vars(race.curves).items()}})
            shared.write(name, pack_fold(kept))
    return json.dumps({"curves": None})


def compute_shards(
    hands: Hands,
    *,
    bench: str,
    shared: SharedStore,
    key: str,
    n_tiles: int,
    read_tiles: Callable[[int], FloatTiles],
) -> None:
    """Let other hands compute the feature shards that are not in shared storage yet.

    Args:
        hands: Who works.
        bench: Name of the bench.
        shared: Where shards are kept.
        key: Of the feature store.
        n_tiles: Of all shards.
        read_tiles: Returns the tiles of a shard; called as hands become free, so that few are in memory at once.

    Raises:
        ClusterError: The cluster went away.
    """
    missing = list_missing_shards(shared, key=key, n_tiles=n_tiles)
    if missing:
        click.echo(f"{len(missing)} feature shards are computed by the cluster ...", err=True)
    tasks = ((index, read_tiles(index)) for index in missing)
    futures: list[Future[str]] = []
    for index, tiles in tasks:
        task = json.dumps({"shared": shared.url, "bench": bench, "index": index})
        futures.append(hands.executor.submit(run_shard_task, task, _pack_tiles(tiles)))
        while sum(not future.done() for future in futures) > count_wanted(hands):
            time.sleep(LOOK_EVERY_S)
    for future in futures:
        await_result(future, hands=hands)


def count_wanted(hands: Hands) -> int:
    """Return how many tasks should be under way: as many as there are hands, and some for who is done first."""
    n_hands = hands.count()
    return n_hands + max(1, n_hands // 4)


def await_result(future: "Future[str]", *, hands: Hands, while_waiting: Callable[[], None] | None = None) -> str:
    """Return what a task answered.

    Args:
        future: Of the task.
        hands: Who works.
        while_waiting: Called again and again.

    Raises:
        ClusterError: The cluster went away.
        StoreError: The worker could not read or write something, or waited for it too long.
        FailedTrialError: The task took several workers with it.
        SettingsError: The worker cannot work as it is set up; its message says why.
    """
    has_told = False
    while not future.done():
        wait([future], timeout=LOOK_EVERY_S)  # for `wait` alone, a future that was cancelled is never done
        if future.done():
            break
        if while_waiting is not None:
            while_waiting()
        if not has_told and not hands.count():
            click.echo("The cluster has no worker at this moment; waiting for one ...", err=True)
            has_told = True
    try:
        return future.result()
    except CancelledError as error:
        raise ClusterError(f"The cluster's scheduler went away, or took a task back. {IS_KEPT}") from error
    except OSError as error:
        if type(error).__name__ == "CommClosedError":  # Dask's own, which need not be installed here
            raise ClusterError(f"The cluster could not be reached any more. {IS_KEPT}") from error
        raise StoreError(
            f"A worker of the cluster could not do its task: {mask_secrets(f'{type(error).__name__}: {error}')}. Mend "
            "that on the worker's machine. What is finished is kept: then give the same command again."
        ) from error
    except Exception as error:
        if type(error).__name__ != "KilledWorker":  # Dask's own, too
            raise
        raise FailedTrialError(
            "every worker that was given this task died at it: is their memory large enough for it?"
        ) from error


@dataclass(kw_only=True)
class RemoteFolds:
    """Folds from disk, else from other hands, which are kept busy with folds of the cells to come."""

    hands: Hands
    bench: str
    shared: SharedStore
    store: FoldStore
    folds: tuple[Fold, ...]
    progress: SearchProgress
    list_next: Callable[[], list[Cell]]
    """Returns the cells whose turn is still to come, in order."""
    find_incumbent: Callable[[int], Incumbent | None]
    """Returns the best cell on a fold as far as is known now."""
    _flying: dict[tuple[str, int], "Future[str]"] = field(default_factory=dict)
    _kept: set[tuple[str, int]] = field(default_factory=set)
    """Folds that were found finished: looked at once, for reading a fold takes a while."""

    def obtain(self, *, cell: Cell, fold: Fold, course: CellCourse) -> FinishedFold:
        """As `FoldSource`: returns the fold, or lets the course end the cell with the epochs that were trained."""
        self._forget_others(cell)
        kept = self.store.read(cell=cell, fold=fold.number)
        if kept is not None:
            self.progress.count_fold(cell=cell, fold=fold.number, is_new=False)
            return kept
        place = (cell.name, fold.number)
        while True:
            if place not in self._flying:
                self._flying[place] = self._submit(cell, fold.number, incumbent=course.find_incumbent())
            self._keep_busy(cell, fold)
            answer = await_result(
                self._flying[place], hands=self.hands, while_waiting=lambda: self._keep_busy(cell, fold)
            )
            del self._flying[place]
            curves = json.loads(answer)["curves"]
            if curves is None:
                break
            course.stop_fold(TrainingCurves(**{name: np.array(values) for name, values in curves.items()}))
            # ended by another incumbent than it must meet, the fold is trained again, against that one
        self.progress.count_fold(cell=cell, fold=fold.number, is_new=True)
        return self._fetch(cell, fold.number)

    def _forget_others(self, cell: Cell) -> None:
        """Take back the folds of cells that have ended meanwhile."""
        names = {cell.name, *(one.name for one in self.list_next())}
        for place in [place for place in self._flying if place[0] not in names]:
            self._flying.pop(place).cancel()

    def _keep_busy(self, cell: Cell, fold: Fold) -> None:
        """Submit as many folds, of this cell and of those to come, as there are hands for."""
        n_free = count_wanted(self.hands) - sum(not future.done() for future in self._flying.values())
        for one, number in self._iter_ahead(cell, fold):
            if n_free <= 0:
                return
            place = (one.name, number)
            if place in self._flying or place in self._kept:
                continue
            if self.store.is_whole(cell=one, fold=number):
                self._kept.add(place)
                continue
            self._flying[place] = self._submit(one, number, incumbent=self.find_incumbent(number))
            n_free -= 1

    def _iter_ahead(self, cell: Cell, fold: Fold) -> Iterator[tuple[Cell, int]]:
        yield from ((cell, one.number) for one in self.folds if one.number > fold.number)
        for following in self.list_next():
            yield from ((following, one.number) for one in self.folds)

    def _submit(self, cell: Cell, fold: int, *, incumbent: Incumbent | None) -> "Future[str]":
        task: dict[str, Any] = {
            "shared": self.shared.url,
            "bench": self.bench,
            "learning_rate": cell.learning_rate,
            "batch_size": cell.batch_size,
            "fold": fold,
            "incumbent": None if incumbent is None else dataclasses.asdict(incumbent),
        }
        future: Future[str] = self.hands.executor.submit(run_fold_task, json.dumps(task))
        return future

    def _fetch(self, cell: Cell, fold: int) -> FinishedFold:
        """Return a fold that a worker has written."""
        ends_at = time.monotonic() + VISIBLE_S
        while True:
            kept = self.store.read(cell=cell, fold=fold)
            if kept is not None:
                return kept
            if time.monotonic() >= ends_at:
                raise SettingsError(
                    f"A worker has written {name_fold(self.store.folder.name, cell=cell, fold=fold)}, and it is not to "
                    f"be seen here after {VISIBLE_S:g} s: shared must be one place for the search and every worker."
                )
            time.sleep(LOOK_EVERY_S)


def _pack_tiles(tiles: FloatTiles) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, tiles, allow_pickle=False)
    return buffer.getvalue()
