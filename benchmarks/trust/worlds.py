"""Made-up studies whose true figures are known exactly.

A tile's logits are those of its class, its image, the tile itself and the network that answers, each a normal deviate.
Classes 0 and 1, 2 and 3, ... are neighbours, which are predicted as one another. So the chance that a class is taken
for another is a one-dimensional integral, and the true figures, those of endless images, need no simulation.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from sem_search.evaluation.answers import AnswerTable, Figures, compute_figures_of

N_NODES = 60  # of a smooth integrand: to ten digits


@dataclass(frozen=True, kw_only=True)
class World:
    """How many images there are, and how hard they are."""

    name: str
    n_classes: int
    images_per_class: int
    tiles_per_image: int = 20
    n_folds: int = 5
    strength: float = 4.0
    """Logit of the true class."""
    neighbour: float = 2.5
    """Logit of the class that it is predicted as."""
    image_spread: float = 0.9
    tile_spread: float = 0.9
    network_spread: float = 0.2
    """How much the networks of the folds differ in what they prefer."""
    images_per_group: int = 1
    likeness: float = 0.0
    """Share of the variance between images that images of a group have in common."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Shape (n_images,)."""
        return np.repeat(np.arange(self.n_classes), self.images_per_class)

    @property
    def groups(self) -> NDArray[np.int64]:
        """Shape (n_images,)."""
        return np.arange(self.n_classes * self.images_per_class) // self.images_per_group

    @property
    def folds(self) -> NDArray[np.int64]:
        """Shape (n_images,): groups are dealt in turn, so that parts differ by one group at most."""
        groups_per_class = self.images_per_class // self.images_per_group
        return (self.groups % groups_per_class + self.labels) % self.n_folds


def draw_networks(world: World, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return what each fold's network adds to the logits, shape (n_folds, n_classes)."""
    return world.network_spread * rng.normal(size=(world.n_folds, world.n_classes))


def draw_answers(world: World, networks: NDArray[np.float64], rng: np.random.Generator) -> AnswerTable:
    """Return the answers to new images, each by the network of its fold."""
    (table,) = draw_paired_answers([world], [networks], likeness=1.0, rng=rng)
    return table


def draw_paired_answers(
    worlds: list[World], networks: list[NDArray[np.float64]], *, likeness: float, rng: np.random.Generator
) -> list[AnswerTable]:
    """Return several networks' answers to the same images; `likeness` of the variance is the images', not theirs."""
    world = worlds[0]
    common = _draw_deviates(world, rng)
    tables = []
    for one, preference in zip(worlds, networks, strict=True):
        image, tile = (
            np.sqrt(likeness) * shared + np.sqrt(1 - likeness) * own
            for shared, own in zip(common, _draw_deviates(world, rng), strict=True)
        )
        centres = compute_centres(one)[one.labels] + preference[one.folds]
        logits = (centres + one.image_spread * image)[:, None] + one.tile_spread * tile
        tables.append(_tabulate(one, logits))
    return tables


def compute_centres(world: World) -> NDArray[np.float64]:
    """Return the mean logits of each class, shape (n_classes, n_classes)."""
    centres = world.strength * np.eye(world.n_classes)
    for label in range(world.n_classes):
        if label ^ 1 < world.n_classes:
            centres[label, label ^ 1] = world.neighbour
    return centres


def compute_truth(world: World, networks: NDArray[np.float64]) -> Figures:
    """Return the figures of these networks on endless images."""
    centres = compute_centres(world) + networks[:, None, :]
    weight = np.bincount(world.folds, minlength=world.n_folds)[:, None, None]
    tile_spread = np.hypot(world.image_spread, world.tile_spread)
    image_spread = np.hypot(world.image_spread, world.tile_spread / np.sqrt(world.tiles_per_image))
    return compute_figures_of(
        weight * compute_chances(centres, spread=tile_spread),
        image_confusion=(weight * compute_chances(centres, spread=image_spread)).sum(axis=0),
    )


def compute_chances(centres: NDArray[np.float64], *, spread: float) -> NDArray[np.float64]:
    """Return how often each class is the highest of independent normal deviates around the centres, same shape."""
    steps = np.linspace(-6, 6, N_NODES)
    heights = centres[..., None] / spread + steps  # (..., class that wins, node)
    below = log_ndtr(heights[..., None, :] - centres[..., None, :, None] / spread)  # (..., wins, other, node)
    log_density = -(steps**2) / 2 + below.sum(axis=-2) - log_ndtr(steps)
    chances: NDArray[np.float64] = np.exp(log_density).sum(axis=-1)
    return chances / chances.sum(axis=-1, keepdims=True)


def _draw_deviates(world: World, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return standard deviates of images (n_images, n_classes) and of tiles (n_images, n_tiles, n_classes)."""
    shape = (len(world.labels), world.tiles_per_image, world.n_classes)
    of_group = rng.normal(size=(int(world.groups.max()) + 1, world.n_classes))[world.groups]
    own = rng.normal(size=(len(world.labels), world.n_classes))
    image = np.sqrt(world.likeness) * of_group + np.sqrt(1 - world.likeness) * own
    return image, rng.standard_normal(shape, dtype=np.float32).astype(np.float64)


def _tabulate(world: World, logits: NDArray[np.float64]) -> AnswerTable:
    """Return the answers per image; the image's own is that of the mean logits: the product rule."""
    n_images = len(world.labels)
    counts = np.zeros((n_images, world.n_classes), dtype=np.int64)
    np.add.at(counts, (np.repeat(np.arange(n_images), world.tiles_per_image), logits.argmax(axis=2).ravel()), 1)
    return AnswerTable(
        n_classes=world.n_classes,
        image_of_row=np.arange(n_images),
        label_of_row=world.labels,
        fold_of_row=world.folds,
        group_of_row=world.groups,
        tile_counts=counts,
        answer_of_row=logits.mean(axis=1).argmax(axis=1),
    )
