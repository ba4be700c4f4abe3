"""Whether one set of answers is better than another on the same images in the same folds.

Three questions, three answers, since none of them answers the others:

- By how much do the figures differ, and could it be the choice of images? Differences with intervals, from a bootstrap
  over images in which both answer the same resampled images (`resampling`).
- Would other training images turn it round? The corrected resampled t-test over folds (Nadeau and Bengio, Mach. Learn.
  52 (2003) 239). Training sets of different folds overlap, which an ordinary t-test counts as independent evidence.
- Does one classify more whole images correctly? McNemar's exact test (McNemar 1947; Dietterich, Neural Comput. 10
  (1998) 1895).

The second set of answers is the one compared with; a positive difference is in favour of the first.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student_t

from sem_search.errors import DataError
from sem_search.evaluation.answers import (
    HEADLINE_NAMES,
    AnswerTable,
    Figures,
    compute_figures,
    map_figures,
    tabulate_answers,
)
from sem_search.evaluation.intervals import compute_quantile, compute_standard_errors, count_groups
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.evaluation.resampling import N_RESAMPLES, resample_figures
from sem_search.evaluation.statistics import LEVEL, ROUNDING
from sem_search.records import FloatVector, FoldOutcome, Split, TileTable, TrialOutcome

PSEUDO_IMAGES = 1.0
"""Images more that the two classify independently, each as often correctly as the others; see `_build_difference`. Of
0, 0.25, 0.5, 1 and 2 the one whose coverage was nearest 95 % (`docs/trust.md`)."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of both, and where their difference lies, in `level` of 100 % of cases."""

    first: float
    second: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def value(self) -> float:
        """First minus second."""
        return self.first - self.second

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def to_text(self, *, digits: int = 3) -> str:
        """Return `+0.021 (-0.004 to +0.046)`."""
        return f"{self.value:+z.{digits}f} ({self.low:+z.{digits}f} to {self.high:+z.{digits}f})"


@dataclass(frozen=True, kw_only=True)
class FoldTest:
    """The corrected resampled t-test."""

    differences: FloatVector
    """First minus second in each fold, shape (n_folds,)."""
    mean: float
    p_value: float | None
    """Two-sided, with n_folds - 1 degrees of freedom; 1 where no fold differs. None where all folds differ alike:
    without variance there is nothing to test against, and any small number would be made up."""


@dataclass(frozen=True, kw_only=True)
class ImageTest:
    """McNemar's exact test. A group of images counts once, for the one that classifies more of it correctly."""

    n_first_better: int
    """Groups in which only the first, or the first more often, is right."""
    n_second_better: int
    p_value: float
    """Two-sided; 1 where no group differs."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The first set of answers against the second, in one split."""

    class_names: tuple[str, ...]
    n_images: int
    n_groups: int
    n_folds: int
    f_measure: Difference
    """Of the headline figure: mean over the folds of the macro F-measure over tiles."""
    tile_accuracy: Difference
    image_f_measure: Difference
    image_accuracy: Difference
    f_measure_of_class: tuple[Difference, ...]
    """Mean over the folds of each class's F-measure over tiles."""
    fold_test: FoldTest | None
    """None where there are fewer than two folds."""
    image_test: ImageTest


