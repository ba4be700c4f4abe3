"""Random weights whose every layer still gives different outputs for different images.

He's random weights alone let a deep network without batch normalisation answer nearly the same to every picture: the
mean of each channel outgrows what differs between pictures. So the network is run once on a few tiles, layer by layer,
and each layer is scaled to what it meets there: convolutions to centred channels of unit variance, batch
normalisation to the statistics it would have learnt.
Sources: He et al. 2015 (the draw), Mishkin and Matas 2016 (layer by layer), Krähenbühl et al. 2016 (by channel).
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sem_search.seeds import derive_seed
from sem_search.transfer.graph import record_graph, repeat_calls

MIN_VALUES_PER_CHANNEL = 64
"""With fewer, a channel's own variance is too rough an estimate to divide by: the layer's is taken."""

SMALLEST_SHARE = 0.1
"""A channel that varies less than this share of its layer is scaled as if it varied so much: what looks flat on a few
tiles is not flat on all, and would blow up there."""

SMALLEST_DEVIATION = 1e-6
"""A layer flatter than this is left as it is: blown up, it would be rounding errors."""

KERNEL_NAMES = ("kernel", "depthwise_kernel", "pointwise_kernel")


def fill_random_weights(model: keras.Model, *, pictures: Any, seed: int) -> None:
    """Give every layer of a network random weights, scaled on a few pictures.

    Args:
        model: Any functional or sequential Keras model; changed in place.
        pictures: Prepared network input, shape (n, size_px, size_px, 3); four are enough.
        seed: The same seed and pictures give the same weights on one machine.
    """
    # A seed for each kernel, by its place: names like `conv2d_7` count all layers of the process.
    seeds = (derive_seed(seed, "random_weights", place) for place in itertools.count())
    _run_and_fill(model, pictures, seeds=seeds)


def _run_and_fill(model: keras.Model, pictures: Any, *, seeds: Iterator[int]) -> Any:
    """Call each layer once, right after its weights have been filled; return the model's output."""
    graph = record_graph(model)
    known = {id(graph.inputs[0]): keras.ops.convert_to_tensor(pictures)}

    def fill_and_call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model):
            return _run_and_fill(layer, args[0], seeds=seeds)
        if isinstance(layer, keras.layers.BatchNormalization):
            _adopt_statistics(layer, np.asarray(args[0]))
        elif any(weight.name in KERNEL_NAMES for weight in getattr(layer, "weights", ())):
            _draw_and_scale(layer, args[0], seeds=seeds)
        else:
            _reset(layer)
        return layer(*args, **kwargs)

    repeat_calls(graph.calls, known=known, call_layer=fill_and_call)
    return known[id(graph.outputs[0])]


def _adopt_statistics(layer: Any, inputs: NDArray[np.float32]) -> None:
    """Let batch normalisation put out centred channels of unit variance."""
    _reset(layer)
    mean, deviation = _measure_channels(inputs)
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(deviation**2)


def _draw_and_scale(layer: Any, inputs: Any, *, seeds: Iterator[int]) -> None:
    """Draw a layer's kernels, then scale the last and set the bias so that its output before activation fits."""
    _reset(layer)
    kernels = [weight for weight in layer.weights if weight.name in KERNEL_NAMES]
    for kernel in kernels:
        kernel.assign(_draw_he(layer, kernel, seed=next(seeds)))
    mean, deviation = _measure_channels(_compute_linear(layer, inputs))
    if not layer.use_bias:
        mean = np.zeros_like(mean)
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)  # its kernels have two axes of output channels
    kernels[-1].assign(kernels[-1].numpy() / (deviation.reshape(kernels[-1].shape[2:]) if is_depthwise else deviation))
    if layer.use_bias:
        layer.bias.assign(-mean / deviation)


def _reset(layer: Any) -> None:
    """Set shifts to zero and gains to one; ConvNeXt's gains of 1e-6 would shut the layer that is trained off."""
    for weight in getattr(layer, "weights", ()):
        if weight.name in ("bias", "beta"):
            weight.assign(np.zeros(weight.shape))
        elif weight.name == "gamma" or type(layer).__name__ == "LayerScale":
            weight.assign(np.ones(weight.shape))


def _draw_he(layer: Any, kernel: Any, *, seed: int) -> NDArray[np.float32]:
    """Draw normal weights of variance 2 / fan-in; each channel of a depthwise kernel sees one channel alone."""
    is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D) or kernel.name == "depthwise_kernel"
    fan_in = math.prod(kernel.shape[:2] if is_depthwise else kernel.shape[:-1])
    draw = np.random.default_rng(seed).standard_normal(tuple(kernel.shape), dtype=np.float32)
    return draw * np.float32(math.sqrt(2 / fan_in))


def _compute_linear(layer: Any, inputs: Any) -> NDArray[np.float32]:
    """Return a layer's output before its activation."""
    activation = layer.activation
    layer.activation = keras.activations.linear
    try:
        return np.asarray(layer(inputs))
    finally:
        layer.activation = activation


def _measure_channels(outputs: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation to divide by of each channel, shapes (channels,)."""
    values = outputs.reshape(-1, outputs.shape[-1])
    if len(values) < MIN_VALUES_PER_CHANNEL:
        mean, deviation = np.zeros(values.shape[1]), np.full(values.shape[1], math.sqrt(np.mean(values**2)))
    else:
        mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    of_layer = math.sqrt(np.mean(deviation**2))
    if of_layer < SMALLEST_DEVIATION:
        return mean, np.ones_like(deviation)
    return mean, np.maximum(deviation, SMALLEST_SHARE * of_layer)
