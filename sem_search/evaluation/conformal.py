"""Prediction sets: lists of classes that hold the true one as often as was asked for.

A class is in the set if its probability reaches a threshold that was calibrated on images which the networks were not
trained on. So the true class of a new image of the same kind is missed in at most a share `1 - coverage` of cases,
however good the network is (split conformal prediction: Vovk, Gammerman and Shafer 2005; this score, "LAC":
Sadinle, Lei and Wasserman, J. Am. Stat. Assoc. 114 (2019) 223). A poor network gets large sets, not wrong ones. The
most probable class is always in its set. Scores compared: `docs/trust.md`.

Images of one group share the weight of one (hierarchical conformal prediction: Lee, Barber and Willett 2023, equation
3). Where every image is a group of its own this is the usual quantile, the ceil((n + 1) coverage)-th of n.

The fold networks that answer a new image together were each judged on their own fold only. To make a common set, a new
image is compared with each calibration image in the answer of that image's network (cross-validation+: Barber, Candès,
Ramdas and Tibshirani, Ann. Stat. 49 (2021) 486; for classes: Romano, Sesia and Candès, NeurIPS 2020, equation 9).
Guaranteed is then 2 x coverage - 1; in practice they cover as asked, or more.

The coverage holds on average over images like those calibrated on, with their mix of classes; not for each class, nor
for materials that were never seen. Sets that cover each class as asked compare a class with the calibration images of
that class alone (class-conditional, or Mondrian: Vovk, Gammerman and Shafer 2005, section 4.5). A class with too few of
them is in every set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sem_search.evaluation.metrics import check_finite, predict_classes
from sem_search.evaluation.statistics import LEVEL, ROUNDING
from sem_search.records import FloatMatrix, FloatVector, IntVector

BoolMatrix = NDArray[np.bool_]
CoverageOf = Literal["images", "class"]
"""Whether the coverage asked for is that of all images together, or of the images of each class."""


@dataclass(frozen=True, kw_only=True)
class CrossAnswers:
    """What the fold networks answered to the images calibrated on, each image by the one that was not trained on it."""

    of_true_class: FloatVector
    """Probability of the true class, shape (n_images,)."""
    network_of_image: IntVector
    """Which network answered, 0 to n_networks - 1, shape (n_images,)."""
    group_of_image: IntVector
    """Images of one group count as one together, shape (n_images,)."""
    label_of_image: IntVector | None = None
    """True classes, shape (n_images,); None in a model that was packed before these were recorded."""

    @property
    def n_images(self) -> int:
        """Images calibrated on."""
        return len(self.of_true_class)

    @property
    def n_groups(self) -> int:
        """Groups of images calibrated on: what counts as independent."""
        return len(np.unique(self.group_of_image))

    def is_attainable(self, coverage: float) -> bool:
        """Return whether there are enough groups to promise this coverage by less than all classes."""
        return self.n_groups >= compute_groups_needed(coverage)

    def get_labels(self) -> IntVector:
        """Return the true classes, shape (n_images,).

        Raises:
            ValueError: They are not known.
        """
        if self.label_of_image is None:
            raise ValueError("The classes of the images calibrated on are not known.")
        return self.label_of_image

    def count_groups_of_class(self, n_classes: int) -> IntVector:
        """Return the groups that hold images of each class, shape (n_classes,); ValueError as `get_labels`."""
        pairs = np.unique(self.group_of_image * n_classes + self.get_labels())
        return np.bincount(pairs % n_classes, minlength=n_classes).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class SetScores:
    """What prediction sets came to on images that they were not calibrated on."""

    n_images: int
    coverage: float
    """Share of images whose set holds the true class."""
    coverage_interval: tuple[float, float]
    """95 % interval of that share, from the number of images (Clopper and Pearson 1934)."""
    coverage_of_class: FloatVector
    """The same per class, shape (n_classes,); NaN for a class without images. Not promised, but worth a look."""
    mean_size: float
    """Classes in a set, on average: small is informative."""
    share_single: float
    """Share of images whose set holds one class alone."""

    @property
    def least_covered(self) -> int:
        """The class whose images are covered least; of equals the first."""
        return int(np.nanargmin(self.coverage_of_class))


@dataclass(frozen=True, kw_only=True)
class RiskCoverage:
    """What is gained by leaving the least confident images to a person (Geifman and El-Yaniv, NeurIPS 2017)."""

    coverage: FloatVector
    """Share of images answered, ascending, one point per confidence that occurs, shape (n_points,)."""
    risk: FloatVector
    """Share of the answered that are wrong, shape (n_points,)."""
    lowest_confidence: FloatVector
    """An image is answered from this confidence on, shape (n_points,)."""
    area: float
    """Mean risk over the coverages: low where the wrong answers are the hesitant ones."""
    area_of_perfect_order: float
    """The least area that answers with this accuracy allow."""

    def get_coverage_at(self, risk: float) -> float:
        """Return the largest share of images that can be answered with at most this share of them wrong."""
        allowed = self.coverage[self.risk <= risk]
        return float(allowed.max()) if len(allowed) else 0.0


def fit_threshold(
    probabilities: FloatMatrix, *, labels: IntVector, coverage: float, group_of_row: Sequence[object] | None = None
) -> float:
    """Return the lowest probability of a class in a set, so that sets cover as asked, calibrated on these answers.

    It is 0 where there are too few images: then a set holds all classes, the only one that is sure to cover.

    Args:
        probabilities: One row per image, shape (n_images, n_classes), from networks that were not trained on it.
        labels: True classes, shape (n_images,).
        coverage: Share of new images whose set shall hold the true class, in (0, 1).
        group_of_row: Which group each image belongs to; by default each is one of its own.

    Raises:
        ValueError: The coverage is not in (0, 1), or answers are not finite.
    """
    _check_coverage(coverage)
    check_finite(probabilities)
    groups = np.arange(len(labels)) if group_of_row is None else np.asarray(group_of_row)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    of_true_class = probabilities[np.arange(len(labels)), labels]
    order = np.argsort(-of_true_class, kind="stable")
    covered = np.cumsum(1.0 / sizes[group[order]]) / (len(sizes) + 1)  # a new group has a weight, too
    enough = np.flatnonzero(covered >= coverage - ROUNDING)
    return float(of_true_class[order[enough[0]]]) if len(enough) else 0.0


def predict_sets(probabilities: FloatMatrix, *, lowest_probability: float) -> BoolMatrix:
    """Return which classes are in the set of each image, shape (n_images, n_classes).

    The most probable class is always in it.
    """
    sets: BoolMatrix = probabilities >= lowest_probability
    sets[np.arange(len(probabilities)), predict_classes(probabilities)] = True
    return sets


def predict_cross_set(
    probabilities: FloatMatrix,
    *,
    answers: CrossAnswers,
    coverage: float,
    most_probable: int,
    coverage_of: CoverageOf = "images",
) -> BoolMatrix:
    """Return which classes are in the set of one image, shape (n_classes,).

    Args:
        probabilities: What each network answers to the image, shape (n_networks, n_classes).
        answers: What they answered to the images calibrated on.
        coverage: Share of new images whose set shall hold the true class, in (0, 1).
        most_probable: The class that is named; it is always in the set.
        coverage_of: `class` compares each class with the images of that class alone: one with fewer groups than
            `compute_groups_needed` is in every set.

    Raises:
        ValueError: The coverage is not in (0, 1), or the classes of the images calibrated on, which `class` needs, are
            missing.
    """
    _check_coverage(coverage)
    is_surer = answers.of_true_class[:, None] > probabilities[answers.network_of_image]
    n_classes = probabilities.shape[1]
    n_groups: IntVector | int = answers.n_groups
    groups = answers.group_of_image
    if coverage_of == "class":
        labels = answers.get_labels()
        n_groups = answers.count_groups_of_class(n_classes)
        is_surer &= labels[:, None] == np.arange(n_classes)
        groups = groups * n_classes + labels  # the images of one class in a group
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weight_surer = (is_surer / sizes[group][:, None]).sum(axis=0)
    members: BoolMatrix = weight_surer < coverage * (n_groups + 1) - ROUNDING
    members[most_probable] = True
    return members


def compute_groups_needed(coverage: float) -> int:
    """Return the fewest groups with which a coverage can be promised: n / (n + 1) must reach it.

    Raises:
        ValueError: The coverage is not in (0, 1).
    """
    _check_coverage(coverage)
    return math.ceil(coverage / (1 - coverage) - ROUNDING)


def cross_predict_sets(
    probabilities: FloatMatrix,
    *,
    labels: IntVector,
    coverage: float,
    part_of_row: IntVector,
    group_of_row: Sequence[object] | None = None,
) -> BoolMatrix:
    """Return the set of each image under the rule calibrated on all other parts, shape (n_images, n_classes).

    Args:
        probabilities: Shape (n_images, n_classes).
        labels: True classes, shape (n_images,).
        coverage: In (0, 1).
        part_of_row: The fold of each image, shape (n_images,), two or more of them.
        group_of_row: As in `fit_threshold`; no group may lie in two parts.

    Raises:
        ValueError: The coverage is not in (0, 1), or answers are not finite.
    """
    groups = np.arange(len(labels)) if group_of_row is None else np.asarray(group_of_row)
    sets = np.zeros(probabilities.shape, dtype=np.bool_)
    for part in np.unique(part_of_row):
        is_judged = part_of_row == part
        lowest = fit_threshold(
            probabilities[~is_judged], labels=labels[~is_judged], coverage=coverage, group_of_row=groups[~is_judged]
        )
        sets[is_judged] = predict_sets(probabilities[is_judged], lowest_probability=lowest)
    return sets


def compute_set_scores(sets: BoolMatrix, *, labels: IntVector) -> SetScores:
    """Return how often these sets hold the true class, and how large they are.

    Args:
        sets: Shape (n_images, n_classes).
        labels: True classes, shape (n_images,).
    """
    from scipy.stats import binomtest  # here, because a server only makes sets

    is_covered = sets[np.arange(len(labels)), labels]
    sizes, n_classes = sets.sum(axis=1), sets.shape[1]
    n_of_class = np.bincount(labels, minlength=n_classes)
    n_covered = np.bincount(labels, weights=is_covered, minlength=n_classes)
    interval = binomtest(int(is_covered.sum()), len(labels)).proportion_ci(LEVEL, method="exact")
    return SetScores(
        n_images=len(labels),
        coverage=float(is_covered.mean()),
        coverage_interval=(float(interval.low), float(interval.high)),
        coverage_of_class=np.divide(n_covered, n_of_class, out=np.full(n_classes, np.nan), where=n_of_class > 0),
        mean_size=float(sizes.mean()),
        share_single=float((sizes == 1).mean()),
    )


def compute_risk_coverage(probabilities: FloatMatrix, *, labels: IntVector) -> RiskCoverage:
    """Return the share of wrong answers when only the most confident images are answered.

    Args:
        probabilities: One row per image, shape (n_images, n_classes).
        labels: True classes, shape (n_images,).

    Raises:
        ValueError: Answers are not finite.
    """
    check_finite(probabilities)
    confidence = probabilities.max(axis=1)
    is_wrong = predict_classes(probabilities) != labels
    levels, point_of_row = np.unique(-confidence, return_inverse=True)
    n_answered = np.bincount(point_of_row).cumsum()
    risk = np.bincount(point_of_row, weights=is_wrong).cumsum() / n_answered
    coverage = n_answered / len(labels)
    return RiskCoverage(
        coverage=coverage,
        risk=risk,
        lowest_confidence=-levels,
        area=float(np.diff(coverage, prepend=0.0) @ risk),
        area_of_perfect_order=float(np.mean(np.sort(is_wrong).cumsum() / np.arange(1, len(labels) + 1))),
    )


def _check_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:
        raise ValueError(f"A coverage must lie between 0 and 1, both excluded; got {coverage}.")
