"""Are exchanged labels found, and are right ones left alone?

The pictures are those of the demonstration set, and more of the same materials. What the frozen part of a network says
of them is kept, and logistic regression is fitted anew to the exchanged labels, fold by fold. Three seconds a study of
100 images.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.rendered_lots import build_network
from benchmarks.trust.tables import Table
from sem_search.evaluation.label_errors import LabelDoubts, find_label_doubts
from sem_search.evaluation.metrics import combine_tiles
from sem_search.micrographs.demo import DEMO_SIZES
from sem_search.micrographs.rendering.materials import MATERIALS, Material
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.micrographs.tiles import FloatTiles, TileGrid, cut_tiles
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.seeds import derive_seed
from sem_search.transfer.features import embed_stored_features, get_features
from sem_search.transfer.heads.linear import USUAL_STRENGTH, fit_linear
from sem_search.transfer.runtime import configure_tensorflow

SIZE = DEMO_SIZES["small"]
IMAGES_PER_CLASS = (5, 10, 20)
SHARES = (0.0, 0.02, 0.05, 0.1)
CELLULOSES = tuple(index for index, material in enumerate(MATERIALS) if material.name.startswith("cellulose"))
"""Classes that are easily confused."""
RECALL = 0.6
"""Up to where in the ranking its precision is looked at."""
N_FOLDS = 5

FloatMatrix = NDArray[np.float64]
IntVector = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Pictures of some materials as a network sees them."""

    features: NDArray[np.float64]
    """Shape (n_classes, n_images, n_tiles, n_features)."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study whose labels were partly exchanged."""

    probabilities: FloatMatrix
    """As the folds' heads answered, shape (n_images, n_classes)."""
    labels: IntVector
    """As they were given, shape (n_images,)."""
    is_exchanged: NDArray[np.bool_]

    def find_doubts(self) -> LabelDoubts:
        """Return what the package finds."""
        return find_label_doubts(self.probabilities, labels=self.labels)


def embed_materials(
    network: PreparedNetwork, *, n_images: int, materials: tuple[Material, ...] = MATERIALS, tile_px: int = 224
) -> Pool:
    """Render pictures of each material and return what the network says of their tiles; the first five of each are
    those of the small demonstration set."""
    grid = TileGrid(size_px=tile_px, stride_px=tile_px)

    def iter_tiles() -> Iterator[FloatTiles]:
        for material in materials:
            for number in range(n_images):
                seed = derive_seed(0, material.name, number)
                scan = render_scan(material, height_px=SIZE.scan_height_px, width_px=SIZE.scan_width_px, seed=seed)
                yield cut_tiles(scan, grid=grid)

    rows, columns = grid.count(SIZE.scan_height_px, SIZE.scan_width_px)
    with tempfile.TemporaryDirectory() as folder:
        store = get_features(
            network.cut,
            tiles=iter_tiles,
            n_tiles=len(materials) * n_images * rows * columns,
            backbone=network.backbone,
            content_key="label errors",
            cache_folder=Path(folder),
        )
        features = embed_stored_features(store.arrays)
    return Pool(features=features.reshape(len(materials), n_images, rows * columns, -1))


def draw_study(
    pool: Pool, *, images_per_class: int, share: float, rng: np.random.Generator, among: Sequence[int] = ()
) -> Study:
    """Draw images of each class, exchange a share of the labels, and let a linear head answer each fold.

    Args:
        pool: Of which images are drawn.
        images_per_class: As many of each.
        share: Of all labels.
        rng: Draws and exchanges.
        among: Classes whose labels are exchanged with one another; all by default.
    """
    n_classes, n_pool, n_tiles, _ = pool.features.shape
    drawn = np.stack([rng.permutation(n_pool)[:images_per_class] for _ in range(n_classes)])
    features = np.concatenate([pool.features[label, images] for label, images in enumerate(drawn)])
    truth = np.repeat(np.arange(n_classes), images_per_class)
    labels, open_to = truth.copy(), np.isin(truth, among or np.arange(n_classes))
    labels[open_to] = exchange_labels(truth[open_to], n_exchanged=round(share * len(truth)), rng=rng)
    fold = _deal_folds(labels, rng=rng)
    probabilities = np.empty((len(truth), n_classes))
    for number in range(N_FOLDS):
        is_tested = fold == number
        solution = fit_linear(
            features[~is_tested].reshape(-1, features.shape[-1]),
            labels=np.repeat(labels[~is_tested], n_tiles),
            groups=np.repeat(np.flatnonzero(~is_tested).astype(str), n_tiles),
            n_classes=n_classes,
            strength=USUAL_STRENGTH,
        )
        rows = solution.predict(features[is_tested].reshape(-1, features.shape[-1]))
        _, probabilities[is_tested] = combine_tiles(
            rows, image_of_tile=np.repeat(np.arange(int(is_tested.sum())), n_tiles)
        )
    return Study(probabilities=probabilities, labels=labels, is_exchanged=labels != truth)


