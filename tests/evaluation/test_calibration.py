"""Temperatures found again, errors of calibrated and of overconfident answers, and what chance alone shows."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom
from sklearn.metrics import log_loss

from sem_search.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    ReliabilityBin,
    apply_temperature,
    compute_brier_score,
    compute_calibration_scores,
    compute_expected_calibration_error,
    compute_reliability,
    cross_fit_temperature,
    fit_temperature,
    merge_bins,
)
from sem_search.evaluation.metrics import compute_log_loss


def draw_calibrated(*, n: int, n_classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that mean what they say, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    probabilities = softmax(2.0 * rng.normal(size=(n, n_classes)), axis=1)
    labels = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return probabilities, labels


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found_again(true_temperature: float) -> None:
    probabilities, labels = draw_calibrated(n=20_000)
    distorted = apply_temperature(probabilities, temperature=1 / true_temperature)
    assert fit_temperature(distorted, labels=labels) == pytest.approx(true_temperature, rel=0.05)


def test_the_temperature_minimises_the_log_loss() -> None:
    probabilities, labels = draw_calibrated(n=400, seed=3)
    overconfident = apply_temperature(probabilities, temperature=0.3)
    best = fit_temperature(overconfident, labels=labels)
    scores = {
        factor: compute_log_loss(apply_temperature(overconfident, temperature=best * factor), labels=labels)
        for factor in (0.8, 1.0, 1.25)
    }
    assert min(scores, key=scores.__getitem__) == 1.0


def test_temperature_one_changes_nothing() -> None:
    probabilities, _ = draw_calibrated(n=50)
    np.testing.assert_allclose(apply_temperature(probabilities, temperature=1.0), probabilities, atol=1e-6)


def test_the_order_of_the_classes_stays() -> None:
    probabilities, _ = draw_calibrated(n=50)
    for temperature in (0.05, 0.5, 20.0):
        scaled = apply_temperature(probabilities, temperature=temperature)
        np.testing.assert_allclose(scaled.sum(axis=1), 1)
        order = probabilities.argsort(axis=1)
        assert (np.diff(np.take_along_axis(scaled, order, axis=1), axis=1) >= 0).all()


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.full((8, 4), 0.25), np.arange(8) % 4),  # uniform
        (np.eye(4)[np.arange(8) % 4], np.arange(8) % 4),  # all right and certain
        (np.eye(4)[np.arange(8) % 4], (np.arange(8) + 1) % 4),  # all wrong and certain
        (np.tile([0.7, 0.3], (5, 1)), np.zeros(5, dtype=np.int64)),  # one class only
        (np.ones((5, 1)), np.zeros(5, dtype=np.int64)),  # a single class to choose from
        (np.array([[0.6, 0.4]]), np.array([0])),  # one answer
    ],
)
def test_hopeless_fits_stay_bounded_and_finite(probabilities: np.ndarray, labels: np.ndarray) -> None:
    temperature = fit_temperature(probabilities, labels=labels)
    assert MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE
    assert np.isfinite(apply_temperature(probabilities, temperature=temperature)).all()


def test_uniform_answers_keep_temperature_one() -> None:
    assert fit_temperature(np.full((8, 4), 0.25), labels=np.arange(8) % 4) == 1.0


def test_answers_that_are_all_right_do_not_become_certain() -> None:
    labels = np.arange(40) % 4
    probabilities = 0.6 * np.eye(4)[labels] + 0.1
    scaled = apply_temperature(probabilities, temperature=fit_temperature(probabilities, labels=labels))
    assert 0.9 < scaled.max() < 40.5 / 41  # the rule of succession: one doubtful answer in 41


def test_cross_fitting_judges_each_part_by_the_others() -> None:
    probabilities, labels = draw_calibrated(n=300)
    probabilities[:100] = apply_temperature(probabilities[:100], temperature=0.2)
    part = np.repeat([7, 2, 4], 100)
    fit = cross_fit_temperature(probabilities, labels=labels, part_of_row=part)
    for row, number in enumerate((2, 4, 7)):
        kept = part != number
        temperature = fit_temperature(probabilities[kept], labels=labels[kept])
        assert fit.temperatures[row] == temperature
        np.testing.assert_array_equal(
            fit.probabilities[~kept], apply_temperature(probabilities[~kept], temperature=temperature)
        )


def test_scaling_mends_overconfident_answers_out_of_sample() -> None:
    probabilities, labels = draw_calibrated(n=400, seed=1)
    overconfident = apply_temperature(probabilities, temperature=0.3)
    after = cross_fit_temperature(overconfident, labels=labels, part_of_row=np.arange(400) % 5).probabilities
    before_scores = compute_calibration_scores(overconfident, labels=labels)
    after_scores = compute_calibration_scores(after, labels=labels)
    assert before_scores.expected_calibration_error > before_scores.highest_error_if_calibrated
    assert after_scores.expected_calibration_error < after_scores.highest_error_if_calibrated
    assert after_scores.log_loss < before_scores.log_loss
    assert after_scores.brier_score < before_scores.brier_score
    assert after_scores.accuracy == before_scores.accuracy


def test_reliability_is_counted_as_by_hand() -> None:
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.05, 0.95]])
    low, high = compute_reliability(probabilities, labels=np.array([0, 0, 0, 1]), n_bins=2)
    assert (low.n_answers, low.accuracy, high.n_answers, high.accuracy) == (2, 0.5, 2, 1.0)
    assert (low.lowest_confidence, low.highest_confidence, low.confidence) == (0.6, 0.7, pytest.approx(0.65))
    assert compute_expected_calibration_error((low, high)) == pytest.approx((0.15 + 0.075) / 2)


def test_equal_confidences_share_a_bin() -> None:
    labels = np.arange(8) % 4
    (entry,) = compute_reliability(np.full((8, 4), 0.25), labels=labels)
    assert entry.n_answers == 8
    assert entry.accuracy == entry.confidence == 0.25


@pytest.mark.parametrize("n", [1, 3, 10, 97])
def test_bins_hold_every_answer_once_and_are_nearly_equal(n: int) -> None:
    probabilities, labels = draw_calibrated(n=n)
    sizes = [entry.n_answers for entry in compute_reliability(probabilities, labels=labels)]
    assert sum(sizes) == n
    assert max(sizes) - min(sizes) <= 1


def test_chance_explains_the_error_of_calibrated_answers() -> None:
    exceeded = []
    for seed in range(200):
        probabilities, labels = draw_calibrated(n=60, seed=seed)
        scores = compute_calibration_scores(probabilities, labels=labels, seed=seed)
        exceeded.append(scores.expected_calibration_error > scores.highest_error_if_calibrated)
    assert np.mean(exceeded) < 0.09  # 5 %, and three standard errors


def test_scores_agree_with_scikit_learn_and_by_hand() -> None:
    probabilities, labels = draw_calibrated(n=100)
    assert compute_log_loss(probabilities, labels=labels) == pytest.approx(log_loss(labels, probabilities))
    assert compute_brier_score(np.array([[0.8, 0.2], [0.5, 0.5]]), labels=np.array([0, 1])) == pytest.approx(
        (0.08 + 0.5) / 2
    )


def test_answers_of_a_diverged_network_are_refused() -> None:
    probabilities = np.array([[0.5, 0.5], [np.nan, np.nan]])
    for compute in (fit_temperature, compute_calibration_scores):
        with pytest.raises(ValueError, match="Row 1 of the probabilities"):
            compute(probabilities, labels=np.zeros(2, dtype=np.int64))


def test_images_of_one_group_are_right_or_wrong_together() -> None:
    """Four overlapping images of each place; counted as independent they would alarm far too often."""
    alarms = {"by group": 0, "each by itself": 0}
    for seed in range(100):
        probabilities, labels = (values.repeat(4, axis=0) for values in draw_calibrated(n=20, seed=seed))
        groups = np.arange(20).repeat(4)
        for name, group_of_row in (("by group", groups), ("each by itself", None)):
            scores = compute_calibration_scores(probabilities, labels=labels, group_of_row=group_of_row)
            alarms[name] += scores.expected_calibration_error > scores.highest_error_if_calibrated
    assert alarms["by group"] <= binom.ppf(0.999, 100, 0.05) < alarms["each by itself"]


@pytest.mark.parametrize(
    ("sizes", "n_least", "wanted"),
    [
        ([5] * 10, 10, [10] * 5),
        ([5, 5, 5], 10, [15]),
        ([3, 12, 12], 10, [15, 12]),
        ([12, 3, 12], 10, [15, 12]),
        ([4, 3], 10, [7]),
        ([20], 10, [20]),
    ],
)
def test_bins_are_joined_until_each_holds_enough(sizes: list[int], n_least: int, wanted: list[int]) -> None:
    bins = [
        ReliabilityBin(
            n_answers=n, lowest_confidence=place, highest_confidence=place, confidence=place, accuracy=place % 2
        )
        for place, n in enumerate(sizes)
    ]
    joined = merge_bins(bins, n_least=n_least)
    assert [one.n_answers for one in joined] == wanted
    assert (joined[0].lowest_confidence, joined[-1].highest_confidence) == (0, len(sizes) - 1)
    for name in ("confidence", "accuracy"):
        means = [sum(one.n_answers * getattr(one, name) for one in some) / sum(sizes) for some in (bins, joined)]
        assert means[1] == pytest.approx(means[0])
