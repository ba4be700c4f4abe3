"""Draws of whole groups: centred on what was observed, as spread as images are, and paired between tables."""

import dataclasses

import numpy as np
import pytest

from sem_search.evaluation.answers import compute_figures, tabulate_answers, tabulate_image_answers
from sem_search.evaluation.resampling import build_strata, resample_figures


def test_resamples_spread_as_independent_images_do() -> None:
    labels = np.repeat([0, 1], 50)
    predicted = labels.copy()
    predicted[:10] = 1  # recall of class 0: 0.8
    table = tabulate_image_answers(predicted, labels=labels, n_classes=2)
    (resampled,) = resample_figures([table], n_resamples=20_000)
    recall = resampled.of_class.recall
    assert recall[:, 0].mean() == pytest.approx(0.8, abs=0.002)
    assert recall[:, 0].std() == pytest.approx(np.sqrt(0.8 * 0.2 / 50), rel=0.03)
    assert (recall[:, 1] == 1).all()


def test_images_of_a_group_are_drawn_together() -> None:
    labels = np.repeat([0, 1], 40)
    predicted = labels.copy()
    predicted[:8] = 1
    groups = np.arange(80) // 4
    table = tabulate_image_answers(predicted, labels=labels, n_classes=2, group_of_row=groups)
    (resampled,) = resample_figures([table], n_resamples=20_000)
    assert resampled.of_class.recall[:, 0].std() == pytest.approx(np.sqrt(0.8 * 0.2 / 10), rel=0.03)


def test_tiles_of_an_image_are_drawn_together(build_tiles, build_trial) -> None:
    """All tiles of an image answer alike here: a bootstrap over tiles would see half the spread."""
    tiles = build_tiles(n_classes=2, images_per_class=40)
    trial = build_trial(tiles, strength=1.0, image_spread=1.0)
    table = tabulate_answers(trial, tiles=tiles, split="test")
    whole = dataclasses.replace(table, tile_counts=4 * np.eye(2, dtype=np.int64)[table.answer_of_row])
    (resampled,) = resample_figures([whole])
    np.testing.assert_allclose(resampled.tile_accuracy, resampled.image_accuracy)


def test_every_fold_keeps_as_many_images_of_each_class(build_tiles, build_trial) -> None:
    tiles = build_tiles(n_classes=3, images_per_class=9)
    table = tabulate_answers(build_trial(tiles), tiles=tiles, split="test")
    for stratum in build_strata(table):
        is_member = table.label_of_row == stratum.label
        np.testing.assert_array_equal(stratum.n_of_fold, np.bincount(table.fold_of_row[is_member], minlength=4))
        assert len(stratum.groups) == 9
    (resampled,) = resample_figures([table], n_resamples=500)
    n_true = (table.tile_counts.sum(axis=1))[table.label_of_row == 0].sum()
    assert n_true == 36
    assert ((resampled.of_class.recall >= 0) & (resampled.of_class.recall <= 1)).all()


def test_resamples_centre_on_the_figures(build_tiles, build_trial) -> None:
    tiles = build_tiles(n_classes=4, images_per_class=12)
    table = tabulate_answers(build_trial(tiles, strength=1.0), tiles=tiles, split="test")
    figures, (resampled,) = compute_figures(table), resample_figures([table])
    assert resampled.tile_accuracy.mean() == pytest.approx(float(figures.tile_accuracy), abs=0.005)
    assert resampled.image_accuracy.mean() == pytest.approx(float(figures.image_accuracy), abs=0.01)
    assert resampled.f_measure.mean() == pytest.approx(float(figures.f_measure), abs=0.02)


def test_two_tables_answer_the_same_resamples(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    table = tabulate_answers(build_trial(tiles), tiles=tiles, split="test")
    one, two = resample_figures([table, table], n_resamples=50)
    np.testing.assert_array_equal(one.f_measure, two.f_measure)
    (alone,) = resample_figures([table], n_resamples=50)
    np.testing.assert_array_equal(alone.f_measure, one.f_measure)
    (other,) = resample_figures([table], n_resamples=50, seed=1)
    assert (alone.f_measure != other.f_measure).any()


def test_a_group_of_several_classes_counts_to_its_commonest() -> None:
    labels = np.array([0, 0, 1, 0, 0, 1, 1])
    table = tabulate_image_answers(labels, labels=labels, n_classes=2, group_of_row=[0, 0, 0, 1, 2, 3, 4])
    zero, one = build_strata(table)
    assert zero.groups.tolist() == [0, 1, 2]
    assert one.groups.tolist() == [3, 4]


def test_what_cannot_be_resampled_is_refused(build_tiles, build_trial) -> None:
    labels = np.array([0, 0, 0, 1])
    table = tabulate_image_answers(labels, labels=labels, n_classes=2)
    with pytest.raises(ValueError, match="Class 1 has one group of images only"):
        resample_figures([table])
    tiles = build_tiles()
    table = tabulate_answers(build_trial(tiles), tiles=tiles, split="test")
    joined = dataclasses.replace(table, group_of_row=table.group_of_row // 12)
    with pytest.raises(ValueError, match="A group of images lies in two folds"):
        resample_figures([joined])
    other = tabulate_answers(build_trial(tiles, folds=(0, 1)), tiles=tiles, split="test")
    with pytest.raises(ValueError, match="both must have the same images, folds and groups"):
        resample_figures([table, other])