def exchange_labels(labels: IntVector, *, n_exchanged: int, rng: np.random.Generator) -> IntVector:
    """Return the labels with so many of them exchanged among one another, none of these for its own; 1 counts as 0."""
    exchanged = labels.copy()
    while n_exchanged > 1:
        images = rng.permutation(len(labels))[:n_exchanged]
        given = rng.permutation(labels[images])
        if (given != labels[images]).all():
            exchanged[images] = given
            break
    return exchanged


def compute_precision_at(recall: float, *, ranked: IntVector, is_exchanged: NDArray[np.bool_]) -> float:
    """Return the precision of the first images of a ranking that hold this share of the exchanged labels."""
    hits = is_exchanged[ranked].cumsum()
    depth = int(np.searchsorted(hits, np.ceil(recall * is_exchanged.sum() - 1e-9))) + 1
    return float(hits[depth - 1] / depth)


def simulate_label_errors(
    pool: Pool, *, images_per_class: int, share: float, n_studies: int, among: Sequence[int] = (), seed: int = 0
) -> dict[str, float]:
    """Return how well exchanged labels are found, means over studies.

    `precision` and `recall` are those of the doubtful labels; `precision at recall` is that of the doubtful labels in
    their order, with the others after them, down to `RECALL`; `beyond chance` is how often more labels are doubtful
    than chance would show.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {}
    for _ in range(n_studies):
        study = draw_study(pool, images_per_class=images_per_class, share=share, rng=rng, among=among)
        for name, value in _judge(study).items():
            found.setdefault(name, []).append(value)
    return {name: float(np.nanmean(values)) if not np.isnan(values).all() else np.nan for name, values in found.items()}


def print_tables(*, n_studies: int, weights: str = "auto") -> None:
    """Print how well MobileNetV2 finds exchanged labels of rendered pictures, and how often it doubts right ones."""
    configure_tensorflow(threads=1, seed=0)
    network = build_network("mobilenet_v2", weights=weights, tile_px=224)
    show_table(embed_materials(network, n_images=2 * max(IMAGES_PER_CLASS)), n_studies=n_studies)


def show_table(pool: Pool, *, n_studies: int) -> None:
    """Print what is found in studies of this pool's ten materials."""
    rows: list[list[str | float]] = []
    cases = [(n, share, ()) for n in IMAGES_PER_CLASS for share in SHARES if 10 * n * share != 1]
    for n, share, among in [*cases, *((10, share, CELLULOSES) for share in SHARES[1:])]:
        found = simulate_label_errors(pool, images_per_class=n, share=share, n_studies=n_studies, among=among)
        rows.append([f"10 x {n}, {share:.0%}{' among celluloses' if among else ''}", *found.values()])
    Table(title="Exchanged labels found by MobileNetV2", columns=["images, labels exchanged", *found], rows=rows).show(
        percent=True
    )


def _deal_folds(labels: IntVector, *, rng: np.random.Generator) -> IntVector:
    """Return a fold for each image, each class dealt evenly."""
    fold = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        fold[own] = np.arange(len(own)) % N_FOLDS
    return fold


def _judge(study: Study) -> dict[str, float]:
    doubts, n_exchanged = study.find_doubts(), int(study.is_exchanged.sum())
    is_doubtful = np.isin(np.arange(len(study.labels)), doubts.ranked)
    n_hits = int((is_doubtful & study.is_exchanged).sum())
    rest = np.flatnonzero(~is_doubtful)
    ranked = np.concatenate([doubts.ranked, rest[np.argsort(doubts.self_confidence[rest], kind="stable")]])
    return {
        "accuracy": float((study.probabilities.argmax(axis=1) == study.labels).mean()),
        "doubtful": len(doubts.ranked) / len(study.labels),
        "by chance": doubts.n_groups_by_chance.value / len(study.labels),
        "precision": n_hits / len(doubts.ranked) if n_exchanged and len(doubts.ranked) else np.nan,
        "recall": n_hits / n_exchanged if n_exchanged else np.nan,
        "precision at recall": compute_precision_at(RECALL, ranked=ranked, is_exchanged=study.is_exchanged)
        if n_exchanged
        else np.nan,
        "estimated share": doubts.noise.share.value,
        "held": float(doubts.noise.share.low <= n_exchanged / len(study.labels) <= doubts.noise.share.high),
        "beyond chance": float(doubts.is_beyond_chance),
    }
