"""Scores out of predictions: confusion matrices, the four indices per class, and their means over the folds.

Every figure that a study reports is computed here, from the predictions that the outcomes keep. The indices are those
of Iwata, Hayashi et al., Int. J. Pharm. X 4 (2022) 100135: each class against all others, averaged over the folds.
Their equation 3 prints recall as TP / (TN + FP); TP / (TP + FN) is meant (Fawcett, Pattern Recognit. Lett. 27 (2006)
861) and is what stands here. Confusion matrices have the true class in rows and the predicted class in columns.

The tiles of an image are combined by the mean of their log probabilities (the normalised geometric mean of the
answers; Kittler et al., IEEE Trans. Pattern Anal. Mach. Intell. 20 (1998) 226, product rule): tiles that are sure
count more than tiles that hesitate. The served classifier combines with the same function.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from sem_search.records import (
    FloatMatrix,
    FloatVector,
    FoldOutcome,
    IntMatrix,
    IntVector,
    Split,
    TileTable,
    TrialOutcome,
)

PROBABILITY_FLOOR = 1e-7
"""Lowest probability other than zero: the step of a float32 just below one (2**-24). Without it a single tile that
answers exactly 0 would forbid a class, whatever the other tiles of the image answer."""


@dataclass(frozen=True, kw_only=True)
class ClassIndices:
    """The paper's four indices of each class against all others, each of shape (..., n_classes), in [0, 1]."""

    one_vs_rest_accuracy: FloatVector
    """(TP + TN) / all."""
    precision: FloatVector
    """TP / (TP + FP); 0 for a class that was never predicted."""
    recall: FloatVector
    """TP / (TP + FN); 0 for a class that never occurred."""
    f_measure: FloatVector
    """Harmonic mean of precision and recall; 0 where both are 0."""

    @property
    def macro_f(self) -> float:
        """Mean F-measure of the classes, each counted alike however many tiles it has."""
        return float(self.f_measure.mean())


@dataclass(frozen=True, kw_only=True)
class SplitScores:
    """What the finished folds of a trial scored in one split, per tile and per image."""

    confusion: IntMatrix
    """Tiles, summed over the folds, shape (n_classes, n_classes)."""
    per_fold: tuple[ClassIndices, ...]
    mean: ClassIndices
    """Mean of `per_fold`: the indices that the paper prints."""
    f_measure: float
    """Mean over the folds of the macro F-measure: the objective, and the headline figure."""
    f_measure_of_fold: FloatVector
    """Macro F-measure of each finished fold, shape (n_folds,)."""
    image_confusion: IntMatrix
    """Images, summed over the folds, shape (n_classes, n_classes)."""
    image_f_measure: float
    """Macro F-measure of `image_confusion`."""
    image_accuracy: float
    """Share of the images that are correctly classified."""
    loss: float
    """Mean over the folds of the log loss per tile (cross-entropy), in nats."""

    @property
    def tile_accuracy(self) -> float:
        """Share of the tiles that are correctly classified, over all folds."""
        return float(divide_trace(self.confusion))


def compute_split_scores(trial: TrialOutcome, *, tiles: TileTable, split: Split) -> SplitScores:
    """Return what the finished folds of a trial scored in one split.

    Tile scores are means over the folds, as in the paper. Image scores are those of the one confusion matrix of all
    images: a fold tests as few as one image per class, and a mean over F-measures of single images is biased downwards
    (Forman and Scholz, SIGKDD Explor. 12 (2010) 49).

    Args:
        trial: One or more folds finished.
        tiles: The study's tiles.
        split: Validation or test.

    Raises:
        ValueError: No fold of the trial is finished.
    """
    if not trial.folds:
        raise ValueError(f"Trial {trial.number} has no finished fold to score; its state is {trial.state!r}.")
    confusions = [_compute_fold_confusion(fold, tiles=tiles, split=split) for fold in trial.folds]
    per_fold = tuple(compute_class_indices(confusion) for confusion in confusions)
    f_measure_of_fold = np.array([indices.macro_f for indices in per_fold])
    of_images = [_compute_image_confusion(fold, tiles=tiles, split=split) for fold in trial.folds]
    image_confusion: IntMatrix = np.sum(of_images, axis=0)
    losses = [compute_fold_loss(fold, tiles=tiles, split=split) for fold in trial.folds]
    return SplitScores(
        confusion=np.sum(confusions, axis=0),
        per_fold=per_fold,
        mean=map_indices(lambda *folds: np.mean(folds, axis=0), *per_fold),
        f_measure=float(f_measure_of_fold.mean()),
        f_measure_of_fold=f_measure_of_fold,
        image_confusion=image_confusion,
        image_f_measure=compute_class_indices(image_confusion).macro_f,
        image_accuracy=float(divide_trace(image_confusion)),
        loss=float(np.mean(losses)),
    )


def compute_fold_f_measure(fold: FoldOutcome, *, tiles: TileTable, split: Split) -> float:
    """Return the macro F-measure of one fold over the tiles of one split, in [0, 1].

    Args:
        fold: A finished fold.
        tiles: The study's tiles.
        split: Validation or test.
    """
    return compute_class_indices(_compute_fold_confusion(fold, tiles=tiles, split=split)).macro_f


def compute_fold_scores(folds: Sequence[Sequence[FoldOutcome]], *, tiles: TileTable, split: Split) -> FloatMatrix:
    """Return the macro F-measure of every fold of several trials, shape (n_trials, n_folds).

    Args:
        folds: The folds of each trial, of all trials as many.
        tiles: The study's tiles.
        split: Validation or test.
    """
    scores = [[compute_fold_f_measure(fold, tiles=tiles, split=split) for fold in own] for own in folds]
    return np.array(scores)


