"""The trunk's outputs for every tile: computed once, stored on disk, shared by all that comes after.

While the network is busy with one batch, the tiles of the next ones are decoded and cut, and the outputs of the last
one are written. Averaged over a tile, the outputs are its embedding: the trunk is the same for all heads, so embeddings
can be compared between images that different heads were trained on. They show what is like the training images and what
is not.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sem_search.micrographs.tiles import FloatTiles, iter_batches
from sem_search.progress import ProgressMeter
from sem_search.records import FloatMatrix
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork, average_channels
from sem_search.transfer.feature_store import (
    KEY_DIGITS,
    compute_file_bytes,
    get_store_folder,
    lock_store,
    open_or_remove_store,
    open_store,
    write_store,
)
from sem_search.transfer.trunk import compile_trunk, get_precision
from sem_search.transfer.weights.files import compute_weights_digest

Item = TypeVar("Item")

DEFAULT_BATCH_SIZE = 16
N_BATCHES_AHEAD = 4
"""Batches that are decoded and cut while the network is busy with another: enough to hide reading one large file."""

CHUNK_TILES = 64
"""Tiles of a store that are averaged at once."""


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
    meter: ProgressMeter | None = None,
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
        cache_folder: Where stores lie.
        batch_size: Tiles computed at once; not part of the key.
        meter: Counts the tiles that are computed; without one nothing is shown.
        computed: Starts an iterator of the same outputs, some tiles at a time and in order, that come from elsewhere;
            called instead of `tiles`.

    Raises:
        StoreError: The store could not be written (no room, no permission), or the tiles were not `n_tiles`.
    """
    key = compute_feature_key(cut, backbone=backbone, content_key=content_key, n_tiles=n_tiles)
    folder = get_store_folder(cache_folder, key)
    with lock_store(folder, progress=meter is not None):
        arrays, warnings = open_or_remove_store(folder)
        if arrays is None:
            if computed is None:
                at_once = min(batch_size, n_tiles)
                run = compile_trunk(cut, backbone=backbone, batch_size=at_once)
                batches = prefetch(iter_features(run, tiles(), batch_size=at_once), n_ahead=1)
            else:
                batches = computed()
            if meter is not None:
                batches = _iter_counted(batches, meter=meter)
            about = {"backbone": backbone.name, "convolution": cut.convolution, "precision": get_precision(cut.trunk)}
            about["engine"] = cut.engine
            write_store(folder, shapes=_list_shapes(cut, n_tiles=n_tiles), about=about, batches=batches)
            arrays = open_store(folder)
    return FeatureStore(key=key, folder=folder, arrays=arrays, warnings=warnings)


def _iter_counted(
    batches: Iterator[Sequence[NDArray[np.float32]]], *, meter: ProgressMeter
) -> Iterator[Sequence[NDArray[np.float32]]]:
    for features in batches:
        yield features
        meter.update(len(features[0]))


def compute_n_bytes(cut: CutNetwork, *, n_tiles: int) -> int:
    """Return how many bytes of disk the trunk's outputs take for so many tiles, without the manifest's kilobyte."""
    return sum(map(compute_file_bytes, _list_shapes(cut, n_tiles=n_tiles)))


def _list_shapes(cut: CutNetwork, *, n_tiles: int) -> list[tuple[int, ...]]:
    return [(n_tiles, *tensor.shape[1:]) for tensor in cut.trunk.outputs]


def compute_feature_key(cut: CutNetwork, *, backbone: Backbone, content_key: str, n_tiles: int) -> str:
    """Return the name of the store: a hash of all that its values depend on.

    Args:
        cut: Trunk and head.
        backbone: Prepares tiles for the trunk.
        content_key: Names the tiles.
        n_tiles: Number of tiles.
    """
    identity = [
        content_key,
        n_tiles,
        backbone.name,
        cut.convolution,
        [list(tensor.shape[1:]) for tensor in (*cut.trunk.inputs, *cut.trunk.outputs)],
        compute_weights_digest(cut.trunk),
        get_precision(cut.trunk),
        *([cut.engine] if cut.engine != "tensorflow" else []),  # whose stores have the keys of before there were others
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


def prefetch(items: Iterator[Item], *, n_ahead: int) -> Iterator[Item]:
    """Yield the items of an iterator that runs ahead, in one thread of its own.

    Args:
        items: Runs in the other thread; what it raises is raised here.
        n_ahead: Items that may wait, at least 1; bounds the memory they take.
    """
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(n_ahead))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]  # it is not `end`
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def embed_stored_features(arrays: Sequence[NDArray[np.float32]]) -> FloatMatrix:
    """Return the same for stored features, a few tiles at a time.

    Args:
        arrays: Crossing tensors of all tiles, each of shape (n_tiles, ..., n_channels).

    Returns:
        Shape (n_tiles, sum of n_channels), float64.
    """
    n_tiles = len(arrays[0])
    chunks = [
        average_channels([tf.constant(array[start : start + CHUNK_TILES]) for array in arrays]).numpy()
        for start in range(0, n_tiles, CHUNK_TILES)
    ]
    embeddings: FloatMatrix = np.concatenate(chunks).astype(np.float64)
    return embeddings
