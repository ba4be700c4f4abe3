from dataclasses import replace

import numpy as np
import pytest

from sem_search.micrographs.rendering.electrons import DEFAULT_CAMERA, compute_exposure, compute_signal
from sem_search.micrographs.rendering.exact import Draws, FloatArray
from sem_search.micrographs.rendering.scene import Scene


def _build_scene(heights: FloatArray) -> Scene:
    return Scene(heights_px=heights, yields=np.ones_like(heights), is_covered=np.zeros(heights.shape, dtype=np.bool_))


def _signal(heights: FloatArray) -> FloatArray:
    return compute_signal(_build_scene(heights), draws=Draws(0))


def test_level_surface_gives_one() -> None:
    assert np.allclose(_signal(np.zeros((40, 40), dtype=np.float32)), 1.0, atol=1e-5)


def test_flanks_are_brighter_the_steeper() -> None:
    columns = np.arange(120, dtype=np.float32)
    levels = []
    for slope in (0.0, 0.5, 1.0, 2.0):
        ridge = slope * (60.0 - np.abs(columns - 60.0))
        levels.append(_signal(np.tile(ridge, (60, 1)))[30, 20:100].mean())
    assert levels == sorted(levels) and levels[-1] > 1.3 * levels[0]


def test_edges_glow_and_feet_are_dark() -> None:
    heights = np.zeros((80, 80), dtype=np.float32)
    heights[:, 40:] = 30.0
    row = _signal(heights)[40]
    assert row[40] > 1.5 * row[70]
    assert row[37] < 0.9 * row[5]


def test_yield_scales_the_signal() -> None:
    scene = _build_scene(np.zeros((30, 30), dtype=np.float32))
    dim = replace(scene, yields=scene.yields * np.float32(0.5))
    assert np.allclose(compute_signal(dim, draws=Draws(0)), 0.5, atol=1e-5)


def _expose(seed: int = 0, **settings: float | tuple[float, float]) -> FloatArray:
    camera = replace(DEFAULT_CAMERA, **settings)  # type: ignore[arg-type]
    return compute_exposure(np.full((64, 96), 1.5, dtype=np.float32), camera=camera, draws=Draws(seed))


def test_exposures_are_grey_levels() -> None:
    exposure = _expose()
    assert exposure.shape == (64, 96) and exposure.dtype == np.float32
    assert exposure.min() >= 0.0 and exposure.max() <= 1.0


def test_fewer_electrons_are_noisier() -> None:
    assert _expose(electrons=(20.0, 20.0)).std() > 2.0 * _expose(electrons=(200.0, 200.0)).std()


@pytest.mark.parametrize("settings", [{"gain": 0.4}, {"offset": 0.2}])
def test_gain_and_offset_brighten(settings: dict[str, float]) -> None:
    assert _expose(**settings).mean() > _expose().mean() + 0.05


def test_brightness_drifts_from_image_to_image() -> None:
    means = [_expose(seed).mean() for seed in range(12)]
    assert 0.02 < np.std(means) < 0.15
