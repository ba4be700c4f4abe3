"""A 3 x 3 convolution of constant maps with a trained kernel, by Winograd's minimal filtering.

VGG16's head is one such convolution, 512 -> 512 channels on 14 x 14 positions, and nearly all of its training time.
Computed plainly, each of its outputs costs 9 products per pair of channels, and as many for the kernel's gradient. Here
the output is computed in squares of m x m from squares of (m + 2) x (m + 2) inputs: both, and the kernel, are taken to
another basis in which the convolution is one product per place, (m + 2)^2 of them for m^2 outputs. For 14 x 14 outputs
m = 5 needs 441 products instead of 1764: four times fewer, forward and for the gradient. The transform of the input is
what usually eats the gain; since features never change, it is computed once and stored.

In one dimension: y = A^T [(G g) * (B^T d)] for input d, kernel g and output y, where * multiplies place by place.
The kernel's gradient is the same formula read backwards, dg = G^T [(A dy) * (B^T d)], summed over all squares.
Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for convolutional
neural networks", CVPR 2016; the choice of points after Barabasz et al., "Error analysis and improving the accuracy of
Winograd convolution for deep neural networks", ACM Trans. Math. Softw. 2020.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from sem_search.records import FloatMatrix
from sem_search.transfer.graph import Graph, is_plain_convolution

KERNEL_SIZE = 3

POINTS: Mapping[int, tuple[float, ...]] = MappingProxyType(
    {
        2: (0, 1, -1),
        4: (0, 3 / 4, -3 / 4, 3 / 2, -3 / 2),
        5: (0, 1, -1, 2, -2, 1 / 2),
    }
)
"""Side m of a square of outputs -> where the polynomials are evaluated, besides infinity.

These gave the smallest errors of several tried, relative to the root mean square of the output: 4e-7, 1e-6 and 3e-6
forward, 2e-7, 4e-7 and 1e-6 for the gradient; the plain convolution in float32 has 2e-7. With m = 7 it would be 2e-5.
"""

MIN_CHANNELS = 128
"""With fewer channels in or out, the transforms cost more than the products that they save."""


@dataclass(frozen=True, kw_only=True)
class Transforms:
    """The three matrices for squares of `n_outputs` x `n_outputs`, each to be used on rows and on columns."""

    output: FloatMatrix
    """A^T, shape (n_outputs, n_places)."""
    kernel: FloatMatrix
    """G, shape (n_places, 3)."""
    input: FloatMatrix
    """B^T, shape (n_places, n_places)."""


def compute_transforms(n_outputs: int) -> Transforms:
    """Return the transforms for squares of `n_outputs` x `n_outputs` outputs.

    Toom and Cook's construction: a correlation is a product of polynomials transposed; a polynomial of degree n - 1 is
    known from its values at n points, of which the last one is infinity.

    Args:
        n_outputs: One of `POINTS`.
    """
    points = np.array(POINTS[n_outputs], dtype=np.float64)
    n_places = len(points) + 1
    output = np.vander(points, n_outputs, increasing=True).T
    output = np.column_stack([output, np.eye(n_outputs)[:, -1]])
    kernel = np.vstack([np.vander(points, KERNEL_SIZE, increasing=True), np.eye(KERNEL_SIZE)[-1]])
    inputs = np.zeros((n_places, n_places))
    for place, point in enumerate(points):
        others = np.delete(points, place)
        inputs[place, : n_places - 1] = polynomial.polyfromroots(others)
        kernel[place] /= np.prod(point - others)
    inputs[-1] = polynomial.polyfromroots(points)
    balance = _compute_balance(inputs, kernel)
    return Transforms(output=output, kernel=kernel * balance, input=inputs / balance)


def _compute_balance(inputs: FloatMatrix, kernel: FloatMatrix) -> FloatMatrix:
    """Return a power of two for each place that brings both matrices' rows to like size, shape (n_places, 1)."""
    ratio = np.abs(inputs).sum(axis=1, keepdims=True) / np.abs(kernel).sum(axis=1, keepdims=True)
    return np.asarray(np.exp2(np.round(np.log2(ratio) / 2)))


