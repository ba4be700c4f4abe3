"""Particles of known size and shape are found and measured."""

import numpy as np
import pytest

from sem_search.audits.heat_maps.particles import MEASURES, find_particles, measure_particles


def draw_discs(places: list[tuple[int, int, float, float]], *, side_px: int = 160, noise: float = 0.02) -> np.ndarray:
    """Return bright ellipses (row, column, half height, half width) on dark ground."""
    rows, columns = np.mgrid[:side_px, :side_px]
    image = np.full((side_px, side_px), 0.2)
    for row, column, height, width in places:
        image[((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1] = 0.8
    return (image + np.random.default_rng(0).normal(scale=noise, size=image.shape)).clip(0, 1).astype(np.float32)


def test_discs_are_found_with_their_diameters() -> None:
    found = find_particles(draw_discs([(40, 40, 12, 12), (110, 100, 20, 20)]))
    assert found.n_particles == 2
    assert sorted(found.measures["equivalent diameter"]) == pytest.approx([24, 40], rel=0.05)
    assert found.measures["aspect ratio"] == pytest.approx([1, 1], abs=0.05)
    assert found.measures["circularity"] == pytest.approx([1, 1], abs=0.08)
    assert (found.measures["solidity"] > 0.95).all()
    assert found.share_covered == pytest.approx(np.pi * (12**2 + 20**2) / 160**2, rel=0.05)


def test_an_ellipse_is_long() -> None:
    found = find_particles(draw_discs([(80, 80, 10, 30)]))
    assert found.measures["aspect ratio"] == pytest.approx([3], rel=0.06)
    assert found.measures["circularity"][0] < 0.85


def test_particles_that_touch_are_parted() -> None:
    assert find_particles(draw_discs([(80, 60, 18, 18), (80, 92, 18, 18)])).n_particles == 2


def test_a_rough_surface_is_rougher() -> None:
    labels = np.zeros((80, 80), dtype=np.int64)
    labels[10:35, 10:70], labels[45:70, 10:70] = 1, 2
    image = np.full((80, 80), 0.5, dtype=np.float32)
    image[45:70] += np.random.default_rng(0).normal(scale=0.1, size=(25, 80)).astype(np.float32)
    smooth, rough = measure_particles(labels, image=image).measures["roughness"]
    assert rough > 5 * smooth


def test_specks_are_left_out_and_the_rest_numbered_anew() -> None:
    labels = np.zeros((60, 60), dtype=np.int64)
    labels[2:5, 2:5], labels[20:50, 20:50] = 1, 7
    found = measure_particles(labels, image=np.zeros((60, 60), dtype=np.float32))
    assert found.n_particles == 1
    assert set(np.unique(found.labels)) == {0, 1}
    assert found.labels[30, 30] == 1 and found.labels[3, 3] == 0


def test_a_blank_image_has_none() -> None:
    found = find_particles(np.full((64, 64), 0.5, dtype=np.float32))
    assert found.n_particles == 0
    assert set(found.measures) == set(MEASURES)
    assert found.share_covered == 0
