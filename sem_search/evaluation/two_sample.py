"""Whether two lots of one material can be told apart, and what difference so many images could have shown.

A classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017): if a classifier names the lot of images that it was not
fitted on better than chance, the lots differ. The classifier is a linear discriminant on image means of trunk features,
in leave-one-image-out form. The p-value is that of the area under its ROC curve (AUROC) over images, among deals of the
images to the lots by chance: (b + 1) / (m + 1) of m deals, b of them as high (Phipson and Smyth, Stat. Appl. Genet.
Mol. Biol. 9 (2010) 39). On rendered lots the AUROC found more differences than the accuracy, which takes few values
only (`docs/trust.md`).

What may be fitted once: the covariance of image means (`covariance`) does not know the lots. It is a function of all
images in any order, and so the same for every deal; deals stay exchangeable and the p-value exact. All that knows the
lots is the two means, and these leave out the image that is judged. An image's score then is a sum over a matrix of
inner products, and a thousand deals are a few matrix products.

The unit is the group: images of one group (overlapping fields) count as one image, all their tiles together.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import comb
from scipy.stats import rankdata

from sem_search.errors import DataError
from sem_search.evaluation.covariance import fit_covariance
from sem_search.evaluation.intervals import LEVEL, Interval, compute_share_interval
from sem_search.evaluation.outcomes import FloatMatrix, FloatVector, IntVector

N_DEALS = 999  # p-values down to 0.001

MIN_IMAGES = 4
"""Of each lot: with three against three no p-value is below 0.1."""

POWER = 0.8
"""Customary (Cohen 1988): the difference that four of five such tests would find."""

MAX_P_VALUE = 0.05

SHIFTS = np.arange(0.5, 8.1, 0.5)
"""Differences tried for the power, in standard deviations of whitened image means."""

N_POWER_TESTS, N_POWER_DEALS = 60, 99
"""Simulated tests of each difference, and deals in each: the power to about 5 %."""

ROUNDING = 1e-12
"""Areas that differ by less are equal."""


@dataclass(frozen=True, kw_only=True)
class LotPair:
    """Two lots against each other."""

    first: str
    second: str
    n_first: int
    """Independent images (groups)."""
    n_second: int
    accuracy: Interval
    """Share of images whose lot is named rightly, both lots counted alike; chance is 0.5."""
    auroc: float
    """How often an image of the first lot looks more like the first than one of the second does; chance is 0.5."""
    p_value: float
    adjusted_p_value: float
    """For the number of pairs (Holm, Scand. J. Stat. 6 (1979) 65)."""
    smallest_p_value: float
    """The least that so many images and deals can give."""
    detectable_accuracy: float | None
    """The true accuracy that 80 of 100 such tests would find at a p-value of 0.05, before any adjustment. None where
    even the largest difference tried would be missed, or none was tried."""
    tiles: IntVector
    """Indices of the two lots' tiles, shape (n,)."""
    score_of_tile: FloatVector
    """How much each of them looks like the first lot (above 0) or the second, judged by the other images, shape
    (n,)."""

    def is_different(self, level: float = LEVEL) -> bool:
        """Whether the lots differ at this confidence, all pairs considered."""
        return self.adjusted_p_value <= 1 - level + ROUNDING


