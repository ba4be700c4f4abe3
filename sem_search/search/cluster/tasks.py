"""What a worker of a cluster does: compute one feature shard, or train one fold of one cell.

Results go to shared storage. A fold that was written before its worker was lost is found there when it is sent again.
"""

import threading

import optuna

from sem_search.micrographs.tiles import FloatTiles
from sem_search.records import Cell, EpochFigures, FinishedFold, TileSplits, TrainingCurves
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.cluster.worker_context import WorkerContext, open_context
from sem_search.search.folds.store import name_fold, pack_fold, unpack_fold
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, Incumbent
from sem_search.transfer.heads.training import get_tile_splits
from sem_search.transfer.views import turn_tiles

_task_lock = threading.Lock()
"""A process has one trainer, which trains one fold at a time, however many threads a worker has."""


def compute_shard(tiles: FloatTiles, *, shared: str, context: str, view: int, index: int) -> None:
    """Compute a feature shard and write it.

    Args:
        tiles: Grey tiles in [0, 1] as they are, shape (n, tile_px, tile_px).
        shared: URL of the shared storage.
        context: Name of the worker's context in it.
        view: Of the tiles, as `turn_tiles` numbers them.
        index: Of the shard.
    """
    with _task_lock:
        opened = open_context(context, shared=SharedStore(url=shared))
        opened.shards[view].write(index, opened.compute_features(turn_tiles(tiles, view=view)))


def train_remote_fold(
    *, shared: str, context: str, cell: Cell, fold: int, incumbent: Incumbent | None
) -> TrainingCurves | None:
    """Train a fold and write it, or stop it early where it cannot catch up with the best cell.

    Args:
        shared: URL of the shared storage.
        context: Name of the worker's context in it.
        cell: What is tried.
        fold: Number of the fold.
        incumbent: The best cell on this fold; None lets the fold run to its end.

    Returns:
        The curves of a fold that was stopped; None of one that is finished and written.
    """
    with _task_lock:
        opened = open_context(context, shared=SharedStore(url=shared))
        store, name = opened.shared, name_fold(opened.study, cell=cell, fold=fold)
        if unpack_fold(store.read(name), fold=fold) is not None:
            return None
        return _train(opened, cell=cell, number=fold, incumbent=incumbent)


def refit_remote_fold(*, shared: str, context: str, cell: Cell, first: FinishedFold) -> None:
    """Train the head of a finished fold again and write it, where it was not written before.

    Args:
        shared: URL of the shared storage.
        context: Name of the worker's context in it.
        cell: Whose fold it is.
        first: As the search trained it.
    """
    with _task_lock:
        opened = open_context(context, shared=SharedStore(url=shared))
        number = first.outcome.fold
        name = name_fold(opened.study, cell=cell, fold=number, kind="refit")
        if unpack_fold(opened.shared.read(name), fold=number) is None:
            finished = opened.trainer.refit_fold(first, splits=_get_splits(opened, number), cell=cell)
            opened.shared.write(name, pack_fold(finished))


def _get_splits(opened: WorkerContext, number: int) -> TileSplits:
    fold = next(fold for fold in opened.folds.folds if fold.number == number)
    return get_tile_splits(fold, tiles=opened.tiles)


def _train(opened: WorkerContext, *, cell: Cell, number: int, incumbent: Incumbent | None) -> TrainingCurves | None:
    splits = _get_splits(opened, number)
    n_tiles = len(splits.validation)
    extrapolation = FoldExtrapolation(fold=number, n_epochs=opened.settings["epochs"], n_tiles=n_tiles)

    def watch(figures: EpochFigures) -> None:
        """Stop the fold once it can no longer catch up with the incumbent."""
        extrapolation.add(figures)
        extrapolation.check(incumbent)

    try:
        finished = opened.trainer.train_fold(splits, cell=cell, on_epoch=watch)
    except optuna.TrialPruned:
        return extrapolation.curves
    opened.shared.write(name_fold(opened.study, cell=cell, fold=number), pack_fold(finished))
    return None
