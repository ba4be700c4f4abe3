"""All particles of a study's images, and where in the tiles they lie."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.audits.heat_maps.particles import MEASURES, Particles, find_particles
from sem_search.audits.subject import AuditSubject
from sem_search.errors import DataError
from sem_search.micrographs.tiles import FloatTiles, TileGrid, cut_tiles
from sem_search.records import FloatVector, IntVector

FINEST_PX = 4
"""Particles are counted on cells every so many pixels at most: a quarter of the way across the smallest."""


@dataclass(frozen=True, kw_only=True)
class ParticleTable:
    """All particles of all images."""

    image_of_particle: IntVector
    """Shape (n_particles,)."""
    measures: dict[str, FloatVector]
    particle_maps: NDArray[np.int64]
    """0 on the ground, k + 1 on particle k of all, shape (n_tiles, m * height, m * width)."""
    share_covered: FloatVector
    """Of each image, shape (n_images,)."""
    example_pixels: FloatTiles
    """The first tile of each image shown, shape (n_shown, size_px, size_px)."""


def measure_images(subject: AuditSubject, *, shape: tuple[int, ...]) -> ParticleTable:
    """Return the particles of all images, counted on grids that fit heat maps of this shape (height, width).

    Raises:
        DataError: A tile's side is no multiple of the heat map's.
    """
    step = _choose_step(subject.grid, shape=shape)
    found: list[Particles] = []
    maps, examples, n_before = [], [], 0
    for record in subject.catalogue.records:
        pixels = subject.catalogue.read_image(record)
        particles = find_particles(pixels)
        numbers = np.where(particles.labels > 0, particles.labels + n_before, 0)
        corners = subject.grid.iter_corners(*pixels.shape)
        size = subject.grid.size_px
        maps += [
            numbers[top : top + size, left : left + size][step // 2 :: step, step // 2 :: step] for top, left in corners
        ]
        examples.append(cut_tiles(pixels, grid=subject.grid)[0])
        n_before += particles.n_particles
        found.append(particles)
    return ParticleTable(
        image_of_particle=np.repeat(np.arange(len(found)), [particles.n_particles for particles in found]),
        measures={name: np.concatenate([particles.measures[name] for particles in found]) for name in MEASURES},
        particle_maps=np.stack(maps).astype(np.int64),
        share_covered=np.array([particles.share_covered for particles in found]),
        example_pixels=np.stack(examples),
    )


def _choose_step(grid: TileGrid, *, shape: tuple[int, ...]) -> int:
    """Return every how many pixels particles are counted: a divisor of the heat map's cell."""
    cells = [grid.size_px / side for side in shape]
    if cells[0] != cells[1] or cells[0] != int(cells[0]):
        raise DataError(
            f"tile_px={grid.size_px} is no multiple of a heat map of {shape[0]} x {shape[1]} cells: heat and particles "
            "cannot be laid over each other; search with another tile_px."
        )
    return max(step for step in range(1, FINEST_PX + 1) if int(cells[0]) % step == 0)
