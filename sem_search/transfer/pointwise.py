"""A head that begins with a 1 x 1 convolution, as one matrix product each way.

MobileNetV2 ends in convolution, batch normalisation, ReLU6 and the mean over all positions; ResNet50 in convolution,
batch normalisation, the sum with its shortcut, ReLU and the mean. With the normalisation frozen, it is a scale of the
kernel's columns and a shift. What remains between the two matrix products (forward, and for the kernel's gradient) is
one pass over the map to sum it, and one to mask the gradient; Keras makes about three times as many.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from sem_search.transfer.graph import (
    find_only_consumer,
    get_input_index,
    is_linear,
    is_plain_convolution,
)

RELU6_CEILING = 6.0


@dataclass(frozen=True, kw_only=True)
class PointwisePass:
    """Convolution 1 x 1, frozen batch normalisation, perhaps a shortcut, ReLU or ReLU6, mean; then the new layers."""

    convolution: keras.layers.Conv2D
    normalisation: keras.layers.BatchNormalization | None
    has_shortcut: bool
    is_relu6: bool
    input_index: int
    """Which crossing tensor the convolution takes; the other one, if any, is the shortcut."""
    rest: keras.Model
    """Mean over the positions, shape (n, channels), to logits."""
    tile_axis: int = 0

    def keep(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the maps with their positions in one axis, shape (n, height * width, channels) each."""
        ordered = [features[self.input_index], *(f for i, f in enumerate(features) if i != self.input_index)]
        return [tf.reshape(f, (-1, f.shape[1] * f.shape[2], f.shape[3])) for f in ordered]

    def compute_logits(self, kept: Sequence[tf.Tensor], *, is_training: bool) -> tf.Tensor:
        """Return the logits, shape (n, n_classes)."""
        kernel, bias = self._fold_normalisation()
        pooled = compute_pooled(
            kept[0],
            kernel=kernel,
            bias=bias,
            shortcut=kept[1] if self.has_shortcut else None,
            is_relu6=self.is_relu6,
        )
        return self.rest(pooled, training=is_training)

    def _fold_normalisation(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return kernel (n_in, n_out) and bias (n_out,) of the convolution followed by its normalisation."""
        layer, norm = self.convolution, self.normalisation
        kernel = tf.reshape(layer.kernel.value, layer.kernel.shape[2:])
        bias = layer.bias.value if layer.use_bias else tf.zeros((kernel.shape[1],), kernel.dtype)
        if norm is None:
            return kernel, bias
        scale = tf.math.rsqrt(norm.moving_variance.value + norm.epsilon)
        scale = scale * norm.gamma.value if norm.scale else scale
        offset = norm.beta.value if norm.center else 0.0
        return kernel * scale, (bias - norm.moving_mean.value) * scale + offset


def compute_pooled(
    maps: tf.Tensor, *, kernel: tf.Tensor, bias: tf.Tensor, shortcut: tf.Tensor | None, is_relu6: bool
) -> tf.Tensor:
    """Return the mean over the positions of ReLU(maps @ kernel + bias + shortcut).

    Gradients flow to kernel and bias, not to maps and shortcut, which are features and never change.

    Args:
        maps: Shape (n, n_positions, n_in).
        kernel: Shape (n_in, n_out).
        bias: Shape (n_out,).
        shortcut: Shape (n, n_positions, n_out), or None.
        is_relu6: Whether the ReLU is cut off at 6.

    Returns:
        Shape (n, n_out).
    """
    n_positions, n_in = maps.shape[1], maps.shape[2]
    n_out = kernel.shape[1]
    rows = tf.reshape(maps, (-1, n_in))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def pool(kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        sums = tf.nn.bias_add(tf.matmul(rows, kernel), bias)
        if shortcut is not None:
            sums += tf.reshape(shortcut, (-1, n_out))
        active = tf.nn.relu6(sums) if is_relu6 else tf.nn.relu(sums)

        def compute_gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            spread = tf.broadcast_to((upstream / n_positions)[:, None, :], (tf.shape(upstream)[0], n_positions, n_out))
            mask = tf.raw_ops.Relu6Grad if is_relu6 else tf.raw_ops.ReluGrad
            d_sums = mask(gradients=tf.reshape(spread, (-1, n_out)), features=active)
            return tf.matmul(rows, d_sums, transpose_a=True), tf.reduce_sum(d_sums, axis=0)

        return tf.reduce_mean(tf.reshape(active, (-1, n_positions, n_out)), axis=1), compute_gradients

    return pool(kernel, bias)


def match_pointwise(head: keras.Model, *, convolution: str) -> PointwisePass | None:
    """Return the fast way for this head, or None where its graph is another one."""
    layer = head.get_layer(convolution)
    input_index = get_input_index(head, layer.input)
    if not is_plain_convolution(layer, kernel_size=1) or not is_linear(layer) or input_index is None:
        return None
    following = list(_iter_following(head, layer))
    normalisation = following.pop(0) if following and _is_frozen_normalisation(following[0]) else None
    has_shortcut = bool(following) and _adds_other_input(head, following[0], input_index=input_index)
    relu, pooling = following[has_shortcut : has_shortcut + 2] if len(following) >= has_shortcut + 2 else (None, None)
    is_known_relu = _is_relu(relu, ceiling=None) or _is_relu(relu, ceiling=RELU6_CEILING)
    if pooling is None or not _is_mean(pooling) or not is_known_relu or len(head.inputs) != 1 + has_shortcut:
        return None
    return PointwisePass(
        convolution=layer,
        normalisation=normalisation,
        has_shortcut=has_shortcut,
        is_relu6=_is_relu(relu, ceiling=RELU6_CEILING),
        input_index=input_index,
        rest=keras.Model(pooling.output, head.output, name="new_layers"),
    )


def _iter_following(head: keras.Model, layer: Any) -> Iterator[Any]:
    """Yield the layers after this one, as far as each is the only one to take the output of the one before."""
    while (layer := find_only_consumer(head, layer.output)) is not None:
        yield layer


def _is_frozen_normalisation(layer: Any) -> bool:
    """Whether the layer is a plain scale and shift of the channels."""
    return type(layer) is keras.layers.BatchNormalization and not layer.trainable and layer.axis in (-1, 3)


def _adds_other_input(head: keras.Model, layer: Any, *, input_index: int) -> bool:
    """Whether the layer adds the head's other crossing tensor, of equal shape, to the convolution's branch."""
    if type(layer) is not keras.layers.Add or len(layer.input) != 2:
        return False
    others = [index for tensor in layer.input if (index := get_input_index(head, tensor)) is not None]
    shapes = {tuple(tensor.shape) for tensor in layer.input}
    return len(others) == 1 and others[0] != input_index and len(shapes) == 1


def _is_relu(layer: Any, *, ceiling: float | None) -> bool:
    """Whether the layer is a ReLU that is cut off at the ceiling, if there is one."""
    if type(layer) is keras.layers.Activation:
        return layer.activation is (keras.activations.relu if ceiling is None else keras.activations.relu6)
    is_relu = type(layer) is keras.layers.ReLU and not layer.negative_slope and not layer.threshold
    return is_relu and layer.max_value == ceiling


def _is_mean(layer: Any) -> bool:
    """Whether the layer takes the mean over all positions, and gives shape (n, channels)."""
    is_pooling = type(layer) is keras.layers.GlobalAveragePooling2D
    return is_pooling and not layer.keepdims and layer.data_format == "channels_last"
