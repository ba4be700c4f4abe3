"""Grad-CAM: where the head looks for a class, as numbers.

Everything is computed from the head alone: the map that is weighted lies behind the cut. It is the convolution's
own output, followed through later layers as long as these all work on one map of the same height and width. So VGG16 is
explained at `block5_conv3` after its ReLU, and ResNet50, MobileNetV2 and DenseNet after the normalisation, shortcut and
ReLU that their last convolution ends in. Before those, a convolution's output can be negative, and its zero has no
meaning (the normalisation shifts it); so its weighted sum has none either.
Source: Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017,
equations 1 and 2. The logit is differentiated, not the softmax, whose gradient vanishes on a sure answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sem_search.records import IntVector
from sem_search.transfer.cut import MAP_RANK
from sem_search.transfer.graph import Graph, record_graph

FloatMaps = NDArray[np.float32]

N_COMPILED_HEADS = 16
"""Heads whose compiled Grad-CAM stays in memory: a search has one, a served model five."""

TILES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class HeatMaps:
    """Where a head looked, tile by tile."""

    strengths: FloatMaps
    """Shape (n, height, width) at feature resolution, 0 or more: how strongly each place raises the logit. All tiles
    and classes of a head are on this one scale, so that they can be compared."""

    @property
    def values(self) -> FloatMaps:
        """The maps in [0, 1], shape of `strengths`; the highest value of each is 1 unless it is zero."""
        highest = self.strengths.max(axis=(1, 2), keepdims=True)
        values: FloatMaps = np.divide(self.strengths, highest, out=np.zeros_like(self.strengths), where=highest > 0)
        return values

    @property
    def is_zero(self) -> NDArray[np.bool_]:
        """Shape (n,): nothing in the tile speaks for the class; the map is zero everywhere."""
        return np.asarray(self.strengths.max(axis=(1, 2)) == 0)


def compute_heat_maps(
    head: keras.Model, *, features: Sequence[NDArray[np.float32]], class_index: IntVector, convolution: str
) -> HeatMaps:
    """Return the Grad-CAM maps of some tiles.

    Args:
        head: Crossing tensors to logits, as `build_head` returns it.
        features: One array per crossing tensor, shape (n, ...).
        class_index: The class whose logit is explained, for each tile, shape (n,).
        convolution: Name of the last convolution layer, as `CutNetwork` names it.

    Returns:
        Finite maps; where the weights of a diverged head give no finite map, it is zero.
    """
    weigh = _compile_weighting(head, convolution)
    sums = [
        weigh(
            [tf.constant(array[start : start + TILES_AT_ONCE], tf.float32) for array in features],
            tf.constant(class_index[start : start + TILES_AT_ONCE], tf.int64),
        ).numpy()
        for start in range(0, len(class_index), TILES_AT_ONCE)
    ]
    finite = np.nan_to_num(np.concatenate(sums), nan=0.0, posinf=0.0, neginf=0.0)
    return HeatMaps(strengths=np.maximum(finite, 0))


def resize_heat_maps(values: FloatMaps, *, size_px: int) -> FloatMaps:
    """Enlarge heat maps to the size of their tiles, by bilinear interpolation between cell centres.

    Args:
        values: Shape (n, height, width).
        size_px: Side of a tile.

    Returns:
        Shape (n, size_px, size_px), in the same range of values.
    """
    rows = _compute_interpolation(values.shape[1], size_px)
    columns = _compute_interpolation(values.shape[2], size_px)
    return np.asarray(rows @ values @ columns.T, dtype=np.float32)


@lru_cache(maxsize=N_COMPILED_HEADS)
def _compile_weighting(head: keras.Model, convolution: str) -> Callable[..., Any]:
    """Return the compiled weighted sum of a head's last map, compiled once per head."""
    graph = record_graph(head)
    model = keras.Model(graph.inputs, [find_explained_map(graph, convolution), graph.outputs[0]])

    def weigh(features: list[tf.Tensor], class_index: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            maps, logits = model(features, training=False)
            # Tiles do not influence one another, so that one gradient of the sum explains all of them.
            score = tf.reduce_sum(tf.gather(logits, class_index, axis=1, batch_dims=1))
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
        return tf.reduce_sum(weights * maps, axis=-1)

    specs = [tf.TensorSpec(tensor.shape, tf.float32) for tensor in head.inputs]
    compiled: Callable[..., Any] = tf.function(weigh, input_signature=[specs, tf.TensorSpec((None,), tf.int64)])
    return compiled


def find_explained_map(graph: Graph, convolution: str) -> Any:
    """Return the last tensor of the convolution's height and width through which all of it flows."""
    tensor = graph.find_call(convolution).output
    while (call := graph.find_only_consumer(tensor)) is not None:
        after = call.output
        if len(call.outputs) > 1 or len(after.shape) != MAP_RANK or after.shape[1:3] != tensor.shape[1:3]:
            break
        tensor = after
    return tensor


def _compute_interpolation(n_cells: int, size_px: int) -> NDArray[np.float64]:
    """Return the weights of each cell at each pixel, shape (size_px, n_cells); rows sum to one."""
    centres = np.clip((np.arange(size_px) + 0.5) * n_cells / size_px - 0.5, 0, n_cells - 1)
    distance = np.abs(centres[:, None] - np.arange(n_cells)[None, :])
    weights: NDArray[np.float64] = np.maximum(1 - distance, 0)
    return weights
