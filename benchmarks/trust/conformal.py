"""Do prediction sets cover as promised, and which score gives the smallest?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import beta
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmarks.trust.tables import Table
from sem_search.evaluation.calibration import apply_temperature, fit_temperature
from sem_search.evaluation.conformal import (
    CoverageOf,
    CrossAnswers,
    fit_threshold,
    predict_cross_set,
    predict_sets,
)
from sem_search.evaluation.metrics import combine_tiles

N_NEW = 2000
N_SERVED = 200
"""New images of each study that the sets served are made for, one by one."""
RAPS_PENALTY = 0.05  # per class beyond the first
NEIGHBOUR = 0.7
"""Logits by which a class leads the neighbour that it is predicted as, in the worlds that have neighbours."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """How a made-up network answers."""

    name: str
    n_images: int
    n_classes: int = 10
    strength: float = 4.0
    has_neighbours: bool = False
    overconfidence: float = 1.0
    """Logits are multiplied by this before the softmax: above 1 the network claims too much."""

    def draw(self, n_images: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return probabilities (n_images, n_classes) and labels."""
        labels = np.arange(n_images) % self.n_classes
        logits = rng.normal(size=(n_images, self.n_classes))
        logits[np.arange(n_images), labels] += self.strength
        if self.has_neighbours:
            logits[np.arange(n_images), labels ^ 1] += self.strength - NEIGHBOUR
        return softmax(self.overconfidence * logits, axis=1), labels


ANSWERS = (
    Answers(name="100 images, 83 % right", n_images=100, strength=2.5),
    Answers(name="100, 98 % right", n_images=100),
    Answers(name="100, neighbours", n_images=100, has_neighbours=True),
    Answers(name="100, neighbours, overconfident", n_images=100, has_neighbours=True, overconfidence=3.0),
    Answers(name="40, 4 classes", n_images=40, n_classes=4, strength=2.0),
    Answers(name="20, 4 classes", n_images=20, n_classes=4, strength=1.0),
)

SCORES = ("LAC", "APS", "APS, random", "RAPS")


def simulate_coverage(answers: Answers, *, coverage: float, n_calibrations: int, seed: int = 0) -> dict[str, float]:
    """Return mean coverage and set size on new images, and how often the coverage lies in its Beta interval.

    The share of new images that a threshold covers differs from calibration to calibration (Vovk, ACML 2012).
    """
    rng = np.random.default_rng(seed)
    covered, size, is_inside = [], [], []
    rank = int(np.ceil((answers.n_images + 1) * coverage - 1e-9))
    is_promised = rank <= answers.n_images  # else sets hold all classes
    low, high = beta.interval(0.95, rank, answers.n_images + 1 - rank) if is_promised else (1.0, 1.0)
    for _ in range(n_calibrations):
        probabilities, labels = answers.draw(answers.n_images, rng)
        lowest = fit_threshold(probabilities, labels=labels, coverage=coverage)
        new, new_labels = answers.draw(N_NEW, rng)
        members = predict_sets(new, lowest_probability=lowest)
        by_threshold = float((new[np.arange(N_NEW), new_labels] >= lowest).mean())
        covered.append(float(members[np.arange(N_NEW), new_labels].mean()))
        size.append(float(members.sum(axis=1).mean()))
        is_inside.append(low <= by_threshold <= high)
    return {"coverage": float(np.mean(covered)), "size": float(np.mean(size)), "inside": float(np.mean(is_inside))}


