"""Whether two lots of one material can be told apart, and what difference so many images could have shown.

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017): if a classifier predicts the lot of images that it was
not fitted on better than chance, the lots differ. The p-value is that of the area under its ROC curve (AUROC) over
images, among permutations of the images between the lots: the share of all permutations that are as high, where there
are few, else (b + 1) / (m + 1) of m permutations, b of them as high (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9
(2010) 39). The AUROC found more differences than the accuracy, which takes few values only (`docs/trust.md`).

The unit is the group: images of one group (overlapping fields) count as one image.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import DataError
from sem_search.evaluation.intervals import compute_share_interval
from sem_search.evaluation.lots.power import N_POWER_TESTS, find_detectable_accuracy
from sem_search.evaluation.lots.scores import (
    PermutationScores,
    TileScorer,
    balance_tiles,
    build_tile_scorer,
    permute_images,
    score_permutations,
    whiten_images,
)
from sem_search.evaluation.statistics import MAX_P_VALUE, ROUNDING, Interval, adjust_p_values, adjust_smallest_p_values
from sem_search.records import FloatMatrix, FloatVector, IntVector
from sem_search.words import count

N_PERMUTATIONS = 999  # p-values down to 0.001

PERMUTATIONS_OF_PAIR = 100
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
    """The least adjusted p-value that so many images, permutations and pairs could have given."""
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

    def is_different(self) -> bool:
        """Return whether the lots differ, all pairs considered."""
        return self.adjusted_p_value <= MAX_P_VALUE + ROUNDING


def compare_lots(
    features: FloatMatrix,
    *,
    image_of_tile: IntVector,
    lot_of_image: IntVector,
    lot_names: Sequence[str],
    group_of_image: Sequence[object] | None = None,
    n_permutations: int = N_PERMUTATIONS,
    n_power_tests: int = N_POWER_TESTS,
    seed: int = 0,
) -> tuple[LotPair, ...]:
    """Return the test of every pair of lots.

    Args:
        features: Pooled trunk features, shape (n_tiles, n_features).
        image_of_tile: Index of each tile's image, shape (n_tiles,).
        lot_of_image: Index of each image's lot in `lot_names`, shape (n_images,).
        lot_names: Two or more.
        group_of_image: Which group each image belongs to; by default each is one of its own.
        n_permutations: Permutations by chance; at least 100 for each pair, and no more than there are.
        n_power_tests: Tests simulated for each difference tried, once for all pairs of so many images that do not
            differ: 0.3 s for 20 images where there is one pair, 3 s where there are 45; 0 leaves the power out.
        seed: Of the permutations, and of the tiles drawn from images that have more than others.

    Raises:
        DataError: A lot has fewer than 4 independent images, or a group has images of two lots; the message names it.
        ValueError: Features are not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("Some features are not finite: compute them again.")
    groups = np.arange(len(lot_of_image)) if group_of_image is None else np.asarray(group_of_image)
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
            n_permutations=max(n_permutations, PERMUTATIONS_OF_PAIR * len(choices) - 1),
            rng=np.random.default_rng([seed, *lots]),
        )
        for lots in choices
    ]
    return _add_powers(compared, n_power_tests=n_power_tests, seed=seed)


def _add_powers(
    compared: Sequence[tuple[LotPair, FloatMatrix, FloatVector]], *, n_power_tests: int, seed: int
) -> tuple[LotPair, ...]:
    """Return the pairs judged together, with the power of those whose difference could have been found and was not."""
    powers: dict[tuple[int, int], float | None] = {}
    pairs = []
    for pair, (unadjusted, points, is_first) in zip(
        _adjust_pairs([one for one, _, _ in compared]), compared, strict=True
    ):
        can_be_found = unadjusted.smallest_p_value * len(compared) <= MAX_P_VALUE + ROUNDING
        if not can_be_found or pair.is_different():
            pairs.append(pair)
            continue
        sizes = (min(pair.n_first, pair.n_second), max(pair.n_first, pair.n_second))
        if sizes not in powers:
            rng = np.random.default_rng([seed, *sizes])
            powers[sizes] = find_detectable_accuracy(
                points, is_first, n_tests=n_power_tests, n_pairs=len(compared), rng=rng
            )
        pairs.append(replace(pair, detectable_accuracy=powers[sizes]))
    return tuple(pairs)


