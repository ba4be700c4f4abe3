"""Paired differences, the tests over folds and over images, and pairs that cannot be made."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp

from sem_search.errors import DataError
from sem_search.evaluation.answers import tabulate_image_answers
from sem_search.evaluation.comparison import compare_trials, compute_fold_test, compute_image_test
from sem_search.evaluation.metrics import compute_split_scores


def test_differences_are_those_of_the_reported_figures(build_tiles, build_trial) -> None:
    tiles = build_tiles(n_classes=4, images_per_class=8)
    good, poor = build_trial(tiles, strength=2.5, seed=1), build_trial(tiles, strength=1.0, seed=2)
    comparison = compare_trials(good, poor, tiles=tiles)
    one, two = (compute_split_scores(trial, tiles=tiles, split="test") for trial in (good, poor))
    assert comparison.f_measure.value == pytest.approx(one.f_measure - two.f_measure)
    assert comparison.tile_accuracy.value == pytest.approx(one.tile_accuracy - two.tile_accuracy)
    assert comparison.image_f_measure.value == pytest.approx(one.image_f_measure - two.image_f_measure)
    assert comparison.image_accuracy.value == pytest.approx(one.image_accuracy - two.image_accuracy)
    values = [entry.value for entry in comparison.f_measure_of_class]
    np.testing.assert_allclose(values, one.mean.f_measure - two.mean.f_measure)
    np.testing.assert_allclose(comparison.fold_test.differences, one.f_measure_of_fold - two.f_measure_of_fold)
    assert comparison.f_measure.is_clear
    assert comparison.f_measure.low > 0
    assert (comparison.n_images, comparison.n_groups, comparison.n_folds) == (32, 32, 4)


def test_exchanging_the_two_turns_the_sign(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    one, two = build_trial(tiles, seed=1), build_trial(tiles, strength=1.0, seed=2)
    there, back = compare_trials(one, two, tiles=tiles), compare_trials(two, one, tiles=tiles)
    assert there.f_measure.value == -back.f_measure.value
    assert there.f_measure.low == pytest.approx(-back.f_measure.high)
    assert there.fold_test.p_value == pytest.approx(back.fold_test.p_value)
    assert there.image_test.n_first_better == back.image_test.n_second_better


def test_pairing_narrows_the_interval(build_tiles, build_trial) -> None:
    """Equal answers but for a few: far less uncertain than two answers to different images."""
    tiles = build_tiles(n_classes=3, images_per_class=12)
    one, near = build_trial(tiles, strength=1.0, seed=1), build_trial(tiles, strength=1.15, seed=1)
    unlike = build_trial(tiles, strength=1.15, seed=2)
    paired, unpaired = (compare_trials(one, other, tiles=tiles).tile_accuracy for other in (near, unlike))
    assert (paired.high - paired.low) < 0.5 * (unpaired.high - unpaired.low)


def test_equal_answers_differ_by_nothing_but_not_for_sure(build_tiles, build_trial) -> None:
    tiles = build_tiles(n_classes=3, images_per_class=8)
    comparison = compare_trials(build_trial(tiles), build_trial(tiles), tiles=tiles)
    difference = comparison.f_measure
    assert difference.value == 0
    assert not difference.is_clear
    assert difference.high == -difference.low == pytest.approx(4.32 / (24 + 4.32), abs=0.01)
    assert (comparison.fold_test.p_value, comparison.image_test.p_value) == (1, 1)


def test_the_corrected_test_widens_students() -> None:
    differences = np.array([0.03, 0.01, 0.05, -0.01, 0.02])
    test = compute_fold_test(differences, test_share=1 / 3)
    plain = ttest_1samp(differences, 0.0)
    t = plain.statistic * np.sqrt((1 / 5) / (1 / 5 + 1 / 3))
    assert test.p_value == pytest.approx(2 * student_t.sf(t, 4))
    assert test.p_value > plain.pvalue
    nearly_plain = compute_fold_test(differences, test_share=1e-12)
    assert nearly_plain.p_value == pytest.approx(plain.pvalue)


def test_the_share_of_test_images_comes_from_the_folds(build_tiles, build_trial) -> None:
    tiles = build_tiles(n_classes=2, images_per_class=10)
    one, two = (build_trial(tiles, n_folds=5, seed=seed, strength=1.0) for seed in (1, 2))
    test = compare_trials(one, two, tiles=tiles).fold_test
    assert test.p_value == compute_fold_test(test.differences, test_share=1 / 3).p_value  # 2 of 10 against 6 of 10


@pytest.mark.parametrize("n_folds", [2, 5])
@pytest.mark.parametrize("difference", [0.1, -0.1, 1e-6])
def test_folds_that_differ_alike_have_no_variance_to_test_against(n_folds, difference) -> None:
    test = compute_fold_test(np.full(n_folds, difference), test_share=0.25)
    assert (test.mean, test.p_value) == (pytest.approx(difference), None)


def test_folds_that_do_not_differ_speak_for_no_difference() -> None:
    test = compute_fold_test(np.zeros(5), test_share=0.25)
    assert test.p_value == 1


def test_images_are_counted_as_mcnemar_does() -> None:
    labels = np.zeros(20, dtype=np.int64)
    first = tabulate_image_answers(np.array([0] * 18 + [1] * 2), labels=labels, n_classes=2)
    second = tabulate_image_answers(np.array([0] * 10 + [1] * 9 + [0]), labels=labels, n_classes=2)
    test = compute_image_test(first, second)
    assert (test.n_first_better, test.n_second_better) == (8, 1)
    assert test.p_value == pytest.approx(2 * (1 + 9) / 2**9)


def test_a_group_has_one_voice() -> None:
    labels, groups = np.zeros(12, dtype=np.int64), np.arange(12) // 4
    first = tabulate_image_answers(np.zeros(12, dtype=np.int64), labels=labels, n_classes=2, group_of_row=groups)
    wrong = np.array([1, 1, 1, 0] * 3)
    second = tabulate_image_answers(wrong, labels=labels, n_classes=2, group_of_row=groups)
    assert compute_image_test(first, second).n_first_better == 3


def test_a_difference_is_told_in_words(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    text = compare_trials(build_trial(tiles), build_trial(tiles), tiles=tiles).f_measure.to_text()
    assert text.startswith("+0.000 (-0.1")


def test_other_folds_are_not_compared(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    whole, part = build_trial(tiles), build_trial(tiles, folds=(0, 2))
    with pytest.raises(DataError, match=r"finished folds \[1, 2, 3, 4\], the second \[1, 3\]: compare trials"):
        compare_trials(whole, part, tiles=tiles)
    other = build_trial(tiles, n_folds=8, folds=(0, 1, 2, 3))
    with pytest.raises(DataError, match=r"fold 1 has other test tiles in the first \(24\) than in the second \(12\)"):
        compare_trials(whole, other, tiles=tiles)
    with pytest.raises(DataError, match=r"finished folds \[\], the second \[\]"):
        compare_trials(build_trial(tiles, folds=()), build_trial(tiles, folds=()), tiles=tiles)


def test_folds_are_weighed_by_images_not_by_tiles(build_tiles, build_trial) -> None:
    """Nadeau and Bengio's share is of independent examples: tiles of one image are none."""
    tiles = build_tiles(n_classes=2, images_per_class=8)
    counts = np.where(np.arange(16) % 4 == 0, 20, 1)
    unlike = dataclasses.replace(tiles, image_of_tile=np.repeat(np.arange(16), counts))
    one, two = build_trial(unlike, strength=1.0, seed=1), build_trial(unlike, strength=0.5, seed=2)
    found = compare_trials(one, two, tiles=unlike).fold_test
    shares = []
    for fold in one.folds:
        tested, validated = (set(unlike.image_of_tile[some]) for some in (fold.test_tiles, fold.validation_tiles))
        shares.append(len(tested) / (16 - len(tested | validated)))
    assert found.p_value == compute_fold_test(found.differences, test_share=np.mean(shares)).p_value
