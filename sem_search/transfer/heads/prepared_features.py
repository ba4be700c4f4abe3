"""The features of all tiles, prepared for a head pass: in memory where they fit, else read again in chunks.

Which of the two it is never changes a number: batches hold the same tiles in the same order either way.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import psutil
import tensorflow as tf
from numpy.typing import NDArray

from sem_search.records import IntVector
from sem_search.transfer.heads.passes import HeadPass

FloatArray = NDArray[np.float32]

MEMORY_SHARE = 0.5
"""Part of the memory that is free at the start which features may take: other workers need theirs."""

PREPARED_AT_ONCE = 64
"""Tiles prepared in one call: enough for a busy processor, little beside all of them."""


class StackedViews:
    """The arrays of several views as one: tile t of view v is row v * n_tiles + t. Nothing is read before its turn."""

    def __init__(self, arrays: Sequence[FloatArray]) -> None:
        """Begin with one array per view, all of shape (n_tiles, ...)."""
        self._arrays = arrays
        self.shape = (len(self), *arrays[0].shape[1:])

    def __len__(self) -> int:
        """Return the number of rows of all views."""
        return len(self._arrays) * len(self._arrays[0])

    def __getitem__(self, rows: IntVector) -> FloatArray:
        """Return these rows, shape (n, ...)."""
        view_of_row, tile_of_row = np.divmod(rows, len(self._arrays[0]))
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        for view in np.unique(view_of_row):
            is_here = view_of_row == view
            found[is_here] = self._arrays[view][tile_of_row[is_here]]
        return found


class PreparedFeatures:
    """Prepared tensors of all tiles, handed out in chunks."""

    def __init__(
        self, features: Sequence[FloatArray | StackedViews], *, head_pass: HeadPass, max_bytes: int | None = None
    ) -> None:
        """Prepare the features of all tiles, if they fit into memory.

        Args:
            features: One array per crossing tensor, shape (n_tiles, ...); memory maps are not read beyond need.
            head_pass: Prepares them.
            max_bytes: Memory that prepared features may take; by default half of what is free.
        """
        self._features = features
        self._pass = head_pass
        specs = [tf.TensorSpec((None, *array.shape[1:]), tf.float32) for array in features]
        self._prepare = tf.function(head_pass.prepare, input_signature=[specs])
        self._max_bytes = max_bytes or int(psutil.virtual_memory().available * MEMORY_SHARE)
        first = self._read(np.zeros(1, dtype=np.int64))
        self._tile_bytes = sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in first)
        self.specs = [_get_prepared_spec(tensor, tile_axis=head_pass.tile_axis) for tensor in first]
        """Shape and type of what `iter_chunks` yields."""
        self._tensors = self._read_all() if self.is_in_memory else None

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return len(self._features[0])

    @property
    def is_in_memory(self) -> bool:
        """Whether all prepared tensors stay in memory."""
        return bool(self._tile_bytes * self.n_tiles <= self._max_bytes)

    def iter_chunks(
        self, tiles: IntVector, *, batch_size: int
    ) -> Iterator[tuple[list[tf.Tensor], IntVector, IntVector]]:
        """Yield tiles in the order given, in chunks of whole batches (the very last one may be smaller).

        Args:
            tiles: Tile indices, shape (n,).
            batch_size: Tiles per batch; no chunk ends within a batch.

        Yields:
            Prepared tensors, the places of the chunk's tiles in them, shape (m,), and the tile indices, shape (m,).
        """
        if self._tensors is not None:
            yield self._tensors, tiles, tiles
            return
        n_batches = max(1, self._max_bytes // (2 * self._tile_bytes * batch_size))  # twice: as read, and as prepared
        step = n_batches * batch_size
        for start in range(0, len(tiles), step):
            chunk = tiles[start : start + step]
            ascending = np.sort(chunk)  # a memory map is read fastest from front to back
            yield self._read(ascending), np.searchsorted(ascending, chunk), chunk

    def _read(self, tiles: IntVector) -> list[tf.Tensor]:
        prepared: list[tf.Tensor] = self._prepare([tf.constant(array[tiles]) for array in self._features])
        return prepared

    def _read_all(self) -> list[tf.Tensor]:
        """Return the prepared tensors of all tiles.

        They are collected in NumPy and handed over one by one, so that no more than one of them is there twice.
        """
        axis = self._pass.tile_axis
        arrays = [
            np.empty([self.n_tiles if size is None else size for size in spec.shape], np.float32) for spec in self.specs
        ]
        for start in range(0, self.n_tiles, PREPARED_AT_ONCE):
            tiles = np.arange(start, min(start + PREPARED_AT_ONCE, self.n_tiles))
            for array, tensor in zip(arrays, self._read(tiles), strict=True):
                array[(slice(None),) * axis + (slice(start, start + len(tiles)),)] = tensor.numpy()
        tensors = []
        while arrays:
            tensors.append(tf.constant(arrays.pop(0)))
        return tensors


def _get_prepared_spec(tensor: tf.Tensor, *, tile_axis: int) -> tf.TensorSpec:
    shape = tensor.shape.as_list()
    shape[tile_axis] = None
    return tf.TensorSpec(shape, tensor.dtype)
