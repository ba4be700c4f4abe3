"""How often do equal classifiers seem different, and do intervals of differences hold the true difference?"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmarks.trust.tables import Table
from benchmarks.trust.worlds import World, compute_truth, draw_networks, draw_paired_answers
from sem_search.evaluation.comparison import Comparison, compare_answers, compute_fold_test

EQUAL = (
    (World(name="10 classes x 10 images", n_classes=10, images_per_class=10, strength=6.0, neighbour=3.5), 0.8),
    (World(name="10 x 10, nearly perfect", n_classes=10, images_per_class=10, strength=7.0, neighbour=3.0), 0.8),
    (World(name="5 x 30", n_classes=5, images_per_class=30, tiles_per_image=12), 0.7),
    (World(name="4 x 8, poor", n_classes=4, images_per_class=8, n_folds=4, strength=2.2, neighbour=0.8), 0.5),
    (World(name="3 x 5", n_classes=3, images_per_class=5, tiles_per_image=12, strength=3.5, neighbour=0.8), 0.5),
    (World(name="5 x 20 in pairs", n_classes=5, images_per_class=20, images_per_group=2, likeness=0.8), 0.5),
    (World(name="5 x 10, nothing in common", n_classes=5, images_per_class=10), 0.0),
)
"""Studies, and the share of the variance between images that both classifiers have in common."""

BETTER_BY = 0.7
"""In logits: the classifier that is really better, for the last column."""

P_VALUE = 0.05
EDGE = 1e-9


def simulate_equal(world: World, *, likeness: float, n_studies: int, seed: int = 0) -> dict[str, float]:
    """Return how often two equal classifiers are told apart, by the interval and by McNemar's test.

    `held`: how often the interval holds the true difference from a classifier that is really better; `found`: how often
    it tells the two apart then.
    """
    rng = np.random.default_rng(seed)
    better = replace(world, strength=world.strength + BETTER_BY)
    counts: dict[str, list[bool]] = {name: [] for name in ("interval", "mcnemar", "held", "found")}
    for number in range(n_studies):
        networks = draw_networks(world, rng)
        same = _compare([world, world], networks, likeness=likeness, rng=rng, seed=number)
        counts["interval"].append(same.f_measure.is_clear)
        counts["mcnemar"].append(same.image_test.p_value <= P_VALUE)
        other = _compare([better, world], networks, likeness=likeness, rng=rng, seed=number)
        true = float(compute_truth(better, networks).f_measure - compute_truth(world, networks).f_measure)
        counts["held"].append(other.f_measure.low - EDGE <= true <= other.f_measure.high + EDGE)
        counts["found"].append(other.f_measure.is_clear)
    return {name: float(np.mean(values)) for name, values in counts.items()}


def simulate_fold_test(*, n_studies: int, images_per_class: int = 10, seed: int = 0) -> dict[str, float]:
    """Return how often equal classifiers, really trained, are told apart by tests over five folds.

    Two linear discriminants on different features of equal worth; `plain` is Student's t-test over the folds.
    """
    rng = np.random.default_rng(seed)
    corrected: list[bool] = []
    plain: list[bool] = []
    for _ in range(n_studies):
        differences = _train_twice(images_per_class, rng=rng)
        for found, share in ((corrected, 1 / 4), (plain, 1e-9)):
            p_value = compute_fold_test(differences, test_share=share).p_value
            found.append(p_value is not None and p_value <= P_VALUE)
    return {"corrected": float(np.mean(corrected)), "plain": float(np.mean(plain))}


def print_tables(*, n_studies: int) -> None:
    """Print false alarms, coverage and power."""
    rows = []
    for world, likeness in EQUAL:
        found = simulate_equal(world, likeness=likeness, n_studies=n_studies)
        rows.append([world.name, *(found[name] for name in ("interval", "mcnemar", "held", "found"))])
    Table(
        title="Equal classifiers told apart, and better ones found (macro F)",
        columns=["study", "interval leaves out 0", "McNemar p <= 0.05", "true difference held", "better one found"],
        rows=rows,
    ).show(percent=True)
    rows = []
    for images_per_class in (5, 10, 20):
        found = simulate_fold_test(n_studies=n_studies, images_per_class=images_per_class)
        rows.append([f"4 classes x {images_per_class}", found["corrected"], found["plain"]])
    Table(
        title="Equal classifiers, really trained, told apart by tests over folds",
        columns=["study", "corrected t-test p <= 0.05", "Student's t-test p <= 0.05"],
        rows=rows,
    ).show(percent=True)


def _compare(
    worlds: list[World],
    networks: NDArray[np.float64],
    *,
    likeness: float,
    rng: np.random.Generator,
    seed: int,
) -> Comparison:
    """Return the comparison of two sets of answers to the same new images."""
    first, second = draw_paired_answers(worlds, [networks, networks], likeness=likeness, rng=rng)
    names = tuple(str(label) for label in range(worlds[0].n_classes))
    return compare_answers(first, second, class_names=names, n_resamples=400, seed=seed)


def _train_twice(images_per_class: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the differences in accuracy, fold by fold, of two classifiers of equal worth, shape (5,)."""
    labels = np.repeat(np.arange(4), images_per_class)
    fold = np.arange(len(labels)) % 5
    accuracies = np.empty((2, 5))
    for classifier in range(2):
        centres = 1.2 * np.eye(4)
        features = centres[labels] + rng.normal(size=(len(labels), 4))
        for number in range(5):
            is_tested = fold == number
            model = LinearDiscriminantAnalysis().fit(features[~is_tested], labels[~is_tested])
            accuracies[classifier, number] = model.score(features[is_tested], labels[is_tested])
    return accuracies[0] - accuracies[1]
