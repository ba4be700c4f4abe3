"""A head that begins with a 1 x 1 convolution: one matrix product forward, one for the gradient.

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

from sem_search.transfer.graph import Call, Graph, is_plain_convolution

RELU6_CEILING = 6.0

BLOCK_BYTES = 2**22
"""What one block of a batch may take of the map: 16 tiles of MobileNetV2, 10 of ResNet50.

Large enough for matrix products at full speed; a whole batch of 48 would be written to memory and read back four times.
"""


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

    def prepare(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the maps with their positions in one axis, shape (n, height * width, channels) each."""
        ordered = [features[self.input_index], *(f for i, f in enumerate(features) if i != self.input_index)]
        return [tf.reshape(f, (-1, f.shape[1] * f.shape[2], f.shape[3])) for f in ordered]

    def compute_logits(self, prepared: Sequence[tf.Tensor], *, is_training: bool) -> tf.Tensor:
        """Return the logits, shape (n, n_classes)."""
        layer = self.convolution
        scale, offset = self._get_affine()
        pooled = PooledConvolution(
            blocks=PositionBlocks(
                maps=prepared[0], shortcut=prepared[1] if self.has_shortcut else None, n_out=layer.filters
            ),
            scale=scale,
            offset=offset,
            is_relu6=self.is_relu6,
        ).compute(
            tf.reshape(layer.kernel.value, layer.kernel.shape[2:]),
            layer.bias.value if layer.use_bias else None,
            stores_maps=is_training,
        )
        return self.rest(pooled, training=is_training)

    def _get_affine(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return scale and offset of the frozen normalisation, shape (n_out,) each."""
        norm = self.normalisation
        if norm is None:
            return tf.ones((self.convolution.filters,)), tf.zeros((self.convolution.filters,))
        scale = tf.math.rsqrt(norm.moving_variance.value + norm.epsilon)
        scale = scale * norm.gamma.value if norm.scale else scale
        beta = norm.beta.value if norm.center else 0.0
        return scale, beta - norm.moving_mean.value * scale


@dataclass(frozen=True, kw_only=True)
class PositionBlocks:
    """A batch in blocks of tiles, small enough that what is computed from one stays in the processor's cache."""

    maps: tf.Tensor
    """What the convolution takes, shape (n, n_positions, n_in)."""
    shortcut: tf.Tensor | None
    """What is added to its normalised output, shape (n, n_positions, n_out)."""
    n_out: int

    @property
    def n_positions(self) -> int:
        """Positions per tile."""
        return int(self.maps.shape[1])

    @property
    def n_at_once(self) -> int:
        """Tiles per block."""
        tile_bytes: int = self.n_positions * self.n_out * self.maps.dtype.size
        return max(1, BLOCK_BYTES // tile_bytes)

    @property
    def count(self) -> tf.Tensor:
        """Number of blocks."""
        return (tf.shape(self.maps)[0] + self.n_at_once - 1) // self.n_at_once

    def get_maps(self, block: tf.Tensor) -> tf.Tensor:
        """Return a block of the maps, one position per row, shape (n_rows, n_in)."""
        return tf.reshape(self._cut(self.maps, block), (-1, self.maps.shape[2]))

    def add_shortcut(self, sums: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
        """Return the sums, shape (n_rows, n_out), with the block's shortcut, if there is one."""
        if self.shortcut is None:
            return sums
        return sums + tf.reshape(self._cut(self.shortcut, block), (-1, self.n_out))

    def _cut(self, tensor: tf.Tensor, block: tf.Tensor) -> tf.Tensor:
        return tensor[block * self.n_at_once : (block + 1) * self.n_at_once]

    def iterate(self, step: Callable[..., Any], state: Sequence[Any], *, first: int = 0) -> Sequence[Any]:
        """Return the state after `step(block, *state)` was taken for every block from `first` on.

        Args:
            step: Takes a block and the state, and returns the next state.
            state: At the beginning.
            first: The block to begin with.
        """
        count = self.count
        _, *state = tf.while_loop(
            lambda block, *_: block < count, lambda block, *state: (block + 1, *step(block, *state)), (first, *state)
        )
        return state

    def build_list(self, width: int) -> tf.TensorArray:
        """Return a list with one place per block, for tensors of shape (n_rows, width)."""
        return tf.TensorArray(tf.float32, size=self.count, infer_shape=False, element_shape=(None, width))


@dataclass(frozen=True, kw_only=True)
class PooledConvolution:
    """The mean over the positions of ReLU((maps @ kernel + bias) * scale + offset + shortcut).

    Gradients flow to kernel and bias, to nothing else: maps and shortcut are features, scale and offset are frozen.
    """

    blocks: PositionBlocks
    """Maps and shortcut."""
    scale: tf.Tensor
    """Shape (n_out,)."""
    offset: tf.Tensor
    """Shape (n_out,)."""
    is_relu6: bool
    """Whether the ReLU is cut off at 6."""

    def compute(self, kernel: tf.Tensor, bias: tf.Tensor | None, *, stores_maps: bool) -> tf.Tensor:
        """Return the means, shape (n, n_out).

        Args:
            kernel: Shape (n_in, n_out).
            bias: Shape (n_out,), or None.
            stores_maps: Whether gradients will be asked for; without, they cannot be.
        """

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def pool(kernel: tf.Tensor, *biases: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
            means, actives = self._pool(kernel, biases, stores_maps=stores_maps)

            def compute_gradients(upstream: tf.Tensor) -> Sequence[tf.Tensor]:
                return self._compute_gradients(upstream, actives, n_biases=len(biases))

            return tf.ensure_shape(means.concat(), (None, self.blocks.n_out)), compute_gradients

        return pool(kernel) if bias is None else pool(kernel, bias)

    def _pool(self, kernel: tf.Tensor, biases: Sequence[tf.Tensor], *, stores_maps: bool) -> Sequence[tf.TensorArray]:
        """Return the means and, where they are stored, the maps after the ReLU, block by block."""
        blocks, relu = self.blocks, tf.nn.relu6 if self.is_relu6 else tf.nn.relu
        shares = tf.fill((blocks.n_at_once, 1, blocks.n_positions), 1 / blocks.n_positions)
        scaled_kernel = kernel * self.scale
        shift = self.offset + sum(bias * self.scale for bias in biases)

        def pool_block(block: tf.Tensor, means: Any, actives: Any) -> tuple[Any, Any]:
            sums = tf.nn.bias_add(tf.matmul(blocks.get_maps(block), scaled_kernel), shift)
            active = relu(blocks.add_shortcut(sums, block))
            by_tile = tf.reshape(active, (-1, blocks.n_positions, blocks.n_out))
            mean = tf.matmul(shares[: tf.shape(by_tile)[0]], by_tile)  # faster than reduce_mean
            return means.write(block, mean[:, 0]), actives.write(block, active) if stores_maps else actives

        return blocks.iterate(pool_block, [blocks.build_list(blocks.n_out), blocks.build_list(blocks.n_out)])

    def _compute_gradients(self, upstream: tf.Tensor, actives: Any, *, n_biases: int) -> Sequence[tf.Tensor]:
        """Return the gradients of kernel and biases, summed over the blocks."""
        blocks, relu_gradient = self.blocks, tf.raw_ops.Relu6Grad if self.is_relu6 else tf.raw_ops.ReluGrad
        per_position = upstream * self.scale / blocks.n_positions

        def compute_block(block: tf.Tensor) -> list[tf.Tensor]:
            active = actives.read(block)
            tile_of_row = block * blocks.n_at_once + tf.range(tf.shape(active)[0]) // blocks.n_positions
            # To gather rows spreads the gradient over the positions faster than to broadcast it.
            d_active = relu_gradient(gradients=tf.gather(per_position, tile_of_row), features=active)
            d_kernel = tf.matmul(blocks.get_maps(block), d_active, transpose_a=True)
            return [d_kernel, *(tf.reduce_sum(d_active, axis=0) for _ in range(n_biases))]

        def add_block(block: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
            return [total + new for total, new in zip(sums, compute_block(block), strict=True)]

        return blocks.iterate(add_block, compute_block(tf.constant(0)), first=1)


def match_pointwise(graph: Graph, *, convolution: str) -> PointwisePass | None:
    """Return the fast way for the head of this graph, or None where it is another one."""
    call = graph.find_call(convolution)
    layer, input_index = call.layer, graph.find_input(call.inputs[0])
    if not is_plain_convolution(layer, kernel_size=1) or not _is_linear(layer) or input_index is None:
        return None
    following = list(_iter_following(graph, call))
    has_normalisation = bool(following) and _is_frozen_normalisation(following[0].layer)
    normalisation = following.pop(0).layer if has_normalisation else None
    has_shortcut = bool(following) and _adds_other_input(graph, following[0], input_index=input_index)
    if len(following) < has_shortcut + 2 or len(graph.inputs) != 1 + has_shortcut:
        return None
    relu, pooling = following[has_shortcut : has_shortcut + 2]
    is_relu6 = _is_relu(relu.layer, ceiling=RELU6_CEILING)
    if not _is_mean(pooling.layer) or not (is_relu6 or _is_relu(relu.layer, ceiling=None)):
        return None
    if any(graph.find_only_consumer(tensor) is None for tensor in graph.inputs):
        return None  # what comes after the mean takes a map once more
    return PointwisePass(
        convolution=layer,
        normalisation=normalisation,
        has_shortcut=has_shortcut,
        is_relu6=is_relu6,
        input_index=input_index,
        rest=keras.Model(pooling.output, graph.outputs[0], name="new_layers"),
    )


def _iter_following(graph: Graph, call: Call | None) -> Iterator[Call]:
    """Yield the calls after this one, as far as each is the only one to take the output of the one before."""
    while call is not None and (call := graph.find_only_consumer(call.output)) is not None:
        yield call


def _is_linear(layer: Any) -> bool:
    return layer.activation is keras.activations.linear


def _is_frozen_normalisation(layer: Any) -> bool:
    """Whether the layer is a plain scale and shift of the channels."""
    return type(layer) is keras.layers.BatchNormalization and not layer.trainable and layer.axis in (-1, 3)


def _adds_other_input(graph: Graph, call: Call, *, input_index: int) -> bool:
    """Whether the call adds the head's other crossing tensor, of equal shape, to the convolution's branch."""
    if type(call.layer) is not keras.layers.Add or len(call.inputs) != 2:
        return False
    others = [index for tensor in call.inputs if (index := graph.find_input(tensor)) is not None]
    shapes = {tuple(tensor.shape) for tensor in call.inputs}
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
