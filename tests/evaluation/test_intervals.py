"""Intervals against closed forms, at the edges, and (slow) against the truth of simulated studies."""

import time

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest

from sem_search.evaluation.answers import tabulate_answers, tabulate_image_answers
from sem_search.evaluation.intervals import compute_intervals, compute_share_interval
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.evaluation.statistics import Interval


def tabulate_shares(*, n_right: int, n: int, n_classes: int = 2):
    """Each class of n images has n_right right ones."""
    labels = np.repeat(np.arange(n_classes), n)
    predicted = np.where(np.tile(np.arange(n), n_classes) < n_right, labels, (labels + 1) % n_classes)
    return tabulate_image_answers(predicted, labels=labels, n_classes=n_classes)


def test_values_are_the_reported_figures(build_tiles, build_trial) -> None:
    tiles = build_tiles(n_classes=4, images_per_class=8)
    trial = build_trial(tiles, strength=1.0)
    scores = compute_split_scores(trial, tiles=tiles, split="test")
    intervals = compute_intervals(tabulate_answers(trial, tiles=tiles, split="test"))
    assert intervals.f_measure.value == pytest.approx(scores.f_measure)
    assert intervals.tile_accuracy.value == pytest.approx(scores.tile_accuracy)
    assert intervals.image_f_measure.value == pytest.approx(scores.image_f_measure)
    assert intervals.image_accuracy.value == pytest.approx(scores.image_accuracy)
    for label, entry in enumerate(intervals.of_class):
        for name in ("one_vs_rest_accuracy", "precision", "recall", "f_measure"):
            interval = getattr(entry, name)
            assert interval.value == pytest.approx(getattr(scores.mean, name)[label])
            assert 0 <= interval.low < interval.value < interval.high <= 1
    assert (intervals.n_images, intervals.n_groups) == (32, 32)


def test_a_share_has_the_farther_of_two_intervals() -> None:
    interval = compute_share_interval(0.8, n=50)
    wilson = binomtest(40, 50).proportion_ci(method="wilson")
    assert interval.low == pytest.approx(wilson.low)
    assert interval.high == pytest.approx(beta.ppf(0.975, 40.5, 10.5))


@pytest.mark.parametrize("true", [0.998, 0.99, 0.9, 0.6])
def test_a_share_is_held_in_95_of_100_samples(true: float) -> None:
    """Exactly, by summing over all samples of 100."""
    held = [
        binom.pmf(n_right, 100, true)
        for n_right in range(101)
        if (interval := compute_share_interval(n_right / 100, n=100)).low <= true <= interval.high
    ]
    assert 0.93 < sum(held) < 0.999


def test_image_accuracy_has_nearly_the_interval_of_a_share() -> None:
    intervals = compute_intervals(tabulate_shares(n_right=80, n=100), n_resamples=5000)
    exact = binomtest(160, 200).proportion_ci(method="wilson")
    assert intervals.image_accuracy.low == pytest.approx(exact.low, abs=0.004)
    assert intervals.image_accuracy.high == pytest.approx(exact.high, abs=0.004)


def test_nothing_wrong_is_no_certainty() -> None:
    intervals = compute_intervals(tabulate_shares(n_right=20, n=20, n_classes=5))
    exact = binomtest(100, 100).proportion_ci(method="wilson")
    for interval in (intervals.f_measure, intervals.image_accuracy, intervals.tile_accuracy):
        assert interval.value == interval.high == 1.0
        assert interval.low == pytest.approx(exact.low, abs=0.002)
    assert intervals.of_class[0].recall.low < intervals.image_accuracy.low  # 20 images know less than 100


def test_groups_know_less_than_as_many_single_images() -> None:
    labels = np.repeat([0, 1], 60)
    predicted = np.where(np.arange(120) // 6 % 4 == 0, 1 - labels, labels)
    single = compute_intervals(tabulate_image_answers(predicted, labels=labels, n_classes=2))
    groups = np.arange(120) // 6
    grouped = compute_intervals(tabulate_image_answers(predicted, labels=labels, n_classes=2, group_of_row=groups))
    ratio = (grouped.image_accuracy.high - grouped.image_accuracy.low) / (
        single.image_accuracy.high - single.image_accuracy.low
    )
    assert 2.0 < ratio < 2.9  # the square root of 6, less what the score interval shrinks


def test_a_class_that_was_never_right_keeps_an_interval() -> None:
    labels = np.repeat([0, 1, 2], 10)
    intervals = compute_intervals(tabulate_image_answers(np.where(labels == 2, 1, labels), labels=labels, n_classes=3))
    never = intervals.of_class[2].recall
    assert never.value == never.low == 0.0
    assert 0.1 < never.high < 0.5


def test_the_same_seed_gives_the_same_interval(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    table = tabulate_answers(build_trial(tiles, strength=1.0), tiles=tiles, split="test")
    one, again, other = (compute_intervals(table, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert one.f_measure.low != other.f_measure.low


def test_two_thousand_resamples_take_well_under_a_second(build_tiles, build_trial) -> None:
    tiles = build_tiles(n_classes=10, images_per_class=10, tiles_per_image=20)
    trial = build_trial(tiles, n_folds=5)
    started = time.process_time()
    compute_intervals(tabulate_answers(trial, tiles=tiles, split="test"), n_resamples=2000)
    assert time.process_time() - started < 1.0


def test_an_interval_is_told_in_words() -> None:
    assert Interval(value=0.9, low=0.85, high=0.94).to_text() == "0.900 (0.850 to 0.940)"