def simulate_scores(answers: Answers, *, coverage: float, n_calibrations: int, seed: int = 0) -> dict[str, float]:
    """Return the mean set size of each score on new images, and its coverage as `... coverage`."""
    rng = np.random.default_rng(seed)
    rank = int(np.ceil((answers.n_images + 1) * coverage - 1e-9))
    found: dict[str, list[float]] = {}
    for _ in range(n_calibrations):
        probabilities, labels = answers.draw(answers.n_images, rng)
        new, new_labels = answers.draw(N_NEW, rng)
        for name in SCORES:
            of_labels = _score(name, probabilities, rng)[np.arange(len(labels)), labels]
            sets = _score(name, new, rng) <= np.sort(of_labels)[min(rank, len(labels)) - 1]
            if name != "APS, random":
                sets[np.arange(N_NEW), new.argmax(axis=1)] = True
            found.setdefault(name, []).append(float(sets.sum(axis=1).mean()))
            found.setdefault(f"{name} coverage", []).append(float(sets[np.arange(N_NEW), new_labels].mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def simulate_ensemble(
    *,
    coverage: float,
    n_studies: int,
    images_per_class: int | Sequence[int] = 10,
    coverage_of: CoverageOf = "images",
    n_features: int = 6,
    seed: int = 0,
) -> dict[str, float]:
    """Return coverage and size of the sets that are served: CV+ over the folds' networks, as `deployment.answering`,
    and the coverage of each class as `class 0`, `class 1` ...

    Five linear discriminants are really trained on 4 classes. Temperature and the answers that sets are compared with
    come from the images that each was not trained on. Of a new image the class is named by the geometric mean of all
    five, and is always in the set.
    """
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(4, n_features))
    covered, sizes = [], []
    for _ in range(n_studies):
        labels = np.repeat(np.arange(4), images_per_class)
        features = centres[labels] + 0.9 * rng.normal(size=(len(labels), n_features))
        new_labels = np.arange(N_SERVED) % 4
        new = centres[new_labels] + 0.9 * rng.normal(size=(N_SERVED, n_features))
        fold = np.arange(len(labels)) % 5
        out_of_fold, of_heads = np.empty((len(labels), 4)), np.empty((5, N_SERVED, 4))
        for number in range(5):
            is_tested = fold == number
            classifier = LinearDiscriminantAnalysis().fit(features[~is_tested], labels[~is_tested])
            out_of_fold[is_tested] = classifier.predict_proba(features[is_tested])
            of_heads[number] = classifier.predict_proba(new)
        temperature = fit_temperature(out_of_fold, labels=labels)
        calibrated = apply_temperature(out_of_fold, temperature=temperature)
        answers = CrossAnswers(
            of_true_class=calibrated[np.arange(len(labels)), labels],
            network_of_image=fold,
            group_of_image=np.arange(len(labels)),
            label_of_image=labels,
        )
        _, together = combine_tiles(of_heads.reshape(-1, 4), image_of_tile=np.tile(np.arange(N_SERVED), 5))
        for image in range(N_SERVED):
            members = predict_cross_set(
                apply_temperature(of_heads[:, image], temperature=temperature),
                answers=answers,
                coverage=coverage,
                most_probable=int(together[image].argmax()),
                coverage_of=coverage_of,
            )
            covered.append(members[new_labels[image]])
            sizes.append(members.sum())
    of_class = np.reshape(covered, (-1, 4)).mean(axis=0)  # the new images' classes come in turn
    return {
        "coverage": float(np.mean(covered)),
        "size": float(np.mean(sizes)),
        **{f"class {label}": float(share) for label, share in enumerate(of_class)},
    }


def print_tables(*, n_studies: int) -> None:
    """Print coverage, set sizes by score, and the coverage of what is served."""
    rows = []
    for answers in ANSWERS:
        for coverage in (0.8, 0.9, 0.95):
            found = simulate_coverage(answers, coverage=coverage, n_calibrations=n_studies)
            rows.append([answers.name, coverage, found["coverage"], found["inside"]])
    Table(
        title="Prediction sets: coverage of new images",
        columns=["calibrated on", "asked", "covered", "coverage inside its interval"],
        rows=rows,
    ).show(percent=True)
    sizes = []
    for answers in ANSWERS[:5]:
        found = simulate_scores(answers, coverage=0.9, n_calibrations=n_studies)
        sizes.append([answers.name, *(found[name] for name in SCORES)])
    Table(title="Mean set size at 90 %", columns=["calibrated on", *SCORES], rows=sizes).show()
    served = []
    for images_per_class in (5, 10, 20):
        for coverage in (0.8, 0.9):
            found = simulate_ensemble(coverage=coverage, n_studies=n_studies, images_per_class=images_per_class)
            served.append(
                [f"4 classes x {images_per_class}", f"{100 * coverage:.0f} %", found["coverage"], found["size"]]
            )
    Table(
        title="What is served: sets over all folds' networks (CV+)",
        columns=["study", "asked", "covered", "mean size"],
        rows=served,
    ).show()
    _show_classes(n_studies=n_studies)


def _show_classes(*, n_studies: int) -> None:
    """Print what sets cover of each class, with the coverage of all images and with that of each class."""
    kinds: tuple[CoverageOf, ...] = ("images", "class")
    rows = []
    for sizes in ((5, 5, 5, 5), (10, 10, 10, 10), (20, 20, 20, 20), (40, 40, 40, 40), (40, 40, 10, 10)):
        for kind in kinds:
            found = simulate_ensemble(coverage=0.9, n_studies=n_studies, images_per_class=sizes, coverage_of=kind)
            of_class = [f"{100 * found[f'class {label}']:.1f}" for label in range(4)]
            rows.append([", ".join(map(str, sizes)), kind, *of_class, f"{found['size']:.2f}"])
    Table(
        title="Coverage of each class at 90 % asked, in per cent, of all images or of each class",
        columns=["images of each class", "coverage of", *(f"class {label}" for label in range(1, 5)), "mean size"],
        rows=rows,
    ).show()


def _score(name: str, probabilities: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how unlike the truth each class looks: LAC (Sadinle 2019), APS (Romano 2020), RAPS (Angelopoulos 2021)."""
    if name == "LAC":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sums = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    if name == "RAPS":
        sums = sums + RAPS_PENALTY * np.arange(probabilities.shape[1])
    scores = np.empty(probabilities.shape)
    np.put_along_axis(scores, order, sums, axis=1)
    if name == "APS, random":
        scores -= rng.random((len(probabilities), 1)) * probabilities
    return scores
