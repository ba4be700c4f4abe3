"""Micrographs of one round particle each that fills the frame, such as pollen, cells and granules.

They are hard for whatever looks for images of the same place: every outline is a circle in the middle of an even
ground, and nothing else is alike. Each of the ten forms is an ornament on a sphere that is turned at random.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.rendering.electrons import DEFAULT_CAMERA, compute_exposure, compute_signal
from sem_search.micrographs.rendering.exact import Draws
from sem_search.micrographs.rendering.scene import Scene
from sem_search.seeds import derive_seed

Heights = NDArray[np.float64]
Points = NDArray[np.float64]
Ornament = Callable[[Points, np.random.Generator], Heights]

GROUND_YIELD = 0.42  # of carbon tape, relative to the particle
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
SIDES_PX = (100, 450)


def render_particle(form: str, *, side_px: int, seed: int) -> NDArray[np.uint8]:
    """Return a micrograph of one particle, its view, size within the frame and place drawn from the seed.

    Args:
        form: One of `FORMS`.
        side_px: Width; the height is within a tenth of it.
        seed: Of all that is drawn.

    Returns:
        Grey levels, shape (height_px, side_px).
    """
    rng = np.random.default_rng(derive_seed(seed, form))
    height_px = round(side_px * rng.uniform(0.9, 1.1))
    radius_px = rng.uniform(0.38, 0.48) * min(height_px, side_px)
    centre = np.array((height_px, side_px)) / 2 + rng.normal(scale=0.02 * side_px, size=2)
    rows, columns = (np.mgrid[:height_px, :side_px] - centre[:, None, None]) / radius_px
    rows = rows * rng.uniform(1, 1.15)
    depth = 1 - rows**2 - columns**2
    is_covered = depth > 0
    ball = np.stack((columns, rows, np.sqrt(np.maximum(depth, 0))), axis=-1)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    ornament = FORMS[form](ball @ turn, rng)
    heights = np.where(is_covered, radius_px * (ball[..., 2] + ornament), -4.0)
    scene = Scene(
        heights_px=heights.astype(np.float32),
        yields=np.where(is_covered, 1.0, GROUND_YIELD).astype(np.float32),
        is_covered=is_covered,
    )
    draws = Draws(derive_seed(seed, "exposure", form))
    exposure = compute_exposure(compute_signal(scene, draws=draws), camera=DEFAULT_CAMERA, draws=draws)
    return np.round(255 * exposure).astype(np.uint8)


def _find_nearest(points: Points, *, n_spots: int) -> Heights:
    """Return the cosines to the nearest and the second nearest of spots spread evenly, shape (..., 2)."""
    k = np.arange(n_spots)
    z = 1 - (2 * k + 1) / n_spots
    radius = np.sqrt(1 - z**2)
    spots = np.stack((radius * np.cos(k * GOLDEN_ANGLE), radius * np.sin(k * GOLDEN_ANGLE), z), axis=-1)
    cosines: Heights = np.sort(points @ spots.T, axis=-1)[..., -2:]
    return cosines


def _raise_spots(points: Points, _: np.random.Generator, *, n_spots: int, width: float, height: float) -> Heights:
    """Spines where the height is positive, pores where it is negative."""
    nearest: Heights = height * np.exp((_find_nearest(points, n_spots=n_spots)[..., 1] - 1) / width**2)
    return nearest


def _raise_net(points: Points, _: np.random.Generator, *, n_spots: int, width: float, height: float) -> Heights:
    cosines = _find_nearest(points, n_spots=n_spots)
    walls: Heights = height * np.exp((cosines[..., 0] - cosines[..., 1]) / width)
    return walls


def _cut_furrows(points: Points, _: np.random.Generator, *, n_furrows: int, width: float, height: float) -> Heights:
    """Meridians from pole to pole."""
    longitude = np.arctan2(points[..., 1], points[..., 0])
    away = np.abs((longitude * n_furrows / (2 * np.pi)) % 1 - 0.5) * 2 * np.pi / n_furrows
    furrows: Heights = -height * np.exp(-((away / width) ** 2)) * (1 - points[..., 2] ** 2)
    return furrows


def _roughen(points: Points, rng: np.random.Generator, *, frequency: float, height: float) -> Heights:
    waves = rng.normal(scale=frequency, size=(3, 60))
    rough: Heights = height * np.cos(points @ waves + rng.uniform(0, 2 * np.pi, 60)).sum(axis=-1) / np.sqrt(30)
    return rough


def _cut_facets(points: Points, rng: np.random.Generator, *, n_facets: int, depth: float) -> Heights:
    normals = rng.normal(size=(3, n_facets))
    normals /= np.linalg.norm(normals, axis=0)
    facets: Heights = np.minimum(0, 1 - depth - (points @ normals).max(axis=-1))
    return facets


FORMS: Mapping[str, Ornament] = {
    "smooth": partial(_roughen, frequency=2, height=0.02),
    "spiny": partial(_raise_spots, n_spots=90, width=0.08, height=0.12),
    "warty": partial(_raise_spots, n_spots=160, width=0.1, height=0.05),
    "porous": partial(_raise_spots, n_spots=24, width=0.1, height=-0.15),
    "netted": partial(_raise_net, n_spots=80, width=0.03, height=0.08),
    "meshed": partial(_raise_net, n_spots=20, width=0.05, height=0.1),
    "furrowed": partial(_cut_furrows, n_furrows=3, width=0.15, height=0.25),
    "ribbed": partial(_cut_furrows, n_furrows=12, width=0.15, height=0.08),
    "granular": partial(_roughen, frequency=25, height=0.03),
    "faceted": partial(_cut_facets, n_facets=18, depth=0.12),
}
"""Name of a form to its ornament: points on the unit sphere, shape (..., 3), to heights in radii."""
