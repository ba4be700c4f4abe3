"""Particles and fines on carbon tape, as one map of heights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.rendering.exact import Draws, FloatArray, IntArray, exp2
from sem_search.micrographs.rendering.fields import compute_smooth_noise
from sem_search.micrographs.rendering.materials import Material
from sem_search.micrographs.rendering.particles import Footprint, compute_footprint, draw_particle

_TAPE_YIELD = 0.42  # secondary electrons of carbon, relative to the particles
_TAPE_DEPTH_PX = 6.0  # below the particles' base, so that their outlines stand out
_COVER_SD = 0.06  # from image to image
_YIELD_SD = 0.07  # from particle to particle: charge and tilt
_CROWD_PX = 96  # width of crowded and empty places
_CROWD_PULL = 0.7  # against 1, by which covered ground repels
_N_CANDIDATES = 3  # places tried for each particle
_MAX_PARTICLES = 20_000  # ends the scattering of particles too small to cover anything
_FINES_REACH_PX = 8
_FINES_SPREAD = 0.6  # standard deviation of the fines' width, in doublings
_FINES_ON_TAPE = 0.25  # share of the fines on bare tape that stay there


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What lies under the beam; all of shape (height_px, width_px)."""

    heights_px: FloatArray
    yields: FloatArray
    """Secondary electrons given off by a level surface, relative."""
    is_covered: NDArray[np.bool_]
    """Where a particle lies (fines not counted)."""


def compute_scene(material: Material, *, height_px: int, width_px: int, draws: Draws) -> Scene:
    """Return tape on which particles have been scattered until they cover the material's share of it.

    Args:
        material: What is scattered.
        height_px: Height of the scene.
        width_px: Width of the scene.
        draws: Random numbers.
    """
    scene = Scene(
        heights_px=_compute_tape(draws, height_px=height_px, width_px=width_px),
        yields=np.full((height_px, width_px), _TAPE_YIELD, dtype=np.float32),
        is_covered=np.zeros((height_px, width_px), dtype=np.bool_),
    )
    n_covered = _scatter_particles(scene, material=material, draws=draws)
    _scatter_fines(scene, material=material, draws=draws, n_fines=int(material.fines * n_covered / 1000.0))
    return scene


def _compute_tape(draws: Draws, *, height_px: int, width_px: int) -> FloatArray:
    waves = compute_smooth_noise(draws, height_px=height_px, width_px=width_px, spacing_px=32)
    pits = compute_smooth_noise(draws, height_px=height_px, width_px=width_px, spacing_px=5)
    tape: FloatArray = np.float32(0.6) * waves + np.float32(0.12) * pits
    return tape - np.float32(_TAPE_DEPTH_PX)


def _scatter_particles(scene: Scene, *, material: Material, draws: Draws) -> int:
    """Lay particles one upon the other into the scene; return the number of covered pixels."""
    height, width = scene.heights_px.shape
    crowds = compute_smooth_noise(draws, height_px=height, width_px=width, spacing_px=_CROWD_PX)
    n_wanted = int((material.cover + draws.normal(0.0, _COVER_SD)) * height * width)
    n_covered = 0
    for _ in range(_MAX_PARTICLES):
        if n_covered >= n_wanted:
            break
        x, y = _choose_place(scene, crowds=crowds, margin_px=0.5 * material.width_px * material.aspect, draws=draws)
        particle = draw_particle(material, draws=draws, x_px=x, y_px=y)
        footprint = compute_footprint(particle, material=material, draws=draws, height_px=height, width_px=width)
        n_covered += _lay(footprint, scene=scene, particle_yield=1.0 + draws.normal(0.0, _YIELD_SD))
    return n_covered


