"""A graph holds every call of a network's layers in order, by Keras' public names alone.

If a new Keras hands out the calls otherwise, `test_keras_hands_out_every_call_in_order` fails first: then
`sem_search/transfer/graph.py` is the one file to change (docs/decisions/029-keras-graph.md).
"""

from typing import Any

import keras
import numpy as np
import pytest

from sem_search.transfer.graph import is_plain_convolution, record_graph, repeat_calls


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Two inputs; the first goes to one layer, whose output goes to two; a layer stands behind one of them."""
    first, second = keras.Input((4, 4, 2), name="first"), keras.Input((4, 4, 2), name="second")
    shared = keras.layers.Conv2D(2, 1, name="shared")(first)
    left = keras.layers.ReLU(name="left")(shared)
    right = keras.layers.Add(name="right")([shared, second])
    return keras.Model([first, second], [keras.layers.ReLU(name="end")(left), right])


@pytest.fixture(scope="module")
def twice_called() -> keras.Model:
    numbers = keras.Input((2,))
    double = keras.layers.Rescaling(2.0, name="double")
    return keras.Model(numbers, double(double(numbers)) + numbers)


def test_keras_hands_out_every_call_in_order(twice_called: keras.Model) -> None:
    graph = record_graph(twice_called)
    names = [type(call.layer).__name__ for call in graph.calls]
    reason = "this Keras' clone_model does not hand every call to call_function: see transfer/graph.py"
    assert names == ["Rescaling", "Rescaling", "Add"], reason
    assert all(call.layer is twice_called.get_layer("double") for call in graph.calls[:2]), reason
    assert graph.calls[0].inputs[0] is graph.inputs[0], reason
    assert graph.calls[1].inputs[0] is graph.calls[0].output, reason
    assert graph.calls[-1].output is graph.outputs[0], reason


def test_repeated_calls_give_the_models_output(twice_called: keras.Model) -> None:
    graph = record_graph(twice_called)
    numbers = np.array([[1.0, 3.0]], dtype=np.float32)
    known = {id(graph.inputs[0]): keras.ops.convert_to_tensor(numbers)}
    repeat_calls(graph.calls, known=known, call_layer=lambda layer, *args, **kwargs: layer(*args, **kwargs))
    np.testing.assert_allclose(known[id(graph.outputs[0])], numbers * 5)


def test_a_built_sequential_model_has_a_graph() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="plain")
    graph = record_graph(model)
    assert graph.name == "plain"
    numbers = np.ones((1, 2), dtype=np.float32)
    np.testing.assert_array_equal(keras.Model(graph.inputs[0], graph.outputs[0])(numbers), model(numbers))


@pytest.mark.parametrize(
    ("layer", "consumer"),
    [
        ("shared", None),  # two take it
        ("left", "end"),
        ("end", None),  # an output
        ("right", None),
    ],
)
def test_only_consumers(model: keras.Model, layer: str, consumer: str | None) -> None:
    graph = record_graph(model)
    found = graph.find_only_consumer(graph.find_call(layer).output)
    assert (found and found.layer.name) == consumer


def test_only_consumers_of_inputs(model: keras.Model) -> None:
    graph = record_graph(model)
    assert [graph.find_only_consumer(tensor).layer.name for tensor in graph.inputs] == ["shared", "right"]


def test_an_output_that_is_used_further_has_no_only_consumer() -> None:
    given = keras.Input((2,))
    inner = keras.layers.Dense(2, name="inner")(given)
    graph = record_graph(keras.Model(given, [inner, keras.layers.Dense(1)(inner)]))
    assert graph.find_only_consumer(graph.outputs[0]) is None


def test_layers_of_another_model_do_not_count(model: keras.Model) -> None:
    graph = record_graph(keras.Model(model.inputs[0], model.get_layer("left").output))
    consumer = graph.find_only_consumer(graph.find_call("shared").output)
    assert consumer is not None
    assert consumer.layer.name == "left"


def test_inputs_are_known_by_their_place(model: keras.Model) -> None:
    graph = record_graph(model)
    assert [graph.find_input(tensor) for tensor in graph.inputs] == [0, 1]
    assert graph.find_input(graph.find_call("shared").output) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"padding": "same"}, True),
        ({"use_bias": False}, True),
        ({"kernel_size": 1}, False),
        ({"kernel_size": (3, 1)}, False),
        ({"strides": 2}, False),
        ({"strides": (1, 2)}, False),
        ({"dilation_rate": 2}, False),
        ({"groups": 2}, False),
        ({"data_format": "channels_first"}, False),
    ],
)
def test_plain_convolutions(options: dict[str, Any], expected: bool) -> None:
    layer = keras.layers.Conv2D(4, **{"kernel_size": 3, **options})
    layer.build((None, 8, 8, 8))
    assert is_plain_convolution(layer, kernel_size=3) is expected


@pytest.mark.parametrize("kind", [keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose])
def test_relatives_of_convolutions_are_none(kind: Any) -> None:
    layer = kind(3) if kind is keras.layers.DepthwiseConv2D else kind(4, 3)
    assert not is_plain_convolution(layer, kernel_size=3)


def test_a_convolution_with_low_rank_additions_is_not_plain() -> None:
    layer = keras.layers.Conv2D(4, 3)
    layer.build((None, 8, 8, 8))
    layer.enable_lora(2)
    assert not is_plain_convolution(layer, kernel_size=3)
