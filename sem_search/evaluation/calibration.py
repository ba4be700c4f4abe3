"""Whether predicted probabilities are calibrated, and one number (a temperature) that calibrates them.

A network that answers 0.9 should be right nine times out of ten. Temperature scaling (Guo, Pleiss, Sun and Weinberger,
ICML 2017) divides the log probabilities by one number and leaves the order of the classes as it is: a temperature above
1 makes the answers less sure, below 1 surer. It is fitted on answers to images that the network was not trained on,
and judged on images that the fit has not seen (`cross_fit_temperature`).

A row is one answer, as a rule that of an image: tiles of one image are not independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from sem_search.evaluation.metrics import PROBABILITY_FLOOR, check_finite, compute_log_loss, predict_classes
from sem_search.evaluation.statistics import LEVEL
from sem_search.records import FloatMatrix, FloatVector, IntVector

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Beyond these an answer is certain, or as good as uniform, whatever the network answered."""

N_PSEUDO_ANSWERS = 1.0
"""Answers with a label drawn at random that are added to those fitted on. Without any, answers that are all right would
ask for a temperature of 0, and the next image would be named with certainty. Platt (Advances in Large Margin
Classifiers, 2000) smooths his targets for the same reason."""

N_BINS = 10
"""Of the reliability curve: with a hundred images ten answers a bin."""

N_RESAMPLES = 1000
"""Label sets drawn to find the error that a perfectly calibrated classifier would show; 95 % to about 1 %."""

DRAWS_AT_ONCE = 2**18
"""Answers times label sets in memory at once: 20,000 answers take 4 MB instead of 600."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Answers of similar confidence. The confidence of an answer is the probability of the class that it names."""

    n_answers: int
    lowest_confidence: float
    highest_confidence: float
    confidence: float
    """Mean confidence of these answers: the share that should be right."""
    accuracy: float
    """The share that is right."""


@dataclass(frozen=True, kw_only=True)
class CalibrationScores:
    """How well probabilities mean what they say."""

    n_answers: int
    accuracy: float
    """Share of answers that are right; no temperature changes it."""
    confidence: float
    """Mean confidence: above `accuracy` the answers claim too much, below it too little."""
    expected_calibration_error: float
    """Mean distance of confidence and accuracy over `reliability`, in [0, 1]."""
    error_if_calibrated: float
    """What `expected_calibration_error` would be on average were these very probabilities true: with few answers bins
    differ from their confidence by chance alone."""
    highest_error_if_calibrated: float
    """The same, the value exceeded in 5 of 100 cases: an error above it is not chance."""
    brier_score: float
    """Mean squared distance of the probabilities from the truth, in [0, 2]; 0 is perfect."""
    log_loss: float
    """Mean over answers of minus the log probability of the true class, in nats; 0 is perfect."""
    reliability: tuple[ReliabilityBin, ...]

    @property
    def is_within_chance(self) -> bool:
        """Whether probabilities that are true could show this calibration error."""
        return self.expected_calibration_error <= self.highest_error_if_calibrated


@dataclass(frozen=True, kw_only=True)
class CrossFit:
    """Answers scaled by temperatures that were fitted without them."""

    probabilities: FloatMatrix
    """Shape (n, n_classes)."""
    temperatures: FloatVector
    """The temperature of each part, in ascending order of the parts."""


def fit_temperature(probabilities: FloatMatrix, *, labels: IntVector) -> float:
    """Return the temperature under which the log loss of these answers is lowest.

    The mean negative log likelihood has one minimum (it is convex in 1 / temperature), which a bounded search finds.
    Uniform answers are alike under every temperature: theirs is 1.

    Args:
        probabilities: Shape (n, n_classes), rows sum to one.
        labels: True classes, shape (n,), in [0, n_classes).

    Returns:
        A number in [`MIN_TEMPERATURE`, `MAX_TEMPERATURE`].

    Raises:
        ValueError: They are not finite.
    """
    check_finite(probabilities)
    logs = _take_logs(probabilities)
    if np.ptp(logs) == 0:
        return 1.0
    n_answers, n_classes = logs.shape
    targets = np.full(logs.shape, N_PSEUDO_ANSWERS / n_classes)
    targets[np.arange(n_answers), labels] += n_answers
    targets /= n_answers + N_PSEUDO_ANSWERS

    def compute_loss(log_temperature: float) -> float:
        return float(-(targets * log_softmax(logs / math.exp(log_temperature), axis=1)).sum() / n_answers)

    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
    found = minimize_scalar(compute_loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.clip(math.exp(found.x), MIN_TEMPERATURE, MAX_TEMPERATURE))


