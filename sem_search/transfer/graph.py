"""The graph of a network: which layer is called on what, and what a layer is.

Keras has no public list of the calls of a model's layers. But `keras.models.clone_model` makes them all again, and
passes each one to a function of this module: so they are recorded without a private name
(docs/decisions/029-keras-graph.md).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One call of a layer, or of another operation of Keras; a layer that is used twice has two."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[keras.KerasTensor]

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The tensors that the layer takes."""
        arguments = keras.tree.flatten((self.args, self.kwargs))
        return [argument for argument in arguments if isinstance(argument, keras.KerasTensor)]

    @property
    def output(self) -> keras.KerasTensor:
        """The first tensor that the layer gives."""
        return self.outputs[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A network as the calls of its layers, in the order in which Keras makes them; the layers are the network's own.

    Tensors have no equality of values: compare them with `is`.
    """

    name: str
    inputs: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    calls: tuple[Call, ...]

    def find_call(self, layer_name: str) -> Call:
        """Return the first call of the layer of this name."""
        return next(call for call in self.calls if call.layer.name == layer_name)

    def find_only_consumer(self, tensor: Any) -> Call | None:
        """Return the call that takes this tensor; None if several do, if none does, or if it is an output."""
        if any(output is tensor for output in self.outputs):
            return None
        consumers = [call for call in self.calls if any(used is tensor for used in call.inputs)]
        return consumers[0] if len(consumers) == 1 else None

    def find_input(self, tensor: Any) -> int | None:
        """Return which input this tensor is, or None if it is none."""
        return next((index for index, given in enumerate(self.inputs) if given is tensor), None)


def record_graph(model: keras.Model) -> Graph:
    """Record the calls of a model's layers.

    Args:
        model: Built, functional or sequential.
    """
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    calls: list[Call] = []

    def record(layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        calls.append(Call(layer=layer, args=args, kwargs=kwargs, outputs=keras.tree.flatten(outputs)))
        return outputs

    copy = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=record)
    return Graph(name=model.name, inputs=copy.inputs, outputs=copy.outputs, calls=tuple(calls))


def repeat_calls(calls: Iterable[Call], *, known: dict[int, Any], call_layer: Callable[..., Any]) -> None:
    """Make calls again, on other values.

    Args:
        calls: In order.
        known: Value for the `id` of each tensor that comes from outside; the values of all others are added.
        call_layer: Takes layer, arguments and keyword arguments, and returns the layer's outputs.
    """
    for call in calls:
        args, kwargs = keras.tree.map_structure(lambda given: known.get(id(given), given), (call.args, call.kwargs))
        outputs = keras.tree.flatten(call_layer(call.layer, *args, **kwargs))
        known.update((id(tensor), value) for tensor, value in zip(call.outputs, outputs, strict=True))


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