def _choose_place(scene: Scene, *, crowds: FloatArray, margin_px: float, draws: Draws) -> tuple[float, float]:
    """Return the best of a few random places: crowded ones attract, covered ones repel."""
    height, width = crowds.shape
    best_score, best = -np.inf, (0.0, 0.0)
    for a, b in draws.uniforms(_N_CANDIDATES, 2).tolist():
        x, y = a * (width + 2.0 * margin_px) - margin_px, b * (height + 2.0 * margin_px) - margin_px
        pixel = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
        score = _CROWD_PULL * float(crowds[pixel]) - float(scene.is_covered[pixel])
        if score > best_score:
            best_score, best = score, (x, y)
    return best


def _lay(footprint: Footprint, *, scene: Scene, particle_yield: float) -> int:
    """Put one particle on top of all that lies under it; return how many pixels were bare before."""
    pixels = footprint.pixels
    heights, is_covered = scene.heights_px.reshape(-1), scene.is_covered.reshape(-1)
    base = float(np.max(heights.take(pixels), initial=0.0))
    n_bare = pixels.size - int(np.count_nonzero(is_covered.take(pixels)))
    heights[pixels] = footprint.heights_px + np.float32(base)
    scene.yields.reshape(-1)[pixels] = particle_yield
    is_covered[pixels] = True
    return n_bare


def _scatter_fines(scene: Scene, *, material: Material, draws: Draws, n_fines: int) -> None:
    """Strew small grains over the scene; they stick to particles, few to the tape."""
    height, width = scene.heights_px.shape
    numbers = draws.uniforms(n_fines, 4)
    rows = (numbers[:, 0] * height).astype(np.int64)
    columns = (numbers[:, 1] * width).astype(np.int64)
    domes = _compute_fines(draws, n_fines=n_fines, width_px=material.fines_px, numbers=numbers[:, 2])
    domes += np.maximum(scene.heights_px[rows, columns], 0.0)[:, None, None] * (domes > 0.0)
    domes[~(scene.is_covered[rows, columns] | (numbers[:, 3] < _FINES_ON_TAPE))] = 0.0
    pixels, is_within = _find_patches(rows, columns, height_px=height, width_px=width)
    is_solid = is_within & (domes > 0.0)
    pixels, tops = pixels[is_solid], domes[is_solid]
    heights = scene.heights_px.reshape(-1)
    scene.yields.reshape(-1)[pixels[tops > heights[pixels]]] = 1.0
    np.maximum.at(heights, pixels, tops)


def _compute_fines(draws: Draws, *, n_fines: int, width_px: float, numbers: FloatArray) -> FloatArray:
    """Return oblong grains in random directions, shape (n_fines, patch side, patch side), 0 outside them."""
    steps = np.arange(-_FINES_REACH_PX, _FINES_REACH_PX + 1, dtype=np.float32)
    x, y = steps[None, None, :], steps[None, :, None]
    directions = draws.directions(n_fines)
    cosine, sine = directions[:, :1, None], directions[:, 1:, None]
    radii = [0.5 * width_px * exp2(_FINES_SPREAD * size) for size in draws.normals(n_fines).tolist()]
    radius = np.array(radii, dtype=np.float32)[:, None, None]
    u = (x * cosine + y * sine) / (radius * (1.0 + 0.8 * numbers[:, None, None]))
    v = (y * cosine - x * sine) / radius
    uu, vv = np.minimum(u * u, 1.0), np.minimum(v * v, 1.0)
    domes: FloatArray = np.sqrt(np.maximum(1.0 - uu - vv + 0.5 * uu * vv, 0.0)) * (1.3 * radius)
    return domes


def _find_patches(
    rows: IntArray, columns: IntArray, *, height_px: int, width_px: int
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Return the flat pixel indices of a patch round each place, and which of them lie within the picture."""
    steps = np.arange(-_FINES_REACH_PX, _FINES_REACH_PX + 1, dtype=np.int64)
    y, x = rows[:, None, None] + steps[None, :, None], columns[:, None, None] + steps[None, None, :]
    is_within = (y >= 0) & (y < height_px) & (x >= 0) & (x < width_px)
    return y * width_px + x, is_within
