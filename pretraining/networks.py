"""Small twins of a backbone, and how what they have learned is carried over into the whole network.

Training the whole of VGG16 on every crop costs sixteen times what its twin with a quarter of the channels costs, and
many times more than a twin that lacks layers, too. So a twin is trained, or several, each from a seed of its own, and
laid side by side into the channels of the whole (`join_twins`), which computes what each of them does: its kernels are
block-diagonal, layers that the twins lack pass on what they get, and channels that no twin fills stay empty.
Widening and deepening a trained network in place of training it anew is the idea of Chen, Goodfellow and Shlens,
Net2Net (2016).

The published VGG16 has no batch normalisation, and hardly trains without: its twins have it after every convolution,
and it is folded into the convolutions at the end, exactly, since it follows them directly.
"""

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

NOTHING = r"(?!)"
"""Matches no name."""

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
        return type(layer).from_config(config)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if re.fullmatch(skipped, layer.name):
            return args[0][0] if isinstance(args[0], list) else args[0]  # the shortcut stands before the branch
        output = layer(*args, **kwargs)
        if layer.name in activations:
            output = keras.layers.BatchNormalization(name=layer.name + NORMALISED)(output)
            output = keras.layers.Activation(activations[layer.name])(output)
        return output

    activations = {
        layer.name: layer.activation
        for layer in published.layers
        if type(layer) is keras.layers.Conv2D and layer.activation is not keras.activations.linear
    }
    return keras.models.clone_model(published, clone_function=clone, call_function=call)


def join_twins(twins: Sequence[keras.Model], *, published: keras.Model) -> None:
    """Lay twins side by side into the channels of the published network, which then computes what each of them does.

    Layers that the twins skip pass on what they get: a residual branch adds nothing, a convolution is the identity.

    Args:
        twins: At most as many as one of them is narrower; channels that none of them fills stay empty.
        published: Changed in place.
    """
    known = {layer.name for layer in twins[0].layers}
    for layer in (layer for layer in published.layers if layer.weights):
        shapes = [weight.shape for weight in layer.weights]
        if layer.name in known:
            of_twins = zip(*(_get_folded_weights(twin, layer.name) for twin in twins), strict=True)
            layer.set_weights([_join(arrays, like=shape) for arrays, shape in zip(of_twins, shapes, strict=True)])
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


def _join(arrays: Sequence[NDArray[np.float32]], *, like: tuple[int, ...]) -> NDArray[np.float32]:
    """Return vectors one after the other, kernels as blocks along the diagonal of their two last axes.

    An axis that is not wider in the whole (the picture's three channels, a depthwise kernel's last) is shared.
    """
    first = arrays[0]
    is_wider = [whole > part for whole, part in zip(like, first.shape, strict=True)]
    joined = np.zeros(like, dtype=first.dtype)
    for number, array in enumerate(arrays):
        places = tuple(
            slice(number * size, (number + 1) * size) if wider else slice(None)
            for size, wider in zip(array.shape, is_wider, strict=True)
        )
        joined[places] = array
    return joined
