"""Scores against scikit-learn and against matrices small enough to check by hand."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

from sem_search.evaluation.metrics import (
    PROBABILITY_FLOOR,
    combine_tiles,
    compute_class_indices,
    compute_confusion,
    compute_fold_f_measure,
    compute_fold_loss,
    compute_split_scores,
    predict_classes,
)
from sem_search.records import Cell, FoldOutcome, TileTable, TrainingCurves, TrialOutcome

N_CLASSES = 4
TILES_PER_IMAGE = 3


@pytest.fixture(scope="module")
def tiles() -> TileTable:
    """Four classes of four images of three tiles."""
    labels = np.repeat(np.arange(N_CLASSES), 4)
    ids = tuple(f"image{number}" for number in range(len(labels)))
    return TileTable(
        class_names=("a", "b", "c", "d"),
        image_ids=ids,
        label_of_image=labels,
        group_of_image=ids,
        image_of_tile=np.repeat(np.arange(len(labels)), TILES_PER_IMAGE),
    )


def build_fold(tiles: TileTable, *, fold: int, seed: int = 0) -> FoldOutcome:
    """Validate on every fourth image, test on the next; answers are random and mostly right."""
    rng = np.random.default_rng([seed, fold])
    splits = {}
    for name, part in (("validation", (fold + 1) % 4), ("test", fold)):
        indices = np.flatnonzero(tiles.image_of_tile % 4 == part)
        logits = rng.normal(size=(len(indices), N_CLASSES))
        logits[np.arange(len(indices)), tiles.label_of_tile[indices]] += 1.0
        splits[name] = indices, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    empty = np.zeros(1)
    return FoldOutcome(
        fold=fold,
        validation_tiles=splits["validation"][0],
        validation_probabilities=splits["validation"][1],
        test_tiles=splits["test"][0],
        test_probabilities=splits["test"][1],
        curves=TrainingCurves(
            training_loss=empty, training_accuracy=empty, validation_loss=empty, validation_accuracy=empty
        ),
        best_epoch=0,
        is_diverged=False,
        training_s=0.0,
    )


@pytest.fixture(scope="module")
def trial(tiles: TileTable) -> TrialOutcome:
    return TrialOutcome(
        number=7,
        cell=Cell(learning_rate=1e-3, batch_size=16),
        state="complete",
        folds=tuple(build_fold(tiles, fold=fold) for fold in range(4)),
    )


def test_a_stack_of_matrices_gives_a_stack_of_indices() -> None:
    stack = np.random.default_rng(0).integers(0, 9, size=(2, 3, N_CLASSES, N_CLASSES))
    stacked, single = compute_class_indices(stack), compute_class_indices(stack[1, 2])
    for name in ("one_vs_rest_accuracy", "precision", "recall", "f_measure"):
        np.testing.assert_array_equal(getattr(stacked, name)[1, 2], getattr(single, name))


@pytest.mark.parametrize("seed", range(5))
def test_indices_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, N_CLASSES, 60), rng.integers(0, N_CLASSES, 60)
    confusion = compute_confusion(true=true, predicted=predicted, n_classes=N_CLASSES)
    indices = compute_class_indices(confusion)
    precision, recall, f_measure, _ = precision_recall_fscore_support(
        true, predicted, labels=range(N_CLASSES), zero_division=0
    )
    np.testing.assert_array_equal(confusion, confusion_matrix(true, predicted, labels=range(N_CLASSES)))
    np.testing.assert_allclose(indices.precision, precision)
    np.testing.assert_allclose(indices.recall, recall)
    np.testing.assert_allclose(indices.f_measure, f_measure)
    one_vs_rest = [accuracy_score(true == label, predicted == label) for label in range(N_CLASSES)]
    np.testing.assert_allclose(indices.one_vs_rest_accuracy, one_vs_rest)


@pytest.mark.parametrize(
    ("confusion", "accuracy", "precision", "recall", "f_measure"),
    [
        pytest.param([[3, 1], [0, 4]], [7 / 8, 7 / 8], [1, 4 / 5], [3 / 4, 1], [6 / 7, 8 / 9], id="one mistake"),
        pytest.param([[5, 0], [0, 5]], [1, 1], [1, 1], [1, 1], [1, 1], id="perfect"),
        pytest.param([[4, 0], [4, 0]], [0.5, 0.5], [0.5, 0], [1, 0], [2 / 3, 0], id="never predicted"),
        pytest.param([[4, 1], [0, 0]], [0.8, 0.8], [1, 0], [0.8, 0], [8 / 9, 0], id="never occurred"),
        pytest.param([[0, 0], [0, 0]], [0, 0], [0, 0], [0, 0], [0, 0], id="nothing at all"),
    ],
)
def test_indices_by_hand(
    confusion: list[list[int]],
    accuracy: list[float],
    precision: list[float],
    recall: list[float],
    f_measure: list[float],
) -> None:
    indices = compute_class_indices(np.array(confusion))
    np.testing.assert_allclose(indices.one_vs_rest_accuracy, accuracy)
    np.testing.assert_allclose(indices.precision, precision)
    np.testing.assert_allclose(indices.recall, recall)
    np.testing.assert_allclose(indices.f_measure, f_measure)
    assert indices.macro_f == pytest.approx(np.mean(f_measure))


def test_confusion_has_true_classes_in_rows() -> None:
    confusion = compute_confusion(true=np.array([0, 0, 1]), predicted=np.array([1, 1, 1]), n_classes=3)
    assert confusion.tolist() == [[0, 2, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("row", "expected"),
    [([0.2, 0.5, 0.3], 1), ([0.5, 0.5, 0.0], 0), ([np.nan] * 3, 0), ([np.nan, 0.1, 0.9], 2)],
)
def test_the_most_probable_class_is_predicted(row: list[float], expected: int) -> None:
    assert predict_classes(np.array([row])).tolist() == [expected]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_split_scores_are_means_over_the_folds(trial: TrialOutcome, tiles: TileTable, split: str) -> None:
    scores = compute_split_scores(trial, tiles=tiles, split=split)
    by_hand = []
    for fold in trial.folds:
        indices, probabilities = fold.get_split(split)
        _, _, f_measure, _ = precision_recall_fscore_support(
            tiles.label_of_tile[indices], probabilities.argmax(axis=1), labels=range(N_CLASSES), zero_division=0
        )
        by_hand.append(f_measure)
        assert compute_fold_f_measure(fold, tiles=tiles, split=split) == pytest.approx(f_measure.mean())
    np.testing.assert_allclose(scores.f_measure_of_fold, np.mean(by_hand, axis=1))
    np.testing.assert_allclose(scores.mean.f_measure, np.mean(by_hand, axis=0))
    assert scores.f_measure == pytest.approx(np.mean(by_hand))
    assert len(scores.per_fold) == len(trial.folds)


def test_every_tile_and_image_is_counted_once(trial: TrialOutcome, tiles: TileTable) -> None:
    scores = compute_split_scores(trial, tiles=tiles, split="test")
    assert scores.confusion.sum(axis=1).tolist() == [4 * TILES_PER_IMAGE] * N_CLASSES
    assert scores.image_confusion.sum(axis=1).tolist() == [4] * N_CLASSES
    assert scores.tile_accuracy == np.trace(scores.confusion) / tiles.n_tiles
    assert scores.image_accuracy == np.trace(scores.image_confusion) / 16


def test_image_scores_are_those_of_one_matrix(trial: TrialOutcome, tiles: TileTable) -> None:
    """The mean over folds of one image per class would be lower."""
    scores = compute_split_scores(trial, tiles=tiles, split="test")
    assert scores.image_f_measure == compute_class_indices(scores.image_confusion).macro_f
    assert scores.image_f_measure > scores.f_measure  # three tiles know more than one


def test_loss_agrees_with_scikit_learn(trial: TrialOutcome, tiles: TileTable) -> None:
    losses = [
        log_loss(tiles.label_of_tile[fold.test_tiles], fold.test_probabilities, labels=range(N_CLASSES))
        for fold in trial.folds
    ]
    assert compute_split_scores(trial, tiles=tiles, split="test").loss == pytest.approx(np.mean(losses))


def test_loss_of_a_sure_mistake_is_finite(tiles: TileTable) -> None:
    fold = build_fold(tiles, fold=0)
    wrong = np.zeros_like(fold.test_probabilities)
    wrong[np.arange(len(wrong)), (tiles.label_of_tile[fold.test_tiles] + 1) % N_CLASSES] = 1
    fold.test_probabilities[:] = wrong
    assert compute_fold_loss(fold, tiles=tiles, split="test") == pytest.approx(-np.log(1e-7))
    assert compute_fold_f_measure(fold, tiles=tiles, split="test") == 0


def test_a_fold_of_nan_scores_like_a_constant_answer(tiles: TileTable) -> None:
    fold = build_fold(tiles, fold=0)
    fold.test_probabilities[:] = np.nan
    assert compute_fold_f_measure(fold, tiles=tiles, split="test") == pytest.approx(0.4 / N_CLASSES)
    assert np.isnan(compute_fold_loss(fold, tiles=tiles, split="test"))


def test_a_trial_without_folds_cannot_be_scored(tiles: TileTable) -> None:
    cell = Cell(learning_rate=1e-3, batch_size=16)
    trial = TrialOutcome(number=3, cell=cell, state="failed", folds=())
    with pytest.raises(ValueError, match="Trial 3 has no finished fold to score; its state is 'failed'"):
        compute_split_scores(trial, tiles=tiles, split="test")


def test_the_mean_of_log_probabilities_is_renormalised() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    images, combined = combine_tiles(probabilities, image_of_tile=np.array([5, 5, 2]))
    geometric = np.sqrt([0.9 * 0.4, 0.1 * 0.6])
    assert images.tolist() == [2, 5]
    np.testing.assert_allclose(combined, [[0.2, 0.8], geometric / geometric.sum()])


def test_a_sure_tile_outvotes_tiles_that_hesitate() -> None:
    probabilities = np.array([[0.01, 0.99], [0.6, 0.4], [0.6, 0.4]])
    _, combined = combine_tiles(probabilities, image_of_tile=np.zeros(3, dtype=np.int64))
    assert combined.argmax() == 1


def test_one_tile_cannot_forbid_a_class() -> None:
    probabilities = np.array([[0.0, 1.0], *[[0.99, 0.01]] * 9])
    _, combined = combine_tiles(probabilities, image_of_tile=np.zeros(10, dtype=np.int64))
    assert combined[0, 0] > 0.9


def test_contradicting_certainties_cancel() -> None:
    _, combined = combine_tiles(np.eye(2), image_of_tile=np.zeros(2, dtype=np.int64))
    np.testing.assert_allclose(combined, [[0.5, 0.5]])


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_tiles_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), size=30)
    image_of_tile = np.repeat(np.arange(10), 3)
    order = rng.permutation(30)
    images, combined = combine_tiles(probabilities, image_of_tile=image_of_tile)
    other_images, other = combine_tiles(probabilities[order], image_of_tile=image_of_tile[order])
    assert images.tolist() == other_images.tolist() == list(range(10))
    np.testing.assert_allclose(other, combined)
    np.testing.assert_allclose(combined.sum(axis=1), 1)


def test_one_tile_answers_for_its_image() -> None:
    _, combined = combine_tiles(np.array([[0.3, 0.7]]), image_of_tile=np.array([0]))
    np.testing.assert_allclose(combined, [[0.3, 0.7]], atol=PROBABILITY_FLOOR)


def test_a_tile_of_nan_leaves_its_image_without_an_answer() -> None:
    probabilities = np.array([[np.nan, np.nan], [0.5, 0.5], [0.1, 0.9]])
    _, combined = combine_tiles(probabilities, image_of_tile=np.array([0, 0, 1]))
    assert np.isnan(combined[0]).all()
    np.testing.assert_allclose(combined[1], [0.1, 0.9])