@dataclass(frozen=True, kw_only=True)
class Winograd:
    """The convolution of one geometry."""

    height: int
    """Rows of the output."""
    width: int
    """Columns of the output."""
    padding: int
    """Rows and columns of zeros around the input: 1 keeps its size, 0 takes two off."""
    n_outputs: int
    """Side of a square of outputs, one of `POINTS`."""

    @property
    def n_places(self) -> int:
        """Places per square in each direction."""
        return self.n_outputs + KERNEL_SIZE - 1

    @property
    def n_down(self) -> int:
        """Squares one below the other; the last may reach over the edge."""
        return -(-self.height // self.n_outputs)

    @property
    def n_across(self) -> int:
        """Squares beside one another; the last may reach over the edge."""
        return -(-self.width // self.n_outputs)

    @property
    def n_products(self) -> int:
        """Products per tile and pair of channels; the plain convolution has 9 * height * width."""
        return self.n_down * self.n_across * self.n_places**2

    @cached_property
    def transforms(self) -> Transforms:
        """The matrices for this size of squares."""
        return compute_transforms(self.n_outputs)

    def transform_input(self, maps: tf.Tensor) -> list[tf.Tensor]:
        """Return the maps in the other basis.

        Args:
            maps: Shape (n, height_in, width_in, n_in).

        Returns:
            One tensor per row of places, each of shape (n_places, n, n_squares, n_in).
        """
        matrix = _constant(self.transforms.input)
        down, across = self._get_starts(self.n_down), self._get_starts(self.n_across)
        reach_down = down[-1, -1] + 1 - self.padding - maps.shape[1]
        reach_across = across[-1, -1] + 1 - self.padding - maps.shape[2]
        padded = tf.pad(maps, [[0, 0], [self.padding, reach_down], [self.padding, reach_across], [0, 0]])
        squares = tf.gather(tf.gather(padded, down, axis=1), across, axis=3)  # (n, down, row, across, column, channel)
        transformed = tf.einsum("pr,qc,ndracx->pqndax", matrix, matrix, squares)
        flat = tf.reshape(transformed, (self.n_places, self.n_places, -1, self.n_down * self.n_across, maps.shape[3]))
        rows: list[tf.Tensor] = tf.unstack(flat)
        return rows

    def _get_starts(self, n_squares: int) -> NDArray[np.int64]:
        """Return which padded rows (or columns) each square takes, shape (n_squares, n_places)."""
        return np.arange(n_squares)[:, None] * self.n_outputs + np.arange(self.n_places)[None, :]

    def convolve(self, transformed: Sequence[tf.Tensor], *, kernel: tf.Tensor) -> tf.Tensor:
        """Return the convolution; gradients flow to the kernel, not to the input.

        The places are gone through row by row, so that a row's kernels stay in the processor's cache.

        Args:
            transformed: As `transform_input` returns it.
            kernel: Shape (3, 3, n_in, n_out).

        Returns:
            Shape (n, height, width, n_out).
        """
        n_in, n_out = kernel.shape[2:]
        rows = [tf.reshape(row, (self.n_places, -1, n_in)) for row in transformed]
        to_places, to_outputs = _constant(self.transforms.kernel), _constant(self.transforms.output)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def multiply(kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
            """Return the squares of outputs, and what computes the kernel's gradient."""
            kernel_rows = tf.reshape(kernel, (KERNEL_SIZE, KERNEL_SIZE * n_in * n_out))
            products = []
            for place, row in enumerate(rows):
                kernel_row = tf.reshape(to_places[place : place + 1] @ kernel_rows, (KERNEL_SIZE, n_in * n_out))
                places = tf.matmul(row, tf.reshape(to_places @ kernel_row, (self.n_places, n_in, n_out)))
                products.append(to_outputs @ tf.reshape(places, (self.n_places, -1)))
            squares = to_outputs @ tf.reshape(tf.stack(products), (self.n_places, -1))

            def compute_gradient(upstream: tf.Tensor) -> tf.Tensor:
                """Return the gradient of the kernel: the same steps, backwards."""
                d_squares = tf.reshape(upstream, (self.n_outputs, -1))
                d_products = tf.matmul(to_outputs, d_squares, transpose_a=True)
                d_rows = []
                for place, row in enumerate(rows):
                    d_product = tf.reshape(d_products[place], (self.n_outputs, -1))
                    d_places = tf.matmul(to_outputs, d_product, transpose_a=True)
                    d_kernel_places = tf.matmul(row, tf.reshape(d_places, (self.n_places, -1, n_out)), transpose_a=True)
                    d_row = tf.matmul(to_places, tf.reshape(d_kernel_places, (self.n_places, -1)), transpose_a=True)
                    d_rows.append(tf.reshape(d_row, (-1,)))
                return tf.reshape(tf.matmul(to_places, tf.stack(d_rows), transpose_a=True), kernel.shape)

            return squares, compute_gradient

        squares = tf.reshape(multiply(kernel), (self.n_outputs, self.n_outputs, -1, self.n_down, self.n_across, n_out))
        whole = tf.reshape(
            tf.transpose(squares, (2, 3, 0, 4, 1, 5)),
            (-1, self.n_down * self.n_outputs, self.n_across * self.n_outputs, n_out),
        )
        return whole[:, : self.height, : self.width]


def choose_squares(*, height: int, width: int, padding: int) -> Winograd:
    """Return the convolution with the squares that need the fewest products; the smaller ones if several do.

    Args:
        height: Of the output.
        width: Of the output.
        padding: Rows and columns of zeros around the input.
    """
    candidates = [Winograd(height=height, width=width, padding=padding, n_outputs=side) for side in POINTS]
    return min(candidates, key=lambda candidate: candidate.n_products)


@dataclass(frozen=True, kw_only=True)
class WinogradPass:
    """Convolution 3 x 3 by Winograd's way, then the Keras layers that follow."""

    convolution: keras.layers.Conv2D
    winograd: Winograd
    input_index: int
    """Which crossing tensor the convolution takes."""
    rest: keras.Model
    """The convolution's output and the other crossing tensors to logits."""
    tile_axis: int = 1

    def prepare(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the transformed maps, and the other crossing tensors with an axis before them."""
        others = [feature[None] for index, feature in enumerate(features) if index != self.input_index]
        return [*self.winograd.transform_input(features[self.input_index]), *others]

    def compute_logits(self, prepared: Sequence[tf.Tensor], *, is_training: bool) -> tf.Tensor:
        """Return the logits, shape (n, n_classes)."""
        layer, n_rows = self.convolution, self.winograd.n_places
        sums = self.winograd.convolve(prepared[:n_rows], kernel=layer.kernel.value)
        if layer.use_bias:
            sums = tf.nn.bias_add(sums, layer.bias.value)
        return self.rest([layer.activation(sums), *(other[0] for other in prepared[n_rows:])], training=is_training)


def match_winograd(graph: Graph, *, convolution: str) -> WinogradPass | None:
    """Return the fast way for the head of this graph, or None where it does not pay or does not fit."""
    call = graph.find_call(convolution)
    layer, input_index = call.layer, graph.find_input(call.inputs[0])
    if input_index is None or not is_plain_convolution(layer, kernel_size=KERNEL_SIZE):
        return None
    if graph.find_only_consumer(call.inputs[0]) is not call:  # a shortcut around it needs the maps themselves
        return None
    shape = call.output.shape
    if None in shape[1:] or min(layer.kernel.shape[2:]) < MIN_CHANNELS:
        return None
    others = [tensor for index, tensor in enumerate(graph.inputs) if index != input_index]
    return WinogradPass(
        convolution=layer,
        winograd=choose_squares(height=shape[1], width=shape[2], padding=int(layer.padding == "same")),
        input_index=input_index,
        rest=keras.Model([call.output, *others], graph.outputs[0], name="after_convolution"),
    )


def _constant(matrix: FloatMatrix) -> tf.Tensor:
    return tf.constant(matrix, tf.float32)
