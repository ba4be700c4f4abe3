"""Counts per image, and the very figures that `metrics` reports."""

import numpy as np
import pytest

from sem_search.evaluation.answers import compute_figures, tabulate_answers, tabulate_image_answers
from sem_search.evaluation.metrics import compute_split_scores


@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_are_those_of_the_split_scores(build_tiles, build_trial, split) -> None:
    tiles = build_tiles(n_classes=4, images_per_class=9)
    trial = build_trial(tiles, strength=1.0)
    figures = compute_figures(tabulate_answers(trial, tiles=tiles, split=split))
    scores = compute_split_scores(trial, tiles=tiles, split=split)
    assert figures.f_measure == pytest.approx(scores.f_measure)
    assert figures.tile_accuracy == pytest.approx(scores.tile_accuracy)
    assert figures.image_f_measure == pytest.approx(scores.image_f_measure)
    assert figures.image_accuracy == pytest.approx(scores.image_accuracy)
    for name in ("one_vs_rest_accuracy", "precision", "recall", "f_measure"):
        np.testing.assert_allclose(getattr(figures.of_class, name), getattr(scores.mean, name))


def test_rows_hold_each_image_once_with_all_its_tiles(build_tiles, build_trial) -> None:
    tiles = build_tiles(images_per_group=2)
    table = tabulate_answers(build_trial(tiles), tiles=tiles, split="test")
    assert sorted(table.image_of_row) == list(range(24))
    assert (table.tile_counts.sum(axis=1) == 4).all()
    assert (table.n_rows, table.n_groups, table.n_folds) == (24, 12, 4)
    np.testing.assert_array_equal(table.label_of_row, tiles.label_of_image[table.image_of_row])
    for group in range(12):
        assert np.ptp(table.image_of_row[table.group_of_row == group]) == 1


def test_a_pruned_trial_has_the_images_of_its_folds(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    table = tabulate_answers(build_trial(tiles, folds=(1, 3)), tiles=tiles, split="test")
    assert (table.n_folds, table.n_rows, table.n_groups) == (2, 12, 12)


def test_answers_for_whole_images_count_as_one_tile_each() -> None:
    labels = np.array([0, 0, 1, 1])
    table = tabulate_image_answers(
        np.array([0, 1, 1, 1]), labels=labels, n_classes=2, group_of_row=["x", "x", "y", "z"]
    )
    figures = compute_figures(table)
    assert table.n_groups == 3
    assert figures.image_accuracy == figures.tile_accuracy == 0.75
    assert figures.f_measure == figures.image_f_measure == pytest.approx((2 / 3 + 0.8) / 2)
