"""Whether two lots of one material can be told apart, and what difference so many images could have shown.

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017): if a classifier names the lot of images that it was not
fitted on better than chance, the lots differ. The classifier is a linear discriminant on image means of trunk features,
in leave-one-image-out form (`lot_scores`). The p-value is that of the area under its ROC curve (AUROC) over images,
among deals of the images to the lots by chance: the share of all deals that are as high, where there are few, else
(b + 1) / (m + 1) of m deals, b of them as high (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39). On
made-up lots the AUROC found more differences than the accuracy, which takes few values only (`docs/trust.md`).

The unit is the group: images of one group (overlapping fields) count as one image. Every group has as many images, and
every image as many tiles, as the smallest.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sem_search.errors import DataError
from sem_search.evaluation.intervals import LEVEL, Interval, compute_share_interval
from sem_search.evaluation.lots.power import MAX_P_VALUE, N_POWER_TESTS, find_detectable_accuracy
from sem_search.evaluation.lots.scores import (
    ROUNDING,
    DealScores,
    TileScorer,
    balance_tiles,
    build_tile_scorer,
    deal_images,
    score_deals,
    whiten_images,
)
from sem_search.records import FloatMatrix, FloatVector, IntVector

N_DEALS = 999  # p-values down to 0.001

DEALS_OF_PAIR = 100
"""For each pair of lots, if that is more: else no p-value could be small enough for many pairs."""

MIN_IMAGES = 4
"""Of each lot: with three against three no p-value is below 0.1."""


@dataclass(frozen=True, kw_only=True)
class LotPair:
    """Two lots against each other."""

    first: str
    second: str
    n_first: int
    """Independent images (groups)."""
    n_second: int
    accuracy: Interval
    """Share of images whose lot is correctly predicted, both lots counted alike; chance is 0.5."""
    auroc: float
    """How often an image of the first lot looks more like the first than one of the second does; chance is 0.5."""
    p_value: float
    adjusted_p_value: float
    """For the number of pairs (Holm, Scand. J. Stat. 6 (1979) 65)."""
    smallest_p_value: float
    """The least adjusted p-value that so many images, deals and pairs could have given."""
    detectable_accuracy: float | None
    """The true accuracy that 80 of 100 such tests would find at a p-value of 0.05, adjusted for all pairs; the same for
    all pairs of so many images, simulated on those of the first. None where even the largest difference tried would be
    missed, where none was tried, and where the lots differ."""
    n_tiles_of_image: int
    """Tiles of each image that the test looked at: as many as the smallest has, drawn by chance from larger ones."""
    n_tiles_left_out: int
    tiles: IntVector
    """Indices of the two lots' tiles, shape (n,)."""
    scorer: TileScorer
    """What each of them is scored by."""
    score_of_tile: FloatVector
    """How much each of them looks like the first lot (above 0) or the second, judged by the other images, shape
    (n,)."""

    def is_different(self, level: float = LEVEL) -> bool:
        """Whether the lots differ at this confidence, all pairs considered."""
        return self.adjusted_p_value <= 1 - level + ROUNDING


@dataclass(frozen=True, kw_only=True)
class _PairImages:
    """The images of a pair of lots, as the test sees them."""

    points: FloatMatrix
    """Whitened image means, shape (n_images, n_directions)."""
    is_first: FloatVector


