import numpy as np
import pytest
from scipy import ndimage

from sem_search.micrographs.rendering.exact import Draws
from sem_search.micrographs.rendering.fields import (
    blur,
    blur_widely,
    compute_smooth_noise,
    compute_spline_surface,
)


@pytest.mark.parametrize("sigma_px", [0.4, 0.9, 2.5])
def test_blur_spreads_a_point_by_sigma(sigma_px: float) -> None:
    point = np.zeros((61, 61), dtype=np.float32)
    point[30, 30] = 1.0
    spread = blur(point, sigma_px=sigma_px)
    squares = (np.arange(61) - 30.0) ** 2
    assert spread.sum() == pytest.approx(1.0, abs=1e-5)
    assert (spread.sum(axis=0) * squares).sum() == pytest.approx(sigma_px**2, rel=1e-4)
    assert (spread.sum(axis=1) * squares).sum() == pytest.approx(sigma_px**2, rel=1e-4)
    if sigma_px > 2.0:
        assert np.abs(spread - ndimage.gaussian_filter(point, sigma_px)).max() < 0.03 * spread.max()


def test_blur_by_nothing_changes_nothing() -> None:
    image = Draws(0).normals(5, 6)
    assert np.array_equal(blur(image, sigma_px=0.0), image)


@pytest.mark.parametrize("shape", [(64, 96), (61, 83)])
def test_wide_blur_keeps_shape_and_place(shape: tuple[int, int]) -> None:
    image = np.zeros(shape, dtype=np.float32)
    image[20:40, 30:50] = 1.0
    expected = ndimage.gaussian_filter(image, 8.0, mode="nearest")
    result = blur_widely(image, sigma_px=8.0, step_px=4)
    assert result.shape == shape
    assert np.abs(result - expected).max() < 0.08


@pytest.mark.parametrize("value", [-2.0, 0.75])
def test_constants_stay_constant(value: float) -> None:
    image = np.full((37, 41), value, dtype=np.float32)
    assert np.allclose(blur(image, sigma_px=1.7), value, atol=1e-5)
    assert np.allclose(blur_widely(image, sigma_px=6.0, step_px=4), value, atol=1e-5)


@pytest.mark.parametrize("spacing_px", [5, 16])
def test_noise_has_the_width_asked_for(spacing_px: int) -> None:
    noise = compute_smooth_noise(
        Draws(1), height_px=40 * spacing_px + 3, width_px=50 * spacing_px, spacing_px=spacing_px
    )
    assert noise.shape == (40 * spacing_px + 3, 50 * spacing_px)
    assert noise.mean() == pytest.approx(0.0, abs=0.1)
    assert noise.std() == pytest.approx(1.0, abs=0.1)
    assert np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] > 0.97
    assert abs(np.corrcoef(noise[:, 4 * spacing_px :].ravel(), noise[:, : -4 * spacing_px].ravel())[0, 1]) < 0.1


def test_spline_surface_of_a_slope_is_that_slope() -> None:
    lattice = np.arange(8, dtype=np.float32)[:, None] + np.zeros((8, 6), dtype=np.float32)
    surface = compute_spline_surface(lattice, spacing_px=4)
    assert surface.shape == (20, 12)
    assert np.allclose(surface, (1.0 + np.arange(20) / 4.0)[:, None], atol=1e-5)
