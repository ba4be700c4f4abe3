"""Winograd's convolution against the plain one in double precision: values, gradients, edges, and where it is left."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.transfer.graph import record_graph
from sem_search.transfer.heads.winograd import POINTS, Winograd, choose_squares, compute_transforms, match_winograd


def convolve_plainly(maps: np.ndarray, kernel: np.ndarray, *, padding: int) -> np.ndarray:
    """The definition, in double precision."""
    padded = np.pad(maps.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows, kernel.astype(np.float64))


@pytest.mark.parametrize("n_outputs", sorted(POINTS))
def test_transforms_are_a_correlation_in_one_dimension(n_outputs: int) -> None:
    transforms = compute_transforms(n_outputs)
    rng = np.random.default_rng(n_outputs)
    kernel, values = rng.normal(size=3), rng.normal(size=n_outputs + 2)
    outputs = transforms.output @ ((transforms.kernel @ kernel) * (transforms.input @ values))
    np.testing.assert_allclose(outputs, np.correlate(values, kernel, mode="valid"), atol=1e-12)


@pytest.mark.parametrize("n_outputs", sorted(POINTS))
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("height", "width"), [(14, 14), (7, 9), (1, 3)])
def test_values_are_those_of_the_definition(n_outputs: int, padding: int, height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    maps = rng.normal(size=(3, height + 2 - 2 * padding, width + 2 - 2 * padding, 8)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 8, 6)).astype(np.float32)
    winograd = Winograd(height=height, width=width, padding=padding, n_outputs=n_outputs)
    convolved = winograd.convolve(winograd.transform_input(tf.constant(maps)), kernel=tf.constant(kernel)).numpy()
    exact = convolve_plainly(maps, kernel, padding=padding)
    assert convolved.shape == exact.shape == (3, height, width, 6)
    assert np.abs(convolved - exact).max() < 3e-5 * exact.std()


@pytest.mark.parametrize("n_outputs", sorted(POINTS))
def test_the_kernel_s_gradient_is_that_of_the_definition(n_outputs: int) -> None:
    rng = np.random.default_rng(4)
    maps = rng.normal(size=(2, 14, 14, 8)).astype(np.float32)
    upstream = rng.normal(size=(2, 14, 14, 6)).astype(np.float32)
    kernel = tf.Variable(rng.normal(size=(3, 3, 8, 6)).astype(np.float32))
    winograd = Winograd(height=14, width=14, padding=1, n_outputs=n_outputs)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(winograd.convolve(winograd.transform_input(tf.constant(maps)), kernel=kernel) * upstream)
    padded = np.pad(maps.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    exact = np.einsum("nhwcij,nhwo->ijco", np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2)), upstream)
    gradient = tape.gradient(loss, kernel).numpy()
    assert np.abs(gradient - exact).max() < 3e-5 * exact.std()


def test_the_squares_are_those_with_the_fewest_products() -> None:
    assert choose_squares(height=14, width=14, padding=1).n_products == 441  # nine squares of 7 x 7; plainly 1764
    assert choose_squares(height=2, width=2, padding=1).n_outputs == 2


@pytest.mark.parametrize("options", [{"strides": 2}, {"groups": 2}, {"dilation_rate": 2}, {"kernel_size": 5}])
def test_other_convolutions_are_left_alone(options: dict[str, int]) -> None:
    inputs = keras.Input((8, 8, 128))
    layer = keras.layers.Conv2D(128, **{"kernel_size": 3, "padding": "same", "name": "last", **options})
    head = keras.Model(inputs, layer(inputs))
    assert match_winograd(record_graph(head), convolution="last") is None


def test_few_channels_are_left_alone() -> None:
    inputs = keras.Input((8, 8, 16))
    head = keras.Model(inputs, keras.layers.Conv2D(128, 3, padding="same", name="last")(inputs))
    assert match_winograd(record_graph(head), convolution="last") is None


def test_a_shortcut_around_the_convolution_is_left_alone() -> None:
    inputs = keras.Input((8, 8, 128))
    convolved = keras.layers.Conv2D(128, 3, padding="same", name="last")(inputs)
    head = keras.Model(inputs, keras.layers.Add()([inputs, convolved]))
    assert match_winograd(record_graph(head), convolution="last") is None
