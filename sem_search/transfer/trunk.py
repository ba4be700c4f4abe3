"""The trunk at work: preprocessing and network as one compiled function, and the precision that it computes in."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import keras
import tensorflow as tf

from sem_search.micrographs.tiles import FloatTiles
from sem_search.transfer.backbones import Backbone

Precision = Literal["float32", "bfloat16"]

POLICIES: Mapping[Precision, str] = MappingProxyType({"float32": "float32", "bfloat16": "mixed_bfloat16"})
"""Keras' names; the mixed policy keeps weights in float32."""


def compile_trunk(trunk: keras.Model, *, backbone: Backbone, batch_size: int) -> Callable[[FloatTiles], list[Any]]:
    """Return preprocessing and trunk as one compiled function, the same for these features and for what is served.

    Args:
        trunk: From `cut_network`, or loaded from a file.
        backbone: The network it is the trunk of.
        batch_size: The only number of tiles the function takes, so that it is never compiled again.

    Returns:
        From grey tiles in [0, 1], shape (batch_size, size_px, size_px), float32, to the list of crossing tensors.
    """
    size_px = trunk.inputs[0].shape[1]

    def run(tiles: Any) -> list[Any]:
        return list(keras.tree.flatten(trunk(backbone.preprocess(tiles), training=False)))

    compiled: Callable[[FloatTiles], list[Any]] = tf.function(
        run, input_signature=[tf.TensorSpec((batch_size, size_px, size_px), tf.float32)]
    )
    return compiled


def get_precision(trunk: keras.Model) -> Precision:
    """Return in which precision a trunk computes."""
    policies = {layer.dtype_policy.name for layer in trunk.layers if layer.weights}
    return "bfloat16" if POLICIES["bfloat16"] in policies else "float32"
