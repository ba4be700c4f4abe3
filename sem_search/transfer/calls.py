"""The calls that make up a Keras model, in order, and making them again on other values.

Keras keeps the calls of a functional model's layers as nodes, but has no public way to them.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from sem_search.errors import SettingsError


def get_functional(model: keras.Model) -> keras.Model:
    """Return a built model as one whose calls are known.

    Raises:
        SettingsError: It is neither functional nor sequential.
    """
    if isinstance(model, keras.Sequential) and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not hasattr(model, "_nodes_by_depth"):
        raise SettingsError(
            f"Network {model.name!r} cannot be used: it is a {type(model).__name__} without a graph of layers; "
            "build it with Keras' functional interface."
        )
    return model


def iter_calls(graph: keras.Model) -> Iterator[Any]:
    """Yield the calls of a model's layers in the order in which Keras makes them, nearest to the output last.

    A call has `operation` (the layer), `input_tensors`, `outputs` and `arguments`. A layer that is used twice comes
    twice.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def repeat_calls(calls: Iterable[Any], *, known: dict[int, Any], call: Callable[..., Any]) -> None:
    """Make calls again, on other values.

    Args:
        calls: In order; those of input layers are passed over.
        known: Value for the `id` of each tensor that comes from outside; the values of all others are added.
        call: Takes layer, arguments and keyword arguments, and returns the layer's outputs.
    """
    for one in calls:
        if not one.is_input:
            args, kwargs = one.arguments.fill_in(known)
            outputs = keras.tree.flatten(call(one.operation, *args, **kwargs))
            known.update((id(tensor), value) for tensor, value in zip(one.outputs, outputs, strict=True))
