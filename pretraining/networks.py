"""A small twin of a backbone, and how what it has learned is carried over into the whole network.

Training the whole of VGG16 on every crop costs four times what its twin with half of the channels costs, and many times
more than a twin that lacks layers, too. So a twin is trained, and laid into the first channels of the whole
(`carry_over`), which computes what it does: layers that the twin lacks pass on what they get, channels that it lacks
stay empty. Widening and deepening a trained network in place of training it anew is the idea of Chen, Goodfellow and
Shlens, Net2Net (2016).

The published VGG16 has no batch normalisation, and hardly trains without: its twin has it after every convolution,
and it is folded into the convolutions at the end, exactly, since it follows them directly.
"""

import re
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

NOTHING = r"(?!)"
"""Matches no name."""

MOMENTUM = 0.99
"""Of the running statistics of all batch normalisations. MobileNetV2's own, 0.999, lags so far behind weights that move
that its features come out eight times fainter (decision 020)."""

NORMALISED = "_norm"
"""Ends the names of batch normalisations that the published network does not have."""


def build_twin(published: keras.Model, *, divisor: int = 1, skipped: str = NOTHING) -> keras.Model:
    """Return the network with its channels divided, and batch normalised wherever a convolution has an activation.

    Args:
        published: A network without classifier, for pictures of any size.
        divisor: Of the channels of every convolution.
        skipped: Regular expression of the layers that pass on what they get: convolutions of as many channels, and
            the additions behind residual branches, which fall away.
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if type(layer) is keras.layers.Conv2D:
            config |= {"filters": layer.filters // divisor, "activation": "linear"}
        elif isinstance(layer, keras.layers.BatchNormalization):
            config |= {"momentum": MOMENTUM}
        return type(layer).from_config(config)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if re.fullmatch(skipped, layer.name):
            return args[0][0] if isinstance(args[0], list) else args[0]  # the shortcut stands before the branch
        output = layer(*args, **kwargs)
        if layer.name in activations:
            output = keras.layers.BatchNormalization(momentum=MOMENTUM, name=layer.name + NORMALISED)(output)
            output = keras.layers.Activation(activations[layer.name])(output)
        return output

    activations = {
        layer.name: layer.activation
        for layer in published.layers
        if type(layer) is keras.layers.Conv2D and layer.activation is not keras.activations.linear
    }
    return keras.models.clone_model(published, clone_function=clone, call_function=call)


def carry_over(twin: keras.Model, *, published: keras.Model) -> None:
    """Lay a twin into the first channels of the published network, which then computes what the twin does.

    Layers that the twin skips pass on what they get: a residual branch adds nothing, a convolution is the identity.

    Args:
        twin: What `build_twin` made of the same network.
        published: Changed in place.
    """
    known = {layer.name for layer in twin.layers}
    for layer in (layer for layer in published.layers if layer.weights):
        shapes = [weight.shape for weight in layer.weights]
        if layer.name in known:
            folded = _get_folded_weights(twin, layer.name)
            layer.set_weights([_widen(array, shape=shape) for array, shape in zip(folded, shapes, strict=True)])
        elif type(layer) is keras.layers.Conv2D and layer.activation is not keras.activations.linear:
            layer.set_weights([_build_identity(shapes[0]), np.zeros(shapes[1], dtype=np.float32)])
        else:
            layer.set_weights([np.zeros(shape, dtype=np.float32) for shape in shapes])


def _get_folded_weights(twin: keras.Model, name: str) -> list[NDArray[np.float32]]:
    """Return a layer's weights as the published network has them: added normalisations go into the convolutions."""
    weights: list[NDArray[np.float32]] = twin.get_layer(name).get_weights()
    if all(layer.name != name + NORMALISED for layer in twin.layers):
        return weights
    normalisation = twin.get_layer(name + NORMALISED)
    gamma, beta, mean, variance = normalisation.get_weights()
    factor = gamma / np.sqrt(variance + normalisation.epsilon)
    kernel, bias = weights
    return [kernel * factor, (bias - mean) * factor + beta]


def _build_identity(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the kernel that passes on each channel, shape (height, width, n_channels, n_channels)."""
    kernel = np.zeros(shape, dtype=np.float32)
    kernel[shape[0] // 2, shape[1] // 2] = np.eye(shape[2], dtype=np.float32)
    return kernel


def _widen(array: NDArray[np.float32], *, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array of this shape that begins with the given one and is 0 elsewhere."""
    return np.pad(array, [(0, whole - part) for whole, part in zip(shape, array.shape, strict=True)])
