"""Whether a new lot is equivalent to accepted ones: two one-sided tests on its distance from them.

The distance of the new lot's true mean from the mean of the process is measured in standard deviations between lots,
or in fifths of that between images of a lot where lots differ less: what is smaller than a small effect (Cohen 1988)
matters to nobody. It is the largest of the distances in the views of `reference`. A lot is equivalent where the upper
limit lies within the margin, different where the lower limit lies beyond it (Schuirmann, J. Pharmacokinet. Biopharm. 15
(1987) 657); each limit is wrong in 5 % of cases at most: the upper one since all views must pass (Berger, Technometrics
24 (1982) 295), the lower one since each view has its part of the 5 % (Bonferroni).

Neither the distance nor the spread between lots is known exactly. Both limits come from a generalised confidence
interval (Weerahandi, J. Am. Stat. Assoc. 88 (1993) 899): the variances are drawn as chi-squared distributions allow,
the distance as a non-central one does. The spread between lots is taken to lie in one direction: of all quadratic forms
with one mean, that has the longest tail (Székely and Bakirov, Probab. Theory Relat. Fields 126 (2003) 184).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import chndtrinc, ndtri

from sem_search.evaluation.lots.reference import LotSpread
from sem_search.evaluation.statistics import ROUNDING, Interval
from sem_search.records import FloatMatrix, FloatVector

MARGIN = 3.0
"""Standard deviations between lots: of a process that goes on as it did, 3 lots of 1,000 lie farther out at most."""

SMALL_EFFECT = 0.2
"""Of the standard deviation of images: the least that counts as one between lots."""

ERROR_RATE = 0.05
"""Of each of the two tests."""

N_DRAWS = 2000
LARGE = 100.0
"""From here on a non-central chi-squared value is taken for the square of a normal one."""

FACTORS = (1.5, 2.0, 3.0, 5.0, 10.0)
"""By how much more images or lots are tried to find how many would decide."""

Verdict = Literal["equivalent", "different", "unclear"]


@dataclass(frozen=True, kw_only=True)
class LotDistance:
    """What is measured of a new lot in one view, all in variances of images."""

    squared: float
    """Squared distance from the mean of the reference, less what the noise adds to it; may lie below 0."""
    noise: float
    """Variance of the new lot's mean that its images explain."""
    n_images: int
    total: float
    """Variance of the measured means of reference lots: that between lots, and their noise."""
    reference_noise: float
    """Mean variance of the mean of a reference lot that its images explain."""
    image_variance: float
    n_lots: int
    n_free: float
    """Images of the reference less its lots."""
    n_effective: float
    """Directions in which images spread alike and that would do as much."""

    @property
    def between(self) -> float:
        """Variance between lots, 0 where the measured means differ no more than by their noise."""
        return max(self.total - self.reference_noise, 0.0)

    @property
    def least(self) -> float:
        """Least variance that counts as one between lots."""
        return SMALL_EFFECT**2 * self.image_variance

    @property
    def standardised(self) -> float:
        """Distance in standard deviations between lots."""
        return float(np.sqrt(max(self.squared, 0.0) / max(self.between, self.least)))


@dataclass(frozen=True, kw_only=True)
class LotJudgement:
    """A new lot against the reference."""

    verdict: Verdict
    distance: Interval
    """In standard deviations between lots; each end is wrong in 5 % of cases at most."""
    margin: float
    n_images: int
    """Independent images of the new lot."""
    n_lots: int
    n_images_needed: int | None
    """Of the new lot, and as many times more of each other, for a clear answer if all lies where it was measured; None
    where there is one, or where ten times as many would not give it."""
    n_lots_needed: int | None
    """Of the reference, likewise."""


def judge_lot(spread: LotSpread, images: FloatMatrix, *, margin: float = MARGIN, seed: int = 0) -> LotJudgement:
    """Return whether a new lot is equivalent to the lots of a reference.

    Args:
        spread: Of the reference.
        images: Mean features of the new lot's independent images, four or more, shape (n_images, n_features).
        margin: In standard deviations between lots, above 0.
        seed: Of the draws.
    """
    measured = measure_distances(spread, images)
    interval = compute_interval(measured, seed=seed)
    verdict = decide(interval, margin=margin)
    needed: dict[str, int | None] = {"n_images": None, "n_lots": None}
    if verdict == "unclear":
        for name in needed:
            more = _iter_more(measured, name)
            decided = (n for n, views in more if decide(compute_interval(views, seed=seed), margin=margin) != "unclear")
            needed[name] = next(decided, None)
    return LotJudgement(
        verdict=verdict,
        distance=interval,
        margin=margin,
        n_images=len(images),
        n_lots=spread.n_lots,
        n_images_needed=needed["n_images"],
        n_lots_needed=needed["n_lots"],
    )


