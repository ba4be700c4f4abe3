"""When a fold ends, and which of its epochs counts."""

import math

import numpy as np
import pytest

from sem_search.records import EpochFigures
from sem_search.transfer.heads.early_stopping import FoldWatch

NAN, INF = math.nan, math.inf
N_CLASSES = 10
GUESSING = math.log(N_CLASSES)  # 2.303; twice that is where a loss is too high


def watch_losses(
    validation: list[float],
    *,
    training: list[float] | None = None,
    dead: list[bool] | None = None,
    epochs: int = 100,
    patience: int = 0,
    start_loss: float = GUESSING,
) -> FoldWatch:
    """Return a watch that was told these epochs."""
    watch = FoldWatch(epochs=epochs, patience=patience, start_loss=start_loss, n_classes=N_CLASSES)
    for index, loss in enumerate(validation):
        watch.add(
            EpochFigures(
                training_loss=training[index] if training else 1.0,
                training_accuracy=0.5,
                validation_loss=loss,
                validation_accuracy=0.25,
            ),
            is_dead=bool(dead and dead[index]),
        )
    return watch


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        ([1.0], [1.0], False),
        ([NAN], [1.0], True),
        ([INF], [1.0], True),
        ([1.0], [NAN], True),
        ([1.0], [INF], True),
        ([1.0, 1.0, NAN], [1.0, 1.0, 1.0], True),
    ],
)
def test_first_sign_a_loss_that_is_not_finite(training: list[float], validation: list[float], expected: bool) -> None:
    assert watch_losses(validation, training=training).is_diverged is expected


@pytest.mark.parametrize(
    ("training", "start_loss", "expected"),
    [
        ([4.7, 4.7, 4.7], GUESSING, True),
        ([4.5, 4.5, 4.5], GUESSING, False),  # below twice the loss of guessing
        ([4.7, 4.7], GUESSING, False),  # the bump that momentum makes is as short
        ([4.7, 4.5, 4.7, 4.7], GUESSING, False),
        ([1.0, 4.7, 4.7, 4.7], GUESSING, True),
        ([4.7, 4.7, 4.7], 0.1, True),
        ([1.0, 1.0, 1.0], 0.1, False),  # a lucky start is no reason: guessing is allowed
        ([4.7, 4.7, 4.7], 3.0, False),  # an unlucky one is allowed for
        ([6.1, 6.1, 6.1], 3.0, True),
        ([2 * GUESSING] * 3, GUESSING, False),  # above means above
    ],
)
def test_second_sign_a_training_loss_above_twice_its_start(
    training: list[float], start_loss: float, expected: bool
) -> None:
    watch = watch_losses([1.0] * len(training), training=training, start_loss=start_loss)
    assert watch.is_diverged is expected


@pytest.mark.parametrize(
    ("dead", "expected"),
    [
        ([True] * 3, True),
        ([True] * 2, False),
        ([True, True, False, True, True], False),
        ([False, True, True, True], True),
        ([False] * 5, False),
    ],
)
def test_third_sign_a_head_that_answers_all_tiles_alike(dead: list[bool], expected: bool) -> None:
    assert watch_losses([1.0] * len(dead), dead=dead).is_diverged is expected


def test_a_high_validation_loss_alone_is_no_divergence() -> None:
    assert not watch_losses([50.0] * 10).is_diverged


def test_divergence_ends_the_fold_at_once() -> None:
    assert watch_losses([1.0, NAN], patience=50).is_finished
    assert watch_losses([1.0, NAN]).is_finished


@pytest.mark.parametrize(
    ("validation", "patience", "is_finished", "best_epoch"),
    [
        ([3.0, 2.0, 1.0], 2, False, 2),
        ([3.0, 2.0, 2.5], 2, False, 1),
        ([3.0, 2.0, 2.5, 2.5], 2, True, 1),
        ([3.0, 2.0, 2.5, 1.9], 2, False, 3),  # better in time
        ([2.0, 2.0, 2.0], 2, True, 0),  # no better is not better
        ([1.0, 2.0], 1, True, 0),
    ],
)
def test_patience_counts_epochs_since_the_lowest_validation_loss(
    validation: list[float], patience: int, is_finished: bool, best_epoch: int
) -> None:
    watch = watch_losses(validation, patience=patience)
    assert (watch.is_finished, watch.best_epoch) == (is_finished, best_epoch)
    assert watch.is_best_now is (best_epoch == len(validation) - 1)


def test_without_patience_the_length_is_fixed_and_the_last_epoch_counts() -> None:
    for n_done in range(1, 6):
        watch = watch_losses([1.0, 2.0, 3.0, 4.0, 5.0][:n_done], epochs=5)
        assert watch.is_finished is (n_done == 5)
        assert watch.best_epoch == n_done - 1
        assert watch.is_best_now


def test_with_patience_the_epochs_are_still_a_limit() -> None:
    assert watch_losses([3.0, 2.0, 1.0], epochs=3, patience=2).is_finished


@pytest.mark.parametrize(
    ("validation", "best_epoch"),
    [
        ([NAN], 0),
        ([INF, NAN], 1),  # none was ever finite: the last one
        ([2.0, NAN], 0),
        ([2.0, 1.0, INF], 1),
    ],
)
def test_the_best_epoch_is_never_one_without_a_finite_loss_if_there_is_another(
    validation: list[float], best_epoch: int
) -> None:
    assert watch_losses(validation, patience=3).best_epoch == best_epoch


def test_nothing_has_happened_before_the_first_epoch() -> None:
    watch = watch_losses([])
    assert len(watch) == 0
    assert not watch.is_diverged
    assert not watch.is_finished


def test_curves_hold_every_epoch_in_order() -> None:
    watch = FoldWatch(epochs=9, patience=0, start_loss=1.0, n_classes=N_CLASSES)
    for value in (1.0, 2.0, NAN):
        watch.add(
            EpochFigures(
                training_loss=value,
                training_accuracy=value + 10,
                validation_loss=value + 20,
                validation_accuracy=value + 30,
            )
        )
    curves = watch.curves
    for offset, curve in enumerate(
        (curves.training_loss, curves.training_accuracy, curves.validation_loss, curves.validation_accuracy)
    ):
        np.testing.assert_array_equal(curve, np.array([1.0, 2.0, NAN]) + 10 * offset)
    assert len(watch) == 3
