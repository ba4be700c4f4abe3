"""Reading the graph of a head: who takes whose output, and is a layer what a faster way needs it to be.

Keras has no public way to the calls of a model's layers; all that touches its private one stands here.
"""

from typing import Any

import keras


def find_only_consumer(model: keras.Model, tensor: Any) -> Any | None:
    """Return the layer that takes this tensor, or None if several do, if none does, or if it is an output."""
    if any(output is tensor for output in model.outputs):
        return None
    consumers = [node.operation for node in _iter_calls(model) if any(used is tensor for used in node.input_tensors)]
    return consumers[0] if len(consumers) == 1 else None


def get_input_index(model: keras.Model, tensor: Any) -> int | None:
    """Return which input of the model this tensor is, or None if it is none."""
    return next((index for index, given in enumerate(model.inputs) if given is tensor), None)


def is_plain_convolution(layer: Any, *, kernel_size: int) -> bool:
    """Whether it is a square Conv2D with steps of one, no groups, no dilation, channels last."""
    return (
        type(layer) is keras.layers.Conv2D
        and tuple(layer.kernel_size) == (kernel_size, kernel_size)
        and tuple(layer.strides) == (1, 1)
        and tuple(layer.dilation_rate) == (1, 1)
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and layer.lora_rank is None
    )


def is_linear(layer: Any) -> bool:
    """Whether the layer has no activation of its own."""
    return layer.activation is keras.activations.linear


def _iter_calls(model: keras.Model) -> list[Any]:
    return [node for nodes in model._nodes_by_depth.values() for node in nodes]