def measure_distances(spread: LotSpread, images: FloatMatrix) -> list[LotDistance]:
    """Return what is measured of a lot in each view; see `judge_lot`."""
    noise = float(spread.space.measure_variances(images).sum()) / len(images)
    step = spread.space.embed(images.mean(axis=0)[None])[0] - spread.centre
    return [
        LotDistance(
            squared=view.measure(step) - view.kept * noise - view.total / spread.n_lots,
            noise=view.kept * noise,
            n_images=len(images),
            total=view.total,
            reference_noise=view.noise,
            image_variance=view.image_variance,
            n_lots=spread.n_lots,
            n_free=float(spread.n_images.sum() - spread.n_lots),
            n_effective=view.n_effective,
        )
        for view in spread.list_views()
    ]


def compute_interval(views: Sequence[LotDistance], *, seed: int = 0) -> Interval:
    """Return the distance in standard deviations between lots, with the limits of both one-sided tests.

    Args:
        views: What is measured of the new lot in each.
        seed: Of the draws.
    """
    shares = [ERROR_RATE / len(views), 1 - ERROR_RATE]
    draws = [draw_distances(measured, rng=np.random.default_rng(seed)) for measured in views]
    low, high = np.max([np.quantile(one, shares) for one in draws], axis=0)
    value = max(measured.standardised for measured in views)
    return Interval(value=value, low=float(low), high=float(high), level=1 - 2 * ERROR_RATE)


def draw_distances(measured: LotDistance, *, rng: np.random.Generator) -> FloatVector:
    """Return distances that agree with what was measured, in standard deviations between lots, shape (N_DRAWS,).

    Args:
        measured: Of the new lot.
        rng: Draws them.
    """
    m = measured
    noise = m.noise / _draw_share((m.n_images - 1) * m.n_effective, rng=rng)
    reference_noise = m.reference_noise / _draw_share(m.n_free * m.n_effective, rng=rng)
    between = _draw_between(m, along=reference_noise / m.n_effective, rng=rng)
    in_centre, in_all = between / m.n_lots, noise + reference_noise / m.n_lots  # what moves the step from the centre
    squares = in_centre**2 + (2 * in_centre * in_all + in_all**2) / m.n_effective
    n_directions = (in_centre + in_all) ** 2 / squares  # that would do as much if all had the same variance
    scale = (in_centre + in_all) / n_directions
    step = max(m.squared + m.noise + m.total / m.n_lots, 0.0)
    squared = scale * _invert(step / scale, n_directions, quantiles=rng.uniform(size=N_DRAWS))
    distances: FloatVector = np.sqrt(squared / np.maximum(between, m.least))
    return distances


def _invert(values: FloatVector, n_directions: FloatVector, *, quantiles: FloatVector) -> FloatVector:
    """Return the non-centralities with which a non-central chi-squared value is this quantile, shape (n,); 0 if none.

    Where the value is large, its root is nearly normal: that is within 1 % and quick.
    """
    roots = np.maximum(np.sqrt(values) - ndtri(quantiles), 0.0)
    found: FloatVector = np.maximum(roots**2 - (n_directions - 1), 0.0)
    is_small = values < LARGE
    found[is_small] = chndtrinc(values[is_small], n_directions[is_small], quantiles[is_small])
    found[found < ROUNDING] = 0.0
    return found


def _draw_between(measured: LotDistance, *, along: FloatVector, rng: np.random.Generator) -> FloatVector:
    """Return variances between lots that agree with what was measured, 0 where the noise alone explains it.

    Lots differ along one direction, in which their measured means have that variance and the noise `along` it; in the
    other directions they have the noise alone.
    """
    n_free = measured.n_lots - 1
    n_elsewhere = n_free * (measured.n_effective - 1)
    elsewhere = along * rng.chisquare(n_elsewhere, size=N_DRAWS) / n_free if n_elsewhere > 0 else 0.0
    share = _draw_share(n_free, rng=rng)
    between: FloatVector = np.maximum((measured.total - elsewhere) / share - along, 0.0)
    return between


def _draw_share(n_free: float, *, rng: np.random.Generator) -> FloatVector:
    """Return by how much a variance that is measured with so many degrees of freedom may lie off the true one."""
    share: FloatVector = rng.chisquare(n_free, size=N_DRAWS) / n_free
    return share


def decide(interval: Interval, *, margin: float) -> Verdict:
    """Return what the limits say of a lot."""
    return "equivalent" if interval.high < margin else "different" if interval.low > margin else "unclear"


def _iter_more(views: Sequence[LotDistance], name: str) -> Iterator[tuple[int, list[LotDistance]]]:
    """Yield larger numbers of images (of the new lot and of each other) or lots, and what these would measure."""
    for factor in FACTORS:
        n = int(np.ceil(factor * getattr(views[0], name)))
        yield n, [_take_more(one, factor=factor, images=n if name == "n_images" else None) for one in views]


def _take_more(one: LotDistance, *, factor: float, images: int | None) -> LotDistance:
    """Return what so many times as many reference lots would measure, or so many images of each lot."""
    if images is None:
        return replace(one, n_lots=int(np.ceil(factor * one.n_lots)), n_free=factor * one.n_free)
    noise = one.reference_noise / factor
    return replace(
        one,
        n_images=images,
        n_free=factor * one.n_free,
        noise=one.noise / factor,
        reference_noise=noise,
        total=one.between + noise,
    )
