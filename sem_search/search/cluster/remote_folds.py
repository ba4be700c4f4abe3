"""Folds and feature shards from the workers of a cluster.

The search alone talks to Optuna, trial after trial, as without a cluster. To keep all workers busy it lets them train
folds of the next cells ahead of their turn, against the best cell that is known then. When a cell's turn comes, it is
pruned as one process would have pruned it: a fold that was trained to its end is as good as any, and one that was
stopped early counts only if the best cell that it is to be compared with stops it, too; else it is trained again.
docs/decisions/019-cluster.md explains why nothing but time can depend on the cluster.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import groupby
from operator import itemgetter

import click
import optuna

from sem_search.errors import SettingsError
from sem_search.micrographs.folds import Fold
from sem_search.records import Cell, FinishedFold, TrainingCurves
from sem_search.search.cluster.client import ClusterClient
from sem_search.search.cluster.feature_shards import FeatureShards
from sem_search.search.cluster.object_store import SharedStore, open_shared
from sem_search.search.cluster.tasks import compute_shard, refit_remote_fold, train_remote_fold
from sem_search.search.cluster.worker_context import publish_context
from sem_search.search.folds.store import FoldStore
from sem_search.search.prepare.features import get_feature_key, read_shard_tiles
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.pruning.curve_extrapolation import Incumbent, find_incumbent
from sem_search.search.pruning.in_order import CellCourse
from sem_search.search.pruning.pruners import EXTRAPOLATION
from sem_search.search.trials.ranks import list_next_cells
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.settings import SearchSettings
from sem_search.transfer.views import VIEWS

VISIBLE_S = 30.0
"""How long a result may take to be seen here after its worker has written it: network folders cache."""

VISIBLE_EVERY_S = 0.5


def compute_shards(client: ClusterClient, *, prepared: PreparedSearch) -> None:
    """Let the cluster compute the feature shards of all views that are not in shared storage yet.

    The tiles of a shard are read as workers become free, once for all views, so that few are in memory at once.

    Raises:
        SettingsError: There is no shared storage, or a worker does not reach it.
        ClusterError: The cluster went away.
    """
    settings, data = prepared.settings, prepared.data
    shared = get_shared(settings)
    keys = [get_feature_key(data, network=prepared.network, view=view) for view in range(VIEWS[settings.augment])]
    shards = [FeatureShards(shared=shared, key=key, n_tiles=data.tiles.n_tiles) for key in keys]
    missing = sorted((index, view) for view, of_view in enumerate(shards) for index in of_view.list_missing())
    if not missing:
        return
    click.echo(f"{len(missing)} feature shards are computed by the cluster ...", err=True)
    submit = partial(client.submit, compute_shard, shared=shared.url, context=publish_context(prepared, shared=shared))
    under_way: deque[Future[None]] = deque()
    for index, of_index in groupby(missing, key=itemgetter(0)):
        tiles = read_shard_tiles(data, index=index)
        for _, view in of_index:
            while len(under_way) >= client.n_wanted:
                client.await_answer(under_way.popleft())
            under_way.append(submit(tiles, view=view, index=index))
    for future in under_way:
        client.await_answer(future)


def get_shared(settings: SearchSettings) -> SharedStore:
    """Return the storage in which a cluster's results lie.

    Raises:
        SettingsError: None was given.
    """
    shared = open_shared(settings.shared)
    if shared is None:
        raise SettingsError("cluster needs shared=FOLDER_OR_URL, a place that every worker of it reaches.")
    return shared


@dataclass(kw_only=True)
class RemoteFolds:
    """Folds from disk, else from a cluster's workers, which are kept busy with folds of the cells to come."""

    client: ClusterClient
    prepared: PreparedSearch
    study: optuna.Study
    progress: SearchProgress
    _futures: dict[tuple[Cell, int], "Future[TrainingCurves | None] | None"] = field(default_factory=dict)
    """By cell and fold; None for one that was on disk already when its turn was still to come."""

    def obtain(self, *, cell: Cell, fold: Fold, course: CellCourse) -> FinishedFold:
        """Return a finished fold, as `FoldSource`; the course also gives a worker the incumbent."""
        self._forget_ended(cell)
        finished = self.prepared.store.read(cell=cell, fold=fold.number)
        is_new = finished is None or self._futures.get((cell, fold.number)) is not None
        if finished is None:
            self._train(cell, fold=fold, course=course)
            finished = self._fetch(self.prepared.store, cell=cell, fold=fold.number)
        self.progress.count_fold(cell=cell, fold=fold.number, is_new=is_new)
        return finished

    def refit(self, cell: Cell, *, folds: Sequence[Fold]) -> None:
        """Let the workers train the heads of finished folds again, all at once, as `FoldSource`."""
        store, shared = self.prepared.store, get_shared(self.prepared.settings).url
        submit = partial(self.client.submit, refit_remote_fold, shared=shared, context=self._context, cell=cell)
        futures = [submit(first=store.get(cell=cell, fold=fold.number)) for fold in folds]
        for fold, future in zip(folds, futures, strict=True):
            self.client.await_answer(future)
            self._fetch(store.refits, cell=cell, fold=fold.number)
            self.progress.count_fold(cell=cell, fold=fold.number, is_new=True)

    def _train(self, cell: Cell, *, fold: Fold, course: CellCourse) -> None:
        """Wait until a worker has finished a fold; the cell may be pruned by a fold that was stopped early."""
        place = (cell, fold.number)
        while True:
            future = self._futures.get(place) or self._submit(cell, fold=fold.number, incumbent=course.find_incumbent())
            self._futures[place] = future
            curves = self.client.await_answer(future, while_waiting=partial(self._keep_busy, cell, fold=fold))
            del self._futures[place]
            if curves is None:
                return
            course.stop_fold(curves)  # where it prunes nothing, the fold is trained again, against the right cell

    def _forget_ended(self, cell: Cell) -> None:
        """Take back the folds of cells that have ended meanwhile."""
        current = {cell, *list_next_cells(self.study, settings=self.prepared.settings)}
        for place in [place for place in self._futures if place[0] not in current]:
            future = self._futures.pop(place)
            if future is not None:
                future.cancel()

    def _keep_busy(self, cell: Cell, *, fold: Fold) -> None:
        """Submit as many folds, of this cell and of those to come, as the workers have threads for."""
        n_free = self.client.n_wanted - sum(one is not None and not one.done() for one in self._futures.values())
        for place in self._iter_ahead(cell, fold=fold):
            if n_free <= 0:
                return
            if place not in self._futures:
                is_there = self.prepared.store.has(cell=place[0], fold=place[1])
                incumbent = None if is_there else self._find_incumbent(*place)
                self._futures[place] = None if is_there else self._submit(place[0], fold=place[1], incumbent=incumbent)
                n_free -= not is_there

    def _iter_ahead(self, cell: Cell, *, fold: Fold) -> Iterator[tuple[Cell, int]]:
        folds = self.prepared.data.folds.folds
        yield from ((cell, one.number) for one in folds if one.number > fold.number)
        for following in list_next_cells(self.study, settings=self.prepared.settings):
            yield from ((following, one.number) for one in folds)

    def _submit(self, cell: Cell, *, fold: int, incumbent: Incumbent | None) -> "Future[TrainingCurves | None]":
        shared = get_shared(self.prepared.settings).url
        return self.client.submit(
            train_remote_fold, shared=shared, context=self._context, cell=cell, fold=fold, incumbent=incumbent
        )

    @cached_property
    def _context(self) -> str:
        return publish_context(self.prepared, shared=get_shared(self.prepared.settings))

    def _find_incumbent(self, cell: Cell, fold: int) -> Incumbent | None:
        """Return what a cell is compared with on a fold as far as is known now."""
        if self.prepared.settings.pruner != EXTRAPOLATION:
            return None
        return find_incumbent(self.study.get_trials(deepcopy=False), fold=fold, head=cell.head)

    def _fetch(self, store: FoldStore, *, cell: Cell, fold: int) -> FinishedFold:
        """Return a fold that a worker has written."""
        ends_at = time.monotonic() + VISIBLE_S
        while (finished := store.read(cell=cell, fold=fold)) is None:
            if time.monotonic() >= ends_at:
                raise SettingsError(
                    f"A worker has written {store.name_shared(cell, fold=fold)}, and it cannot be seen "
                    f"here after {VISIBLE_S:g} s: shared must be one place for the search and every worker."
                )
            time.sleep(VISIBLE_EVERY_S)
        return finished
