"""A fold's result depends on its data, its cell and its seed alone; leaks and nonsense are refused."""

import keras
import numpy as np
import pytest

from sem_search.errors import DataError, LeakError, SettingsError
from sem_search.records import Cell, FinishedFold, TileSplits
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import cut_network
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings

N_TILES, N_CLASSES = 36, 3
CELL = Cell(learning_rate=0.1, batch_size=8)
TRAINING, VALIDATION, TEST = np.arange(0, 20), np.arange(20, 28), np.arange(28, 36)


def make_trainer(
    *, epochs: int = 6, patience: int = 0, seed: int = 0, max_feature_bytes: int | None = None
) -> HeadTrainer:
    """A tiny head on features whose mean tells the class."""
    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone("tiny").build(tile_px=32))
    labels = np.arange(N_TILES) % N_CLASSES
    rng = np.random.default_rng(0)
    features = [
        (rng.random((N_TILES, *tensor.shape[1:])) + labels.reshape(-1, *[1] * (len(tensor.shape) - 1))).astype(
            np.float32
        )
        for tensor in cut.tail.inputs
    ]
    return HeadTrainer(
        cut,
        features=features,
        labels=labels,
        groups=[f"image {tile // 2}" for tile in range(N_TILES)],
        n_classes=N_CLASSES,
        settings=TrainingSettings(epochs=epochs, patience=patience),
        seed=seed,
        hidden_units=8,
        max_feature_bytes=max_feature_bytes,
    )


@pytest.fixture(scope="module")
def trainer() -> HeadTrainer:
    return make_trainer()


def train(trainer: HeadTrainer, *, fold: int = 0, learning_rate: float = 0.05, batch_size: int = 8) -> FinishedFold:
    splits = TileSplits(number=fold, training=TRAINING, validation=VALIDATION, test=TEST)
    return trainer.train_fold(splits, cell=Cell(learning_rate=learning_rate, batch_size=batch_size))


def assert_same(one: FinishedFold, other: FinishedFold) -> None:
    np.testing.assert_array_equal(one.outcome.test_probabilities, other.outcome.test_probabilities)
    np.testing.assert_array_equal(one.outcome.curves.training_loss, other.outcome.curves.training_loss)
    for weight, twin in zip(one.head_weights, other.head_weights, strict=True):
        np.testing.assert_array_equal(weight, twin)


def test_a_result_does_not_depend_on_what_was_trained_before(trainer: HeadTrainer) -> None:
    first = train(trainer)
    train(trainer, fold=1, learning_rate=0.5, batch_size=5)
    assert_same(train(trainer), first)


def test_another_process_would_give_the_same(trainer: HeadTrainer) -> None:
    assert_same(train(make_trainer()), train(trainer))


def test_fold_seed_and_cell_each_make_a_difference(trainer: HeadTrainer) -> None:
    results = [
        train(trainer),
        train(trainer, fold=1),
        train(trainer, learning_rate=0.01),
        train(trainer, batch_size=5),
        train(make_trainer(seed=1)),
    ]
    assert len({result.outcome.test_probabilities.tobytes() for result in results}) == len(results)


def test_features_that_do_not_fit_into_memory_give_the_same_result(trainer: HeadTrainer) -> None:
    result, usual = train(make_trainer(max_feature_bytes=1)), train(trainer)
    np.testing.assert_allclose(result.outcome.test_probabilities, usual.outcome.test_probabilities, rtol=1e-5)


def test_training_lowers_the_loss() -> None:
    losses = train(make_trainer(epochs=60), learning_rate=0.005).outcome.curves.training_loss
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()


def test_fixed_length_keeps_the_last_epoch(trainer: HeadTrainer) -> None:
    result = train(trainer)
    assert (len(result.outcome.curves.training_loss), result.outcome.best_epoch) == (6, 5)


def test_early_stopping_keeps_the_epoch_of_the_lowest_validation_loss() -> None:
    result = train(make_trainer(epochs=60, patience=3), learning_rate=0.3)
    losses = result.outcome.curves.validation_loss
    assert result.outcome.best_epoch == int(np.argmin(losses))
    assert result.outcome.is_diverged or len(losses) == 60 or len(losses) == result.outcome.best_epoch + 1 + 3


@pytest.mark.parametrize("learning_rate", [10.0, 1e6])
def test_divergence_ends_the_fold_and_leaves_finite_answers(learning_rate: float) -> None:
    result = train(make_trainer(epochs=40), learning_rate=learning_rate)
    assert result.outcome.is_diverged
    assert len(result.outcome.curves.training_loss) < 40
    assert np.isfinite(result.outcome.test_probabilities).all()
    np.testing.assert_allclose(result.outcome.test_probabilities.sum(axis=1), 1)


def test_kept_weights_answer_what_was_measured(trainer: HeadTrainer) -> None:
    result = train(trainer)
    train(trainer, fold=1)
    np.testing.assert_allclose(trainer.predict(result.head_weights, TEST), result.outcome.test_probabilities, atol=1e-6)


def test_a_group_on_two_sides_is_never_trained_on(trainer: HeadTrainer) -> None:
    with pytest.raises(LeakError, match="image 9"):
        trainer.train_fold(
            TileSplits(number=0, training=np.arange(0, 19), validation=np.arange(19, 27), test=np.arange(28, 36)),
            cell=CELL,
        )


@pytest.mark.parametrize("split", ["training", "validation", "test"])
def test_an_empty_split_is_refused(trainer: HeadTrainer, split: str) -> None:
    splits = {"training": TRAINING, "validation": VALIDATION, "test": TEST, split: np.arange(0)}
    with pytest.raises(DataError, match=split):
        trainer.train_fold(TileSplits(number=0, **splits), cell=CELL)


@pytest.mark.parametrize(("learning_rate", "batch_size", "named"), [(0.0, 8, "learning_rate"), (0.1, 0, "batch_size")])
def test_nonsense_cells_are_refused(trainer: HeadTrainer, learning_rate: float, batch_size: int, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        train(trainer, learning_rate=learning_rate, batch_size=batch_size)
