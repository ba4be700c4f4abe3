from dataclasses import replace

import numpy as np
import pytest

from sem_search.micrographs.rendering.exact import Draws
from sem_search.micrographs.rendering.materials import Material
from sem_search.micrographs.rendering.particles import Footprint, Particle, compute_footprint, draw_particle

SMOOTH = Material(name="smooth", width_px=20.0, size_spread=0.0, aspect=1.0, outline_roughness=0.0, graininess=0.0)
DISC = Particle(
    x_px=50.0, y_px=40.0, half_length_px=20.0, half_width_px=10.0, height_px=12.0, cosine=1.0, sine=0.0, sag=0.0
)


def _compute(particle: Particle = DISC, material: Material = SMOOTH, seed: int = 0) -> Footprint:
    return compute_footprint(particle, material=material, draws=Draws(seed), height_px=80, width_px=100)


def _get_extent(footprint: Footprint) -> tuple[int, int, int, int]:
    rows, columns = np.divmod(footprint.pixels, 100)
    return int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())


def test_smooth_particle_is_an_ellipsoid() -> None:
    footprint = _compute()
    assert len(footprint.pixels) == pytest.approx(np.pi * 20.0 * 10.0, rel=0.03)
    assert footprint.heights_px.max() == pytest.approx(12.0, rel=0.01)
    assert footprint.heights_px.mean() == pytest.approx(12.0 * 2 / 3, rel=0.05)  # a half ellipsoid's mean height
    assert _get_extent(footprint) == (31, 69, 31, 49)


@pytest.mark.parametrize(
    ("cosine", "sine", "extent"),
    [(0.0, 1.0, (41, 59, 21, 59)), (-1.0, 0.0, (31, 69, 31, 49))],
    ids=["turned", "flipped"],
)
def test_direction_turns_the_long_axis(cosine: float, sine: float, extent: tuple[int, int, int, int]) -> None:
    assert _get_extent(_compute(replace(DISC, cosine=cosine, sine=sine))) == extent


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        ({"boxiness": 1.0}, 1.2, 1.3),  # a rectangle is 4 / pi times the ellipse
        ({"flatness": 0.8}, 0.99, 1.01),
        ({"n_facets": 9, "facet_depth": 1.0}, 0.3, 0.9),
        ({"outline_roughness": 0.1}, 0.8, 1.2),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_form_changes_the_area(change: dict[str, float], low: float, high: float) -> None:
    ratio = len(_compute(material=replace(SMOOTH, **change)).pixels) / len(_compute().pixels)
    assert low <= ratio <= high


def test_plateau_is_flatter_than_dome() -> None:
    assert _compute(material=replace(SMOOTH, flatness=0.8)).heights_px.mean() > 1.1 * _compute().heights_px.mean()


@pytest.mark.parametrize("texture", [{"graininess": 0.1}, {"striation": 0.1}, {"needles": 0.1}])
def test_texture_roughens_the_surface(texture: dict[str, float]) -> None:
    assert not np.array_equal(_compute(material=replace(SMOOTH, **texture)).heights_px, _compute().heights_px)


def test_grooves_run_along_the_axis() -> None:
    box = replace(SMOOTH, boxiness=1.0, flatness=1.0, striation=0.2)
    heights = np.zeros(80 * 100, dtype=np.float32)
    footprint = _compute(material=box)
    heights[footprint.pixels] = footprint.heights_px
    middle = heights.reshape(80, 100)[35:45, 40:60]
    assert np.abs(np.diff(middle, axis=0)).mean() > 3.0 * np.abs(np.diff(middle, axis=1)).mean()


def test_sag_moves_the_ends_aside() -> None:
    columns_rows = np.divmod(_compute(replace(DISC, sag=0.8)).pixels, 100)
    rows, columns = columns_rows
    ends = rows[(columns < 35) | (columns > 65)].mean()
    assert ends < rows[np.abs(columns - 50) < 4].mean() - 3.0


@pytest.mark.parametrize("x_px", [-60.0, 200.0])
def test_particle_outside_the_picture_covers_nothing(x_px: float) -> None:
    assert len(_compute(replace(DISC, x_px=x_px)).pixels) == 0


def test_particle_across_the_edge_is_cut_off_there() -> None:
    rows, columns = np.divmod(_compute(replace(DISC, x_px=0.0)).pixels, 100)
    assert columns.min() == 0 and columns.max() == 19 and (rows >= 31).all()


def test_drawn_particles_have_the_sizes_of_their_material() -> None:
    material = replace(SMOOTH, size_spread=0.5, aspect=3.0, aspect_spread=0.2, bend=0.3, thickness=0.5)
    draws = Draws(1)
    particles = [draw_particle(material, draws=draws, x_px=1.0, y_px=2.0) for _ in range(400)]
    widths = np.array([2.0 * particle.half_width_px for particle in particles])
    aspects = np.array([particle.half_length_px / particle.half_width_px for particle in particles])
    assert np.median(widths) == pytest.approx(20.0, rel=0.07)
    assert np.log2(widths).std() == pytest.approx(0.5, rel=0.1)
    assert np.median(aspects) == pytest.approx(3.0, rel=0.05)
    assert np.std([particle.sag for particle in particles]) == pytest.approx(0.3, rel=0.15)
    assert all(particle.height_px == pytest.approx(particle.half_width_px) for particle in particles)
