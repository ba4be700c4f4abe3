"""What the heat of a map lies on: whether particles with much, or little, of a measure are hot. Numbers only.

The null hypothesis is that the heat of an image has nothing to do with its particles. Heat and particles may both vary
smoothly over an image (shading, charging, fines on one side), so that the tiles of one image are not independent: what
is exchanged under it is the heat of whole images, place by place, or of whole groups where images overlap. The p-value
is exact: all exchanges are counted where there are few, else (b + 1) / (m + 1) of m exchanges drawn, b of them as far
from the middle (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from sem_search.evaluation.statistics import (
    MAX_P_VALUE,
    ROUNDING,
    Interval,
    adjust_p_values,
    adjust_smallest_p_values,
    average_images,
    standardise_ranks,
)
from sem_search.records import FloatMatrix, FloatVector, IntMatrix, IntVector

N_PERMUTATIONS = 999  # p-values down to 0.001

MIN_PARTICLES = 3  # fewer in an image have no order to speak of


@dataclass(frozen=True, kw_only=True)
class HeatCorrelation:
    """Whether the heat lies on particles with much, or little, of one measure."""

    measure: str
    n_images: int
    n_particles: int
    correlation: Interval
    """Spearman's, of mean heat and measure over the particles of an image; mean over images, each by its particles."""
    chance_correlation: float | None
    """Its mean with the heat of other images: what size and place of the particles alone bring about. None where no
    two images have the same number of tiles."""
    p_value: float
    """Share of exchanges of whole images' heat, the true one among them, that correlate as far from the middle."""
    adjusted_p_value: float
    """For the number of measures (Holm 1979)."""
    smallest_p_value: float
    """The least adjusted p-value that so many images, exchanges and measures could have given."""

    @property
    def excess(self) -> float:
        """The correlation less what it is by chance."""
        return self.correlation.value - (self.chance_correlation or 0.0)

    @property
    def is_found(self) -> bool:
        """Whether the heat goes with the measure, all measures considered."""
        return self.adjusted_p_value <= MAX_P_VALUE + ROUNDING


