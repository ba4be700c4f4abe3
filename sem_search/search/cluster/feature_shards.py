"""Trunk features in pieces that any machine can compute and every machine can check.

A shard holds the features of `N_SHARD_TILES` tiles, and is a pure function of tiles and network: whole batches of the
size in which one process would compute them, so that the numbers are the same, bit for bit, on processors of one kind.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.files import ARCHIVE_DAMAGE, pack_arrays, unpack_arrays
from sem_search.micrographs.tiles import FloatTiles
from sem_search.search.cluster.object_store import SharedStore
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork
from sem_search.transfer.features import DEFAULT_BATCH_SIZE, iter_features
from sem_search.transfer.trunk import compile_trunk

N_SHARD_TILES = 2 * DEFAULT_BATCH_SIZE
"""VGG16: 13 MB and about six seconds of one core, so that losing one costs little and asking for one less."""

Features = Sequence[NDArray[np.float32]]
"""One array per crossing tensor, shape (n, ...)."""


def compile_shard_computation(cut: CutNetwork, *, backbone: Backbone, n_tiles: int) -> Callable[[FloatTiles], Features]:
    """Return what computes the features of a shard's tiles with one network, compiled once.

    Args:
        cut: The network.
        backbone: Prepares tiles for the trunk.
        n_tiles: Of all shards; where they are fewer than a batch, the batch is as small.
    """
    batch_size = min(DEFAULT_BATCH_SIZE, n_tiles)
    run = compile_trunk(cut, backbone=backbone, batch_size=batch_size)

    def compute(tiles: FloatTiles) -> Features:
        """Return the features of the tiles, batch by batch."""
        batches = list(iter_features(run, iter([tiles]), batch_size=batch_size))
        return [np.concatenate(arrays) for arrays in zip(*batches, strict=True)]

    return compute


def get_shard_range(index: int, *, n_tiles: int) -> tuple[int, int]:
    """Return the first tile of a shard, and the one after its last."""
    return index * N_SHARD_TILES, min((index + 1) * N_SHARD_TILES, n_tiles)


@dataclass(frozen=True, kw_only=True)
class FeatureShards:
    """The shards of one feature store, in shared storage."""

    shared: SharedStore
    key: str
    """Of the feature store."""
    n_tiles: int
    """Of all shards."""

    def __len__(self) -> int:
        """Return the number of shards."""
        return -(-self.n_tiles // N_SHARD_TILES)

    def name(self, index: int) -> str:
        """Return the name of a shard in shared storage."""
        return f"features/{self.key}/{index:05d}.bin"

    def cut(self, arrays: Features, *, index: int) -> Features:
        """Return a shard out of the features of all tiles."""
        begin, end = get_shard_range(index, n_tiles=self.n_tiles)
        return [np.asarray(array[begin:end]) for array in arrays]

    def write(self, index: int, features: Features) -> None:
        """Write a shard where every machine finds it.

        Raises:
            StoreError: The storage refuses.
        """
        arrays = {f"features_{place}": array for place, array in enumerate(features)}
        self.shared.write(self.name(index), pack_arrays(arrays))

    def read(self, index: int) -> Features | None:
        """Return a shard; None where it is not there, not whole, or not of so many tiles."""
        content = self.shared.read(self.name(index))
        if content is None:
            return None
        try:
            features = list(unpack_arrays(content).values())
        except ARCHIVE_DAMAGE:
            return None
        begin, end = get_shard_range(index, n_tiles=self.n_tiles)
        return features if features and all(len(array) == end - begin for array in features) else None

    def list_missing(self) -> list[int]:
        """Return the shards that are not there; one that is there is not read, and may be damaged."""
        return [index for index in range(len(self)) if not self.shared.has(self.name(index))]

    def fill(self, compute: Callable[[int], Features], *, first: int = 0) -> None:
        """Write the shards that are not there yet.

        Args:
            compute: Returns the features of a shard.
            first: Where to begin; several workers that begin in different places seldom compute the same shard twice.
        """
        for place in range(len(self)):
            index = (first + place) % len(self)
            if not self.shared.has(self.name(index)):
                self.write(index, compute(index))

    def read_all(self, compute: Callable[[int], Features]) -> Iterator[Features]:
        """Yield all shards in order, each checked; one that is missing or damaged is computed and written."""
        for index in range(len(self)):
            features = self.read(index)
            if features is None:
                features = compute(index)
                self.write(index, features)
            yield features
