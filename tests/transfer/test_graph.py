"""What is read off a head's graph."""

from typing import Any

import keras
import pytest

from sem_search.transfer.graph import find_only_consumer, get_input_index, is_linear, is_plain_convolution


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Two inputs; the first goes to one layer, whose output goes to two; a layer stands behind one of them."""
    first, second = keras.Input((4, 4, 2), name="first"), keras.Input((4, 4, 2), name="second")
    shared = keras.layers.Conv2D(2, 1, name="shared")(first)
    left = keras.layers.ReLU(name="left")(shared)
    right = keras.layers.Add(name="right")([shared, second])
    return keras.Model([first, second], [keras.layers.ReLU(name="end")(left), right])


@pytest.mark.parametrize(
    ("layer", "consumer"),
    [
        ("first", "shared"),
        ("second", "right"),
        ("shared", None),  # two take it
        ("left", "end"),
        ("end", None),  # an output
        ("right", None),
    ],
)
def test_only_consumers(model: keras.Model, layer: str, consumer: str | None) -> None:
    found = find_only_consumer(model, model.get_layer(layer).output)
    assert (found and found.name) == consumer


def test_an_output_that_is_used_further_has_no_only_consumer() -> None:
    given = keras.Input((2,))
    inner = keras.layers.Dense(2, name="inner")(given)
    model = keras.Model(given, [inner, keras.layers.Dense(1)(inner)])
    assert find_only_consumer(model, inner) is None


def test_layers_of_another_model_do_not_count(model: keras.Model) -> None:
    part = keras.Model(model.inputs[0], model.get_layer("left").output)
    consumer = find_only_consumer(part, model.get_layer("shared").output)
    assert consumer is not None
    assert consumer.name == "left"


def test_inputs_are_known_by_their_place(model: keras.Model) -> None:
    assert [get_input_index(model, tensor) for tensor in model.inputs] == [0, 1]
    assert get_input_index(model, model.get_layer("shared").output) is None


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


@pytest.mark.parametrize(("activation", "expected"), [(None, True), ("linear", True), ("relu", False)])
def test_linear_layers(activation: str | None, expected: bool) -> None:
    assert is_linear(keras.layers.Conv2D(2, 1, activation=activation)) is expected
