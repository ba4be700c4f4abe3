"""How the score grows with the number of images learnt from, and how many would reach a target.

An inverse power law, score(n) = a - b n^-c, is fitted to the scores of several numbers of images by weighted least
squares (Figueroa et al., BMC Med. Inform. Decis. Mak. 12 (2012) 8; Viering and Loog, IEEE Trans. Pattern Anal. Mach.
Intell. 45 (2023) 7799). a, the ceiling, is 1 at most, b is not negative, and c lies in (0, 2]. For each c the best a
and b are known in closed form, so c is looked up in a table, and no search can end in a wrong place.

How sure that is comes from the bootstrap: in each resample the test images are drawn anew, the same for all numbers of
images, and so are the draws of training images; the law is fitted again. All intervals of it are percentiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sem_search.evaluation.answers import AnswerTable, Figures, compute_figures, map_figures
from sem_search.evaluation.comparison import Difference, build_differences
from sem_search.evaluation.intervals import SplitIntervals, build_intervals
from sem_search.evaluation.resampling import N_RESAMPLES, resample_figures
from sem_search.evaluation.statistics import LEVEL, ROUNDING, Interval
from sem_search.records import FloatMatrix, FloatVector

EXPONENTS = np.geomspace(0.05, 2.0, 100)
"""Neighbours differ by 4 %. Published curves lie between 0.05 and 1; beyond 2 all images but the last are in vain."""

MIN_SIZES = 4
"""Numbers of images that a law of three parameters needs: with three it would pass through every point."""

MAX_GROWTH = 4.0
"""So many times the images that there are: beyond, the law is not trusted."""

FigureName = Literal["f_measure", "image_accuracy"]
Finding = Literal["reached", "found", "near", "open", "few sizes", "flat", "ceiling", "far"]
"""Of a target: it is reached; a number is found; the law has it with as many images as there are; the law tells no
number, or one that it is not trusted for, but its interval does; too few sizes; images were not seen to help; the whole
interval of the ceiling lies below; the whole interval lies beyond what the law is trusted for."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """score(n) = ceiling - gap (n / reference) ** -exponent; arrays of one shape, or numbers."""

    ceiling: FloatVector
    gap: FloatVector
    """What is missing to the ceiling at `reference` images."""
    exponent: FloatVector
    reference: float

    def compute(self, n_images: float) -> FloatVector:
        """Return the score with so many images."""
        score: FloatVector = self.ceiling - self.gap * (n_images / self.reference) ** -self.exponent
        return score

    def invert(self, score: float) -> FloatVector:
        """Return how many images give a score; infinity where it is not below the ceiling."""
        missing = np.maximum(self.ceiling - score, 0.0)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            n_images = self.reference * (self.gap / missing) ** (1 / self.exponent)
        needed: FloatVector = np.where(missing > 0, n_images, np.inf)
        return needed


@dataclass(frozen=True, kw_only=True)
class Size:
    """What was measured with one number of images."""

    n_images: float
    """Images of a class learnt from, mean over classes, folds and draws."""
    figures: Figures
    """Mean over the draws of training images."""
    resampled: Figures
    """The same with test images and draws drawn anew, each of shape (n_resamples, ...)."""
    intervals: SplitIntervals
    """Over test images and draws."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """How many images of a class a target needs."""

    target: float
    finding: Finding
    n_images: Interval | None = None
    """Learnt from, not fewer than there are; value and upper end may be infinite. None where nothing can be said."""


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """The law fitted to one figure."""

    figure: FigureName
    sizes: tuple[Size, ...]
    """In ascending order; the last has all images."""
    law: PowerLaw
    resampled: PowerLaw
    """Arrays of shape (n_resamples,)."""

    @property
    def n_images(self) -> float:
        """Of a class, of all that there are."""
        return self.sizes[-1].n_images

    @property
    def score(self) -> float:
        """With all images."""
        return float(getattr(self.sizes[-1].figures, self.figure))

    @property
    def is_fitted(self) -> bool:
        """Whether there are enough sizes for the law to say anything."""
        return len(self.sizes) >= MIN_SIZES

    @property
    def is_flat(self) -> bool:
        """Whether images were not seen to help: in too many resamples the score does not grow."""
        return bool((self.resampled.gap <= ROUNDING).mean() > (1 - LEVEL) / 2)

    @property
    def can_foretell(self) -> bool:
        """Whether the law says anything of more images."""
        return self.is_fitted and not self.is_flat

    @property
    def ceiling(self) -> Interval:
        """What endless images would give, if the law held."""
        return self._surround(self.law.ceiling, self.resampled.ceiling)

    def predict(self, n_images: float) -> Interval:
        """Return the score with so many images of a class."""
        return self._surround(self.law.compute(n_images), self.resampled.compute(n_images))

    def find_need(self, target: float) -> Need:
        """Return how many images of a class reach a score, or why that cannot be said."""
        needed = self._surround(self.law.invert(target), self.resampled.invert(target))
        low, value, high = (max(n, self.n_images) for n in (needed.low, needed.value, needed.high))
        if self.score >= target:
            return Need(target=target, finding="reached")
        if not self.is_fitted:
            return Need(target=target, finding="few sizes")
        if self.is_flat:
            return Need(target=target, finding="flat")
        if target >= self.ceiling.high:
            return Need(target=target, finding="ceiling")
        most = MAX_GROWTH * self.n_images
        if low > most:
            return Need(target=target, finding="far")
        finding: Finding = "open" if value > most else "near" if value == self.n_images else "found"
        n_images = Interval(value=value, low=low, high=high)
        return Need(target=target, finding=finding, n_images=n_images)

    def _surround(self, value: FloatVector, resampled: FloatVector) -> Interval:
        """Return a value between the percentiles of its resamples."""
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(resampled, [tail, 1 - tail], method="inverted_cdf")
        return Interval(value=float(value), low=float(min(low, value)), high=float(max(high, value)))


def measure_size(
    draws: Sequence[AnswerTable], *, n_images: float, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Size:
    """Return the scores with one number of images.

    Args:
        draws: What was answered after each draw of training images, to the same test images.
        n_images: Of a class, learnt from.
        n_resamples: Bootstrap resamples.
        seed: Of the resamples; sizes are paired if theirs is the same.

    Raises:
        ValueError: A class has fewer than two groups, or the draws answer other images.
    """
    n_draws = len(draws)
    rng = np.random.default_rng([seed, 1])  # other numbers than those that draw the images
    times = rng.multinomial(n_draws, np.full(n_draws, 1 / n_draws), size=n_resamples)
    of_images = resample_figures(draws, n_resamples=n_resamples, seed=seed)
    resampled = average_figures(of_images, weights=times.T / n_draws)
    figures = average_figures([compute_figures(table) for table in draws])
    return Size(
        n_images=n_images,
        figures=figures,
        resampled=resampled,
        intervals=build_intervals(figures, resampled=resampled, table=draws[0]),
    )


def average_figures(figures: Sequence[Figures], *, weights: FloatMatrix | None = None) -> Figures:
    """Return the mean of several sets of figures.

    Args:
        figures: With arrays of the same shapes.
        weights: Of each set in each resample, shape (n_sets, n_resamples), summing to 1; by default all alike.
    """

    def average(*values: FloatVector) -> FloatVector:
        stacked = np.stack(values)
        return np.asarray(stacked.mean(axis=0) if weights is None else np.einsum("dr...,dr->r...", stacked, weights))

    return map_figures(average, *figures)


def fit_learning_curve(sizes: Sequence[Size], *, figure: FigureName = "f_measure") -> LearningCurve:
    """Return the law of one figure; a size weighs by the width of its interval.

    Args:
        sizes: In ascending order, with as many resamples each.
        figure: The one to fit.
    """
    numbers = np.array([size.n_images for size in sizes])
    intervals = [getattr(size.intervals, figure) for size in sizes]
    weights = np.array([(entry.high - entry.low) ** -2 for entry in intervals])
    scores = np.array([entry.value for entry in intervals])
    resampled = np.stack([getattr(size.resampled, figure) for size in sizes], axis=-1)
    return LearningCurve(
        figure=figure,
        sizes=tuple(sizes),
        law=fit_power_law(scores, numbers=numbers, weights=weights),
        resampled=fit_power_law(resampled, numbers=numbers, weights=weights),
    )


def fit_power_law(scores: FloatMatrix, *, numbers: FloatVector, weights: FloatVector) -> PowerLaw:
    """Return the law of least squares for one curve, or for each of many.

    Args:
        scores: In [0, 1], shape (..., n_sizes).
        numbers: Of images, above 0, shape (n_sizes,); two or more that differ.
        weights: Above 0, shape (n_sizes,).
    """
    shares = weights / weights.sum()
    basis = (numbers / numbers[-1]) ** -EXPONENTS[:, None]  # (n_exponents, n_sizes)
    mean_basis, mean_score = basis @ shares, (scores @ shares)[..., None]
    steps, deviations = basis - mean_basis[:, None], scores - mean_score
    variance, covariance = steps**2 @ shares, (deviations * shares) @ steps.T
    gap = np.maximum(-covariance / variance, 0.0)  # (..., n_exponents)
    ceiling = mean_score + gap * mean_basis
    at_most = ((1 - scores) * shares) @ basis.T / (basis**2 @ shares)  # the gap where the ceiling is held at 1
    gap, ceiling = np.where(ceiling > 1, at_most, gap), np.minimum(ceiling, 1.0)
    bias = mean_score - ceiling + gap * mean_basis
    errors = 2 * gap * covariance + gap**2 * variance + bias**2  # less the variance of the scores, the same for all
    best = errors.argmin(axis=-1)[..., None]
    return PowerLaw(
        ceiling=np.take_along_axis(ceiling, best, axis=-1)[..., 0],
        gap=np.take_along_axis(gap, best, axis=-1)[..., 0],
        exponent=EXPONENTS[best[..., 0]],
        reference=float(numbers[-1]),
    )


def compare_sizes(
    first: Size, second: Size, *, table: AnswerTable, level: float = LEVEL
) -> tuple[dict[str, Difference], tuple[Difference, ...]]:
    """Return by how much the first is better: headline figures by name, and each class's F-measure over tiles.

    Args:
        first: Measured on the same resamples as the second.
        second: The one compared with.
        table: Answers to the test images.
        level: Of the intervals, in (0, 1).
    """
    figures, resampled = (first.figures, second.figures), (first.resampled, second.resampled)
    return build_differences(figures, resampled=resampled, table=table, level=level)
