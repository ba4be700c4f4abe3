"""What ships: small, whole by its card, and worth more than random weights on particles that nobody trained on."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sem_search.micrographs.demo import MATERIALS
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.weights.choice import build_weighted_backbone
from sem_search.transfer.weights.files import compute_weights_digest
from sem_search.transfer.weights.packed import (
    PARTICLES_FOLDER,
    list_particle_weights,
    load_particle_weights,
    read_card,
)

SHIPPED = ("mobilenet_v2", "resnet50", "vgg16")
MAX_BYTES = 45e6
TILE_PX = 224
N_TILES = 6
"""Of each material, each from a scan of its own; the first four train, the others ask."""


def test_all_that_ships_is_small() -> None:
    assert list_particle_weights() == list(SHIPPED)
    assert sum(file.stat().st_size for file in PARTICLES_FOLDER.iterdir()) < MAX_BYTES


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_tells_how_they_were_made(name: str) -> None:
    card = read_card(PARTICLES_FOLDER / f"{name}.json")
    assert card["backbone"] == name
    assert card["n_crops"] > 100_000
    assert {"divisor", "skipped", "crop_px", "n_rounds", "seed", "teacher"} <= set(card["recipe"]["twin"])
    assert {"training_s", "n_scans", "rounding", "machine", "software", "sha256"} <= set(card)
    assert card["scores"].keys() == {"demo", "lung_cells_sem"}
    assert card["scores"]["demo"]["probe_f"] > 0.8


@pytest.mark.parametrize("name", SHIPPED)
def test_they_are_whole_and_fit_the_published_network(name: str) -> None:
    model = get_backbone(name).build(tile_px=TILE_PX)
    load_particle_weights(model, name=name)
    card = read_card(PARTICLES_FOLDER / f"{name}.json")
    assert compute_weights_digest(model) == card["weights_sha256"], "what a run logs"


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_they_tell_materials_apart_better_than_random_weights(name: str) -> None:
    seed = 70_000
    tiles = np.stack(
        [
            render_scan(material, height_px=TILE_PX, width_px=TILE_PX, seed=seed + 100 * place + number)
            for place, material in enumerate(MATERIALS)
            for number in range(N_TILES)
        ]
    )
    labels, numbers = np.divmod(np.arange(len(tiles)), N_TILES)
    is_asked = numbers >= 4
    right = {}
    for weights in ("particles", "random"):
        backbone = get_backbone(name)
        model, record = build_weighted_backbone(
            backbone, weights=weights, tile_px=TILE_PX, seed=0, calibration_tiles=tiles[:4]
        )
        assert record.used == weights
        features = np.concatenate(
            [
                model.predict_on_batch(backbone.preprocess(tiles[start : start + 20])).mean(axis=(1, 2))
                for start in range(0, len(tiles), 20)
            ]
        )
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
        probe.fit(features[~is_asked], labels[~is_asked])
        right[weights] = float(probe.score(features[is_asked], labels[is_asked]))
    assert right["particles"] >= right["random"] + 0.15, right