@dataclass(frozen=True, kw_only=True)
class DealScores:
    """Leave-one-out scores of all images under several deals, one row per deal."""

    scores: FloatMatrix
    """Above 0 for the first lot, shape (n_deals, n_images)."""
    is_first: FloatMatrix
    """1 for images dealt to the first lot, shape (n_deals, n_images)."""

    def compute_accuracy(self) -> FloatVector:
        """Return the share named rightly, both lots counted alike, shape (n_deals,)."""
        is_right = (self.scores > 0) == (self.is_first > 0)
        of_first = (is_right * self.is_first).sum(axis=1) / self.is_first.sum(axis=1)
        of_second = (is_right * (1 - self.is_first)).sum(axis=1) / (1 - self.is_first).sum(axis=1)
        accuracy: FloatVector = (of_first + of_second) / 2
        return accuracy

    def compute_auroc(self) -> FloatVector:
        """Return the area under the ROC curve, shape (n_deals,): the rank sum of Mann and Whitney."""
        n_first, n_second = self.is_first.sum(axis=1), (1 - self.is_first).sum(axis=1)
        ranks = (rankdata(self.scores, axis=1) * self.is_first).sum(axis=1)
        auroc: FloatVector = (ranks - n_first * (n_first + 1) / 2) / (n_first * n_second)
        return auroc


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
        n_deals: Deals by chance.
        n_power_tests: Tests simulated for each difference tried, about a second a pair; 0 leaves the power out.
        level: Of the intervals of the accuracies.
        seed: Of the deals.

    Raises:
        DataError: A lot has fewer than 4 independent images, or a group has images of two lots; the message names it.
        ValueError: Shapes do not match, features are not finite, or there are fewer than two lots.
    """
    groups = np.arange(len(lot_of_image)) if group_of_image is None else np.asarray(group_of_image)
    _check_shapes(features, image_of_tile=image_of_tile, lot_of_image=lot_of_image, groups=groups, names=lot_names)
    _check_lots(groups, lot_of_image=lot_of_image, names=lot_names)
    group_of_tile = np.unique(groups, return_inverse=True)[1][image_of_tile]
    pairs = [
        _compare_pair(
            features,
            group_of_tile=group_of_tile,
            lot_of_tile=lot_of_image[image_of_tile],
            lots=lots,
            names=lot_names,
            n_deals=n_deals,
            n_power_tests=n_power_tests,
            level=level,
            rng=np.random.default_rng([seed, *lots]),
        )
        for lots in itertools.combinations(range(len(lot_names)), 2)
    ]
    adjusted = adjust_p_values(np.array([pair.p_value for pair in pairs]))
    return tuple(dataclasses.replace(pair, adjusted_p_value=float(p)) for pair, p in zip(pairs, adjusted, strict=True))


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


def compute_smallest_p_value(n_first: int, n_second: int, *, n_deals: int = N_DEALS) -> float:
    """Return the least p-value that a test can give: one of all different deals, or one of those made.

    With two lots of one size each deal has a twin, the lots exchanged, that scores the same.
    """
    n_different = float(comb(n_first + n_second, n_first)) / (2 if n_first == n_second else 1)
    return max(1 / n_different, 1 / (n_deals + 1))


def whiten_images(features: FloatMatrix, *, row_of_tile: IntVector) -> tuple[FloatMatrix, FloatMatrix]:
    """Return images (n_images, n_directions) and tiles (n_tiles, n_directions) in standard deviations of images."""
    n_tiles = np.bincount(row_of_tile)
    sums = np.zeros((len(n_tiles), features.shape[1]))
    np.add.at(sums, row_of_tile, features)
    images = sums / n_tiles[:, None]
    centre = images.mean(axis=0)
    covariance = fit_covariance(images - centre)
    return covariance.whiten(images - centre), covariance.whiten(features - centre)


def score_deals(points: FloatMatrix, is_first: FloatMatrix) -> DealScores:
    """Return the leave-one-out score of each image under each deal.

    The score is the inner product of the image, less the middle of the two means, with their difference. The squared
    lengths of the means are estimated without their own noise (inner products of different images only): else the lot
    with fewer images left would seem farther away, and images left out would fall to the other lot.

    Args:
        points: Shape (n_images, n_directions).
        is_first: 1 for images of the first lot, shape (n_deals, n_images).
    """
    products = points @ points.T
    lengths = np.diag(products)
    is_second = 1 - is_first
    first = _compute_means(products, lengths=lengths, is_member=is_first)
    second = _compute_means(products, lengths=lengths, is_member=is_second)
    return DealScores(scores=first[0] - second[0] - (first[1] - second[1]) / 2, is_first=is_first)


def deal_images(is_first: FloatVector, *, n_deals: int, rng: np.random.Generator) -> FloatMatrix:
    """Return the images dealt to the lots by chance, shape (n_deals, n_images)."""
    dealt: FloatMatrix = rng.permuted(np.tile(is_first, (n_deals, 1)), axis=1)
    return dealt


def _compare_pair(
    features: FloatMatrix,
    *,
    group_of_tile: IntVector,
    lot_of_tile: IntVector,
    lots: tuple[int, int],
    names: Sequence[str],
    n_deals: int,
    n_power_tests: int,
    level: float,
    rng: np.random.Generator,
) -> LotPair:
    """Return one pair's test, its p-value not yet adjusted."""
    tiles = np.flatnonzero(np.isin(lot_of_tile, lots))
    _, first_tile, row_of_tile = np.unique(group_of_tile[tiles], return_index=True, return_inverse=True)
    is_first = (lot_of_tile[tiles][first_tile] == lots[0]).astype(np.float64)
    points, tile_points = whiten_images(features[tiles], row_of_tile=row_of_tile)
    observed = score_deals(points, is_first[None])
    auroc, accuracy = float(observed.compute_auroc()[0]), float(observed.compute_accuracy()[0])
    n_first, n_second = int(is_first.sum()), int((1 - is_first).sum())
    dealt = score_deals(points, deal_images(is_first, n_deals=n_deals, rng=rng))
    p_value = _compute_p_value(dealt, auroc=auroc)
    return LotPair(
        first=names[lots[0]],
        second=names[lots[1]],
        n_first=n_first,
        n_second=n_second,
        accuracy=compute_share_interval(accuracy, n=_compute_effective_number(dealt), level=level),
        auroc=auroc,
        p_value=p_value,
        adjusted_p_value=p_value,
        smallest_p_value=compute_smallest_p_value(n_first, n_second, n_deals=n_deals),
        detectable_accuracy=_find_detectable_accuracy(points, is_first, n_tests=n_power_tests, rng=rng),
        tiles=tiles,
        score_of_tile=_score_tiles(tile_points, points=points, is_first=is_first, row_of_tile=row_of_tile),
    )