def compute_log_loss(probabilities: FloatMatrix, *, labels: IntVector) -> float:
    """Return the log loss (cross-entropy): the mean of minus the log probability of the true class, in nats.

    NaN if a true class was answered with NaN.
    """
    of_true_class = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_true_class, PROBABILITY_FLOOR)).mean())


def compute_fold_loss(fold: FoldOutcome, *, tiles: TileTable, split: Split) -> float:
    """Return the log loss per tile (cross-entropy) of one split, in nats; NaN if a true class was answered with NaN.

    Args:
        fold: A finished fold.
        tiles: The study's tiles.
        split: Validation or test.
    """
    indices, probabilities = fold.get_split(split)
    return compute_log_loss(probabilities, labels=tiles.label_of_tile[indices])


def compute_confusion(*, true: IntVector, predicted: IntVector, n_classes: int) -> IntMatrix:
    """Return how often each class (row) was predicted as each class (column), shape (n_classes, n_classes).

    Args:
        true: Class indices, shape (n,).
        predicted: Class indices, shape (n,).
        n_classes: Number of classes; each index is in [0, n_classes).
    """
    pairs = true.astype(np.int64) * n_classes + predicted
    return np.bincount(pairs, minlength=n_classes * n_classes).reshape(n_classes, n_classes).astype(np.int64)


def compute_class_indices(confusion: IntMatrix | FloatMatrix) -> ClassIndices:
    """Return the four indices of each class, from a confusion matrix with the true class in rows, or a stack of them.

    A quotient of zeros counts as 0, as in scikit-learn with `zero_division=0`.

    Args:
        confusion: Shape (..., n_classes, n_classes), counts or weights.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    n_predicted, n_true, n_all = confusion.sum(axis=-2), confusion.sum(axis=-1), confusion.sum(axis=(-2, -1))
    misses = n_true + n_predicted - 2 * hits
    return ClassIndices(
        one_vs_rest_accuracy=_divide(n_all[..., None] - misses, np.broadcast_to(n_all[..., None], hits.shape)),
        precision=_divide(hits, n_predicted),
        recall=_divide(hits, n_true),
        f_measure=_divide(2 * hits, n_true + n_predicted),
    )


def map_indices(combine: Callable[..., FloatVector], *indices: ClassIndices) -> ClassIndices:
    """Return what a function makes of these records, index by index."""
    names = [entry.name for entry in fields(ClassIndices)]
    return ClassIndices(**{name: combine(*(getattr(each, name) for each in indices)) for name in names})


def check_finite(probabilities: FloatMatrix) -> None:
    """Raise ValueError if a network answered what is no number."""
    if not np.isfinite(probabilities).all():
        row = int(np.flatnonzero(~np.isfinite(probabilities).all(axis=1))[0])
        raise ValueError(f"Row {row} of the probabilities is not finite: a diverged network cannot be calibrated.")


def predict_classes(probabilities: FloatMatrix) -> IntVector:
    """Return the most probable class of each row, shape (n,); of equals the first.

    A row of NaN, which a diverged network answers, counts as the first class: such a network scores as one that always
    says the same.
    """
    predicted: IntVector = np.nan_to_num(probabilities, nan=-1.0).argmax(axis=1).astype(np.int64)
    return predicted


def combine_tiles(probabilities: FloatMatrix, *, image_of_tile: IntVector) -> tuple[IntVector, FloatMatrix]:
    """Return the images that these tiles belong to, and the answer for each.

    Args:
        probabilities: One row per tile, shape (n_tiles, n_classes), rows sum to one.
        image_of_tile: Which image each tile was cut from, shape (n_tiles,).

    Returns:
        The image indices, ascending, shape (n_images,), and their probabilities, shape (n_images, n_classes), rows
        sum to one. An image with a tile that answers NaN has NaN throughout.
    """
    images, row_of_tile = np.unique(image_of_tile, return_inverse=True)
    sums = np.zeros((len(images), probabilities.shape[1]))
    np.add.at(sums, row_of_tile, np.log(np.maximum(probabilities, PROBABILITY_FLOOR)))
    means = sums / np.bincount(row_of_tile, minlength=len(images))[:, None]
    scaled = np.exp(means - means.max(axis=1, keepdims=True))
    return images.astype(np.int64), scaled / scaled.sum(axis=1, keepdims=True)


def _compute_fold_confusion(fold: FoldOutcome, *, tiles: TileTable, split: Split) -> IntMatrix:
    indices, probabilities = fold.get_split(split)
    return compute_confusion(
        true=tiles.label_of_tile[indices],
        predicted=predict_classes(probabilities),
        n_classes=len(tiles.class_names),
    )


def _compute_image_confusion(fold: FoldOutcome, *, tiles: TileTable, split: Split) -> IntMatrix:
    """Count one fold's images, each answered by its tiles together."""
    indices, probabilities = fold.get_split(split)
    images, combined = combine_tiles(probabilities, image_of_tile=tiles.image_of_tile[indices])
    return compute_confusion(
        true=tiles.label_of_image[images],
        predicted=predict_classes(combined),
        n_classes=len(tiles.class_names),
    )


def divide_trace(confusion: IntMatrix | FloatMatrix) -> FloatVector:
    """Return the share on the diagonal of a confusion matrix, or of each of a stack of them."""
    share: FloatVector = np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))
    return share


def _divide(numerator: FloatVector, denominator: FloatVector | IntVector) -> FloatVector:
    """Divide, with 0/0 = 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
