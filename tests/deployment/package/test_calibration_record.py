from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sem_search.deployment.package.calibration_record import (
    NOVELTY_PREFIX,
    fit_calibration,
    read_calibration,
    write_calibration,
)
from sem_search.deployment.package.record import ModelRecord, OutOfFold
from sem_search.evaluation.calibration import apply_temperature, fit_temperature
from sem_search.evaluation.metrics import combine_tiles


@pytest.fixture
def out_of_fold(make_record: Callable[..., ModelRecord], tmp_path: Path) -> OutOfFold:
    """Three folds of nine images each."""
    return make_record(tmp_path).out_of_fold


def test_every_image_is_calibrated_on_by_the_head_that_did_not_see_it(out_of_fold: OutOfFold) -> None:
    tiles = out_of_fold.tiles
    calibration = fit_calibration(out_of_fold.trial, tiles=tiles)
    assert calibration is not None
    answers = calibration.answers
    assert (answers.n_images, answers.n_groups) == (27, 27)
    for head, fold in enumerate(out_of_fold.trial.folds):
        images, probabilities = combine_tiles(
            fold.test_probabilities, image_of_tile=tiles.image_of_tile[fold.test_tiles]
        )
        labels = tiles.label_of_image[images]
        scaled = apply_temperature(probabilities, temperature=calibration.temperature)
        wanted = scaled[np.arange(len(images)), labels]
        assert answers.of_true_class[answers.network_of_image == head] == pytest.approx(wanted)
        assert np.array_equal(answers.get_labels()[answers.network_of_image == head], labels)


def test_the_temperature_is_that_of_all_out_of_fold_images(out_of_fold: OutOfFold) -> None:
    tiles = out_of_fold.tiles
    parts = [
        combine_tiles(fold.test_probabilities, image_of_tile=tiles.image_of_tile[fold.test_tiles])
        for fold in out_of_fold.trial.folds
    ]
    wanted = fit_temperature(
        np.concatenate([probabilities for _, probabilities in parts]),
        labels=tiles.label_of_image[np.concatenate([images for images, _ in parts])],
    )
    calibration = fit_calibration(out_of_fold.trial, tiles=tiles)
    assert calibration is not None
    assert calibration.temperature == wanted


def test_a_head_that_diverged_is_left_out(out_of_fold: OutOfFold) -> None:
    out_of_fold.trial.folds[1].test_probabilities[:] = np.nan
    calibration = fit_calibration(out_of_fold.trial, tiles=out_of_fold.tiles)
    assert calibration is not None
    assert set(calibration.answers.network_of_image.tolist()) == {0, 2}
    for fold in out_of_fold.trial.folds:
        fold.test_probabilities[:] = np.nan
    assert fit_calibration(out_of_fold.trial, tiles=out_of_fold.tiles) is None


def test_what_is_written_is_read(out_of_fold: OutOfFold, parts: Any, tmp_path: Path) -> None:
    for novelty in (None, parts.calibration.novelty):
        calibration = fit_calibration(out_of_fold.trial, tiles=out_of_fold.tiles, novelty=novelty)
        assert calibration is not None
        write_calibration(calibration, path=tmp_path / "calibration.npz")
        found = read_calibration(tmp_path / "calibration.npz")
        assert found.temperature == calibration.temperature
        for name in ("of_true_class", "network_of_image", "group_of_image", "label_of_image"):
            assert np.array_equal(getattr(found.answers, name), getattr(calibration.answers, name))
        assert (found.novelty is None) == (novelty is None)
    assert found.novelty is not None
    assert np.array_equal(found.novelty.limits.distances, parts.calibration.novelty.limits.distances)
    assert np.array_equal(found.novelty.metric.class_means, parts.calibration.novelty.metric.class_means)


def test_a_calibration_of_an_older_version_is_read(out_of_fold: OutOfFold, parts: Any, tmp_path: Path) -> None:
    """It held one threshold, in multiples of what images have on average with so many tiles, and no classes."""
    file = tmp_path / "calibration.npz"
    calibration = fit_calibration(out_of_fold.trial, tiles=out_of_fold.tiles, novelty=parts.calibration.novelty)
    assert calibration is not None
    write_calibration(calibration, path=file)
    newer = ("tile_counts", "limits", "class_sizes", "class_alarms")
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive if name.removeprefix(NOVELTY_PREFIX) not in newer}
    del arrays["label_of_image"]
    older = {"spread_of_images": 2.0, "spread_of_tiles": 6.0, "threshold": 1.5}
    np.savez(file, **arrays, **{NOVELTY_PREFIX + name: np.array(value) for name, value in older.items()})
    assert read_calibration(file).answers.label_of_image is None
    found = read_calibration(file).novelty
    assert found is not None
    np.testing.assert_allclose(found.limits.interpolate(np.array([1, 3, 6])), 1.5 * np.array([8.0, 4.0, 3.0]))
