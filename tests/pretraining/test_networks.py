"""What narrow twins have learned is what the published network computes."""

import keras
import numpy as np
import pytest

from pretraining import packing
from pretraining.networks import NOTHING, build_twin
from pretraining.packing import build_published
from pretraining.recipe import RECIPES
from sem_search.transfer.backbones import get_backbone


def disturb(model: keras.Model, *, seed: int) -> None:
    """Give every weight, moving means and variances too, a value that no fresh layer has."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        is_spread = "variance" in weight.path or "gamma" in weight.path
        drawn = rng.uniform(0.5, 1.5, weight.shape) if is_spread else rng.normal(0.0, 0.2, weight.shape)
        weight.assign(drawn.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "divisor", "skipped"),
    [
        ("tiny", 2, NOTHING),
        ("tiny", 1, NOTHING),
        ("tiny", 4, NOTHING),
        ("vgg16", 4, NOTHING),
        ("vgg16", 2, RECIPES["vgg16"].twin.skipped),
        ("resnet50", 4, NOTHING),
        ("resnet50", 4, RECIPES["resnet50"].twin.skipped),
        ("mobilenet_v2", 1, RECIPES["mobilenet_v2"].twin.skipped),
    ],
)
def test_twins_side_by_side_are_the_published_network(name: str, divisor: int, skipped: str) -> None:
    backbone = get_backbone(name)
    n_twins = min(divisor, 2)  # of four, two channels in four stay empty
    twins = [build_twin(backbone.build_open(), divisor=divisor, skipped=skipped) for _ in range(n_twins)]
    for seed, twin in enumerate(twins):
        disturb(twin, seed=seed)
    published = build_published(twins, backbone=backbone)  # raises unless the features are the same
    kernels = [weight for weight in published.weights if weight.name == "kernel"]
    assert [weight.shape for weight in published.weights] == [
        weight.shape for weight in backbone.build(tile_px=64).weights
    ]
    if divisor > 1:
        assert not np.asarray(kernels[-1])[..., : kernels[-1].shape[-2] // divisor, kernels[-1].shape[-1] // 2 :].any()


def test_a_network_that_computes_something_else_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = get_backbone("tiny")
    twins = [build_twin(backbone.build_open(), divisor=2) for _ in range(2)]
    for seed, twin in enumerate(twins):
        disturb(twin, seed=seed)
    join = packing.join_twins

    def join_wrongly(twins: list[keras.Model], *, published: keras.Model) -> None:
        join(twins, published=published)
        kernel = published.weights[0]
        kernel.assign(kernel.numpy() * 1.01)

    monkeypatch.setattr(packing, "join_twins", join_wrongly)
    with pytest.raises(ValueError, match="tiny does not compute what its twins do"):
        build_published(twins, backbone=backbone)