def apply_temperature(probabilities: FloatMatrix, *, temperature: float) -> FloatMatrix:
    """Return the answers made less sure (temperature above 1) or surer (below 1), shape (n, n_classes).

    The order of the classes stays. Probabilities below `metrics.PROBABILITY_FLOOR` count as that.
    """
    scaled: FloatMatrix = softmax(_take_logs(probabilities) / temperature, axis=1)
    return scaled


def cross_fit_temperature(probabilities: FloatMatrix, *, labels: IntVector, part_of_row: IntVector) -> CrossFit:
    """Return each answer scaled by the temperature that the answers of all other parts ask for.

    What these answers score is what the temperature is worth on images that it was not fitted on.

    Args:
        probabilities: Shape (n, n_classes), rows sum to one.
        labels: True classes, shape (n,).
        part_of_row: The fold (or group) of each answer, shape (n,), two or more of them: rows of one part are never in
            both splits.

    Raises:
        ValueError: They are not finite.
    """
    parts = np.unique(part_of_row)
    scaled = np.empty(probabilities.shape)
    temperatures = np.empty(len(parts))
    for index, part in enumerate(parts):
        is_judged = part_of_row == part
        temperatures[index] = fit_temperature(probabilities[~is_judged], labels=labels[~is_judged])
        scaled[is_judged] = apply_temperature(probabilities[is_judged], temperature=temperatures[index])
    return CrossFit(probabilities=scaled, temperatures=temperatures)


def compute_calibration_scores(
    probabilities: FloatMatrix,
    *,
    labels: IntVector,
    group_of_row: Sequence[object] | None = None,
    seed: int = 0,
) -> CalibrationScores:
    """Return the calibration errors and scores of these answers.

    Args:
        probabilities: Shape (n, n_classes), rows sum to one.
        labels: True classes, shape (n,).
        group_of_row: Which group each answer belongs to, by default one of its own: by chance alone, answers of one
            group are right together.
        seed: Of the labels drawn to find what chance alone would show.

    Raises:
        ValueError: They are not finite.
    """
    check_finite(probabilities)
    bins = compute_reliability(probabilities, labels=labels)
    groups = np.arange(len(labels)) if group_of_row is None else np.asarray(group_of_row)
    drawn = _draw_errors_if_calibrated(probabilities, groups=groups, seed=seed)
    confidence, is_right = _get_confidence(probabilities, labels=labels)
    return CalibrationScores(
        n_answers=len(labels),
        accuracy=float(is_right.mean()),
        confidence=float(confidence.mean()),
        expected_calibration_error=compute_expected_calibration_error(bins),
        error_if_calibrated=float(drawn.mean()),
        highest_error_if_calibrated=float(np.quantile(drawn, LEVEL)),
        brier_score=compute_brier_score(probabilities, labels=labels),
        log_loss=compute_log_loss(probabilities, labels=labels),
        reliability=bins,
    )


def compute_reliability(
    probabilities: FloatMatrix, *, labels: IntVector, n_bins: int = N_BINS
) -> tuple[ReliabilityBin, ...]:
    """Return the reliability curve: bins of equally many answers, by confidence, the least confident first.

    Bins of equal mass, not of equal width: most answers of a good network are near certain and would fill a single bin
    (Nixon et al., CVPR Workshops 2019; Roelofs et al., AISTATS 2022). Equal confidences stay together, so that there
    may be fewer bins.

    Args:
        probabilities: Shape (n_answers, n_classes).
        labels: True classes, shape (n_answers,).
        n_bins: Most bins.
    """
    confidence, is_right = _get_confidence(probabilities, labels=labels)
    bin_of_row = _assign_bins(confidence, n_bins=n_bins)
    return tuple(
        ReliabilityBin(
            n_answers=int(is_member.sum()),
            lowest_confidence=float(confidence[is_member].min()),
            highest_confidence=float(confidence[is_member].max()),
            confidence=float(confidence[is_member].mean()),
            accuracy=float(is_right[is_member].mean()),
        )
        for is_member in (bin_of_row == number for number in range(int(bin_of_row.max()) + 1))
    )