def compare_lots(
    features: FloatMatrix,
    *,
    image_of_tile: IntVector,
    lot_of_image: IntVector,
    lot_names: Sequence[str],
    group_of_image: Sequence[object] | None = None,
    n_deals: int = N_DEALS,
    n_power_tests: int = N_POWER_TESTS,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[LotPair, ...]:
    """Return the test of every pair of lots.

    Args:
        features: Pooled trunk features, shape (n_tiles, n_features).
        image_of_tile: Index of each tile's image, shape (n_tiles,).
        lot_of_image: Index of each image's lot in `lot_names`, shape (n_images,).
        lot_names: Two or more.
        group_of_image: Which group each image belongs to; by default each is one of its own.
        n_deals: Deals by chance; at least 100 for each pair, and no more than there are.
        n_power_tests: Tests simulated for each difference tried, once for all pairs of so many images that do not
            differ: 0.3 s for 20 images where there is one pair, 3 s where there are 45; 0 leaves the power out.
        level: Of the intervals of the accuracies.
        seed: Of the deals, and of the tiles drawn from images that have more than others.

    Raises:
        DataError: A lot has fewer than 4 independent images, or a group has images of two lots; the message names it.
        ValueError: Shapes do not match, features are not finite, or there are fewer than two lots.
    """
    groups = np.arange(len(lot_of_image)) if group_of_image is None else np.asarray(group_of_image)
    _check_shapes(features, image_of_tile=image_of_tile, lot_of_image=lot_of_image, groups=groups, names=lot_names)
    _check_lots(groups, lot_of_image=lot_of_image, names=lot_names)
    group_of_tile = np.unique(groups, return_inverse=True)[1][image_of_tile]
    choices = list(itertools.combinations(range(len(lot_names)), 2))
    compared = [
        _compare_pair(
            features,
            image_of_tile=image_of_tile,
            group_of_tile=group_of_tile,
            lot_of_tile=lot_of_image[image_of_tile],
            lots=lots,
            names=lot_names,
            n_deals=max(n_deals, DEALS_OF_PAIR * len(choices) - 1),
            level=level,
            rng=np.random.default_rng([seed, *lots]),
        )
        for lots in choices
    ]
    p_values = np.array([pair.p_value for pair, _ in compared])
    adjusted = adjust_p_values(p_values)
    smallest = np.array([pair.smallest_p_value for pair, _ in compared])
    pairs = []
    powers: dict[tuple[int, int], float | None] = {}
    for (pair, images), p, own, least in zip(
        compared, adjusted, smallest, adjust_smallest_p_values(p_values, smallest=smallest), strict=True
    ):
        judged = dataclasses.replace(pair, adjusted_p_value=float(p), smallest_p_value=float(least))
        can_be_found = own * len(choices) <= MAX_P_VALUE + ROUNDING
        if can_be_found and not judged.is_different():
            key = (min(pair.n_first, pair.n_second), max(pair.n_first, pair.n_second))
            if key not in powers:
                powers[key] = find_detectable_accuracy(
                    images.points,
                    images.is_first,
                    n_tests=n_power_tests,
                    n_pairs=len(choices),
                    rng=np.random.default_rng([seed, *key]),
                )
            judged = dataclasses.replace(judged, detectable_accuracy=powers[key])
        pairs.append(judged)
    return tuple(pairs)


def adjust_p_values(p_values: FloatVector) -> FloatVector:
    """Return p-values adjusted for their number, so that the chance of any false alarm keeps its level (Holm 1979).

    The smallest is multiplied by their number n, the next by n - 1, and so on; none is below the one before it, none
    above 1. Shape (n,).
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    return adjusted


def adjust_smallest_p_values(p_values: FloatVector, *, smallest: FloatVector) -> FloatVector:
    """Return the least that each adjusted p-value could have been, the others as they are, shape (n,).

    Args:
        p_values: Not adjusted, shape (n,).
        smallest: The least that each can be before the adjustment, shape (n,).
    """
    numbers = np.arange(len(p_values))
    return np.array([adjust_p_values(np.where(numbers == own, smallest, p_values))[own] for own in numbers])


def compute_smallest_p_value(n_first: int, n_second: int, *, n_deals: int = N_DEALS) -> float:
    """Return the least p-value that a test can give: one of all different deals, or one of those drawn.

    With two lots of one size each deal has a twin, the lots exchanged, that scores the same.
    """
    n_all = math.comb(n_first + n_second, n_first)
    return (2 if n_first == n_second else 1) / n_all if n_all <= n_deals + 1 else 1 / (n_deals + 1)


def _compare_pair(
    features: FloatMatrix,
    *,
    image_of_tile: IntVector,
    group_of_tile: IntVector,
    lot_of_tile: IntVector,
    lots: tuple[int, int],
    names: Sequence[str],
    n_deals: int,
    level: float,
    rng: np.random.Generator,
) -> tuple[LotPair, _PairImages]:
    """Return one pair's test, its p-value not yet adjusted and without its power, and the images for that."""
    tiles = np.flatnonzero(np.isin(lot_of_tile, lots))
    _, first_tile, row_of_tile = np.unique(group_of_tile[tiles], return_index=True, return_inverse=True)
    is_first = (lot_of_tile[tiles][first_tile] == lots[0]).astype(np.float64)
    looked_at = balance_tiles(image_of_tile[tiles], group_of_tile=row_of_tile, rng=rng)
    whitened = whiten_images(features[tiles[looked_at]], row_of_tile=row_of_tile[looked_at])
    observed = score_deals(whitened.points, is_first[None])
    auroc, accuracy = float(observed.compute_auroc()[0]), float(observed.compute_accuracy()[0])
    n_first, n_second = int(is_first.sum()), int((1 - is_first).sum())
    dealt = score_deals(whitened.points, deal_images(is_first, n_deals=n_deals, rng=rng))
    p_value = dealt.compute_p_value(auroc=auroc)
    smallest = compute_smallest_p_value(n_first, n_second, n_deals=n_deals)
    scorer = build_tile_scorer(whitened, is_first=is_first, row_of_tile=row_of_tile)
    pair = LotPair(
        first=names[lots[0]],
        second=names[lots[1]],
        n_first=n_first,
        n_second=n_second,
        accuracy=compute_share_interval(accuracy, n=_compute_effective_number(dealt), level=level),
        auroc=auroc,
        p_value=p_value,
        adjusted_p_value=p_value,
        smallest_p_value=smallest,
        detectable_accuracy=None,
        n_tiles_of_image=int(np.bincount(np.unique(image_of_tile[tiles[looked_at]], return_inverse=True)[1]).min()),
        n_tiles_left_out=len(tiles) - len(looked_at),
        tiles=tiles,
        scorer=scorer,
        score_of_tile=scorer.score(features[tiles]),
    )
    return pair, _PairImages(points=whitened.points, is_first=is_first)


def _compute_effective_number(dealt: DealScores) -> float:
    """Return how many independent images know as much as these, from how much the accuracy differs between deals.

    Scores of images left out in turn hang together, since they share all other images: their mean varies more than that
    of as many independent ones.
    """
    n_first, n_second = dealt.is_first[0].sum(), (1 - dealt.is_first[0]).sum()
    independent = 4 / (1 / n_first + 1 / n_second)
    return float(min(independent, 0.25 / max(dealt.compute_accuracy().var(), ROUNDING)))


def _check_shapes(
    features: FloatMatrix,
    *,
    image_of_tile: IntVector,
    lot_of_image: IntVector,
    groups: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]",
    names: Sequence[str],
) -> None:
    """Raise unless everything belongs together."""
    if len(names) < 2:
        raise ValueError(f"Lots are compared in pairs: got {len(names)}.")
    if features.ndim != 2 or len(features) != len(image_of_tile) or len(groups) != len(lot_of_image):
        raise ValueError(
            f"Features of shape {features.shape}, {len(image_of_tile)} tiles, {len(lot_of_image)} images and "
            f"{len(groups)} groups do not match."
        )
    if not np.isfinite(features).all():
        raise ValueError("Some features are not finite: compute them again.")
    if set(np.unique(image_of_tile)) != set(range(len(lot_of_image))):
        raise ValueError(f"Every one of {len(lot_of_image)} images must have a tile, and every tile an image.")
    if lot_of_image.min() < 0 or lot_of_image.max() >= len(names):
        raise ValueError(f"Lots are numbered 0 to {len(names) - 1}; got up to {lot_of_image.max()}.")


def _check_lots(
    groups: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", *, lot_of_image: IntVector, names: Sequence[str]
) -> None:
    """Raise if a group lies in two lots, or a lot is too small."""
    for group in np.unique(groups):
        inside = np.unique(lot_of_image[groups == group])
        if len(inside) > 1:
            raise DataError(
                f"group {group} has images of the lots {names[inside[0]]} and {names[inside[1]]}: the same place is in "
                "both, or the groups are wrong"
            )
    for lot, name in enumerate(names):
        n_groups = len(np.unique(groups[lot_of_image == lot]))
        if n_groups < MIN_IMAGES:
            raise DataError(
                f"lot {name} has {n_groups} independent image{'s' * (n_groups != 1)}, and {MIN_IMAGES} are needed: "
                "with fewer no difference, however large, can be told from chance"
            )
