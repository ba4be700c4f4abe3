"""The calls of a model can be listed and made again."""

import keras
import numpy as np
import pytest

from sem_search.errors import SettingsError
from sem_search.transfer.calls import get_functional, iter_calls, repeat_calls


def _build_twice_called() -> keras.Model:
    numbers = keras.Input((2,))
    double = keras.layers.Rescaling(2.0, name="double")
    return keras.Model(numbers, double(double(numbers)) + numbers)


def test_iter_calls_lists_a_layer_as_often_as_it_is_called_and_the_output_last():
    calls = list(iter_calls(_build_twice_called()))
    assert [call.operation.name for call in calls].count("double") == 2
    assert type(calls[-1].operation).__name__ == "Add"
    assert calls[0].is_input


def test_repeat_calls_gives_the_models_output():
    model = _build_twice_called()
    numbers = np.array([[1.0, 3.0]], dtype=np.float32)
    known = {id(model.inputs[0]): keras.ops.convert_to_tensor(numbers)}
    repeat_calls(iter_calls(model), known=known, call=lambda layer, *args, **kwargs: layer(*args, **kwargs))
    np.testing.assert_allclose(known[id(model.outputs[0])], numbers * 5)


def test_get_functional_takes_a_built_sequential_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="plain")
    graph = get_functional(model)
    assert graph.name == "plain"
    numbers = np.ones((1, 2), dtype=np.float32)
    np.testing.assert_array_equal(graph(numbers), model(numbers))


class _Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def test_get_functional_refuses_a_model_without_a_graph():
    with pytest.raises(SettingsError, match="'own' cannot be used: it is a _Subclassed without a graph"):
        get_functional(_Subclassed(name="own"))
