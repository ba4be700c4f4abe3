"""Labels that mean nothing are predicted by chance, and those that leak more often."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.trust.controls import simulate_shuffled_labels
from sem_search.evaluation.answers import AnswerTable, tabulate_image_answers
from sem_search.evaluation.label_test import compute_label_test

LABELS = np.array([0, 1, 2, 0, 1, 2])


def tabulate(answers: np.ndarray, *, folds: np.ndarray, groups: np.ndarray | None = None) -> AnswerTable:
    table = tabulate_image_answers(answers, labels=LABELS, n_classes=3, group_of_row=groups)
    return replace(table, fold_of_row=folds)


def test_the_p_value_is_the_share_of_all_permutations_within_the_folds() -> None:
    answers, folds = np.array([0, 1, 1, 2, 1, 2]), np.repeat([0, 1], 3)
    right = [
        int((np.array(one + two) == answers).sum())
        for one in itertools.permutations((0, 1, 2))
        for two in itertools.permutations((0, 1, 2))
    ]
    found = compute_label_test(tabulate(answers, folds=folds), n_permutations=20000)
    assert found.accuracy == 4 / 6
    assert found.p_value == pytest.approx(np.mean(np.array(right) >= 4), abs=0.01)
    assert found.expected == pytest.approx(np.mean(right) / 6, abs=0.01)


def test_images_of_one_group_are_permuted_together() -> None:
    """Two groups in one fold: one permutation of two predicts all, so p is a half, not one of 70."""
    answers = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    table = tabulate_image_answers(answers, labels=answers, n_classes=2, group_of_row=answers)
    assert compute_label_test(table).p_value == pytest.approx(0.5, abs=0.02)
    assert compute_label_test(replace(table, group_of_row=np.arange(8))).p_value == pytest.approx(1 / 70, abs=0.005)


def test_a_fold_of_one_label_says_nothing() -> None:
    answers = np.zeros(4, dtype=np.int64)
    found = compute_label_test(tabulate_image_answers(answers, labels=answers, n_classes=2))
    assert (found.accuracy, found.expected, found.p_value) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("n_neighbours", "distance"), [(1, 9.0), (5, 9.0), (1, 0.0)])
def test_a_sound_pipeline_scores_at_chance_and_seldom_alarms(n_neighbours: int, distance: float) -> None:
    """Whether or not it sees the material; permuted evenly over the classes it would score far below where it does."""
    study = {"n_classes": 10, "images_per_class": 5, "n_neighbours": n_neighbours, "distance": distance}
    sound = simulate_shuffled_labels(**study, leak=0.0, n_studies=100)
    assert sound["alarm"] <= binom.ppf(0.999, 100, 0.05) / 100
    assert sound["accuracy"] == pytest.approx(sound["expected"], abs=4 * np.sqrt(0.1 * 0.9 / 5000))
    assert sound["expected"] == pytest.approx(0.1, abs=0.01)
    assert simulate_shuffled_labels(**study, leak=0.2, n_studies=30)["alarm"] > 0.75
