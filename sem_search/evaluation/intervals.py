"""How far every figure of a study could lie from what endless images would give: 95 % intervals.

The standard error comes from the bootstrap over images (`resampling`). The interval around a share is that of as many
independent answers as would have this standard error, the effective number, as in surveys with clusters (Korn and
Graubard, Surv. Methodol. 24 (1998) 193; Dean and Pagano, J. Surv. Stat. Methodol. 3 (2015) 484). At each end it reaches
as far as the farther of two: the score interval (Wilson, J. Am. Stat. Assoc. 22 (1927) 209) and that of Jeffreys
(Brown, Cai and DasGupta, Stat. Sci. 16 (2001) 101). Its coverage, and that of percentiles: `docs/trust.md`.

An interval speaks of other images and the same networks. Other training images would move the figure, too (Bengio and
Grandvalet, J. Mach. Learn. Res. 5 (2004) 1089).
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import beta, norm
from scipy.stats import t as student_t

from sem_search.evaluation.answers import AnswerTable, Figures, compute_figures
from sem_search.evaluation.metrics import map_indices
from sem_search.evaluation.resampling import N_RESAMPLES, build_strata, resample_figures
from sem_search.evaluation.statistics import LEVEL, ROUNDING, Interval
from sem_search.records import FloatMatrix, FloatVector, IntVector

PSEUDO_IMAGES = 0.5
"""See `_dampen`. Of 0, 0.5, 1 and 2 the one whose coverage was nearest 95 %."""


@dataclass(frozen=True, kw_only=True)
class ClassIntervals:
    """The paper's four indices of one class over tiles, means over the folds, and its F-measure over images."""

    one_vs_rest_accuracy: Interval
    precision: Interval
    recall: Interval
    f_measure: Interval
    image_f_measure: Interval


@dataclass(frozen=True, kw_only=True)
class SplitIntervals:
    """The figures of `metrics.compute_split_scores`, each with its interval."""

    n_images: int
    n_groups: int
    """Groups of images: what counts as independent."""
    f_measure: Interval
    """The headline figure: mean over the folds of the macro F-measure over tiles."""
    tile_accuracy: Interval
    image_f_measure: Interval
    image_accuracy: Interval
    of_class: tuple[ClassIntervals, ...]