def compare_trials(
    first: TrialOutcome,
    second: TrialOutcome,
    *,
    tiles: TileTable,
    other_tiles: TileTable | None = None,
    split: Split = "test",
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Return how the first trial's answers differ from the second's.

    Args:
        first: A trial of any study over these tiles and folds.
        second: Another.
        tiles: The tiles of both, or of the first.
        other_tiles: Those of the second, where it has other tiles of the same images.
        split: Validation or test.
        level: Of the intervals, in (0, 1).
        n_resamples: Bootstrap resamples.
        seed: Of the draws.

    Raises:
        DataError: The two do not have the same finished folds over the same tiles; the message says what differs.
        ValueError: The two have other tiles and not the same images in each fold.
    """
    if other_tiles is None:
        check_same_folds(first, second, split=split)
    own = ((first, tiles), (second, other_tiles or tiles))
    tables = [tabulate_answers(trial, tiles=cut, split=split) for trial, cut in own]
    one, two = (compute_split_scores(trial, tiles=cut, split=split).f_measure_of_fold for trial, cut in own)
    return compare_answers(
        tables[0],
        tables[1],
        class_names=tiles.class_names,
        fold_test=_test_folds(one - two, folds=first.folds, tiles=tiles, split=split),
        level=level,
        n_resamples=n_resamples,
        seed=seed,
    )


def compare_answers(
    first: AnswerTable,
    second: AnswerTable,
    *,
    class_names: tuple[str, ...],
    fold_test: FoldTest | None = None,
    level: float = LEVEL,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Return how the first answers differ from the second, both to the same images in the same folds, row by row.

    Args:
        first: One set of answers.
        second: The one compared with.
        class_names: In the order of the labels.
        fold_test: Over the folds of two trials, where there are such.
        level: Of the intervals, in (0, 1).
        n_resamples: Draws of images.
        seed: Of the draws.

    Raises:
        ValueError: The tables do not have the same rows.
    """
    one, two = compute_figures(first), compute_figures(second)
    resampled = resample_figures([first, second], n_resamples=n_resamples, seed=seed)
    headline, of_class = build_differences((one, two), resampled=resampled, table=first, level=level)
    return Comparison(
        class_names=class_names,
        n_images=first.n_rows,
        n_groups=first.n_groups,
        n_folds=first.n_folds,
        **headline,
        f_measure_of_class=of_class,
        fold_test=fold_test,
        image_test=compute_image_test(first, second),
    )


def build_differences(
    figures: tuple[Figures, Figures],
    *,
    resampled: tuple[Figures, ...],
    table: AnswerTable,
    level: float = LEVEL,
) -> tuple[dict[str, Difference], tuple[Difference, ...]]:
    """Return how the first figures differ from the second: each headline figure, and each class's F-measure over tiles.

    Args:
        figures: Of both.
        resampled: Of both in the same resamples of the images, each of shape (n_resamples, ...).
        table: The answers of one of them.
        level: Of the intervals, in (0, 1).
    """
    first, second = resampled
    errors = compute_standard_errors(map_figures(np.subtract, first, second), table=table)
    quantile = compute_quantile(table, level=level)

    def subtract(name: str) -> Difference:
        values = (float(getattr(one, name)) for one in (*figures, errors))
        return _build_difference(*values, n_groups=table.n_groups, quantile=quantile, level=level)

    of_class = zip(*(one.of_class.f_measure for one in (*figures, errors)), count_groups(table), strict=True)
    return {name: subtract(name) for name in HEADLINE_NAMES}, tuple(
        _build_difference(float(one), float(two), float(error), n_groups=int(n_groups), quantile=quantile, level=level)
        for one, two, error, n_groups in of_class
    )


def compute_fold_test(differences: FloatVector, *, test_share: float) -> FoldTest:
    """Return the corrected resampled t-test of fold scores (Nadeau and Bengio 2003, equation 16).

    Args:
        differences: First minus second, one per fold, shape (n_folds,), two or more.
        test_share: Number of images tested on over number of images trained on, in one fold: what the correction adds
            to 1 / n_folds in the variance of the mean.
    """
    n_folds, mean = len(differences), float(differences.mean())
    error = math.sqrt((1 / n_folds + test_share) * float(differences.var(ddof=1)))
    if error < ROUNDING:  # all folds differ alike
        return FoldTest(differences=differences, mean=mean, p_value=1.0 if abs(mean) < ROUNDING else None)
    p_value = float(2 * student_t.sf(abs(mean / error), n_folds - 1))
    return FoldTest(differences=differences, mean=mean, p_value=p_value)


def compute_image_test(first: AnswerTable, second: AnswerTable) -> ImageTest:
    """Return McNemar's exact test of two tables of the same images, a group of images having one voice."""
    balance = np.bincount(first.group_of_row, weights=first.is_right - second.is_right)
    n_first, n_second = int((balance > 0).sum()), int((balance < 0).sum())
    n_differing = n_first + n_second
    return ImageTest(
        n_first_better=n_first,
        n_second_better=n_second,
        p_value=float(binomtest(n_first, n_differing).pvalue) if n_differing else 1.0,
    )


def check_same_folds(first: TrialOutcome, second: TrialOutcome, *, split: Split) -> None:
    """Raise DataError unless both trials have answered the same tiles in the same folds.

    Args:
        first: A trial.
        second: The other one.
        split: Validation or test.
    """
    one, two = ([fold.fold + 1 for fold in trial.folds] for trial in (first, second))
    if not one or one != two:
        raise DataError(
            f"the first has the finished folds {one}, the second {two}: compare trials that finished the same folds"
        )
    for mine, other in zip(first.folds, second.folds, strict=True):
        tiles, others = mine.get_split(split)[0], other.get_split(split)[0]
        if not np.array_equal(tiles, others):
            raise DataError(
                f"fold {mine.fold + 1} has other {split} tiles in the first ({len(tiles)}) than in the second "
                f"({len(others)}): compare studies over the same data with the same seed and number of folds"
            )


def _test_folds(
    differences: FloatVector, *, folds: tuple[FoldOutcome, ...], tiles: TileTable, split: Split
) -> FoldTest | None:
    """Return the test over folds, None for a single fold."""
    if len(differences) < 2:
        return None
    shares = [_compute_test_share(fold, tiles=tiles, split=split) for fold in folds]
    return compute_fold_test(differences, test_share=float(np.mean(shares)))


def _compute_test_share(fold: FoldOutcome, *, tiles: TileTable, split: Split) -> float:
    """Return images tested on over images trained on, however many tiles each has; what was neither validated nor
    tested on was trained on."""
    n_tested = len(np.unique(tiles.image_of_tile[fold.get_split(split)[0]]))
    held_out = np.concatenate([fold.validation_tiles, fold.test_tiles])
    return n_tested / (len(tiles.image_ids) - len(np.unique(tiles.image_of_tile[held_out])))


def _build_difference(
    first: float, second: float, error: float, *, n_groups: int, quantile: float, level: float
) -> Difference:
    """Return the difference, `quantile` standard errors to each side.

    Where few images are answered differently, the standard error that they show is too small just when the difference
    is, so one pseudo-image is added, as Agresti and Min add two (Stat. Med. 24 (2005) 729). Where no resample differs,
    0 of `n_groups` answer differently; the interval then reaches, to both sides, as far as that of such a share
    (Wilson 1927).
    """
    spread = first * (1 - first) + second * (1 - second)
    cautious = math.hypot(error, math.sqrt(PSEUDO_IMAGES * spread) / n_groups)
    half = quantile * cautious if error > ROUNDING else quantile**2 / (n_groups + quantile**2)
    value = first - second
    return Difference(first=first, second=second, low=max(value - half, -1.0), high=min(value + half, 1.0), level=level)
