"""What the heat of a map lies on: whether particles with much, or little, of a measure are hot. Numbers only.

A map that lies on particles of one kind no more than the map of another tile does, lies there by chance: the null is
made of the same maps, exchanged between tiles.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from sem_search.evaluation.agreement import ROUNDING, average_images, standardise_ranks
from sem_search.evaluation.intervals import LEVEL, Interval
from sem_search.evaluation.outcomes import FloatMatrix, FloatVector, IntVector
from sem_search.evaluation.two_sample import adjust_p_values

N_SHUFFLES = 999  # p-values down to 0.001

MIN_PARTICLES = 3  # fewer in an image have no order to speak of


@dataclass(frozen=True, kw_only=True)
class HeatCorrelation:
    """Whether the heat lies on particles with much, or little, of one measure."""

    measure: str
    n_images: int
    n_particles: int
    correlation: Interval
    """Spearman's, of mean heat and measure over the particles of an image; mean over images, each by its particles."""
    chance_correlation: float
    """Its mean with the maps exchanged between tiles: what size and place of the particles alone bring about."""
    p_value: float
    """How often exchanged maps correlate as far from `chance_correlation`."""
    adjusted_p_value: float
    """For the number of measures (Holm 1979)."""


@dataclass(frozen=True, kw_only=True)
class _Particles:
    """Which cells of which tile each particle covers."""

    cover: csr_matrix
    """Pixels of each particle in each cell, shape (n_particles, n_tiles * n_cells)."""
    n_pixels: FloatVector
    image_of_particle: IntVector
    """-1 for particles that no tile shows."""

    def compute_mean_heat(self, maps: FloatMatrix) -> FloatVector:
        """Return the mean heat on each particle, shape (n_particles,); NaN where no tile shows it."""
        heat = np.full(len(self.n_pixels), np.nan)
        is_shown = self.n_pixels > 0
        heat[is_shown] = (self.cover @ maps.ravel())[is_shown] / self.n_pixels[is_shown]
        return heat


def correlate_heat(
    maps: NDArray[np.float64],
    *,
    particle_maps: NDArray[np.int64],
    measures: Mapping[str, FloatVector],
    image_of_tile: IntVector,
    level: float = LEVEL,
    n_shuffles: int = N_SHUFFLES,
    seed: int = 0,
) -> tuple[HeatCorrelation, ...]:
    """Return for each measure whether the heat lies on particles with much or little of it.

    Particles are ranked within their image, so that images that differ in heat, or in particles, bring about nothing.

    Args:
        maps: Heat, shape (n_tiles, height, width).
        particle_maps: 0 on the ground, k + 1 on particle k, shape (n_tiles, m * height, m * width) with a whole m. A
            particle may lie in several tiles of one image.
        measures: Name to one number per particle, each of shape (n_particles,).
        image_of_tile: Shape (n_tiles,).
        level: Of the intervals.
        n_shuffles: How often the maps are exchanged between tiles.
        seed: Of the exchanges and of the bootstrap.

    Raises:
        ValueError: Shapes do not match, a particle lies in two images, a measure is not finite, or fewer than two
            images have three particles that differ in the measure.
    """
    _check_maps(maps, particle_maps=particle_maps, image_of_tile=image_of_tile)
    _check_measures(measures, n_particles=int(particle_maps.max()))
    particles = _cover_cells(particle_maps, shape=maps.shape, image_of_tile=image_of_tile)
    rng = np.random.default_rng(seed)
    heats = [particles.compute_mean_heat(maps)]
    heats += [particles.compute_mean_heat(maps[rng.permutation(len(maps))]) for _ in range(n_shuffles)]
    found = [
        _correlate_measure(name, values, heats=np.array(heats), particles=particles, level=level, seed=seed)
        for name, values in measures.items()
    ]
    adjusted = adjust_p_values(np.array([entry.p_value for entry in found]))
    return tuple(replace(entry, adjusted_p_value=float(p)) for entry, p in zip(found, adjusted, strict=True))