@dataclass(frozen=True, kw_only=True)
class _Particles:
    """Which cells of which tile each particle covers."""

    cover: csr_matrix
    """Pixels of each particle in each cell, shape (n_particles, n_tiles * n_cells)."""
    n_pixels: FloatVector
    image_of_particle: IntVector
    """-1 for particles that no tile shows."""


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """One image, or the images of one group: whose heat is exchanged as a whole."""

    images: tuple[int, ...]
    """Those with fewer tiles first."""
    tiles_of_image: tuple[IntVector, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Tiles of each image: units of one shape can exchange their heat."""
        return tuple(len(tiles) for tiles in self.tiles_of_image)


def correlate_heat(
    maps: NDArray[np.float64],
    *,
    particle_maps: NDArray[np.int64],
    measures: Mapping[str, FloatVector],
    image_of_tile: IntVector,
    group_of_image: Sequence[object] | None = None,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> tuple[HeatCorrelation, ...]:
    """Return for each measure whether the heat lies on particles with much or little of it.

    Particles are ranked within their image, so that images that differ in heat, or in particles, bring about nothing.

    Args:
        maps: Heat, shape (n_tiles, height, width).
        particle_maps: 0 on the ground, k + 1 on particle k, shape (n_tiles, m * height, m * width) with a whole m. A
            particle may lie in several tiles of one image.
        measures: Name to one number per particle, each of shape (n_particles,).
        image_of_tile: Shape (n_tiles,); the tiles of an image in the same order of places in every image.
        group_of_image: Which group each image belongs to, at the numbers that `image_of_tile` holds; by default each is
            one of its own.
        n_permutations: How often the heat is exchanged; fewer where there are not so many exchanges.
        seed: Of the exchanges.

    Raises:
        ValueError: Fewer than two independent images have three particles that differ in a measure.
    """
    particles = _cover_cells(particle_maps, shape=maps.shape, image_of_tile=image_of_tile)
    particles_of_image = _list_places(particles.image_of_particle)
    units = _list_units(image_of_tile, group_of_image=group_of_image)
    exchanges = _exchange_units(units, n_permutations=n_permutations, rng=np.random.default_rng(seed))
    sums = {name: _Sums(name=name, units=units, n_exchanges=len(exchanges)) for name in measures}
    for number, unit in enumerate(units):
        sources, place = np.unique(exchanges[:, number], return_inverse=True)
        for position, image in enumerate(unit.images):
            members = particles_of_image.get(image, np.zeros(0, dtype=np.int64))
            if len(members) >= MIN_PARTICLES:
                tiles = np.stack([units[source].tiles_of_image[position] for source in sources])
                own_tiles = unit.tiles_of_image[position]
                heat = _compute_mean_heat(particles, members=members, own_tiles=own_tiles, maps=maps, tiles=tiles)
                for name, correlations in _iter_correlations(heat, measures=measures, members=members):
                    sums[name].add(correlations, unit=number, sources=sources, place=place, n_particles=len(members))
    return _adjust([sums[name].conclude() for name in measures])


def _iter_correlations(
    heat: FloatMatrix, *, measures: Mapping[str, FloatVector], members: IntVector
) -> Iterator[tuple[str, FloatVector]]:
    """Yield each measure in which the particles differ, and its rank correlation with each row of heat."""
    ranks = standardise_ranks(rankdata(heat, axis=1))
    for name, values in measures.items():
        if np.ptp(values[members]) > 0:
            order = standardise_ranks(rankdata(values[members]))
            yield name, np.nan_to_num(ranks @ order)  # heat all alike: none


def _adjust(found: Sequence[HeatCorrelation]) -> tuple[HeatCorrelation, ...]:
    p_values = np.array([entry.p_value for entry in found])
    smallest = adjust_smallest_p_values(p_values, smallest=np.array([entry.smallest_p_value for entry in found]))
    return tuple(
        replace(entry, adjusted_p_value=float(p), smallest_p_value=float(least))
        for entry, p, least in zip(found, adjust_p_values(p_values), smallest, strict=True)
    )


def _list_units(image_of_tile: IntVector, *, group_of_image: Sequence[object] | None) -> tuple[_Unit, ...]:
    """Return the images, those of one group together."""
    tiles_of_image = _list_places(image_of_tile)
    images = np.array(list(tiles_of_image))
    groups = images if group_of_image is None else np.asarray(group_of_image)[images]
    units = []
    for members in _list_places(np.unique(groups, return_inverse=True)[1]).values():
        own = sorted((int(image) for image in images[members]), key=lambda image: len(tiles_of_image[image]))
        units.append(_Unit(images=tuple(own), tiles_of_image=tuple(tiles_of_image[image] for image in own)))
    return tuple(units)


def _list_places(numbers: IntVector) -> dict[int, IntVector]:
    order = np.argsort(numbers, kind="stable")
    values, starts = np.unique(numbers[order], return_index=True)
    return {int(value): places for value, places in zip(values, np.split(order, starts[1:]), strict=True)}


def _exchange_units(units: Sequence[_Unit], *, n_permutations: int, rng: np.random.Generator) -> IntMatrix:
    """Return which unit's heat each unit gets, shape (1 + n_exchanges, n_units), its own first.

    Only units of one shape exchange. Where there are no more than `n_permutations` other exchanges, each is there once.
    """
    strata = _list_strata(units)
    if math.prod(math.factorial(len(stratum)) for stratum in strata) <= n_permutations + 1:
        choices = itertools.product(*(itertools.permutations(stratum) for stratum in strata))
        permuted = np.array([np.concatenate(choice) for choice in choices])
    else:
        drawn = [rng.permuted(np.tile(stratum, (n_permutations, 1)), axis=1) for stratum in strata]
        permuted = np.vstack([np.concatenate(strata), np.hstack(drawn)])
    exchanges = np.empty(permuted.shape, dtype=np.int64)
    exchanges[:, np.concatenate(strata)] = permuted
    return exchanges


def _list_strata(units: Sequence[_Unit]) -> list[list[int]]:
    """Return the numbers of the units of each shape."""
    strata: dict[tuple[int, ...], list[int]] = {}
    for number, unit in enumerate(units):
        strata.setdefault(unit.shape, []).append(number)
    return list(strata.values())


def _compute_mean_heat(
    particles: _Particles, *, members: IntVector, own_tiles: IntVector, maps: NDArray[np.float64], tiles: IntMatrix
) -> FloatMatrix:
    """Return the mean heat on each particle of an image if it had the maps of other tiles.

    Args:
        particles: All of them.
        members: Those of the image, shape (n_members,).
        own_tiles: The tiles of the image, ascending, shape (n_own,); no other shows these particles.
        maps: All maps.
        tiles: Whose maps lie on these tiles, one row per exchange, shape (n_sources, n_own).

    Returns:
        Shape (n_sources, n_members).
    """
    n_cells = maps.shape[1] * maps.shape[2]
    cover = particles.cover[members]
    cells = np.searchsorted(own_tiles, cover.indices // n_cells) * n_cells + cover.indices % n_cells
    own = csr_matrix((cover.data, cells, cover.indptr), shape=(len(members), len(own_tiles) * n_cells))
    heat = own @ maps[tiles].reshape(len(tiles), -1).T
    mean: FloatMatrix = heat.T / particles.n_pixels[members]
    return mean


class _Sums:
    """What one measure adds up to over the units, for every exchange."""

    def __init__(self, *, name: str, units: Sequence[_Unit], n_exchanges: int) -> None:
        self._name, self._units = name, units
        self._weights = np.zeros(len(units))
        self._observed = np.zeros(len(units))
        self._of_others = np.full(len(units), np.nan)
        self._totals = np.zeros(n_exchanges)
        self._n_particles: list[int] = []

    def add(
        self, correlations: FloatVector, *, unit: int, sources: IntVector, place: IntVector, n_particles: int
    ) -> None:
        """Add one image of a unit: its correlation with the heat of each source, and which source each exchange has."""
        weight = n_particles - 1  # the inverse variance of a rank correlation by chance
        self._n_particles.append(n_particles)
        self._weights[unit] += weight
        self._observed[unit] += weight * correlations[sources == unit][0]
        self._totals += weight * correlations[place]
        is_other = sources[place] != unit
        if is_other.any():
            own = weight * float(correlations[place][is_other].mean())
            self._of_others[unit] = np.nan_to_num(self._of_others[unit]) + own

    def conclude(self) -> HeatCorrelation:
        """Return the correlation, what it is by chance, and its p-value, not yet adjusted."""
        is_used = self._weights > 0
        if is_used.sum() < 2:
            raise ValueError(
                f"Fewer than two images have {MIN_PARTICLES} particles that differ in {self._name!r}: nothing can be "
                "correlated (images of one group count as one)."
            )
        weights = self._weights[is_used]
        means = self._totals / weights.sum()
        distances = np.abs(means - means.mean())
        p_value = int((distances >= distances[0] - ROUNDING).sum()) / len(means)
        has_others = np.isfinite(self._of_others)
        return HeatCorrelation(
            measure=self._name,
            n_images=len(self._n_particles),
            n_particles=sum(self._n_particles),
            correlation=average_images(self._observed[is_used] / weights, lowest=-1.0, highest=1.0, weights=weights),
            chance_correlation=float(self._of_others[has_others].sum() / self._weights[has_others].sum())
            if has_others.any()
            else None,
            p_value=p_value,
            adjusted_p_value=p_value,
            smallest_p_value=max(self._compute_rarest(is_used), 1 / len(means)),
        )

    def _compute_rarest(self, is_used: NDArray[np.bool_]) -> float:
        """Return the share of all exchanges that leave every unit with particles its own heat.

        Where no more than two units can exchange, the exchange of all of them lies as far on the other side.
        """
        strata = [(len(stratum), int(is_used[stratum].sum())) for stratum in _list_strata(self._units)]
        rarest = math.prod(1 / math.perm(size, n_used) for size, n_used in strata)
        return rarest if any(size > 2 for size, n_used in strata if n_used) else min(2 * rarest, 1.0)


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
        image_of_particle[seen] = image_of_tile[tile]
        rows.append(seen)
        columns.append(tile * height * width + pairs % (height * width))
        counts.append(n_pixels.astype(np.float64))
    places = (np.concatenate(rows), np.concatenate(columns))
    cover = csr_matrix((np.concatenate(counts), places), shape=(n_particles, n_tiles * height * width))
    return _Particles(cover=cover, n_pixels=np.asarray(cover.sum(axis=1)).ravel(), image_of_particle=image_of_particle)


def _number_cells(shape: tuple[int, ...], *, height: int, width: int) -> NDArray[np.int64]:
    rows = np.arange(shape[0]) * height // shape[0]
    columns = np.arange(shape[1]) * width // shape[1]
    return (rows[:, None] * width + columns).astype(np.int64)