def _compute_means(
    products: FloatMatrix, *, lengths: FloatVector, is_member: FloatMatrix
) -> tuple[FloatMatrix, FloatMatrix]:
    """Return each image's inner product with the mean of a lot, and that mean's squared length, without the image.

    Both of shape (n_deals, n_images).
    """
    n_left = is_member.sum(axis=1, keepdims=True) - is_member
    sums = is_member @ products
    all_pairs = (sums * is_member).sum(axis=1, keepdims=True) - (is_member * lengths).sum(axis=1, keepdims=True)
    own_pairs = 2 * (sums - lengths) * is_member
    return (sums - is_member * lengths) / n_left, (all_pairs - own_pairs) / (n_left * (n_left - 1))


def _compute_p_value(dealt: DealScores, *, auroc: float) -> float:
    """Return the share of deals, the observed one among them, whose AUROC is as high as the observed."""
    n_as_high = int((dealt.compute_auroc() >= auroc - ROUNDING).sum())
    return (n_as_high + 1) / (len(dealt.scores) + 1)


def _compute_effective_number(dealt: DealScores) -> float:
    """Return how many independent images know as much as these, from how much the accuracy differs between deals.

    Scores of images left out in turn hang together, since they share all other images: their mean varies more than that
    of as many independent ones.
    """
    n_first, n_second = dealt.is_first[0].sum(), (1 - dealt.is_first[0]).sum()
    independent = 4 / (1 / n_first + 1 / n_second)
    return float(min(independent, 0.25 / max(dealt.compute_accuracy().var(), ROUNDING)))


def _score_tiles(
    tile_points: FloatMatrix, *, points: FloatMatrix, is_first: FloatVector, row_of_tile: IntVector
) -> FloatVector:
    """Return each tile's score by the means of all images but its own, shape (n_tiles,)."""
    scores = np.empty(len(tile_points))
    for row in range(len(points)):
        is_other = np.arange(len(points)) != row
        means = [points[is_other & (is_first == side)].mean(axis=0) for side in (1, 0)]
        mine = row_of_tile == row
        scores[mine] = (tile_points[mine] - (means[0] + means[1]) / 2) @ (means[0] - means[1])
    return scores


def _find_detectable_accuracy(
    points: FloatMatrix, is_first: FloatVector, *, n_tests: int, rng: np.random.Generator
) -> float | None:
    """Return the accuracy at which the test has its power, by simulation.

    The images, less the mean of their lot, are dealt to two lots by chance, and one of these is shifted along a
    direction drawn anew; how often the test finds the shift, and how accurate it is then, is counted.
    """
    centred = _centre_lots(points, is_first)
    below = 0.5, 0.0
    for shift in SHIFTS if n_tests else ():
        above = _simulate_tests(centred, is_first, shift=float(shift), n_tests=n_tests, rng=rng)
        if above[1] >= POWER:
            return _interpolate(below, above)
        below = above
    return None


def _centre_lots(points: FloatMatrix, is_first: FloatVector) -> FloatMatrix:
    """Return the images less the mean of their lot, scaled so that they spread as images do."""
    centred = np.empty(points.shape)
    for side in (1, 0):
        mine = is_first == side
        n = int(mine.sum())
        centred[mine] = (points[mine] - points[mine].mean(axis=0)) * np.sqrt(n / (n - 1))
    return centred


def _simulate_tests(
    centred: FloatMatrix, is_first: FloatVector, *, shift: float, n_tests: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return mean accuracy and power of tests on lots that differ by a shift."""
    accuracies, is_found = np.empty(n_tests), np.empty(n_tests)
    for number in range(n_tests):
        direction = rng.normal(size=centred.shape[1])
        step = shift * direction / np.linalg.norm(direction)
        dealt = centred[rng.permutation(len(centred))] + is_first[:, None] * step
        dealt = fit_covariance(dealt - dealt.mean(axis=0)).whiten(dealt - dealt.mean(axis=0))
        observed = score_deals(dealt, is_first[None])
        auroc = float(observed.compute_auroc()[0])
        accuracies[number] = observed.compute_accuracy()[0]
        others = score_deals(dealt, deal_images(is_first, n_deals=N_POWER_DEALS, rng=rng))
        is_found[number] = _compute_p_value(others, auroc=auroc) <= MAX_P_VALUE
    return float(accuracies.mean()), float(is_found.mean())


def _interpolate(below: tuple[float, float], above: tuple[float, float]) -> float:
    """Return the accuracy at which the power is reached, between two pairs of accuracy and power."""
    part = (POWER - below[1]) / (above[1] - below[1])
    return below[0] + part * (above[0] - below[0])


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
