"""Only what computes what the twin does is packed."""

import keras
import pytest

from pretraining import packing
from pretraining.networks import build_twin
from pretraining.packing import PackingError, build_published, measure_rounding, round_weights
from sem_search.transfer.backbones import get_backbone
from tests.pretraining.disturbed import disturb


def build_disturbed_twin() -> keras.Model:
    twin = build_twin(get_backbone("tiny").build_open(), divisor=2)
    disturb(twin, seed=0)
    return twin


def test_a_network_that_computes_something_else_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    carry_over = packing.carry_over

    def carry_over_wrongly(twin: keras.Model, *, published: keras.Model) -> None:
        carry_over(twin, published=published)
        kernel = published.weights[0]
        kernel.assign(kernel.numpy() * 1.01)

    monkeypatch.setattr(packing, "carry_over", carry_over_wrongly)
    with pytest.raises(PackingError, match="tiny does not compute what its twin does"):
        build_published(build_disturbed_twin(), backbone=get_backbone("tiny"))


def test_what_eight_bits_cost_is_measured_and_too_much_is_refused() -> None:
    backbone = get_backbone("tiny")
    published = build_published(build_disturbed_twin(), backbone=backbone)
    rounded = round_weights(published, backbone=backbone)
    assert 0.0 < measure_rounding(published, rounded=rounded, backbone=backbone) < 0.02
    kernel = published.weights[0]
    values = kernel.numpy()
    values[0, 0, 0] *= 3000.0  # the other weights of each channel are lost beside it
    values[0, 0, 1] = -values[0, 0, 0]
    kernel.assign(values)
    with pytest.raises(PackingError, match="tiny loses too much in 8 bits: features differ by"):
        measure_rounding(published, rounded=round_weights(published, backbone=backbone), backbone=backbone)
