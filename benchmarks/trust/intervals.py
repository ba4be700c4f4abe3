"""Do 95 % intervals hold the true figure in 95 of 100 studies?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmarks.trust.tables import Table
from benchmarks.trust.worlds import World, compute_truth, draw_answers, draw_networks
from sem_search.evaluation.answers import AnswerTable, Figures, compute_figures, compute_figures_of
from sem_search.evaluation.intervals import SplitIntervals, compute_intervals
from sem_search.evaluation.resampling import resample_figures
from sem_search.evaluation.statistics import Interval

WORLDS = (
    World(name="10 classes x 10 images, good", n_classes=10, images_per_class=10, strength=6.0, neighbour=3.5),
    World(name="10 x 10, fair", n_classes=10, images_per_class=10, strength=4.5, neighbour=2.8, tile_spread=1.2),
    World(name="10 x 10, nearly perfect", n_classes=10, images_per_class=10, strength=7.0, neighbour=3.0),
    World(name="10 x 10, images unlike", n_classes=10, images_per_class=10, neighbour=2.2, tile_spread=0.6),
    World(name="5 x 30", n_classes=5, images_per_class=30, tiles_per_image=12),
    World(name="4 x 8, poor", n_classes=4, images_per_class=8, n_folds=4, strength=2.2, neighbour=0.8, tile_spread=1.2),
    World(name="3 x 5", n_classes=3, images_per_class=5, tiles_per_image=12, strength=3.5, neighbour=0.8),
    World(name="5 x 10, networks differ", n_classes=5, images_per_class=10, neighbour=1.0, network_spread=0.6),
    World(name="5 x 20 in pairs", n_classes=5, images_per_class=20, images_per_group=2, likeness=0.8),
)

FIGURES = ("f_measure", "tile_accuracy", "image_f_measure", "image_accuracy")
INDICES = ("f_measure", "precision", "recall", "one_vs_rest_accuracy")
EDGE = 1e-9

N_COMPARED = 60
"""Most studies for percentile and BCa intervals: each image left out in turn costs ten times as much."""


def simulate_coverage(
    world: World, *, n_studies: int, n_resamples: int = 400, seed: int = 0, is_compared: bool = False
) -> dict[str, float]:
    """Return the share of studies whose interval holds the true figure, by figure; of classes the mean over classes.

    `is_compared` adds percentile and BCa intervals of the same bootstrap, which take longer.
    """
    rng = np.random.default_rng(seed)
    held: dict[str, list[float]] = {}
    for number in range(n_studies):
        networks = draw_networks(world, rng)
        table = draw_answers(world, networks, rng)
        truth = compute_truth(world, networks)
        intervals = compute_intervals(table, n_resamples=n_resamples, seed=number)
        for name, value in _check_intervals(intervals, truth).items():
            held.setdefault(name, []).append(value)
        others = _check_percentiles(table, truth, n_resamples=n_resamples, seed=number) if is_compared else {}
        for name, value in others.items():
            held.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in held.items()}


def simulate_trained(*, n_studies: int, n_new: int = 400, seed: int = 0) -> dict[str, float]:
    """Return the same for classifiers that are really trained: linear discriminants, 5 folds, 4 classes x 10 images.

    The truth is what the five classifiers of the study score on new images; `anew`: what classifiers of other training
    images score on average, which no interval from one study is meant for.
    """
    rng = np.random.default_rng(seed)
    shape = World(name="trained", n_classes=4, images_per_class=10, tiles_per_image=8)
    centres = 1.1 * np.random.default_rng(7).normal(size=(4, 6))
    results = [_train_study(shape, centres, rng=rng, n_new=n_new) for _ in range(n_studies)]
    anew = float(np.mean([truth.f_measure for _, truth in results]))
    held, held_anew = [], []
    for number, (table, truth) in enumerate(results):
        interval = compute_intervals(table, n_resamples=400, seed=number).f_measure
        held.append(_holds(interval, float(truth.f_measure)))
        held_anew.append(_holds(interval, anew))
    return {"f_measure": float(np.mean(held)), "f_measure, anew": float(np.mean(held_anew))}


def print_tables(*, n_studies: int) -> None:
    """Print the coverage of all worlds."""
    rows, compared = [], []
    for world in WORLDS:
        found = simulate_coverage(world, n_studies=n_studies)
        rows.append([world.name, *(found[name] for name in FIGURES), *(found[f"class {name}"] for name in INDICES)])
        others = simulate_coverage(world, n_studies=min(n_studies, N_COMPARED), is_compared=True)
        compared.append(
            [world.name]
            + [others[name + kind] for name in ("f_measure", "image_accuracy") for kind in ("", " percentile", " BCa")]
        )
    names = [
        "macro F",
        "tile accuracy",
        "image F",
        "image accuracy",
        "class F",
        "precision",
        "recall",
        "one-vs-rest accuracy",
    ]
    Table(title="Coverage of 95 % intervals", columns=["study", *names], rows=rows).show(percent=True)
    kinds = [f"{name}, {kind}" for name in ("macro F", "image accuracy") for kind in ("score", "percentile", "BCa")]
    Table(title="Coverage by kind of interval", columns=["study", *kinds], rows=compared).show(percent=True)
    trained = simulate_trained(n_studies=n_studies)
    Table(
        title="Classifiers really trained (macro F)",
        columns=["these classifiers", "classifiers trained anew"],
        rows=[[trained["f_measure"], trained["f_measure, anew"]]],
    ).show(percent=True)


def _check_intervals(intervals: SplitIntervals, truth: Figures) -> dict[str, float]:
    """Return 1 where an interval holds the truth, for classes the share that does."""
    held = {name: _holds(getattr(intervals, name), float(getattr(truth, name))) for name in FIGURES}
    for name in INDICES:
        values = getattr(truth.of_class, name)
        held[f"class {name}"] = float(
            np.mean(
                [_holds(getattr(entry, name), value) for entry, value in zip(intervals.of_class, values, strict=True)]
            )
        )
    return held


def _check_percentiles(table: AnswerTable, truth: Figures, *, n_resamples: int, seed: int) -> dict[str, float]:
    """Return the same for percentile and BCa intervals of the same bootstrap (Efron 1987)."""
    (resampled,) = resample_figures([table], n_resamples=n_resamples, seed=seed)
    figures, held = compute_figures(table), {}
    for name in ("f_measure", "image_accuracy"):
        drawn, value, true = getattr(resampled, name), float(getattr(figures, name)), float(getattr(truth, name))
        low, high = np.quantile(drawn, [0.025, 0.975])
        held[f"{name} percentile"] = float(low - EDGE <= true <= high + EDGE)
        low, high = np.quantile(drawn, _compute_bca_levels(drawn, value, _leave_images_out(table, name)))
        held[f"{name} BCa"] = float(low - EDGE <= true <= high + EDGE)
    return held


def _compute_bca_levels(drawn: NDArray[np.float64], value: float, left_out: NDArray[np.float64]) -> Sequence[float]:
    """Return the quantiles that BCa takes instead of 2.5 % and 97.5 %."""
    below = np.clip(((drawn < value).mean() + (drawn <= value).mean()) / 2, 1e-3, 1 - 1e-3)
    bias, steps = norm.ppf(below), left_out.mean() - left_out
    acceleration = (steps**3).sum() / (6 * (steps**2).sum() ** 1.5 + 1e-12)
    shifted = [bias + z for z in norm.ppf([0.025, 0.975])]
    return [float(norm.cdf(bias + z / (1 - acceleration * z))) for z in shifted]


def _leave_images_out(table: AnswerTable, name: str) -> NDArray[np.float64]:
    """Return the figure without each image in turn."""
    values = []
    for row in range(table.n_rows):
        kept = np.arange(table.n_rows) != row
        part = replace(
            table,
            label_of_row=table.label_of_row[kept],
            fold_of_row=table.fold_of_row[kept],
            tile_counts=table.tile_counts[kept],
            answer_of_row=table.answer_of_row[kept],
        )
        values.append(float(getattr(compute_figures(part), name)))
    return np.array(values)


def _train_study(
    shape: World, centres: NDArray[np.float64], *, rng: np.random.Generator, n_new: int
) -> tuple[AnswerTable, Figures]:
    """Return the out-of-fold answers of trained classifiers, and their figures on new images."""
    labels, image = shape.labels, np.repeat(np.arange(len(shape.labels)), shape.tiles_per_image)
    tiles = _draw_tiles(labels, centres, n_tiles=shape.tiles_per_image, rng=rng)
    new_labels = np.repeat(np.arange(shape.n_classes), n_new)
    new = _draw_tiles(new_labels, centres, n_tiles=1, rng=rng)
    counts = np.zeros((len(labels), shape.n_classes), dtype=np.int64)
    confusions = np.zeros((shape.n_folds, shape.n_classes, shape.n_classes))
    for fold in range(shape.n_folds):
        is_tested = (shape.folds == fold)[image]
        classifier = LinearDiscriminantAnalysis().fit(tiles[~is_tested], labels[image][~is_tested])
        np.add.at(counts, (image[is_tested], classifier.predict(tiles[is_tested])), 1)
        np.add.at(confusions[fold], (new_labels, classifier.predict(new)), 1)
    table = AnswerTable(
        n_classes=shape.n_classes,
        image_of_row=np.arange(len(labels)),
        label_of_row=labels,
        fold_of_row=shape.folds,
        group_of_row=np.arange(len(labels)),
        tile_counts=counts,
        answer_of_row=counts.argmax(axis=1),
    )
    return table, compute_figures_of(confusions, image_confusion=confusions.sum(axis=0))


def _draw_tiles(
    labels: NDArray[np.int64], centres: NDArray[np.float64], *, n_tiles: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return features of tiles, shape (n_images * n_tiles, n_features)."""
    images = centres[labels] + 0.7 * rng.normal(size=(len(labels), centres.shape[1]))
    tiles = np.repeat(images, n_tiles, axis=0)
    return tiles + 0.7 * rng.normal(size=tiles.shape)


def _holds(interval: Interval, true: float) -> bool:
    """Return whether the interval holds the truth."""
    return interval.low - EDGE <= true <= interval.high + EDGE
