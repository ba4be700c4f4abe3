from dataclasses import replace

import numpy as np

from sem_search.micrographs.rendering.electrons import DEFAULT_CAMERA
from sem_search.micrographs.rendering.materials import MATERIALS
from sem_search.micrographs.rendering.scan import render_scan


def test_scan_is_grey_and_depends_on_its_seed_alone() -> None:
    first, again, other = (render_scan(MATERIALS[0], height_px=64, width_px=96, seed=seed) for seed in (1, 1, 2))
    assert first.shape == (64, 96) and first.dtype == np.float32
    assert 0.0 <= first.min() < first.max() <= 1.0
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_another_camera_sees_the_same_particles() -> None:
    quiet = replace(DEFAULT_CAMERA, electrons=(5000.0, 5000.0), gain_spread=0.0, offset_sd=0.0)
    bright = replace(quiet, offset=0.2)
    scans = [render_scan(MATERIALS[4], height_px=96, width_px=96, seed=3, camera=camera) for camera in (quiet, bright)]
    assert np.corrcoef(scans[0].ravel(), scans[1].ravel())[0, 1] > 0.97
    assert scans[1].mean() > scans[0].mean() + 0.1
