"""What a tile looks like in few numbers: each channel of the trunk's output, averaged over the tile.

The trunk is frozen and the same for all heads, so these numbers are comparable between images that different heads were
trained on. They tell what is like the training images and what is not.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

FloatMatrix = NDArray[np.float64]

CHUNK_TILES = 64
"""Tiles of a store that are read at once."""


def average_channels(features: Sequence[Any]) -> Any:
    """Return the channels of all crossing tensors, averaged over every axis between the first and the last.

    Args:
        features: Crossing tensors, each of shape (n_tiles, ..., n_channels).

    Returns:
        Shape (n_tiles, sum of n_channels), float32.
    """
    averaged = [tf.reduce_mean(tensor, axis=list(range(1, len(tensor.shape) - 1))) for tensor in features]
    return tf.concat(averaged, axis=-1)


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
