"""Heat maps are numbers in [0, 1], of the asked class, and say when there is nothing to see."""

import keras
import numpy as np
import pytest

from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, cut_network
from sem_search.transfer.gradcam import compute_heat_maps, resize_heat_maps


@pytest.fixture(scope="module")
def network() -> tuple[keras.Model, str, list[np.ndarray]]:
    cut = cut_network(get_backbone("tiny").build(tile_px=32))
    head = build_head(cut, n_classes=3, hidden_units=8, seed=0)
    rng = np.random.default_rng(0)
    features = [rng.random((4, *tensor.shape[1:]), dtype=np.float32) for tensor in cut.tail.inputs]
    return head, cut.convolution, features


def explain(network: tuple[keras.Model, str, list[np.ndarray]], class_index: list[int]):
    head, convolution, features = network
    return compute_heat_maps(head, features=features, class_index=np.array(class_index), convolution=convolution)


def test_maps_are_in_range_and_reach_one_unless_they_are_zero(network) -> None:
    maps = explain(network, [0, 1, 2, 0])
    assert maps.values.ndim == 3
    assert np.isfinite(maps.values).all()
    assert maps.values.min() >= 0
    for values, is_zero in zip(maps.values, maps.is_zero, strict=True):
        assert values.max() == (0 if is_zero else pytest.approx(1))


def test_another_class_has_another_map(network) -> None:
    assert not np.array_equal(explain(network, [0] * 4).values, explain(network, [1] * 4).values)


def test_strengths_are_the_maps_before_each_tile_is_put_on_a_scale_of_its_own(network) -> None:
    maps = explain(network, [0, 1, 2, 0])
    highest = maps.strengths.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(maps.values * highest, maps.strengths, rtol=1e-6)
    assert len(np.unique(highest)) > 1, "tiles differ in how much they say for their class"


def test_a_head_that_sees_nothing_gives_zero_maps_and_says_so(network) -> None:
    head, _, _ = network
    before = head.get_weights()
    try:
        head.set_weights([np.zeros_like(weight) for weight in before])
        maps = explain(network, [0, 1, 2, 0])
    finally:
        head.set_weights(before)
    assert maps.is_zero.all()
    assert (maps.values == 0).all()


def test_resized_maps_keep_their_range() -> None:
    values = np.array([[[0, 0.5], [0.5, 1]]], dtype=np.float32)
    resized = resize_heat_maps(values, size_px=9)
    assert resized.shape == (1, 9, 9)
    assert 0 <= resized.min() <= resized.max() <= 1
    assert resized[0, 0, 0] < resized[0, 4, 4] < resized[0, -1, -1]
