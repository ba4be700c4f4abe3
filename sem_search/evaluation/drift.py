"""Whether images that come one after the other are still like those before: evidence that may be looked at any time.

Each new image has a place among the reference images of its label, by its score. While both are alike, all places are
equally likely for the first new image, and one in which k new images lie already is 1 + k times as likely for the next
(Pólya's urn; nothing is assumed of how scores are distributed). With each image, a bet on high places is multiplied by
what it gave to the place that came, over what the urn gave to it. The mean wealth of all bets is the evidence, a
conformal test martingale (Vovk, Nouretdinov and Gammerman, ICML 2003; Vovk, Stat. Sci. 36 (2021) 595). Without drift
its chance of ever reaching 1 / a is at most a, however often one looks (Ville 1939). Why this one:
`docs/decisions/039-drift.md`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm, rankdata

from sem_search.evaluation.statistics import LEVEL, MAX_P_VALUE, ROUNDING, Interval
from sem_search.records import FloatMatrix, FloatVector, IntVector

FALSE_ALARM_RATE = 0.05
"""Chance of any false alarm over all images that will ever come, of all figures together."""

BETS = np.array([[0.1, 0.25], [0.1, 0.6], [0.1, 0.95], [0.5, 0.9]])
"""Exponent and stake. A share s of the reference, the farthest, is bet to hold s to this power of the new images; the
rest of the stake is kept. Chosen by simulation: the first three find images unlike any before, among many others, some
or none; the last finds images that all lie a little farther out."""

N_DRAWS = 9999
"""Of tables with the same margins."""

MIN_LABELS, MIN_IMAGES = 3, 10
"""With fewer labels, or less than half of those known, or fewer images of those that moved least, nobody can tell
whether all have moved: new materials alone may resemble three known ones."""

Cause = Literal["instrument", "material", "unclear"]
Labels = NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One score per image, in the order in which the images came; no NaN."""

    values: FloatVector
    """Higher is less usual, shape (n_images,)."""
    labels: Labels
    """Images are compared with those of the same label, shape (n_images,)."""
    ties: FloatVector
    """Drawn evenly from [0, 1): which of two images of equal score ranks higher, shape (n_images,)."""
    is_two_sided: bool = False
    """Whether lower scores are as unusual as higher ones."""

    def select(self, is_chosen: NDArray[np.bool_]) -> "Scores":
        """Return the scores of some images."""
        return replace(self, values=self.values[is_chosen], labels=self.labels[is_chosen], ties=self.ties[is_chosen])


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How strongly images say that they are less usual than the reference."""

    log_evidence: FloatVector
    """Natural logarithm after each image, shape (n_images,)."""
    onset: int
    """The image with which the drift, if there is one, most probably began."""

    def find_alarm(self, *, n_figures: int) -> int | None:
        """Return the first image at which there was an alarm.

        Args:
            n_figures: That are watched at the same time; each gets its part of the false alarms.
        """
        is_alarm = self.log_evidence >= np.log(n_figures / FALSE_ALARM_RATE)
        return int(is_alarm.argmax()) if is_alarm.any() else None


def follow_evidence(reference: Scores, stream: Scores) -> Evidence:
    """Return the evidence that the images of a stream are less usual than those of the reference.

    When a drift begins is not known, nor whether it is of all labels or of one. So half of the wealth is bet on all and
    half is spread over the labels; and of each, 1 / log2(t + 1) - 1 / log2(t + 2) is put on a beginning with image t.

    Args:
        reference: Images that stand for the usual; a label that has none tells nothing.
        stream: At least one image.
    """
    gains = _compute_gains(reference, stream)
    not_bet = 1 / np.log2(np.arange(2.0, len(gains) + 3))
    log_evidence = np.log(not_bet[1:])
    log_stakes = np.log((not_bet[:-1] - not_bet[1:]) / gains.shape[1])[:, None]
    best, onset = -np.inf, 0
    for log_share, own in _iter_scopes(gains, labels=stream.labels, known=np.unique(reference.labels)):
        total = np.cumsum(own, axis=0)
        begun = log_stakes + log_share - (total - own)
        log_evidence = np.logaddexp(log_evidence, np.logaddexp.reduce(np.logaddexp.accumulate(begun) + total, axis=1))
        final = (begun + total[-1]).max(axis=1)
        if final.max() > best:
            best, onset = float(final.max()), int(final.argmax())
    return Evidence(log_evidence=log_evidence, onset=onset)


def find_cause(reference: Scores, moved: Scores) -> Cause:
    """Return whether images that have moved are of all labels, as when the instrument changes, or of some alone.

    The third of the labels that moved most is set aside. Have the others moved as well, by the test of one look?

    Args:
        reference: Images that stand for the usual.
        moved: Images since the drift began.
    """
    labels = np.intersect1d(reference.labels, moved.labels)
    p_values = [compare_ranks(reference, moved.select(moved.labels == label)) for label in labels]
    aside = labels[np.argsort(p_values)][: -(-len(labels) // 3)]
    others = moved.select(np.isin(moved.labels, labels) & ~np.isin(moved.labels, aside))
    n_needed = max(MIN_LABELS, len(np.unique(reference.labels)) / 2)
    if len(labels) < n_needed or len(others.values) < MIN_IMAGES:
        return "unclear"
    return "instrument" if compare_ranks(reference, others) <= MAX_P_VALUE else "material"


def compare_ranks(reference: Scores, period: Scores) -> float:
    """Return the p-value of one look: whether the period's images are less usual among those of the same label.

    The sum over the labels of Wilcoxon's rank sums, each rank divided by the number of images with that label plus one,
    against its mean and variance under permutation (van Elteren 1960); with 0 and 1 as scores, about the test of Mantel
    and Haenszel (1959). 1 where no label has images of both.
    """
    surplus = variance = 0.0
    for label in np.intersect1d(reference.labels, period.labels):
        values = np.concatenate([each.values[each.labels == label] for each in (period, reference)])
        n, n_own = len(values), int((period.labels == label).sum())
        ranks = rankdata(values) / (n + 1)
        surplus += ranks[:n_own].sum() - n_own * ranks.mean()
        variance += n_own * (n - n_own) / n * ranks.var(ddof=1)
    if variance <= 0:
        return 1.0
    z = surplus / np.sqrt(variance)
    return float(2 * norm.sf(abs(z)) if period.is_two_sided else norm.sf(z))


def compare_counts(reference: IntVector, period: IntVector, *, seed: int = 0) -> float:
    """Return the p-value of one look: whether counts of the same classes come in other proportions.

    Pearson's chi-square over the classes, against tables with the same margins, drawn at random.

    Args:
        reference: Images of each class, shape (n_classes,), at least one.
        period: The same of the period.
        seed: Of the draws.
    """
    total = reference + period
    expected = total[total > 0] * (period.sum() / total.sum())

    def measure(counts: NDArray[np.int64]) -> FloatVector:
        """Return the distance of counts from those expected, in proportion to chi-square."""
        distance: FloatVector = ((counts[..., total > 0] - expected) ** 2 / expected).sum(axis=-1)
        return distance

    draws = np.random.default_rng(seed).multivariate_hypergeometric(total, int(period.sum()), size=N_DRAWS)
    return float((1 + (measure(draws) >= measure(period) - ROUNDING).sum()) / (1 + N_DRAWS))


def compute_median_interval(values: FloatVector, *, level: float = LEVEL) -> Interval:
    """Return the median with its interval, between two of the values, by the binomial distribution of their ranks.

    Args:
        values: Of independent images, at least one. Fewer than six get their least and greatest, which hold less.
        level: Of the interval, in (0, 1).
    """
    ordered = np.sort(values)
    n_below = max(int(binom.ppf((1 - level) / 2, len(values), 0.5)), 1)
    low, high = ordered[n_below - 1], ordered[len(values) - n_below]
    return Interval(value=float(np.median(values)), low=float(low), high=float(high), level=level)


def _compute_gains(reference: Scores, stream: Scores) -> FloatMatrix:
    """Return the logarithm of what each bet makes of its stake with each image, shape (n_images, n_bets)."""
    n_sides = 2 if stream.is_two_sided else 1
    gains = np.zeros((len(stream.values), n_sides * len(BETS)))
    for label in np.intersect1d(reference.labels, stream.labels):
        is_own, is_known = stream.labels == label, reference.labels == label
        places = _find_places(reference, stream, is_known=is_known, is_own=is_own)
        n_places = int(is_known.sum()) + 1
        urn = (1 + _count_earlier(places)) / (n_places + np.arange(len(places)))
        sides = np.stack([places, n_places - 1 - places], axis=1)[:, :n_sides, None]
        bets = (((sides + 1) / n_places) ** BETS[:, 0] - (sides / n_places) ** BETS[:, 0]) / urn[:, None, None]
        gains[is_own] = np.log1p(BETS[:, 1] * (bets - 1)).reshape(len(places), -1)
    return gains


def _iter_scopes(gains: FloatMatrix, *, labels: Labels, known: Labels) -> Iterator[tuple[float, FloatMatrix]]:
    """Yield the logarithm of a share of the wealth and the gains that it makes: of all labels, and of each alone."""
    yield np.log(0.5), gains
    for label in known:
        yield np.log(0.5 / len(known)), np.where((labels == label)[:, None], gains, 0.0)


def _find_places(
    reference: Scores, stream: Scores, *, is_known: NDArray[np.bool_], is_own: NDArray[np.bool_]
) -> IntVector:
    """Return how many reference images of a label rank above each of its images, shape (n_own,)."""
    n_own = int(is_own.sum())
    values = np.concatenate([stream.values[is_own], reference.values[is_known]])
    ties = np.concatenate([stream.ties[is_own], reference.ties[is_known]])
    falling = np.lexsort((ties, values))[::-1]
    above = np.empty(len(values), dtype=np.int64)
    above[falling] = np.cumsum(falling >= n_own)
    return above[:n_own]


def _count_earlier(places: IntVector) -> IntVector:
    """Return how many earlier images lie in the same place as each."""
    order = np.argsort(places, kind="stable")
    _, starts, counts = np.unique(places[order], return_index=True, return_counts=True)
    earlier = np.empty(len(places), dtype=np.int64)
    earlier[order] = np.arange(len(places)) - np.repeat(starts, counts)
    return earlier