def _adjust_pairs(pairs: Sequence[LotPair]) -> list[LotPair]:
    p_values = np.array([pair.p_value for pair in pairs])
    smallest = np.array([pair.smallest_p_value for pair in pairs])
    adjusted = zip(adjust_p_values(p_values), adjust_smallest_p_values(p_values, smallest=smallest), strict=True)
    return [
        replace(pair, adjusted_p_value=float(p), smallest_p_value=float(least))
        for pair, (p, least) in zip(pairs, adjusted, strict=True)
    ]


def compute_smallest_p_value(n_first: int, n_second: int, *, n_permutations: int = N_PERMUTATIONS) -> float:
    """Return the least p-value that a test can give: one of all different permutations, or one of those drawn.

    With two lots of one size each permutation has a twin, the lots exchanged, that scores the same.

    Args:
        n_first: Images of the first lot.
        n_second: Images of the second lot.
        n_permutations: How many are drawn at most.
    """
    n_all = math.comb(n_first + n_second, n_first)
    return (2 if n_first == n_second else 1) / n_all if n_all <= n_permutations + 1 else 1 / (n_permutations + 1)


def _compare_pair(
    features: FloatMatrix,
    *,
    image_of_tile: IntVector,
    group_of_tile: IntVector,
    lot_of_tile: IntVector,
    lots: tuple[int, int],
    names: Sequence[str],
    n_permutations: int,
    rng: np.random.Generator,
) -> tuple[LotPair, FloatMatrix, FloatVector]:
    """Return one pair's test, its p-value not yet adjusted, the whitened image means, and 1 for those of the first."""
    tiles = np.flatnonzero(np.isin(lot_of_tile, lots))
    _, first_tile, row_of_tile = np.unique(group_of_tile[tiles], return_index=True, return_inverse=True)
    is_first = (lot_of_tile[tiles][first_tile] == lots[0]).astype(np.float64)
    looked_at = balance_tiles(image_of_tile[tiles], group_of_tile=row_of_tile, rng=rng)
    whitened = whiten_images(features[tiles[looked_at]], row_of_tile=row_of_tile[looked_at])
    observed = score_permutations(whitened.points, is_first[None])
    auroc, accuracy = float(observed.compute_auroc()[0]), float(observed.compute_accuracy()[0])
    n_first, n_second = int(is_first.sum()), int((1 - is_first).sum())
    permuted = score_permutations(whitened.points, permute_images(is_first, n_permutations=n_permutations, rng=rng))
    p_value = permuted.compute_p_value(auroc=auroc)
    smallest = compute_smallest_p_value(n_first, n_second, n_permutations=n_permutations)
    scorer = build_tile_scorer(whitened, is_first=is_first, row_of_tile=row_of_tile)
    pair = LotPair(
        first=names[lots[0]],
        second=names[lots[1]],
        n_first=n_first,
        n_second=n_second,
        accuracy=compute_share_interval(accuracy, n=_compute_effective_number(permuted)),
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
    return pair, whitened.points, is_first


def _compute_effective_number(permuted: PermutationScores) -> float:
    """Return how many independent images know as much as these, by the spread of the accuracy over permutations.

    Scores of images left out in turn hang together, since they share all other images: their mean varies more than that
    of as many independent ones.
    """
    n_first, n_second = permuted.is_first[0].sum(), (1 - permuted.is_first[0]).sum()
    independent = 4 / (1 / n_first + 1 / n_second)
    return float(min(independent, 0.25 / max(permuted.compute_accuracy().var(), ROUNDING)))


def _check_lots(groups: NDArray[np.generic], *, lot_of_image: IntVector, names: Sequence[str]) -> None:
    distinct, number = np.unique(groups, return_inverse=True)
    of_group, lots = np.unique(np.stack([number, lot_of_image]), axis=1)
    twice = np.flatnonzero(of_group[1:] == of_group[:-1])
    if len(twice):
        place = twice[0]
        raise DataError(
            f"group {distinct[of_group[place]]} has images of the lots {names[lots[place]]} and "
            f"{names[lots[place + 1]]}: the same place is in both, or the groups are wrong"
        )
    for lot, name in enumerate(names):
        n_groups = len(np.unique(groups[lot_of_image == lot]))
        if n_groups < MIN_IMAGES:
            raise DataError(
                f"lot {name} has {count(n_groups, 'independent image')}, and {MIN_IMAGES} are needed: "
                "with fewer, even a large difference can be chance"
            )
