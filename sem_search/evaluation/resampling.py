"""The bootstrap over images: what the figures would have been with other images of the same classes.

Whole groups of images are drawn with all their tiles, class by class, with replacement, and assigned anew to the folds,
as many of each class to each fold as there were. Drawn within its fold, from two, an image would vary half as much as
it should. This assumes that the networks of all folds are alike; where they are not, intervals are too wide rather
than too narrow.

For each class and fold one multinomial draw says how often each group occurs, and a matrix product turns that into
confusion matrices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sem_search.evaluation.answers import AnswerTable, Figures, compute_figures_of
from sem_search.records import FloatMatrix, IntMatrix, IntVector

N_RESAMPLES = 2000  # a standard error to 2 %

DRAWS_AT_ONCE = 2**18
"""Counts in memory at once: they fit into a processor's cache, also where a class has twenty thousand groups."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """The groups of one class: they stand for one another."""

    label: int
    groups: IntVector
    """Numbers as in `AnswerTable.group_of_row`, shape (n_groups,)."""
    n_of_fold: IntVector
    """How many of them each fold has, shape (n_folds,)."""


def resample_figures(
    tables: Sequence[AnswerTable], *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[Figures, ...]:
    """Return the figures of each table over the same resampled images, each of shape (n_resamples, ...).

    Args:
        tables: One; or several with the same images, folds and groups row by row, whose differences are then paired.
        n_resamples: Number of resamples.
        seed: Of the draws.

    Raises:
        ValueError: A class has fewer than two groups, a group lies in two folds, or the tables do not match.
    """
    _check_pairing(tables)
    n_folds, n_classes = tables[0].n_folds, tables[0].n_classes
    confusions = [_sum_groups(table) for table in tables]
    of_tiles = [np.zeros((n_folds, n_resamples, n_classes**2)) for _ in tables]
    of_images = [np.zeros((n_resamples, n_classes**2)) for _ in tables]
    for groups, fold, begin, times in _iter_draws(tables[0], n_resamples=n_resamples, seed=seed):
        some = slice(begin, begin + len(times))
        for number, (tiles, images) in enumerate(confusions):
            _add_product(of_tiles[number][fold, some], times, tiles[groups])
            _add_product(of_images[number][some], times, images[groups])
    square = (n_classes, n_classes)
    return tuple(
        compute_figures_of(
            tiles.reshape(n_folds, n_resamples, *square).swapaxes(0, 1), image_confusion=images.reshape(-1, *square)
        )
        for tiles, images in zip(of_tiles, of_images, strict=True)
    )


def count_draws(table: AnswerTable, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> IntMatrix:
    """Return how often each resample of `resample_figures` has each group, shape (n_resamples, n_groups).

    Args:
        table: The answers.
        n_resamples: Draws of images.
        seed: Of the draws.
    """
    counts = np.zeros((n_resamples, table.n_groups), dtype=np.int64)
    for groups, _, begin, times in _iter_draws(table, n_resamples=n_resamples, seed=seed):
        counts[begin : begin + len(times), groups] += times.astype(np.int64)
    return counts


def build_strata(table: AnswerTable) -> tuple[Stratum, ...]:
    """Return the groups class by class; a group of several classes counts to the one it has most images of.

    Raises:
        ValueError: A class has fewer than two groups, or a group lies in two folds.
    """
    images_of_class = np.zeros((table.n_groups, table.n_classes), dtype=np.int64)
    np.add.at(images_of_class, (table.group_of_row, table.label_of_row), 1)
    class_of_group = images_of_class.argmax(axis=1)
    fold_of_group = _get_fold_of_group(table)
    return tuple(
        _build_stratum(int(label), class_of_group=class_of_group, fold_of_group=fold_of_group, n_folds=table.n_folds)
        for label in np.unique(class_of_group)
    )


def _iter_draws(
    table: AnswerTable, *, n_resamples: int, seed: int
) -> Iterator[tuple[IntVector, int, int, FloatMatrix]]:
    """Yield, class by class and fold by fold, the groups drawn from and how often each was drawn in some resamples.

    Groups have shape (n,), the times of the resamples from `begin` on shape (n_some, n). The draws depend on strata and
    seed alone.
    """
    rng = np.random.default_rng(seed)
    for stratum in build_strata(table):
        n_groups = len(stratum.groups)
        for fold, n_drawn in enumerate(stratum.n_of_fold):
            n_at_once = max(1, DRAWS_AT_ONCE // n_groups)
            for begin in range(0, n_resamples, n_at_once):
                n_some = min(n_at_once, n_resamples - begin)
                times = rng.multinomial(n_drawn, np.full(n_groups, 1 / n_groups), size=n_some)
                yield stratum.groups, fold, begin, times.astype(np.float64)


def _build_stratum(label: int, *, class_of_group: IntVector, fold_of_group: IntVector, n_folds: int) -> Stratum:
    groups = np.flatnonzero(class_of_group == label).astype(np.int64)
    if len(groups) < 2:
        raise ValueError(f"Class {label} has one group of images only: how much its images differ is unknown.")
    return Stratum(label=label, groups=groups, n_of_fold=np.bincount(fold_of_group[groups], minlength=n_folds))


def _get_fold_of_group(table: AnswerTable) -> IntVector:
    """Return the fold of each group, shape (n_groups,)."""
    fold_of_group = np.zeros(table.n_groups, dtype=np.int64)
    fold_of_group[table.group_of_row] = table.fold_of_row
    if (fold_of_group[table.group_of_row] != table.fold_of_row).any():
        raise ValueError("A group of images lies in two folds of the same split: such folds cannot be resampled.")
    return fold_of_group


def _sum_groups(table: AnswerTable) -> tuple[FloatMatrix, FloatMatrix]:
    """Return what each group adds to the confusion matrices of tiles and of images, each of shape (n_groups, n_cells).

    Cells are in rows: true class x n_classes + predicted class.
    """
    n_classes = table.n_classes
    tiles = np.zeros((table.n_groups, n_classes, n_classes))
    images = np.zeros((table.n_groups, n_classes, n_classes))
    np.add.at(tiles, (table.group_of_row, table.label_of_row), table.tile_counts)
    np.add.at(images, (table.group_of_row, table.label_of_row, table.answer_of_row), 1.0)
    return tiles.reshape(-1, n_classes**2), images.reshape(-1, n_classes**2)


def _add_product(sums: FloatMatrix, times: FloatMatrix, rows: FloatMatrix) -> None:
    """Add times @ rows to the sums, in place, leaving out columns of zeros: most groups have one class only."""
    columns = np.flatnonzero(rows.any(axis=0))
    sums[:, columns] += times @ rows[:, columns]


def _check_pairing(tables: Sequence[AnswerTable]) -> None:
    """Raise unless all tables have the same images in the same folds, row by row."""
    first = tables[0]
    names = ("image_of_row", "label_of_row", "fold_of_row", "group_of_row")
    for other in tables[1:]:
        if not all(np.array_equal(getattr(first, name), getattr(other, name)) for name in names):
            raise ValueError("Answers are paired image by image: both must have the same images, folds and groups.")
