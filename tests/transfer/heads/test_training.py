"""A fold's result depends on its data, its cell and its seed alone; leaks are refused."""

from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from sem_search.errors import DataError, FailedTrialError, LeakError
from sem_search.heads import Head
from sem_search.records import Cell, EpochFigures, FinishedFold, TileSplits
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import cut_network
from sem_search.transfer.heads import linear as linear_room
from sem_search.transfer.heads.linear import choose_rows, fit_linear
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings

N_TILES, N_CLASSES = 36, 3
CELL = Cell(learning_rate=0.1, batch_size=8)
TRAINING, VALIDATION, TEST = np.arange(0, 20), np.arange(20, 28), np.arange(28, 36)


def make_trainer(
    *,
    epochs: int = 6,
    patience: int = 0,
    seed: int = 0,
    n_views: int = 1,
    max_feature_bytes: int | None = None,
    **settings: Any,
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
        features=[features, *([np.flip(array, axis=-1) for array in features] for _ in range(n_views - 1))],
        labels=labels,
        groups=[f"image {tile // 2}" for tile in range(N_TILES)],
        n_classes=N_CLASSES,
        settings=TrainingSettings(epochs=epochs, patience=patience, **settings),
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


def refit(
    trainer: HeadTrainer, first: FinishedFold, *, learning_rate: float = 0.05, batch_size: int = 8
) -> FinishedFold:
    splits = TileSplits(number=first.outcome.fold, training=TRAINING, validation=VALIDATION, test=TEST)
    return trainer.refit_fold(first, splits=splits, cell=Cell(learning_rate=learning_rate, batch_size=batch_size))


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


def split() -> TileSplits:
    return TileSplits(number=0, training=TRAINING, validation=VALIDATION, test=TEST)


def test_an_answer_is_the_geometric_mean_over_the_views() -> None:
    trainer = make_trainer(n_views=2)
    result = train(trainer)
    answers = np.log(trainer.predict(result.head_weights, TEST))
    views = [trainer._compute_logits(TEST + view * N_TILES) for view in (0, 1)]
    assert np.abs(views[0] - views[1]).max() > 1e-3, "the views are not different"
    expected = np.mean([log_softmax(logits.astype(np.float64), axis=1) for logits in views], axis=0)
    expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_every_epoch_takes_each_tile_once_in_views_that_change() -> None:
    trainer = make_trainer(n_views=2)
    orders = [trainer._draw_order(TRAINING, fold=0, epoch=epoch) for epoch in range(4)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order % N_TILES), TRAINING)
    views = {tuple(order[np.argsort(order % N_TILES)] // N_TILES) for order in orders}
    assert len(views) == len(orders)
    assert all(0 < np.mean(np.asarray(view)) < 1 for view in views)


def test_the_learning_rate_falls_evenly_towards_0() -> None:
    constant, falling = make_trainer(epochs=4), make_trainer(epochs=4, schedule="linear")
    losses = [train(trainer).outcome.curves.training_loss for trainer in (constant, falling)]
    assert losses[0][0] == losses[1][0], "the first epoch has the whole rate"
    rates: list[float] = []
    trained = falling._loop.train
    falling._loop.train = lambda *args: rates.append(float(args[4])) or trained(*args)  # type: ignore[method-assign]
    train(falling, learning_rate=0.4, batch_size=32)
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_refit_learns_from_validation_tiles_too_and_leaves_the_choice_as_it_was() -> None:
    trainer = make_trainer(epochs=30, patience=4, schedule="linear")
    first = train(trainer, learning_rate=0.01)
    second = refit(trainer, first, learning_rate=0.01)
    np.testing.assert_array_equal(first.outcome.validation_probabilities, second.outcome.validation_probabilities)
    np.testing.assert_array_equal(first.outcome.curves.validation_loss, second.outcome.curves.validation_loss)
    assert first.outcome.best_epoch == second.outcome.best_epoch
    assert np.abs(first.outcome.test_probabilities - second.outcome.test_probabilities).max() > 1e-3
    np.testing.assert_allclose(trainer.predict(second.head_weights, TEST), second.outcome.test_probabilities, atol=1e-6)
    assert second.outcome.training_s > first.outcome.training_s, "both trainings count"
    on_validation = trainer.predict(second.head_weights, VALIDATION)
    labels = VALIDATION % N_CLASSES
    losses = [
        -np.log(answers[np.arange(len(labels)), labels]).mean()
        for answers in (first.outcome.validation_probabilities, on_validation)
    ]
    assert losses[1] < losses[0], "the second head has seen these tiles"


def test_refit_depends_on_the_fold_alone() -> None:
    """Whatever the process has trained before: another process goes on with a search that was stopped."""
    trainer = make_trainer()
    first = train(trainer)
    second = refit(trainer, first)
    train(trainer, fold=1, learning_rate=0.5, batch_size=5)
    assert_same(refit(trainer, first), second)
    assert_same(refit(make_trainer(), first), second)


def test_refit_has_as_many_steps_as_the_first_training_and_its_rate_falls() -> None:
    """20 training tiles for 7 epochs are 140; 28 tiles take 5 epochs for that."""
    trainer = make_trainer(epochs=7, schedule="constant")
    steps: list[tuple[float, int]] = []
    trained = trainer._loop.train
    trainer._loop.train = lambda *args: steps.append((float(args[4]), len(args[1]))) or trained(*args)  # type: ignore[method-assign]
    refit(trainer, train(trainer, learning_rate=0.1, batch_size=32), learning_rate=0.1, batch_size=32)
    assert [n for _, n in steps] == [20] * 7 + [28] * 5
    assert [rate for rate, _ in steps] == pytest.approx([0.1] * 7 + [0.1, 0.08, 0.06, 0.04, 0.02])


def test_a_diverged_head_is_not_trained_again() -> None:
    trainer = make_trainer(epochs=40)
    first = train(trainer, learning_rate=1e6)
    assert first.outcome.is_diverged
    assert refit(trainer, first, learning_rate=1e6) is first


@pytest.mark.parametrize("ending", [np.nan, 0.0])
def test_a_head_that_fails_when_it_is_trained_again_stays(ending: float, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()
    first = train(trainer)
    begin = trainer._begin

    def break_second(tiles: np.ndarray, *, fold: int, cell: Cell) -> None:
        """Let a head that is trained on more than the training tiles answer the same to everything."""
        begin(tiles, fold=fold, cell=cell)
        if len(tiles) > len(TRAINING):
            trainer.head.get_layer("head_logits").set_weights([np.full((8, N_CLASSES), ending), np.zeros(N_CLASSES)])
            trainer.head.get_layer("head_hidden").set_weights(
                [np.zeros((trainer.pool().shape[1], 8)), np.full(8, -1.0)]  # no unit is on
            )

    monkeypatch.setattr(trainer, "_begin", break_second)
    result = refit(trainer, first)
    assert result.outcome.is_diverged
    assert_same(result, first)


@pytest.mark.parametrize("head", ["linear", "linear_init"])
def test_features_that_are_no_numbers_fail_the_cell_alone(head: Head) -> None:
    trainer = make_trainer()
    trainer._pooled[0, True] = np.full_like(trainer.pool(), np.nan)
    steps = {} if head == "linear" else {"learning_rate": 0.1, "batch_size": 8}
    with pytest.raises(FailedTrialError, match="not finite"):
        trainer.train_fold(split(), cell=Cell(head=head, **steps))


def test_fine_tuning_from_the_linear_head_bears_a_class_without_tiles() -> None:
    trainer = make_trainer(epochs=3)
    training = TRAINING[TRAINING % N_CLASSES > 0]
    splits = TileSplits(number=0, training=training, validation=VALIDATION, test=TEST)
    for rate in (1e-3, 1e-5):
        result = trainer.train_fold(splits, cell=Cell(head="linear_init", learning_rate=rate, batch_size=8))
        assert not result.outcome.is_diverged
        assert result.outcome.curves.training_loss.max() < 10


@pytest.mark.parametrize("is_refit", [False, True])
@pytest.mark.parametrize("n_views", [1, 2])
def test_a_linear_head_is_logistic_regression_on_pooled_features(is_refit: bool, n_views: int) -> None:
    trainer = make_trainer(n_views=n_views)
    first = result = trainer.train_fold(split(), cell=Cell(head="linear"))
    if is_refit:
        result = trainer.refit_fold(first, splits=split(), cell=Cell(head="linear"))
    tiles = np.concatenate([TRAINING, VALIDATION]) if is_refit else TRAINING
    solution = fit_linear(
        np.concatenate([trainer.pool(view)[tiles] for view in range(n_views)]),
        labels=np.tile(tiles % N_CLASSES, n_views),
        groups=[f"image {tile // 2}" for tile in tiles],
        n_classes=N_CLASSES,
        n_views=n_views,
    )
    views = [np.log(solution.predict(trainer.pool(view)[TEST])) for view in range(n_views)]
    expected = np.exp(np.mean(views, axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.outcome.test_probabilities, expected, atol=1e-4)
    assert (len(result.outcome.curves.training_loss), result.outcome.best_epoch) == (1, 0)
    assert not result.outcome.is_diverged
    assert_same(trainer.train_fold(split(), cell=Cell(head="linear")), first)


def test_of_very_many_tiles_a_linear_head_learns_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_trainer(n_views=2)
    monkeypatch.setattr(linear_room, "MOST_ROWS", len(whole._labels))  # half of both views
    trainer = make_trainer(n_views=2)
    result = trainer.train_fold(split(), cell=Cell(head="linear"))
    learnt = [choose_rows(TRAINING, n_tiles=len(trainer._labels), view=view, n_views=2) for view in (0, 1)]
    assert sum(map(len, learnt)) == pytest.approx(len(TRAINING), abs=2)
    solution = fit_linear(
        np.concatenate([whole.pool(view)[some] for view, some in enumerate(learnt)]),
        labels=np.concatenate(learnt) % N_CLASSES,
        groups=[f"image {tile // 2}" for tile in learnt[0]],
        n_classes=N_CLASSES,
        n_views=2,
    )
    views = [np.log(solution.predict(whole.pool(view)[TEST])) for view in (0, 1)]
    expected = np.exp(np.mean(views, axis=0))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.outcome.test_probabilities, expected, atol=1e-4)


@pytest.mark.parametrize("is_refit", [False, True])
def test_fine_tuning_may_start_from_the_linear_head(is_refit: bool) -> None:
    trainer = make_trainer(epochs=2)
    cells = [
        Cell(head="linear"),
        Cell(head="linear_init", learning_rate=1e-9, batch_size=8),
        Cell(head="linear_init", learning_rate=0.05, batch_size=8),
        Cell(head="finetune", learning_rate=1e-9, batch_size=8),
    ]
    finished = [trainer.train_fold(split(), cell=cell) for cell in cells]
    if is_refit:
        pairs = zip(finished, cells, strict=True)
        finished = [trainer.refit_fold(first, splits=split(), cell=cell) for first, cell in pairs]
    exact, still, moved, plain = finished
    for probabilities in ("validation_probabilities", "test_probabilities"):
        start, kept, trained, random = (getattr(one.outcome, probabilities) for one in (exact, still, moved, plain))
        np.testing.assert_allclose(kept, start, atol=1e-5)
        assert np.abs(trained - start).max() > 1e-3
        assert np.abs(random - start).max() > 1e-2


def test_a_linear_head_reports_its_one_epoch() -> None:
    seen: list[EpochFigures] = []
    result = make_trainer().train_fold(split(), cell=Cell(head="linear"), on_epoch=seen.append)
    assert result.outcome.curves.list_epochs() == seen
    right = result.outcome.validation_probabilities.argmax(axis=1) == VALIDATION % N_CLASSES
    assert seen[0].validation_accuracy == pytest.approx(right.mean())


def test_balanced_classes_weigh_the_same() -> None:
    trainer = make_trainer(class_weight="balanced")
    rows = np.array([0, 3, 6, 9, 1, 4])  # four tiles of class 0, two of class 1, none of class 2
    weights = trainer._compute_class_weights(rows)
    np.testing.assert_allclose(weights[:2] * [4, 2], 3)
    assert np.mean(weights[rows % N_CLASSES]) == pytest.approx(1)
    assert not np.array_equal(
        train(trainer).outcome.test_probabilities, train(make_trainer()).outcome.test_probabilities
    )
