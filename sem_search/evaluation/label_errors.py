"""Which labels the out-of-fold answers doubt, how many such doubts chance alone would show, and how many are wrong.

Confident learning (Northcutt, Jiang and Chuang, J. Artif. Intell. Res. 70 (2021) 1373, section 3), over whole images.
The threshold of a class is the mean probability that its own images get for it. An image counts as the most probable of
the classes whose threshold it reaches. Where that is not its label (off the diagonal of the confident joint), the label
is doubtful, unless it is the most probable class of all. Doubtful images are ranked by self-confidence, the probability
of the label: of exchanged labels of rendered images it put more first than the margin did (`docs/trust.md`).

Wrong labels make answers seem too sure, and a temperature that is fitted to them alone would explain them away. So two
numbers are fitted together, by likelihood: the temperature of the answers, and the share of labels that are exchanged
for any other class (random classification noise: Angluin and Laird, Mach. Learn. 2 (1988) 343). Sure answers contradict
wrong labels, hesitant ones are mistakes of the network: this sets the two apart. Whether the share is above 0 is tested
by the ratio of the likelihoods, which follows half a chi-squared distribution on this edge (Self and Liang, J. Am.
Stat. Assoc. 82 (1987) 605). A network that is sure where it is wrong looks the same: only the image tells whose mistake
it is. And where labels of similar classes were exchanged, networks hesitate: the share is then too low, and only the
ranking finds them.

A network that makes mistakes doubts right labels, too. To see how many, labels are drawn from the calibrated
probabilities, as if these and all labels were right, and doubts are counted again, with thresholds of their own
(consistency resampling, Bröcker and Smith, Weather and Forecasting 22 (2007) 651). Images of a group are drawn by one
number, so that they are doubted together, and groups are counted; in the likelihood a group weighs as one image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import chi2

from sem_search.evaluation.answers import number_groups
from sem_search.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    N_PSEUDO_ANSWERS,
    apply_temperature,
)
from sem_search.evaluation.metrics import PROBABILITY_FLOOR, check_finite, predict_classes
from sem_search.evaluation.statistics import LEVEL, MAX_P_VALUE, ROUNDING, Interval
from sem_search.records import BoolVector, FloatMatrix, FloatVector, IntVector

N_DRAWS = 200
"""Sets of labels drawn: five lie beyond either end of the interval. Of 2,000 images they take a second."""

MOST_WRONG, STEP = 0.5, 1.27
"""Shares of wrong labels are tried from half of one group up to this, a quarter apart: no study tells them closer."""


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """How many labels are wrong, and how sure the answers would be without them."""

    share: Interval
    """Share of wrong labels, in [0, 0.5], by likelihood."""
    p_value: float
    """How often right labels would show as much."""
    temperature: float
    """Of the answers, apart from wrong labels."""


@dataclass(frozen=True, kw_only=True)
class LabelDoubts:
    """What the answers say of the labels of n images."""

    self_confidence: FloatVector
    """Probability of the label as answered, in [0, 1], shape (n,)."""
    others: IntVector
    """What the image counts as where its label is doubtful; else the most probable other class. Shape (n,)."""
    ranked: IntVector
    """Rows of the images whose label is doubtful, the most doubtful first."""
    n_as_doubtful: FloatVector
    """For each of `ranked`, how many images of as low a self-confidence chance alone would show."""
    n_groups: int
    """Groups that hold an image whose label is doubtful."""
    n_groups_by_chance: Interval
    """The same where all labels are right: the mean, and between what it lies in 95 of 100 cases."""
    noise: LabelNoise

    @property
    def is_beyond_chance(self) -> bool:
        """Whether there are more sure contradictions than mistakes of the network explain."""
        return self.noise.p_value <= MAX_P_VALUE


def find_label_doubts(
    probabilities: FloatMatrix, *, labels: IntVector, group_of_row: Sequence[object] | None = None, seed: int = 0
) -> LabelDoubts:
    """Return which labels are doubtful, and how many would be by chance.

    Args:
        probabilities: One row for each image, shape (n, n_classes), rows sum to one, as networks answered that were not
            trained on it.
        labels: Classes that the images are said to have, shape (n,).
        group_of_row: Which group each image belongs to; by default each is one of its own.
        seed: Of the labels drawn.

    Raises:
        ValueError: They are not finite.
    """
    check_finite(probabilities)
    group = number_groups(np.arange(len(labels)) if group_of_row is None else group_of_row)
    noise = fit_label_noise(probabilities, labels=labels, group=group)
    calibrated = apply_temperature(probabilities, temperature=noise.temperature)
    counted_as = _count_as(calibrated, labels=labels)
    is_doubtful = _is_doubtful(counted_as, labels=labels, predicted=predict_classes(calibrated))
    own = probabilities[np.arange(len(labels)), labels]
    ranked = np.flatnonzero(is_doubtful)[np.argsort(own[is_doubtful], kind="stable")]
    drawn = _draw_doubtful_groups(calibrated, group=group, seed=seed)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return LabelDoubts(
        self_confidence=own,
        others=np.where(is_doubtful, counted_as, _name_others(calibrated, labels=labels)),
        ranked=ranked,
        n_as_doubtful=_count_as_doubtful(own[ranked], probabilities=probabilities, calibrated=calibrated),
        n_groups=len(np.unique(group[is_doubtful])),
        n_groups_by_chance=Interval(value=float(drawn.mean()), low=float(low), high=float(high)),
        noise=noise,
    )


def fit_label_noise(probabilities: FloatMatrix, *, labels: IntVector, group: IntVector) -> LabelNoise:
    """Return the share of wrong labels and the temperature under which these labels are most likely.

    One answer with a label drawn at random is added, as in `calibration.fit_temperature`.

    Args:
        probabilities: Finite, shape (n, n_classes), rows sum to one.
        labels: Classes that the images are said to have, shape (n,).
        group: Group of each image, 0 to n_groups - 1, shape (n,).
    """
    logs, rows = np.log(np.maximum(probabilities, PROBABILITY_FLOOR)), np.arange(len(labels))
    n_others, weights = probabilities.shape[1] - 1, 1 / np.bincount(group)[group]
    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))

    def compute_loss(log_temperature: float, share: float) -> float:
        """Return minus the log likelihood, in nats: what is minimised."""
        scaled = log_softmax(logs / math.exp(log_temperature), axis=1)
        of_label = np.exp(scaled[rows, labels])
        likelihood = (1 - share) * of_label + share * (1 - of_label) / n_others
        return float(-(weights @ np.log(likelihood)) - N_PSEUDO_ANSWERS * scaled.mean())

    least = MOST_WRONG / max(int(group.max()) + 1, 2)
    shares = np.array([0.0, *np.geomspace(least, MOST_WRONG, math.ceil(math.log(MOST_WRONG / least, STEP)) + 1)])
    fits = [minimize_scalar(compute_loss, bounds=bounds, args=(share,), method="bounded") for share in shares]
    losses = np.array([fit.fun for fit in fits])
    best = int(np.flatnonzero(losses <= losses.min() + ROUNDING)[0])
    gains = 2 * (losses - losses[best])
    held = shares[gains <= chi2.ppf(LEVEL, 1)]
    return LabelNoise(
        share=Interval(value=float(shares[best]), low=float(held[0]), high=float(held[-1])),
        p_value=float(chi2.sf(gains[0], 1) / 2) if best else 1.0,
        temperature=math.exp(fits[best].x),
    )


def _count_as(probabilities: FloatMatrix, *, labels: IntVector) -> IntVector:
    """Return the class that each image counts as, -1 where it reaches no threshold; of equals its label."""
    n_classes = probabilities.shape[1]
    is_member = np.eye(n_classes)[labels]
    n_of_class = is_member.sum(axis=0)
    sums = (is_member * probabilities).sum(axis=0)
    thresholds = np.divide(sums, n_of_class, out=np.full(n_classes, np.inf), where=n_of_class > 0)
    reached = np.where(probabilities >= thresholds - ROUNDING, probabilities + ROUNDING * is_member, -1.0)
    counted_as: IntVector = np.where(reached.max(axis=1) < 0, -1, reached.argmax(axis=1)).astype(np.int64)
    return counted_as


def _is_doubtful(counted_as: IntVector, *, labels: IntVector, predicted: IntVector) -> BoolVector:
    is_doubtful: BoolVector = (counted_as >= 0) & (counted_as != labels) & (predicted != labels)
    return is_doubtful


def _count_as_doubtful(
    self_confidence: FloatVector, *, probabilities: FloatMatrix, calibrated: FloatMatrix
) -> FloatVector:
    """Return how many right labels would have at most each of these probabilities, shape of `self_confidence`."""
    order = np.argsort(probabilities, axis=None)
    sums = np.concatenate([[0.0], calibrated.ravel()[order].cumsum()])
    places = np.searchsorted(probabilities.ravel()[order], self_confidence + ROUNDING, side="right")
    counts: FloatVector = sums[places]
    return counts


def _name_others(probabilities: FloatMatrix, *, labels: IntVector) -> IntVector:
    """Return the most probable class other than the label, shape (n,)."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1.0
    return predict_classes(others)


def _draw_doubtful_groups(probabilities: FloatMatrix, *, group: IntVector, seed: int) -> IntVector:
    """Return how many groups are doubtful in each set of labels that are right, shape (N_DRAWS,)."""
    rng = np.random.default_rng(seed)
    sums, predicted = probabilities.cumsum(axis=1), predict_classes(probabilities)
    sums[:, -1] = 1.0  # it is, but for rounding
    counts = np.empty(N_DRAWS, dtype=np.int64)
    for draw in range(N_DRAWS):
        labels = (sums > rng.random(group.max() + 1)[group, None]).argmax(axis=1)
        counted_as = _count_as(probabilities, labels=labels)
        is_doubtful = _is_doubtful(counted_as, labels=labels, predicted=predicted)
        counts[draw] = len(np.unique(group[is_doubtful]))
    return counts