def _cover_cells(particle_maps: NDArray[np.int64], *, shape: tuple[int, ...], image_of_tile: IntVector) -> _Particles:
    """Count the pixels of each particle in each cell."""
    n_particles, (n_tiles, height, width) = int(particle_maps.max()), shape
    cell_of_pixel = _number_cells(particle_maps.shape[1:], height=height, width=width)
    rows, columns, counts = [], [], []
    image_of_particle = np.full(n_particles, -1, dtype=np.int64)
    for tile in range(n_tiles):
        is_particle = particle_maps[tile] > 0
        keys = (particle_maps[tile][is_particle] - 1) * (height * width) + cell_of_pixel[is_particle]
        pairs, n_pixels = np.unique(keys, return_counts=True)
        seen = pairs // (height * width)
        _check_images(image_of_particle[seen], image=int(image_of_tile[tile]), particles=seen)
        image_of_particle[seen] = image_of_tile[tile]
        rows.append(seen)
        columns.append(tile * height * width + pairs % (height * width))
        counts.append(n_pixels.astype(np.float64))
    places = (np.concatenate(rows), np.concatenate(columns))
    cover = csr_matrix((np.concatenate(counts), places), shape=(n_particles, n_tiles * height * width))
    return _Particles(cover=cover, n_pixels=np.asarray(cover.sum(axis=1)).ravel(), image_of_particle=image_of_particle)


def _number_cells(shape: tuple[int, ...], *, height: int, width: int) -> NDArray[np.int64]:
    """Return the cell of each pixel, shape (height_px, width_px)."""
    rows = np.arange(shape[0]) * height // shape[0]
    columns = np.arange(shape[1]) * width // shape[1]
    return (rows[:, None] * width + columns).astype(np.int64)


def _correlate_measure(
    name: str, values: FloatVector, *, heats: FloatMatrix, particles: _Particles, level: float, seed: int
) -> HeatCorrelation:
    """Return one measure's correlation; `heats` has the true maps first, then the exchanged ones."""
    correlations, n_particles = [], []
    for image in np.unique(particles.image_of_particle[particles.image_of_particle >= 0]):
        members = np.flatnonzero(particles.image_of_particle == image)
        if len(members) < MIN_PARTICLES or np.ptp(values[members]) == 0:
            continue
        heat = standardise_ranks(rankdata(heats[:, members], axis=1))
        correlations.append(np.nan_to_num(heat @ standardise_ranks(rankdata(values[members]))))  # heat all alike: none
        n_particles.append(len(members))
    if len(correlations) < 2:
        raise ValueError(
            f"Fewer than two images have {MIN_PARTICLES} particles that differ in {name!r}: nothing can be correlated."
        )
    weights = np.array(n_particles, dtype=np.float64) - 1  # the inverse variance of a rank correlation by chance
    table = np.array(correlations)
    means = weights @ table / weights.sum()
    chance = float(means[1:].mean())
    n_as_far = int((np.abs(means[1:] - chance) >= abs(means[0] - chance) - ROUNDING).sum())
    p_value = (n_as_far + 1) / len(means)
    return HeatCorrelation(
        measure=name,
        n_images=len(table),
        n_particles=sum(n_particles),
        correlation=average_images(table[:, 0], lowest=-1.0, highest=1.0, level=level, seed=seed, weights=weights),
        chance_correlation=chance,
        p_value=p_value,
        adjusted_p_value=p_value,
    )


def _check_maps(maps: NDArray[np.float64], *, particle_maps: NDArray[np.int64], image_of_tile: IntVector) -> None:
    """Raise unless heat and particles lie on the same tiles."""
    is_matching = (
        maps.ndim == particle_maps.ndim == 3
        and len(maps) == len(particle_maps) == len(image_of_tile) > 0
        and particle_maps.shape[1] % maps.shape[1] == 0
        and particle_maps.shape[1] // maps.shape[1] == particle_maps.shape[2] / maps.shape[2]
    )
    if not is_matching:
        raise ValueError(
            f"Heat maps of shape {maps.shape} do not lie on particle maps of shape {particle_maps.shape} of "
            f"{len(image_of_tile)} tiles: each cell must be a whole number of pixels wide."
        )


def _check_measures(measures: Mapping[str, FloatVector], *, n_particles: int) -> None:
    """Raise unless every particle has every measure."""
    for name, values in measures.items():
        if len(values) < n_particles or not np.isfinite(values).all():
            raise ValueError(f"Measure {name!r} must have {n_particles} finite values, one per particle.")


def _check_images(found: IntVector, *, image: int, particles: IntVector) -> None:
    """Raise if a particle has been seen in another image."""
    is_elsewhere = (found >= 0) & (found != image)
    if is_elsewhere.any():
        raise ValueError(f"Particle {particles[is_elsewhere][0]} lies in two images.")
