"""Trunk features in pieces that any machine can compute and every machine can check.

A shard holds the features of `N_SHARD_TILES` tiles, and is a pure function of tiles and network: whole batches of the
size in which one process would compute them, so that the numbers are the same, bit for bit, on processors of one kind.
"""

import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.tiles import FloatTiles
from sem_search.search.cluster.object_store import SharedStore
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork
from sem_search.transfer.features import DEFAULT_BATCH_SIZE, iter_features
from sem_search.transfer.trunk import compile_trunk

N_SHARD_TILES = 2 * DEFAULT_BATCH_SIZE
"""VGG16: 13 MB and about six seconds of one core, so that losing one costs little and asking for one less."""

DAMAGE = (OSError, ValueError, KeyError, EOFError)

Features = Sequence[NDArray[np.float32]]
"""One array per crossing tensor, shape (n, ...)."""


class ShardComputer:
    """Computes shards with one network, compiled once."""

    def __init__(self, cut: CutNetwork, *, backbone: Backbone, n_tiles: int) -> None:
        """Take a network.

        Args:
            cut: The network.
            backbone: Prepares tiles for the trunk.
            n_tiles: Of all shards; where they are fewer than a batch, the batch is as small.
        """
        self._batch_size = min(DEFAULT_BATCH_SIZE, n_tiles)
        self._run = compile_trunk(cut.trunk, backbone=backbone, batch_size=self._batch_size)

    def compute(self, tiles: FloatTiles) -> Features:
        """Return the features of a shard's tiles."""
        parts = list(iter_features(self._run, iter([tiles]), batch_size=self._batch_size))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def count_shards(n_tiles: int) -> int:
    """Return how many shards so many tiles make."""
    return -(-n_tiles // N_SHARD_TILES)


def get_shard_range(index: int, *, n_tiles: int) -> tuple[int, int]:
    """Return the first tile of a shard, and the one after its last."""
    return index * N_SHARD_TILES, min((index + 1) * N_SHARD_TILES, n_tiles)


def name_shard(key: str, index: int) -> str:
    """Return the name of a shard of the store of this key."""
    return f"features/{key}/{index:05d}.bin"


def write_shard(shared: SharedStore, features: Features, *, key: str, index: int) -> None:
    """Keep a shard where every machine finds it.

    Raises:
        StoreError: The storage refuses.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{f"features_{place}": array for place, array in enumerate(features)})
    shared.write(name_shard(key, index), buffer.getvalue())


def read_shard(shared: SharedStore, *, key: str, index: int, n_tiles: int) -> Features | None:
    """Return a shard; None where it is not there, not whole, or not of so many tiles."""
    content = shared.read(name_shard(key, index))
    if content is None:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            features = [arrays[f"features_{place}"] for place in range(len(arrays.files))]
    except DAMAGE:
        return None
    begin, end = get_shard_range(index, n_tiles=n_tiles)
    return features if features and all(len(array) == end - begin for array in features) else None


def list_missing_shards(shared: SharedStore, *, key: str, n_tiles: int) -> list[int]:
    """Return the shards that are not there, or not whole: every one that is there is read and hashed."""
    return [
        index
        for index in range(count_shards(n_tiles))
        if read_shard(shared, key=key, index=index, n_tiles=n_tiles) is None
    ]


def compute_missing_shards(
    shared: SharedStore, *, key: str, n_tiles: int, first: int, compute: Callable[[int], Features]
) -> None:
    """Compute the shards that nobody has computed yet.

    Args:
        shared: Where they are kept.
        key: Of the feature store.
        n_tiles: Of all shards.
        first: Where to begin; several workers that begin in different places seldom compute the same shard twice.
        compute: Returns the features of a shard.
    """
    n_shards = count_shards(n_tiles)
    for place in range(n_shards):
        index = (first + place) % n_shards
        if read_shard(shared, key=key, index=index, n_tiles=n_tiles) is None:
            write_shard(shared, compute(index), key=key, index=index)


def iter_shards(
    shared: SharedStore, *, key: str, n_tiles: int, compute: Callable[[int], Features]
) -> Iterator[Features]:
    """Yield all shards in order, each checked; one that is missing or damaged is computed and kept.

    Args:
        shared: Where they are kept.
        key: Of the feature store.
        n_tiles: Of all shards.
        compute: Returns the features of a shard.
    """
    for index in range(count_shards(n_tiles)):
        features = read_shard(shared, key=key, index=index, n_tiles=n_tiles)
        if features is None:
            features = compute(index)
            write_shard(shared, features, key=key, index=index)
        yield features


def publish_shards(shared: SharedStore, arrays: Features, *, key: str) -> int:
    """Write the shards of a store that is whole, where they are not there yet; return how many.

    Args:
        shared: Where they are kept.
        arrays: The store's, shape (n_tiles, ...).
        key: Of the feature store.
    """
    n_tiles = len(arrays[0])
    missing = [index for index in range(count_shards(n_tiles)) if not shared.has(name_shard(key, index))]
    for index in missing:
        begin, end = get_shard_range(index, n_tiles=n_tiles)
        write_shard(shared, [np.asarray(array[begin:end]) for array in arrays], key=key, index=index)
    return len(missing)
