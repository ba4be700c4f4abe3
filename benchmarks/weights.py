"""What a backbone's weights are worth for micrographs: a linear probe, a whole search, and how soon heads learn.

The probe is logistic regression on the backbone's last features, averaged over each tile: trained on a fold's training
and validation images, asked on its test images. Demonstration sets are rendered from `DEMO_SEEDS`, which were used for
nothing else; real files keep theirs and get folds from `REAL_SEEDS`.
"""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.search import SCORES
from benchmarks.searching import run_search
from pretraining.packed_weights import add_scores
from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data
from sem_search.records import Cell
from sem_search.search.prepare.data import PreparedData, prepare_data
from sem_search.search.prepare.features import compute_features
from sem_search.search.prepare.network import PreparedNetwork, build_trainer, prepare_network
from sem_search.settings import SearchSettings, build_settings
from sem_search.transfer.backbones import DEFAULT_TILE_PX
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads.training import get_tile_splits

DEMO_SEEDS = (90_001, 90_002, 90_003)
REAL_SEEDS = (0, 1, 2)
PENALTY = 0.1
"""Inverse strength of the probe's penalty; the same for all weights."""

LEARNING_RATE, BATCH_SIZE, EPOCHS = 1e-2, 16, 40
NEAR = 0.95
"""Share of the final accuracy at which a head counts as having learned."""

N_AT_ONCE = 50
"""Tiles whose features become the network's last ones at once."""


def measure_weights(
    backbone: str,
    *,
    weights: str,
    data: str,
    threads: int,
    exclude: str = "",
    tile_px: int = DEFAULT_TILE_PX,
    with_heads: bool = True,
    n_searches: int = 0,
    in_card: bool = False,
) -> dict[str, float]:
    """Return the probe's F, the epochs a head needs, and on demand searches' F, each of each seed and in the mean.

    Args:
        backbone: Its name.
        weights: As in a search.
        data: `demo`, or a folder of real files.
        threads: Of the search.
        exclude: Classes of the folder to leave out, by commas.
        tile_px: Side of a tile.
        with_heads: Whether heads are trained, which takes VGG16 a quarter of an hour.
        n_searches: For how many of the seeds a whole search is run.
        in_card: Whether the card of the shipped weights is to tell the means, too.
    """
    given = {"backbone": backbone, "weights": weights, "threads": threads, "exclude": exclude, "tile_px": tile_px}
    found = _measure_seeds(given, data=data, with_heads=with_heads, n_searches=n_searches)
    means = {name: statistics.mean(values) for name, values in found.items()}
    if in_card:
        add_scores(backbone, data="demo" if data == "demo" else Path(data).name, scores=means)
    key = f"weights.{backbone}.{Path(weights).name.split('.')[0]}.{'demo' if data == 'demo' else 'real'}"
    figures = {f"{key}.{name}": mean for name, mean in means.items()}
    for name, values in found.items():
        figures |= {f"{key}.{name}.{number}": value for number, value in enumerate(values)}
    return figures


def _measure_seeds(given: dict[str, Any], *, data: str, with_heads: bool, n_searches: int) -> dict[str, list[float]]:
    """Return by its name each figure of each seed."""
    found: dict[str, list[float]] = {}
    for number, settings in enumerate(_iter_settings(given, data=data)):
        with settings as one:
            data_of_seed, network = prepare_data(one), prepare_network(one)
            store = compute_features(one, data=data_of_seed, network=network)
            found.setdefault("probe_f", []).append(_probe(data_of_seed, network=network, store=store))
            if with_heads:
                accuracy, epochs = _train_heads(one, data=data_of_seed, network=network, store=store)
                found.setdefault("head_accuracy", []).append(accuracy)
                found.setdefault(f"epochs_to_{NEAR:.0%}", []).append(epochs)
            if number < n_searches:
                found.setdefault("search_test_f", []).append(_search(one))
    return found


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


def _probe(data: PreparedData, *, network: PreparedNetwork, store: FeatureStore) -> float:
    """Return macro F over all test tiles of all folds."""
    features = np.concatenate(
        [
            network.cut.tail.predict_on_batch([array[start : start + N_AT_ONCE] for array in store.arrays]).mean((1, 2))
            for start in range(0, data.tiles.n_tiles, N_AT_ONCE)
        ]
    )
    truth = data.tiles.label_of_tile
    answers = np.full_like(truth, -1)
    for fold in data.folds.folds:
        known = data.tiles.get_tiles_of((*fold.training, *fold.validation))
        asked = data.tiles.get_tiles_of(fold.test)
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=5000))
        answers[asked] = probe.fit(features[known], truth[known]).predict(features[asked])
    return float(f1_score(truth, answers, average="macro"))


def _train_heads(
    settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork, store: FeatureStore
) -> tuple[float, float]:
    """Return the last validation accuracy of heads, and after how many epochs they came near it, mean over folds."""
    trainer = build_trainer(settings.model_dump(), cut=network.cut, tiles=data.tiles, views=[store])
    cell = Cell(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE)
    curves = [
        trainer.train_fold(get_tile_splits(fold, tiles=data.tiles), cell=cell).outcome.curves.validation_accuracy
        for fold in data.folds.folds
    ]
    mean = average_curves(curves)
    return float(mean[-1]), float(1 + np.argmax(mean >= NEAR * mean[-1]))


def average_curves(curves: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return the mean over folds, shape (EPOCHS,); one that ended early, as its head diverged, keeps what it had."""
    mean: NDArray[np.float64] = np.mean(
        [np.pad(curve, (0, EPOCHS - len(curve)), mode="edge") for curve in curves], axis=0
    )
    return mean


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
