"""What a backbone's weights are worth for micrographs: a linear probe, a whole search, and how soon heads learn.

The probe is logistic regression on the backbone's last features, averaged over each tile: trained on a fold's training
and validation images, asked on its test images. Demonstration sets are rendered from `DEMO_SEEDS`, which were used for
nothing else; real files keep theirs and get folds from `REAL_SEEDS`.
"""

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.search import SCORES
from benchmarks.searching import run_search
from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data
from sem_search.micrographs.tiles import iter_image_tiles
from sem_search.search.data import PreparedData, prepare_data
from sem_search.search.network import build_trainer, compute_features, prepare_network, render_calibration_tiles
from sem_search.settings import SearchSettings, build_settings
from sem_search.transfer.backbones import DEFAULT_TILE_PX, get_backbone
from sem_search.transfer.weights import build_weighted_backbone

DEMO_SEEDS = (90_001, 90_002, 90_003)
REAL_SEEDS = (0, 1, 2)
PENALTY = 0.1
"""Inverse strength of the probe's penalty; the same for all weights."""

LEARNING_RATE, BATCH_SIZE, EPOCHS = 1e-2, 16, 40
NEAR = 0.95
"""Share of the final accuracy at which a head counts as having learned."""


def measure_weights(
    backbone: str,
    *,
    weights: str,
    data: str,
    threads: int,
    exclude: str = "",
    tile_px: int = DEFAULT_TILE_PX,
    with_search: bool = False,
) -> dict[str, float]:
    """Return the probe's F, the epochs a head needs, and on demand a search's F, each per seed and in the mean.

    Args:
        backbone: Its name.
        weights: As in a search.
        data: `demo`, or a folder of real files.
        threads: Of the search.
        exclude: Classes of the folder to leave out, by commas.
        tile_px: Side of a tile.
        with_search: Whether a whole search is run for each seed.
    """
    found: dict[str, list[float]] = {}
    given = {"backbone": backbone, "weights": weights, "threads": threads, "exclude": exclude, "tile_px": tile_px}
    for settings in _iter_settings(given, data=data):
        with settings as one:
            prepared = prepare_data(one)
            found.setdefault("probe_f", []).append(_probe(one, data=prepared))
            accuracy, epochs = _train_heads(one, data=prepared)
            found.setdefault("head_accuracy", []).append(accuracy)
            found.setdefault(f"epochs_to_{NEAR:.0%}", []).append(epochs)
            if with_search:
                found.setdefault("search_test_f", []).append(_search(one))
    key = f"weights.{backbone}.{Path(weights).name.split('.')[0]}.{'demo' if data == 'demo' else 'real'}"
    figures = {f"{key}.{name}": statistics.mean(values) for name, values in found.items()}
    for name, values in found.items():
        figures |= {f"{key}.{name}.{number}": value for number, value in enumerate(values)}
    return figures


def _iter_settings(given: dict[str, Any], *, data: str) -> Iterator[AbstractContextManager[SearchSettings]]:
    """Yield, as contexts, the settings of each seed; the files of a demonstration set live as long as its context."""
    given = {**given, "preset": "standard", "precision": "float32", "patience": 0, "epochs": EPOCHS}
    for seed in DEMO_SEEDS if data == "demo" else REAL_SEEDS:
        if data == "demo":
            yield _render(given, seed=seed)
        else:
            yield nullcontext(build_settings({**given, "data": data, "seed": seed}))


@contextmanager
def _render(given: dict[str, Any], *, seed: int) -> Iterator[SearchSettings]:
    with tempfile.TemporaryDirectory() as name:
        folder = write_demo_data(Path(name) / "demo", seed=seed)
        crop = str(DEMO_SIZES["small"].bar_height_px)
        yield build_settings({**given, "data": str(folder), "crop_bottom_px": crop, "seed": "0"})


def _probe(settings: SearchSettings, *, data: PreparedData) -> float:
    """Return macro F over all test tiles of all folds."""
    backbone = get_backbone(settings.backbone)
    model, _ = build_weighted_backbone(
        backbone,
        weights=settings.weights,
        tile_px=settings.tile_px,
        seed=settings.seed,
        calibration_tiles=render_calibration_tiles(settings.tile_px),
    )
    tiles = iter_image_tiles(
        data.catalogue,
        grid=data.grid,
        crop_bottom_px=data.crop_bottom_px,
        max_megapixels=settings.max_megapixels,
    )
    features = np.concatenate(
        [model.predict_on_batch(backbone.preprocess(some)).mean(axis=(1, 2)) for _, some in tiles]
    )
    truth = data.tiles.label_of_tile
    answers = np.full_like(truth, -1)
    for fold in data.folds.folds:
        known = data.tiles.get_tiles_of((*fold.training, *fold.validation))
        asked = data.tiles.get_tiles_of(fold.test)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=5000))
        answers[asked] = probe.fit(features[known], truth[known]).predict(features[asked])
    return float(f1_score(truth, answers, average="macro"))


def _train_heads(settings: SearchSettings, *, data: PreparedData) -> tuple[float, float]:
    """Return the last validation accuracy of heads, and after how many epochs they came near it, mean over folds."""
    network = prepare_network(settings)
    trainer = build_trainer(
        settings, data=data, network=network, features=compute_features(settings, data=data, network=network)
    )
    curves = [
        trainer.train_fold(
            fold=fold.number,
            learning_rate=LEARNING_RATE,
            batch_size=BATCH_SIZE,
            training=data.tiles.get_tiles_of(fold.training),
            validation=data.tiles.get_tiles_of(fold.validation),
            test=data.tiles.get_tiles_of(fold.test),
        ).curves.validation_accuracy
        for fold in data.folds.folds
    ]
    mean = np.mean(np.array(curves), axis=0)
    return float(mean[-1]), float(1 + np.argmax(mean >= NEAR * mean[-1]))


def _search(settings: SearchSettings) -> float:
    """Return the winner's mean test F of a whole search with early stopping and pruning."""
    file = Path(settings.weights)
    words = {
        "data": str(Path(settings.data).absolute()),
        "backbone": settings.backbone,
        "weights": str(file.absolute()) if file.is_file() else settings.weights,
        "preset": "standard",
        "crop_bottom_px": str(settings.crop_bottom_px),
        "seed": str(settings.seed),
        "tile_px": str(settings.tile_px),
        "threads": str(settings.threads),
    }
    if settings.exclude:
        words["exclude"] = ",".join(settings.exclude)
    with tempfile.TemporaryDirectory() as name:
        printed = run_search(Path(name), words)
    scores = SCORES.search(printed)
    if scores is None:
        raise RuntimeError(printed[-3000:])
    return float(scores[2])
