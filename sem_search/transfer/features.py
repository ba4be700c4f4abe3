"""The trunk's outputs for every tile: computed once, kept on disk, shared by all that comes after.

A store is written beside its place and moved there whole, under a lock, so that it either is complete or does not
exist; and it is hashed when opened, so that one that has been damaged since is computed again instead of believed.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from sem_search.micrographs.tiles import FloatTiles
from sem_search.progress import ProgressMeter
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork
from sem_search.transfer.feature_store import (
    KEY_DIGITS,
    LOCK_SUFFIX,
    PARTIAL_SUFFIX,
    DamagedStoreError,
    StoreSummary,
    StoreWriter,
    explain_write_errors,
    get_store_folder,
    iter_removable_folders,
    iter_summaries,
    open_store,
    remove_store,
)
from sem_search.transfer.prefetch import iter_batches, prefetch
from sem_search.transfer.trunk import compile_trunk, get_precision
from sem_search.transfer.weights.digest import compute_weights_digest

DEFAULT_BATCH_SIZE = 16
N_BATCHES_AHEAD = 4
"""Batches that are decoded and cut while the network is busy with another: enough to hide reading one large file."""


@dataclass(frozen=True, kw_only=True)
class FeatureStore:
    """The trunk's outputs for all tiles, read from disk as they are used."""

    key: str
    folder: Path
    arrays: tuple[NDArray[np.float32], ...]
    """One read-only memory map for each crossing tensor, shape (n_tiles, ...), tiles in the order they were given."""
    warnings: tuple[str, ...]
    """What a user must know: that a damaged store was computed again."""


def get_features(
    cut: CutNetwork,
    *,
    tiles: Callable[[], Iterator[FloatTiles]],
    n_tiles: int,
    backbone: Backbone,
    content_key: str,
    cache_folder: Path,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = False,
    computed: Callable[[], Iterator[Sequence[NDArray[np.float32]]]] | None = None,
) -> FeatureStore:
    """Return the trunk's outputs for every tile, from the cache where they are known.

    Of several processes that ask at once, one computes and the others wait for it.

    Args:
        cut: The network; its trunk's weights are part of the key.
        tiles: Starts an iterator of grey tiles in [0, 1], each item of shape (n, size_px, size_px); called only where
            the store must be computed.
        n_tiles: Number of tiles in all, at least 1.
        backbone: Prepares tiles for the trunk.
        content_key: Names the tiles: different pixels, or the same in another order, must have different keys.
        cache_folder: Where stores are kept.
        batch_size: Tiles computed at once; not part of the key.
        progress: Show how far it is, on standard error.
        computed: Starts an iterator of the same outputs, some tiles at a time and in order, that come from elsewhere;
            called instead of `tiles`.

    Raises:
        StoreError: The store could not be written (no room, no permission), or the tiles were not `n_tiles`.
    """
    key = compute_feature_key(cut, backbone=backbone, content_key=content_key, n_tiles=n_tiles)
    folder = get_store_folder(cache_folder, key)
    with _lock(folder, is_told=progress):
        arrays, warnings = _open_if_whole(folder)
        if arrays is None:
            writer = StoreWriter(
                folder,
                shapes=[(n_tiles, *tensor.shape[1:]) for tensor in cut.trunk.outputs],
                about={
                    "backbone": backbone.name,
                    "convolution": cut.convolution,
                    "precision": get_precision(cut.trunk),
                },
            )
            if computed is None:
                run = compile_trunk(cut.trunk, backbone=backbone, batch_size=min(batch_size, n_tiles))
                batches = iter_features(run, tiles(), batch_size=min(batch_size, n_tiles))
            else:
                batches = computed()
            with writer, ProgressMeter("Features", total=n_tiles, unit="tiles", is_shown=progress) as meter:
                for features in batches:
                    writer.append(features)
                    meter.update(len(features[0]))
            arrays = open_store(folder)
    return FeatureStore(key=key, folder=folder, arrays=arrays, warnings=warnings)


def compute_feature_key(cut: CutNetwork, *, backbone: Backbone, content_key: str, n_tiles: int) -> str:
    """Return the name of the store: a hash of all that its values depend on."""
    identity = [
        content_key,
        n_tiles,
        backbone.name,
        cut.convolution,
        [list(tensor.shape[1:]) for tensor in (*cut.trunk.inputs, *cut.trunk.outputs)],
        compute_weights_digest(cut.trunk),
        get_precision(cut.trunk),
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:KEY_DIGITS]


def iter_features(
    run: Callable[[FloatTiles], list[Any]], tiles: Iterator[FloatTiles], *, batch_size: int
) -> Iterator[Sequence[NDArray[np.float32]]]:
    """Yield the trunk's outputs batch by batch, while the next tiles are decoded and cut in another thread.

    Args:
        run: The trunk, compiled for this batch size.
        tiles: Grey tiles in [0, 1], each item of shape (n, size_px, size_px).
        batch_size: Tiles computed at once; the last batch is filled up with black, and its surplus left out.
    """
    for batch in prefetch(iter_batches(tiles, batch_size=batch_size), n_ahead=N_BATCHES_AHEAD):
        missing = batch_size - len(batch)
        padded = np.pad(batch, ((0, missing), (0, 0), (0, 0))) if missing else batch
        yield [np.asarray(output)[: len(batch)] for output in run(padded)]


def list_stores(cache_folder: Path) -> tuple[StoreSummary, ...]:
    """Return what is known of each whole store in a cache folder, by name."""
    return tuple(iter_summaries(cache_folder))


def clear_stores(cache_folder: Path) -> int:
    """Remove the stores of a cache folder, and what dead processes left half-written; nothing else in it.

    Stores that a process is computing or opening at this moment stay.

    Returns:
        How many whole or damaged stores were removed.
    """
    n_removed = 0
    for folder in iter_removable_folders(cache_folder):
        is_partial = folder.name.endswith(PARTIAL_SUFFIX)
        try:
            with FileLock(_get_lock_file(folder.with_name(folder.name.removesuffix(PARTIAL_SUFFIX))), timeout=0):
                remove_store(folder)
        except Timeout:
            continue
        n_removed += not is_partial
    return n_removed


@contextmanager
def _lock(folder: Path, *, is_told: bool) -> Iterator[None]:
    """Hold the lock of a store; a process that dies loses it."""
    with explain_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_get_lock_file(folder))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if is_told:
                print("Another process is computing these features; waiting for it.", file=sys.stderr, flush=True)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _get_lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name + LOCK_SUFFIX)


def _open_if_whole(folder: Path) -> tuple[tuple[NDArray[np.float32], ...] | None, tuple[str, ...]]:
    """Open a store, if there is one; remove a damaged one and say so."""
    if not folder.exists():
        return None, ()
    try:
        return open_store(folder), ()
    except DamagedStoreError as error:
        with explain_write_errors(folder):
            remove_store(folder)
        return None, (f"A feature store was damaged and has been computed again: {error}.",)
