"""Out-of-fold answers as counts per image: all that intervals and comparisons need.

A new sample consists of new images, not of new tiles; so an image's tiles stay together in one row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.evaluation.metrics import (
    ClassIndices,
    combine_tiles,
    compute_class_indices,
    compute_confusion,
    divide_trace,
    map_indices,
    predict_classes,
)
from sem_search.records import (
    FloatMatrix,
    FloatVector,
    IntMatrix,
    IntVector,
    Split,
    TileTable,
    TrialOutcome,
)


@dataclass(frozen=True, kw_only=True)
class AnswerTable:
    """What the images of one split were predicted as: one row per image, fold by fold."""

    n_classes: int
    image_of_row: IntVector
    """Index of the image in the study's tile table, shape (n_rows,)."""
    label_of_row: IntVector
    """True class, shape (n_rows,)."""
    fold_of_row: IntVector
    """Position of the fold that answered, 0 to n_folds - 1, shape (n_rows,)."""
    group_of_row: IntVector
    """Number of the image's group, 0 to n_groups - 1, shape (n_rows,): rows of one group are not independent."""
    tile_counts: IntMatrix | FloatMatrix
    """How many tiles of the image were predicted as each class, shape (n_rows, n_classes). Not whole where several
    trials answer, each with a share."""
    answer_of_row: IntVector
    """What the image was predicted as, its tiles together, shape (n_rows,)."""

    @property
    def n_rows(self) -> int:
        """Number of images answered."""
        return len(self.label_of_row)

    @property
    def n_folds(self) -> int:
        """Number of folds that answered."""
        return int(self.fold_of_row.max()) + 1

    @property
    def n_groups(self) -> int:
        """Number of groups of images: what counts as independent."""
        return int(self.group_of_row.max()) + 1

    @property
    def is_right(self) -> IntVector:
        """1 for each image correctly classified, else 0, shape (n_rows,)."""
        is_right: IntVector = (self.answer_of_row == self.label_of_row).astype(np.int64)
        return is_right


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The headline figures, as `metrics.SplitScores` has them, of one set of confusion matrices or of a stack of
    them."""

    f_measure: FloatVector
    """Mean over the folds of the macro F-measure over tiles, shape (...)."""
    tile_accuracy: FloatVector
    """Shape (...)."""
    image_f_measure: FloatVector
    """Macro F-measure of the images of all folds, shape (...)."""
    image_accuracy: FloatVector
    """Shape (...)."""
    of_class: ClassIndices
    """Mean over the folds of each index over tiles, each of shape (..., n_classes)."""
    image_of_class: ClassIndices
    """The indices of the images of all folds, each of shape (..., n_classes)."""


HEADLINE_NAMES = ("f_measure", "tile_accuracy", "image_f_measure", "image_accuracy")
"""The figures over all classes."""


def map_figures(combine: Callable[..., FloatVector], *figures: Figures) -> Figures:
    """Return what a function makes of these records, figure by figure."""
    return Figures(
        **{name: combine(*(getattr(one, name) for one in figures)) for name in HEADLINE_NAMES},
        of_class=map_indices(combine, *(one.of_class for one in figures)),
        image_of_class=map_indices(combine, *(one.image_of_class for one in figures)),
    )


def tabulate_answers(trial: TrialOutcome, *, tiles: TileTable, split: Split) -> AnswerTable:
    """Return what a trial's finished folds answered in one split, image by image.

    Args:
        trial: One or more folds finished.
        tiles: The study's tiles.
        split: Validation or test.
    """
    return tabulate_tile_answers([fold.get_split(split) for fold in trial.folds], tiles=tiles)


def tabulate_tile_answers(answered: Sequence[tuple[IntVector, FloatMatrix]], *, tiles: TileTable) -> AnswerTable:
    """Return the table of any classifier that answers tiles, image by image.

    Args:
        answered: For each fold the tiles that it answers, shape (n,), and their probabilities, shape (n, n_classes).
        tiles: The study's tiles.
    """
    parts = [_combine_answers(answers, image_of_tile=tiles.image_of_tile[indices]) for indices, answers in answered]
    image_of_row = np.concatenate([images for images, _, _ in parts])
    return AnswerTable(
        n_classes=len(tiles.class_names),
        image_of_row=image_of_row,
        label_of_row=tiles.label_of_image[image_of_row],
        fold_of_row=np.repeat(np.arange(len(parts)), [len(images) for images, _, _ in parts]),
        group_of_row=number_groups(np.asarray(tiles.group_of_image)[image_of_row]),
        tile_counts=np.concatenate([counts for _, counts, _ in parts]),
        answer_of_row=np.concatenate([answers for _, _, answers in parts]),
    )


def tabulate_image_answers(
    predicted: IntVector, *, labels: IntVector, n_classes: int, group_of_row: Sequence[object] | None = None
) -> AnswerTable:
    """Return the table of a classifier that answers whole images, without folds.

    Args:
        predicted: Class named for each image, shape (n_images,).
        labels: True classes, shape (n_images,).
        n_classes: Number of classes.
        group_of_row: Which group each image belongs to; by default each is one of its own.
    """
    rows = np.arange(len(labels))
    return AnswerTable(
        n_classes=n_classes,
        image_of_row=rows,
        label_of_row=labels,
        fold_of_row=np.zeros(len(labels), dtype=np.int64),
        group_of_row=number_groups(rows if group_of_row is None else group_of_row),
        tile_counts=np.eye(n_classes, dtype=np.int64)[predicted],
        answer_of_row=predicted,
    )


def compute_figures(table: AnswerTable) -> Figures:
    """Return the figures of these answers: those that `metrics.compute_split_scores` reports."""
    n_classes = table.n_classes
    tile_confusions = np.zeros((table.n_folds, n_classes, n_classes))
    np.add.at(tile_confusions, (table.fold_of_row, table.label_of_row), table.tile_counts)
    image_confusion = compute_confusion(true=table.label_of_row, predicted=table.answer_of_row, n_classes=n_classes)
    return compute_figures_of(tile_confusions, image_confusion=image_confusion)


def compute_figures_of(tile_confusions: FloatMatrix, *, image_confusion: IntMatrix | FloatMatrix) -> Figures:
    """Return the figures of confusion matrices.

    Args:
        tile_confusions: One matrix per fold, shape (..., n_folds, n_classes, n_classes).
        image_confusion: All folds together, shape (..., n_classes, n_classes).
    """
    of_fold, of_images = compute_class_indices(tile_confusions), compute_class_indices(image_confusion)
    return Figures(
        f_measure=of_fold.f_measure.mean(axis=(-2, -1)),
        tile_accuracy=divide_trace(tile_confusions.sum(axis=-3)),
        image_f_measure=of_images.f_measure.mean(axis=-1),
        image_accuracy=divide_trace(image_confusion),
        of_class=map_indices(lambda values: values.mean(axis=-2), of_fold),
        image_of_class=of_images,
    )


def _combine_answers(probabilities: FloatMatrix, *, image_of_tile: IntVector) -> tuple[IntVector, IntMatrix, IntVector]:
    """Return the images of these tiles (n,), the counts of the tiles' classes (n, n_classes), and the images' (n,)."""
    images, combined = combine_tiles(probabilities, image_of_tile=image_of_tile)
    counts = np.zeros(combined.shape, dtype=np.int64)
    np.add.at(counts, (np.searchsorted(images, image_of_tile), predict_classes(probabilities)), 1)
    return images, counts, predict_classes(combined)


def number_groups(groups: Sequence[object] | NDArray[Any]) -> IntVector:
    """Return a number for each group, 0 to n_groups - 1, shape of `groups`."""
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
