"""The cut: a network divided into the trunk, which never changes, and the head, which is trained.

The trunk's output for a tile is computed once and stored; training then costs the head alone. Nothing is approximated:
head(trunk(tile)) is the uncut network. Where to cut is read off the graph: the last convolution and all that depends
on it belong to the tail, everything else to the trunk, and the tensors that cross from one to the other are what is
stored (VGG16: one; ResNet50: two, the convolution's input and the shortcut around it).
Source: Iwata, Hayashi et al. 2022 train the last convolution layer and new fully connected layers, nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from sem_search.seeds import derive_seed
from sem_search.transfer.engine import Engine
from sem_search.transfer.graph import Call, Graph, record_graph, repeat_calls

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
MAP_RANK = 4  # (n, height, width, channels)

HIDDEN_LAYER = "head_hidden"
LOGITS_LAYER = "head_logits"


@dataclass(frozen=True, kw_only=True)
class CutNetwork:
    """A network in two parts; tail(trunk(x)) is the network. Both parts share its layers, all of them frozen."""

    trunk: keras.Model
    """Pictures, shape (n, size_px, size_px, 3), to the list of crossing tensors."""
    tail: keras.Model
    """The list of crossing tensors to the network's output. `build_head` copies it; nothing trains this one."""
    convolution: str
    """Name of the last convolution layer: the one layer of the tail that is trained, and the one Grad-CAM looks at."""
    engine: Engine = "tensorflow"
    """What computes the trunk for `compile_trunk`."""


def cut_network(model: keras.Model) -> CutNetwork:
    """Cut a network in front of its last convolution layer.

    Args:
        model: A built Keras functional or sequential model with one input, one output and at least one convolution,
            the last of them called once. Its layers become part of the result and are frozen.

    Returns:
        Trunk and tail. The crossing tensors come in the order in which the tail first uses them.
    """
    graph = record_graph(model)
    convolution = _find_last_convolution(graph)
    tail_calls = _find_tail_calls(graph, convolution)
    crossing = _find_crossing_tensors(tail_calls)
    trunk = keras.Model(graph.inputs[0], crossing, name=f"{graph.name}_trunk")
    tail = _build_tail(tail_calls, crossing=crossing, output=graph.outputs[0], name=f"{graph.name}_tail")
    trunk.trainable = False
    tail.trainable = False
    return CutNetwork(trunk=trunk, tail=tail, convolution=convolution.name)


def build_head(
    cut: CutNetwork, *, n_classes: int, hidden_units: int = 256, dropout: float = 0.5, seed: int
) -> keras.Model:
    """Build what is trained: a copy of the tail, followed by the new layers.

    Only the last convolution and the new layers are trainable. Batch normalisation stays in inference mode even when
    the head is called with `training=True`, since Keras runs a frozen one that way.

    Args:
        cut: The network; its own tail stays as it is, so that every head starts from the same weights.
        n_classes: Number of classes.
        hidden_units: Width of the hidden layer.
        dropout: Share of hidden units left out in training, in [0, 1).
        seed: Decides the first weights of the new layers and the dropout.

    Returns:
        A model from the list of crossing tensors to logits, shape (n, n_classes): no softmax, because Grad-CAM
        needs the logits and the loss is steadier with them. Its new layers are called `head_pooling`,
        `head_hidden`, `head_dropout` and `head_logits`.
    """
    inputs = _build_inputs(cut.tail.inputs)
    tail = _copy_frozen(cut.tail, convolution=cut.convolution, inputs=inputs)
    logits = _add_new_layers(
        tail.outputs[0], n_classes=n_classes, hidden_units=hidden_units, dropout=dropout, seed=seed
    )
    return keras.Model(inputs, logits, name="head")


def _find_last_convolution(graph: Graph) -> keras.Layer:
    return next(call.layer for call in reversed(graph.calls) if isinstance(call.layer, CONVOLUTIONS))


def _find_tail_calls(graph: Graph, convolution: keras.Layer) -> list[Call]:
    """Return the call of the convolution and all calls that depend on it, in order."""
    tail: list[Call] = []
    depending: set[int] = set()
    for call in graph.calls:
        if call.layer is convolution or any(id(tensor) in depending for tensor in call.inputs):
            tail.append(call)
            depending.update(id(tensor) for tensor in call.outputs)
    return tail


def _find_crossing_tensors(tail_calls: list[Call]) -> list[Any]:
    """Return what the tail takes from frozen calls, each tensor once, in the order of first use."""
    own = {id(tensor) for call in tail_calls for tensor in call.outputs}
    used = {id(tensor): tensor for call in tail_calls for tensor in call.inputs}
    return [tensor for key, tensor in used.items() if key not in own]


def _build_tail(tail_calls: list[Call], *, crossing: list[Any], output: Any, name: str) -> keras.Model:
    """Call the tail's layers once more, on inputs of their own.

    `keras.Model(crossing, output)` would do the same, but loses its way where a layer stands before and behind the cut.
    """
    inputs = _build_inputs(crossing)
    known = dict(zip(map(id, crossing), inputs, strict=True))
    repeat_calls(tail_calls, known=known, call_layer=lambda layer, *args, **kwargs: layer(*args, **kwargs))
    return keras.Model(inputs, known[id(output)], name=name)


def _build_inputs(tensors: list[Any]) -> list[Any]:
    """Return an input for each tensor, named by its place: Keras' own names count all tensors of the process."""
    return [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"crossing_{index}")
        for index, tensor in enumerate(tensors)
    ]


def _copy_frozen(model: keras.Model, *, convolution: str, inputs: list[Any]) -> keras.Model:
    """Return a copy with weights of its own, in which only the convolution of this name can be trained."""
    structure = keras.tree.pack_sequence_as(model.input, inputs)
    copy = keras.models.clone_model(model, input_tensors=structure)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        layer.trainable = layer.name == convolution
    return copy


def _add_new_layers(features: Any, *, n_classes: int, hidden_units: int, dropout: float, seed: int) -> Any:
    """Put pooling, hidden layer, dropout and logits on a backbone's output."""
    if len(features.shape) == MAP_RANK:
        features = keras.layers.GlobalAveragePooling2D(name="head_pooling")(features)
    hidden = keras.layers.Dense(
        hidden_units,
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(seed=derive_seed(seed, HIDDEN_LAYER)),
        name=HIDDEN_LAYER,
    )(features)
    dropped = keras.layers.Dropout(dropout, seed=derive_seed(seed, "head_dropout"), name="head_dropout")(hidden)
    return keras.layers.Dense(
        n_classes,
        kernel_initializer=keras.initializers.GlorotUniform(seed=derive_seed(seed, LOGITS_LAYER)),
        name=LOGITS_LAYER,
    )(dropped)


def average_channels(features: Sequence[Any]) -> Any:
    """Return the channels of all crossing tensors, averaged over every axis between the first and the last.

    Args:
        features: Crossing tensors, each of shape (n_tiles, ..., n_channels).

    Returns:
        Shape (n_tiles, sum of n_channels), float32.
    """
    averaged = [tf.reduce_mean(tensor, axis=list(range(1, len(tensor.shape) - 1))) for tensor in features]
    return tf.concat(averaged, axis=-1)
