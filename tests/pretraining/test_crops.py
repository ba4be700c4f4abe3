"""Batches follow from their number, and crops are exposed within what a picture can hold."""

from pathlib import Path

import numpy as np

from pretraining.crops import CropBatches, CropRecipe, expose
from pretraining.properties import PROPERTIES
from pretraining.scans import open_scans
from tests.pretraining.recipes import SCANS


def test_batches_follow_from_their_number(tmp_path: Path) -> None:
    crops = CropRecipe(side_px=32, batch_size=5, seed=3)
    with open_scans(tmp_path, recipe=SCANS, n_processes=1) as pool:
        pool.begin_rendering(round_number=0)
        assert sum(pool.finish_rendering()) == 6
        first = CropBatches(pool, recipe=crops, first=0, n_batches=3)
        later = CropBatches(pool, recipe=crops, first=2, n_batches=1)
        grey, bins = first[2]
        assert (grey.shape, grey.dtype, bins.shape) == ((5, 32, 32), np.float32, (5, len(PROPERTIES)))
        assert 0.0 <= grey.min() < grey.max() <= 1.0
        np.testing.assert_array_equal(grey, later[0][0])
        assert not np.array_equal(first[0][0], first[1][0])


def test_exposure_keeps_levels_in_range() -> None:
    levels = np.array([[[0, 255], [128, 30]]] * 50, dtype=np.uint8)
    grey = expose(levels, rng=np.random.default_rng(0))
    assert (grey.min() >= 0.0, grey.max() <= 1.0) == (True, True)
    assert np.isfinite(grey).all()
    assert len(np.unique(grey[:, 1, 0])) > 40, "each crop has its own"
