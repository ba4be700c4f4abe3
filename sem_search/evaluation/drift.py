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
    alarm: int | None
    """The image at which the evidence was first enough; None without an alarm."""
    onset: int | None
    """The image with which the drift most probably began, judged at the alarm."""
    end: int | None
    """The image up to which the drift most probably lasted; at the alarm, or later."""


def follow_evidence(reference: Scores, stream: Scores, *, n_figures: int) -> Evidence:
    """Return the evidence that the images of a stream are less usual than those of the reference.

    When a drift begins is not known, nor whether it is of all labels or of one. So half of the wealth is bet on all and
    half is spread over the labels; and of each, 1 / log2(t + 1) - 1 / log2(t + 2) is put on a beginning with image t.

    Args:
        reference: Images that stand for the usual; a label that has none tells nothing.
        stream: At least one image.
        n_figures: That are watched at the same time; each gets its part of the false alarms.
    """
    gains = _compute_gains(reference, stream)
    scopes = list(_iter_scopes(gains, labels=stream.labels, known=np.unique(reference.labels)))
    log_evidence = np.full(len(gains), -np.inf)
    for scope in scopes:
        log_evidence = np.logaddexp(log_evidence, scope.compute_log_wealth(len(gains)))
    is_alarm = log_evidence >= np.log(n_figures / FALSE_ALARM_RATE)
    if not is_alarm.any():
        return Evidence(log_evidence=log_evidence, alarm=None, onset=None, end=None)
    alarm = int(is_alarm.argmax())
    _, onset, end = max(scope.find_spell(alarm) for scope in scopes if alarm in scope.images)
    return Evidence(log_evidence=log_evidence, alarm=alarm, onset=onset, end=max(end, alarm))


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


def compare_counts(reference: IntVector, period: IntVector) -> float:
    """Return the p-value of one look: whether counts of the same classes come in other proportions.

    Pearson's chi-square over the classes, against tables with the same margins, drawn at random.

    Args:
        reference: Images of each class, shape (n_classes,), at least one.
        period: The same of the period.
    """
    total = reference + period
    expected = total[total > 0] * (period.sum() / total.sum())

    def measure(counts: NDArray[np.int64]) -> FloatVector:
        """Return the distance of counts from those expected, in proportion to chi-square."""
        distance: FloatVector = ((counts[..., total > 0] - expected) ** 2 / expected).sum(axis=-1)
        return distance

    draws = np.random.default_rng(0).multivariate_hypergeometric(total, int(period.sum()), size=N_DRAWS)
    return float((1 + (measure(draws) >= measure(period) - ROUNDING).sum()) / (1 + N_DRAWS))


def compute_median_interval(values: FloatVector) -> Interval:
    """Return the median with its interval, between two of the values, by the binomial distribution of their ranks.

    Args:
        values: Of independent images, at least one. Fewer than six get their least and greatest, which hold less.
    """
    ordered = np.sort(values)
    n_below = max(int(binom.ppf((1 - LEVEL) / 2, len(values), 0.5)), 1)
    low, high = ordered[n_below - 1], ordered[len(values) - n_below]
    return Interval(value=float(np.median(values)), low=float(low), high=float(high))


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


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """Wealth that is bet on images of all labels, or of one; it stays as it is while others come."""

    log_share: float
    """Logarithm of its part of all wealth."""
    images: IntVector
    """Where its images are in the stream, rising, shape (n_own,)."""
    gains: FloatMatrix
    """What each bet makes of its stake with each of them, as logarithms, shape (n_own, n_bets)."""

    def compute_log_wealth(self, n_images: int) -> FloatVector:
        """Return the logarithm of the wealth after each image of the stream, shape (n_images,)."""
        total = np.cumsum(self.gains, axis=0)
        begun = np.logaddexp.accumulate(self._compute_log_stakes() - (total - self.gains)) + total
        wealth = np.logaddexp(np.logaddexp.reduce(begun, axis=1), np.log(_compute_unbet(self.images + 1)))
        n_each = np.diff(self.images, prepend=0, append=n_images)
        stepwise: FloatVector = self.log_share + np.repeat(np.concatenate([[0.0], wealth]), n_each)
        return stepwise

    def find_spell(self, alarm: int) -> tuple[float, int, int]:
        """Return the highest wealth of one beginning at the alarm, this beginning, and when its bet was worth most."""
        total = np.cumsum(self.gains, axis=0)
        n_known = int(np.searchsorted(self.images, alarm, side="right"))
        worth = (self._compute_log_stakes() - (total - self.gains))[:n_known] + total[n_known - 1]
        onset, bet = np.unravel_index(worth.argmax(), worth.shape)
        end = n_known - 1 + int(total[n_known - 1 :, bet].argmax())
        return self.log_share + float(worth.max()), int(self.images[onset]), int(self.images[end])

    def _compute_log_stakes(self) -> FloatMatrix:
        """Return what is put on a beginning with each image, or others since the one before, for each bet."""
        unbet = _compute_unbet(np.concatenate([[0], self.images + 1]))
        stakes: FloatMatrix = np.log(-np.diff(unbet) / self.gains.shape[1])[:, None]
        return stakes


def _compute_unbet(n_images: IntVector) -> FloatVector:
    """Return the part of the wealth that waits for a later beginning, after so many images."""
    unbet: FloatVector = 1 / np.log2(n_images + 2.0)
    return unbet


def _iter_scopes(gains: FloatMatrix, *, labels: Labels, known: Labels) -> Iterator[_Scope]:
    """Yield half of the wealth with all images, and the part of each label with its own."""
    yield _Scope(log_share=float(np.log(0.5)), images=np.arange(len(gains)), gains=gains)
    for label in known:
        images = np.flatnonzero(labels == label)
        yield _Scope(log_share=float(np.log(0.5 / len(known))), images=images, gains=gains[images])


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