def compute_intervals(table: AnswerTable, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> SplitIntervals:
    """Return the figures of these answers with their intervals.

    Args:
        table: The answers.
        n_resamples: Draws of images.
        seed: Of the draws.

    Raises:
        ValueError: A class has fewer than two groups.
    """
    (resampled,) = resample_figures([table], n_resamples=n_resamples, seed=seed)
    return build_intervals(compute_figures(table), resampled=resampled, table=table)


def build_intervals(figures: Figures, *, resampled: Figures, table: AnswerTable) -> SplitIntervals:
    """Return figures with their intervals.

    Args:
        figures: As measured.
        resampled: The same in each resample of the images, each of shape (n_resamples, ...).
        table: The answers; of several sets of answers to the same images any one.
    """
    errors = compute_standard_errors(resampled, table=table)
    quantile = compute_quantile(table, level=LEVEL)
    n_of_class = count_groups(table)

    def surround(value: FloatVector, error: FloatVector) -> Interval:
        n = _dampen(_compute_effective_number(value, error, n_groups=np.array(table.n_groups)), table=table)
        return _build_interval(float(value), n=float(n), quantile=quantile)

    def surround_classes(name: str, *, is_image: bool = False) -> list[Interval]:
        """Return one index of each class with its interval, over tiles or over images."""
        value, error = (
            getattr(source.image_of_class if is_image else source.of_class, name) for source in (figures, errors)
        )
        n = _share_effective_number(value, error, n_groups=n_of_class)
        return [_build_interval(float(v), n=float(m), quantile=quantile) for v, m in zip(value, n, strict=True)]

    names = ("one_vs_rest_accuracy", "precision", "recall", "f_measure")
    columns = {name: surround_classes(name) for name in names}
    columns["image_f_measure"] = surround_classes("f_measure", is_image=True)
    return SplitIntervals(
        n_images=table.n_rows,
        n_groups=table.n_groups,
        f_measure=surround(figures.f_measure, errors.f_measure),
        tile_accuracy=surround(figures.tile_accuracy, errors.tile_accuracy),
        image_f_measure=surround(figures.image_f_measure, errors.image_f_measure),
        image_accuracy=surround(figures.image_accuracy, errors.image_accuracy),
        of_class=tuple(
            ClassIntervals(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
        ),
    )


def compute_share_interval(value: float, *, n: float) -> Interval:
    """Return the interval of a share of n independent answers: the farther of Wilson's and Jeffreys' at each end.

    Args:
        value: In [0, 1].
        n: Number of independent answers, above 0; need not be whole.
    """
    return _build_interval(value, n=n, quantile=float(norm.ppf((1 + LEVEL) / 2)))


def compute_standard_errors(resampled: Figures, *, table: AnswerTable) -> Figures:
    """Return the standard error of each figure.

    The bootstrap takes the images of a class for all there are; the factor n / (n - 1) that this lacks is each class's
    own, and for a figure over several classes the mean of theirs, each by the variance that it adds.

    Args:
        resampled: Figures, or differences of figures, each of shape (n_resamples, ...).
        table: The answers resampled.
    """
    n_of_class = count_groups(table)
    lack = n_of_class / (n_of_class - 1)
    share = np.bincount(table.label_of_row, minlength=table.n_classes) / table.n_rows
    tiles, images = resampled.of_class, resampled.image_of_class
    return Figures(
        f_measure=_compute_error(resampled.f_measure, lack=_average(lack, tiles.f_measure)),
        tile_accuracy=_compute_error(resampled.tile_accuracy, lack=_average(lack, share * tiles.recall)),
        image_f_measure=_compute_error(resampled.image_f_measure, lack=_average(lack, images.f_measure)),
        image_accuracy=_compute_error(resampled.image_accuracy, lack=_average(lack, share * images.recall)),
        of_class=map_indices(partial(_compute_error, lack=lack), tiles),
        image_of_class=map_indices(partial(_compute_error, lack=lack), images),
    )


def count_groups(table: AnswerTable) -> IntVector:
    """Return how many groups stand for each class, shape (n_classes,).

    A class whose images all lie in groups of another class has no groups of its own: all stand for it.
    """
    counts = np.full(table.n_classes, table.n_groups, dtype=np.int64)
    for stratum in build_strata(table):
        counts[stratum.label] = len(stratum.groups)
    return counts


def compute_quantile(table: AnswerTable, *, level: float) -> float:
    """Return how many standard errors an interval reaches to each side: Student's t, a degree of freedom per group
    beyond the first of each class."""
    return float(student_t.ppf((1 + level) / 2, table.n_groups - len(build_strata(table))))


def _compute_error(values: FloatVector, *, lack: FloatVector | float) -> FloatVector:
    """Return the standard deviation over the resamples, with the factor that their variance lacks."""
    error: FloatVector = values.std(axis=0) * np.sqrt(lack)
    return error


def _average(lack: FloatVector, parts: FloatMatrix) -> float:
    """Return the mean of the classes' factors, each by the variance of its part, shape (n_resamples, n_classes)."""
    variances = parts.var(axis=0)
    return float(lack @ variances / variances.sum()) if variances.sum() > 0 else 1.0


def _compute_effective_number(value: FloatVector, error: FloatVector, *, n_groups: IntVector) -> FloatVector:
    """Return how many independent answers would have this standard error; where there is none, one per group."""
    spread = value * (1 - value)
    is_known = (error > ROUNDING) & (spread > 0)
    n: FloatVector = np.divide(spread, error**2, out=n_groups.astype(np.float64), where=is_known)
    return n


def _dampen(n: FloatVector, *, table: AnswerTable) -> FloatVector:
    """Return the effective number, less sure of itself where it comes from few images.

    Where by chance no image went wrong as a whole, the standard error is too small exactly when the figure is too high.
    So half an image, of as many as there are degrees of freedom, is taken to be all right or all wrong.
    """
    weight = PSEUDO_IMAGES / (table.n_groups - len(build_strata(table)))
    dampened: FloatVector = 1 / ((1 - weight) / n + weight / table.n_groups)
    return dampened


def _share_effective_number(value: FloatVector, error: FloatVector, *, n_groups: IntVector) -> FloatVector:
    """Return the effective number of each class, shape (n_classes,).

    That of a single class, from few images, is itself uncertain, and large by chance where few of them were wrong. Its
    harmonic mean with what all classes together say is steadier, and covers better (`docs/trust.md`).
    """
    own = _compute_effective_number(value, error, n_groups=n_groups)
    spread = value * (1 - value)
    total = float((error**2).sum())
    if total <= ROUNDING**2:
        return own
    together = n_groups * float((spread / n_groups).sum()) / total
    harmonic: FloatVector = 2 / (1 / own + 1 / np.maximum(together, ROUNDING))
    return harmonic


def _build_interval(value: float, *, n: float, quantile: float) -> Interval:
    """Return the interval of a share among n independent answers, `quantile` standard errors to each side."""
    (low, high), (other_low, other_high) = (
        compute(value, n=n, quantile=quantile) for compute in (_compute_wilson, _compute_jeffreys)
    )
    return Interval(value=value, low=min(low, other_low), high=max(high, other_high))


def _compute_wilson(value: float, *, n: float, quantile: float) -> tuple[float, float]:
    """Return the score interval: the shares from which the one found lies as far as `quantile`."""
    shrunk = 1 + quantile**2 / n
    middle = (value + quantile**2 / (2 * n)) / shrunk
    half = quantile / shrunk * math.sqrt(value * (1 - value) / n + (quantile / (2 * n)) ** 2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _compute_jeffreys(value: float, *, n: float, quantile: float) -> tuple[float, float]:
    """Return the quantiles of a Beta distribution with half an answer more of each kind; 0 and 1 are their own
    limits."""
    tail, right, wrong = float(norm.sf(quantile)), value * n, (1 - value) * n
    low = float(beta.ppf(tail, right + 0.5, wrong + 0.5)) if right > 0 else 0.0
    high = float(beta.ppf(1 - tail, right + 0.5, wrong + 0.5)) if wrong > 0 else 1.0
    return low, high
