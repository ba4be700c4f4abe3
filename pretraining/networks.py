"""Narrow twins of a backbone, and how what they have learned is carried over into the whole network.

Training the whole of VGG16 costs sixteen times what its twin with a quarter of the channels costs. So twins are
trained, each from a seed of its own, and laid side by side into the channels of the whole (`join_twins`): its kernels
are block-diagonal then, and each block computes to the last bit what its twin did. The whole may be trained further.
Widening a trained network in place of training it anew is the idea of Chen, Goodfellow and Shlens, Net2Net (2016).

The published VGG16 has no batch normalisation, and hardly trains without: its twins have it after every convolution,
and it is folded into the convolutions at the end (`fold_normalisation`), exactly, since it follows them directly.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

NORMALISED = "_norm"
"""Ends the names of batch normalisations that the published network does not have."""


def build_twin(published: keras.Model, *, divisor: int = 1) -> keras.Model:
    """Return the network with its channels divided, and batch normalised wherever a convolution has an activation.

    Args:
        published: A network without classifier, for pictures of any size.
        divisor: Of the channels of every convolution.
    """

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if type(layer) is keras.layers.Conv2D:
            config |= {"filters": layer.filters // divisor, "activation": "linear"}
        return type(layer).from_config(config)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
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


def join_twins(twins: Sequence[keras.Model], *, whole: keras.Model) -> None:
    """Lay narrow twins side by side into the channels of the whole, which computes what each of them does.

    Args:
        twins: As many as one of them is narrower.
        whole: `build_twin` of the same network with divisor 1; changed in place.
    """
    for layer in (layer for layer in whole.layers if layer.weights):
        of_twins = zip(*(twin.get_layer(layer.name).get_weights() for twin in twins), strict=True)
        shapes = [weight.shape for weight in layer.weights]
        layer.set_weights([_join(arrays, like=shape) for arrays, shape in zip(of_twins, shapes, strict=True)])


def fold_normalisation(twin: keras.Model, *, published: keras.Model) -> None:
    """Give the published network the weights of a twin of full width; added normalisations go into the convolutions.

    Args:
        twin: `build_twin` of the published network with divisor 1.
        published: Changed in place.
    """
    names = {layer.name for layer in twin.layers}
    for layer in (layer for layer in published.layers if layer.weights):
        weights = twin.get_layer(layer.name).get_weights()
        if layer.name + NORMALISED in names:
            normalisation = twin.get_layer(layer.name + NORMALISED)
            gamma, beta, mean, variance = normalisation.get_weights()
            factor = gamma / np.sqrt(variance + normalisation.epsilon)
            kernel, bias = weights
            weights = [kernel * factor, (bias - mean) * factor + beta]
        layer.set_weights(weights)


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