def merge_bins(reliability: Sequence[ReliabilityBin], *, n_least: int) -> tuple[ReliabilityBin, ...]:
    """Return the curve with neighbours joined until each bin holds `n_least` answers, if there are so many."""
    merged: list[ReliabilityBin] = []
    for entry in reversed(reliability):  # what is left over joins the least confident, which are the widest apart
        if merged and merged[-1].n_answers < n_least:
            merged[-1] = _join_bins(entry, merged[-1])
        else:
            merged.append(entry)
    if len(merged) > 1 and merged[-1].n_answers < n_least:
        merged[-2:] = [_join_bins(merged[-1], merged[-2])]
    return tuple(reversed(merged))


def _join_bins(lower: ReliabilityBin, upper: ReliabilityBin) -> ReliabilityBin:
    n_answers = lower.n_answers + upper.n_answers
    confidence, accuracy = (
        (lower.n_answers * getattr(lower, name) + upper.n_answers * getattr(upper, name)) / n_answers
        for name in ("confidence", "accuracy")
    )
    return ReliabilityBin(
        n_answers=n_answers,
        lowest_confidence=lower.lowest_confidence,
        highest_confidence=upper.highest_confidence,
        confidence=confidence,
        accuracy=accuracy,
    )


def compute_expected_calibration_error(reliability: tuple[ReliabilityBin, ...]) -> float:
    """Return the mean distance of confidence and accuracy, each bin by its answers, in [0, 1].

    Naeini, Cooper and Hauskrecht, AAAI 2015; here over the bins of equal mass of `compute_reliability`.
    """
    n_answers = sum(entry.n_answers for entry in reliability)
    return sum(entry.n_answers * abs(entry.confidence - entry.accuracy) for entry in reliability) / n_answers


def compute_brier_score(probabilities: FloatMatrix, *, labels: IntVector) -> float:
    """Return the mean squared distance of an answer from the truth, summed over classes, in [0, 2] (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def _draw_errors_if_calibrated(probabilities: FloatMatrix, *, groups: NDArray[Any], seed: int) -> FloatVector:
    """Return the errors of calibrated classifiers with these answers, shape (N_RESAMPLES,).

    Consistency resampling (Bröcker and Smith, Weather and Forecasting 22 (2007) 651): whether an answer is right is
    drawn with its own confidence, for the answers of one group by one draw.
    """
    confidence = probabilities.max(axis=1)
    bin_of_row = _assign_bins(confidence, n_bins=N_BINS)
    members = np.eye(int(bin_of_row.max()) + 1)[bin_of_row]
    distinct, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)

    def draw(n_resamples: int) -> FloatVector:
        is_right = rng.random((n_resamples, len(distinct)))[:, group] < confidence
        errors: FloatVector = np.abs((is_right - confidence) @ members).sum(axis=1) / len(confidence)
        return errors

    n_at_once = max(1, DRAWS_AT_ONCE // len(confidence))
    return np.concatenate([draw(min(n_at_once, N_RESAMPLES - n)) for n in range(0, N_RESAMPLES, n_at_once)])


def _assign_bins(confidence: FloatVector, *, n_bins: int) -> IntVector:
    """Return a bin for each answer, numbered from 0 without gaps; equal confidences share one."""
    inner = np.quantile(confidence, np.arange(1, n_bins) / n_bins, method="lower")
    bins = np.searchsorted(np.unique(inner), confidence, side="left")
    return np.unique(bins, return_inverse=True)[1].astype(np.int64)


def _get_confidence(probabilities: FloatMatrix, *, labels: IntVector) -> tuple[FloatVector, FloatVector]:
    """Return the probability of the class named, and 1 where it is the true one, each of shape (n,)."""
    return probabilities.max(axis=1), (predict_classes(probabilities) == labels).astype(np.float64)


def _take_logs(probabilities: FloatMatrix) -> FloatMatrix:
    """Return log probabilities, none below the floor."""
    logs: FloatMatrix = np.log(np.maximum(probabilities, PROBABILITY_FLOOR))
    return logs
