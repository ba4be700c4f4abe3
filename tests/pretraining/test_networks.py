"""What a twin has learned is what the published network computes."""

import numpy as np
import pytest

from pretraining.networks import NOTHING, build_twin
from pretraining.packing import build_published
from pretraining.recipe import RECIPES
from sem_search.transfer.backbones import get_backbone
from tests.pretraining.disturbed import disturb


@pytest.mark.parametrize(
    ("name", "divisor", "skipped"),
    [
        ("tiny", 1, NOTHING),
        ("tiny", 4, NOTHING),
        ("vgg16", 4, NOTHING),
        ("resnet50", 4, NOTHING),
        *((name, row.twin.divisor, row.twin.skipped) for name, row in RECIPES.items()),
    ],
)
def test_a_twin_is_the_published_network(name: str, divisor: int, skipped: str) -> None:
    backbone = get_backbone(name)
    twin = build_twin(backbone.build_open(), divisor=divisor, skipped=skipped)
    disturb(twin, seed=0)
    published = build_published(twin, backbone=backbone)
    pictures = backbone.preprocess(np.random.default_rng(1).random((2, 64, 64), dtype=np.float32))
    wanted, found = (np.asarray(network(pictures, training=False)) for network in (twin, published))
    n_channels = wanted.shape[-1]
    assert wanted.any()
    np.testing.assert_allclose(found[..., :n_channels], wanted, rtol=0, atol=1e-3 * np.abs(wanted).max())
    assert not found[..., n_channels:].any(), "channels that the twin lacks stay empty"
