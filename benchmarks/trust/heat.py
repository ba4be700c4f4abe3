"""How often does heat that has nothing to do with the particles seem to follow a measure, and is real heat found?"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.tables import Table
from sem_search.evaluation.heat_maps.correlation import HeatCorrelation, correlate_heat

CELLS, PIXELS_OF_CELL = 7, 2
CORNERS, SIDE = ((0, 0), (0, 5), (0, 10), (5, 0), (5, 5), (5, 10), (10, 0), (10, 5), (10, 10)), 4
"""Where the particles of each tile lie, squares of so many pixels."""

FOLLOW = 0.3
"""By how much the heat on a particle grows with its measure, for the power."""
P_VALUE = 0.05


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Images whose heat and particles vary smoothly, each in a direction of its own."""

    name: str
    slope_of_heat: float = 0.0
    """Over an image, in standard deviations of the noise; the direction is drawn anew for each group."""
    slope_of_measure: float = 0.0
    n_images: int = 10
    shapes: tuple[tuple[int, int], ...] = ((4, 5),)
    """Rows and columns of tiles; the images have them in turn."""
    images_per_group: int = 1
    """Images of one group vary in the same directions."""
    follow: float = 0.0
    """By how much the heat on a particle grows with its measure."""


SMOOTH = Scene(name="both smooth, 4", slope_of_heat=4.0, slope_of_measure=4.0)
SCENES = (
    Scene(name="nothing smooth"),
    Scene(name="heat smooth, 3", slope_of_heat=3.0),
    Scene(name="particles smooth, 3", slope_of_measure=3.0),
    Scene(name="both smooth, 1", slope_of_heat=1.0, slope_of_measure=1.0),
    Scene(name="both smooth, 2", slope_of_heat=2.0, slope_of_measure=2.0),
    SMOOTH,
    replace(SMOOTH, name="both smooth, 4; 5 images", n_images=5),
    replace(SMOOTH, name="both smooth, 4; 12 images of 20 and 6 tiles in turn", n_images=12, shapes=((4, 5), (2, 3))),
    replace(SMOOTH, name="both smooth, 4; 10 overlapping pairs of images", n_images=20, images_per_group=2),
)


def simulate_heat(scene: Scene, *, n_studies: int, n_permutations: int = 199, seed: int = 0) -> dict[str, float]:
    """Return how often p <= 0.05, and how often the interval holds 0."""
    rng = np.random.default_rng(seed)
    found = [_correlate_scene(scene, n_permutations=n_permutations, rng=rng) for _ in range(n_studies)]
    return {
        "found": float(np.mean([entry.p_value <= P_VALUE for entry in found])),
        "held": float(np.mean([entry.correlation.low <= 0 <= entry.correlation.high for entry in found])),
    }


def print_tables(*, n_studies: int) -> None:
    """Print false alarms and power of heat on particles."""
    rows = []
    for scene in SCENES:
        none = simulate_heat(scene, n_studies=n_studies)
        some = simulate_heat(replace(scene, follow=FOLLOW), n_studies=n_studies)
        rows.append([scene.name, none["found"], none["held"], some["found"]])
    Table(
        title="Heat found to follow a measure (p <= 0.05)",
        columns=["images", "no relation: found", "no relation: interval holds 0", "relation: found"],
        rows=rows,
    ).show(percent=True)


def _correlate_scene(scene: Scene, *, n_permutations: int, rng: np.random.Generator) -> HeatCorrelation:
    """Return the correlation in new images."""
    group_of_image = np.arange(scene.n_images) // scene.images_per_group
    directions = rng.normal(size=(2, group_of_image[-1] + 1, 2))
    maps, measures, images = [], [], []
    for image, group in enumerate(group_of_image):
        shape = scene.shapes[image % len(scene.shapes)]
        heat, measure = (
            slope * _climb(direction, shape=shape)
            for slope, direction in zip(
                (scene.slope_of_heat, scene.slope_of_measure), directions[:, group], strict=True
            )
        )
        of_particle = np.stack([measure[:, row // 2 + 1, column // 2 + 1] for row, column in CORNERS], axis=1)
        of_particle = of_particle + rng.normal(size=of_particle.shape)
        maps.append(heat + rng.normal(size=heat.shape) + scene.follow * _lay(of_particle))
        measures.append(of_particle.ravel())
        images.append(np.full(len(heat), image))
    image_of_tile = np.concatenate(images)
    (entry,) = correlate_heat(
        np.concatenate(maps),
        particle_maps=_number_particles(len(image_of_tile)),
        measures={"measure": np.concatenate(measures)},
        image_of_tile=image_of_tile,
        group_of_image=[int(group) for group in group_of_image],
        n_permutations=n_permutations,
        seed=int(rng.integers(2**31)),
    )
    return entry


def _climb(direction: NDArray[np.float64], *, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return a slope over an image, tile by tile, shape (n_tiles, CELLS, CELLS)."""
    rows, columns = ((np.arange(n * CELLS) + 0.5) / (n * CELLS) - 0.5 for n in shape)
    plane = direction[0] * rows[:, None] + direction[1] * columns
    tiles: NDArray[np.float64] = plane.reshape(shape[0], CELLS, shape[1], CELLS).swapaxes(1, 2)
    return tiles.reshape(-1, CELLS, CELLS)


def _lay(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a value per particle on the cells that the particle covers, shape (n_tiles, CELLS, CELLS)."""
    laid = np.zeros((len(values), CELLS, CELLS))
    for place, (row, column) in enumerate(CORNERS):
        laid[:, row // 2 : (row + SIDE) // 2, column // 2 : (column + SIDE) // 2] = values[:, place, None, None]
    return laid


def _number_particles(n_tiles: int) -> NDArray[np.int64]:
    """Return the particle of each pixel, numbered from 1 over all tiles."""
    one = np.zeros((CELLS * PIXELS_OF_CELL,) * 2, dtype=np.int64)
    for place, (row, column) in enumerate(CORNERS):
        one[row : row + SIDE, column : column + SIDE] = place + 1
    return np.where(one > 0, one + len(CORNERS) * np.arange(n_tiles)[:, None, None], 0)
