"""How much each image looks like either of two lots: leave-one-out scores, for many permutations.

The classifier is a linear discriminant on image means of trunk features. The covariance of image means does not depend
on the lots, so that it is the same for every permutation and is fitted once. Only the two means depend on the lots, and
they leave out the image that is scored. An image's score then is a sum over a matrix of inner products, and a thousand
permutations are a few matrix products.

Image means of unlike numbers of tiles are not exchangeable: that of one tile strays farther than that of twenty. So the
test looks at as many tiles of every image as the smallest has (`balance_tiles`).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from sem_search.evaluation.statistics import ROUNDING, ShrunkCovariance, average_rows, fit_covariance
from sem_search.records import FloatMatrix, FloatVector, IntVector

PERMUTATIONS_AT_ONCE = 100
"""Scored together: with twenty thousand images a dozen arrays of 16 MB."""


@dataclass(frozen=True, kw_only=True)
class WhitenedImages:
    """Image means in standard deviations of image means."""

    points: FloatMatrix
    """Shape (n_images, n_directions)."""
    centre: FloatVector
    """Mean of the image means, shape (n_features,)."""
    covariance: ShrunkCovariance


@dataclass(frozen=True, kw_only=True)
class PermutationScores:
    """Leave-one-out scores of all images under several permutations, one row per permutation."""

    scores: FloatMatrix
    """Above 0 for the first lot, shape (n_permutations, n_images)."""
    is_first: FloatMatrix
    """1 for images assigned to the first lot, shape (n_permutations, n_images)."""

    def compute_accuracy(self) -> FloatVector:
        """Return the share correctly classified, both lots counted alike, shape (n_permutations,)."""
        is_right = (self.scores > 0) == (self.is_first > 0)
        of_first = (is_right * self.is_first).sum(axis=1) / self.is_first.sum(axis=1)
        of_second = (is_right * (1 - self.is_first)).sum(axis=1) / (1 - self.is_first).sum(axis=1)
        accuracy: FloatVector = (of_first + of_second) / 2
        return accuracy

    def compute_auroc(self) -> FloatVector:
        """Return the area under the ROC curve, shape (n_permutations,): the rank sum of Mann and Whitney."""
        n_first, n_second = self.is_first.sum(axis=1), (1 - self.is_first).sum(axis=1)
        pairs = zip(_split(self.scores), _split(self.is_first), strict=True)
        ranks = np.concatenate([(rankdata(scores, axis=1) * is_first).sum(axis=1) for scores, is_first in pairs])
        auroc: FloatVector = (ranks - n_first * (n_first + 1) / 2) / (n_first * n_second)
        return auroc

    def compute_p_value(self, *, auroc: float) -> float:
        """Return the share of permutations, the observed one among them, whose AUROC is as high as the observed."""
        return (self.count_as_high(auroc) + 1) / (len(self.scores) + 1)

    def count_as_high(self, auroc: float) -> int:
        """Return how many permutations have an AUROC as high as the observed."""
        return int((self.compute_auroc() >= auroc - ROUNDING).sum())


@dataclass(frozen=True, kw_only=True)
class TileScorer:
    """The linear score of each tile: what its features are weighted with, by all images but its own."""

    weights: FloatMatrix
    """Shape (n_images, n_features)."""
    offsets: FloatVector
    """Shape (n_images,)."""
    row_of_tile: IntVector
    """The image, as a row of `weights`, of each tile, shape (n_tiles,)."""

    def score(self, features: FloatMatrix) -> FloatVector:
        """Return how much each tile looks like the first lot (above 0) or the second, shape (n_tiles,).

        Args:
            features: Of the tiles, shape (n_tiles, n_features).
        """
        scores: FloatVector = (features * self.weights[self.row_of_tile]).sum(axis=1) + self.offsets[self.row_of_tile]
        return scores


def balance_tiles(image_of_tile: IntVector, *, group_of_tile: IntVector, rng: np.random.Generator) -> IntVector:
    """Return which tiles to look at so that every group has as many images, and every image as many tiles.

    Of each group the images with the most tiles are taken, of each image tiles drawn by chance; as many of either as
    leave the most tiles. Nothing is drawn where all groups are alike.

    Args:
        image_of_tile: Shape (n_tiles,).
        group_of_tile: Shape (n_tiles,).
        rng: Draws the tiles.

    Returns:
        Indices, ascending, shape (n,).
    """
    images, first_tile, n_tiles = np.unique(image_of_tile, return_index=True, return_counts=True)
    groups = group_of_tile[first_tile]
    order = np.lexsort((-n_tiles, groups))
    rank = np.empty(len(images), dtype=np.int64)  # of each image in its group, that with the most tiles first
    rank[order] = np.arange(len(images)) - np.searchsorted(groups[order], groups[order])
    n_smallest = int(np.unique(groups, return_counts=True)[1].min())
    fewest = np.array([n_tiles[rank <= last].min() for last in range(n_smallest)])
    last = int(np.argmax(fewest * np.arange(1, n_smallest + 1)))
    chosen = []
    tiles_of_image = np.split(np.argsort(image_of_tile, kind="stable"), np.cumsum(n_tiles)[:-1])
    for place in np.flatnonzero(rank <= last):
        tiles = tiles_of_image[place]
        chosen.append(tiles if len(tiles) == fewest[last] else rng.permutation(tiles)[: fewest[last]])
    balanced: IntVector = np.sort(np.concatenate(chosen))
    return balanced


def whiten_images(features: FloatMatrix, *, row_of_tile: IntVector) -> WhitenedImages:
    """Return the image means of tiles, whitened.

    Args:
        features: Shape (n_tiles, n_features).
        row_of_tile: The image of each tile, 0 to n_images - 1, shape (n_tiles,).
    """
    images = average_rows(features, numbers=row_of_tile)
    centre = images.mean(axis=0)
    covariance = fit_covariance(images - centre)
    return WhitenedImages(points=covariance.whiten(images - centre), centre=centre, covariance=covariance)


def score_permutations(points: FloatMatrix, is_first: FloatMatrix) -> PermutationScores:
    """Return the leave-one-out score of each image under each permutation.

    The score is the inner product of the image, less the middle of the two means, with their difference. The squared
    lengths of the means are estimated without their own noise (inner products of different images only): else the lot
    with fewer images left would seem farther away, and images left out would fall to the other lot.

    Args:
        points: Shape (n_images, n_directions).
        is_first: 1 for images of the first lot, shape (n_permutations, n_images).
    """
    scores = np.concatenate([_score(points, is_first=some) for some in _split(is_first)])
    return PermutationScores(scores=scores, is_first=is_first)


def _score(points: FloatMatrix, *, is_first: FloatMatrix) -> FloatMatrix:
    """Return the scores of all images under some permutations, shape of `is_first`."""
    first, second = (_compute_means(points, is_member=is_member) for is_member in (is_first, 1 - is_first))
    scores: FloatMatrix = first[0] - second[0] - (first[1] - second[1]) / 2
    return scores


def _split(rows: FloatMatrix) -> list[FloatMatrix]:
    return np.split(rows, range(PERMUTATIONS_AT_ONCE, len(rows), PERMUTATIONS_AT_ONCE))


def permute_images(is_first: FloatVector, *, n_permutations: int, rng: np.random.Generator) -> FloatMatrix:
    """Return the images assigned to the lots by chance, shape (n_permutations, n_images).

    Where there are no more than `n_permutations` others, each of them is there once, so that the p-value of few images
    is counted and not drawn.

    Args:
        is_first: 1 for images of the first lot, shape (n_images,).
        n_permutations: How many are drawn.
        rng: Draws them.
    """
    n_images, n_first = len(is_first), int(is_first.sum())
    if math.comb(n_images, n_first) <= n_permutations + 1:
        members = np.array(list(itertools.combinations(range(n_images), n_first)))
        all_permutations = np.zeros((len(members), n_images))
        np.put_along_axis(all_permutations, members, 1.0, axis=1)
        others: FloatMatrix = all_permutations[(all_permutations != is_first).any(axis=1)]
        return others
    permuted: FloatMatrix = rng.permuted(np.tile(is_first, (n_permutations, 1)), axis=1)
    return permuted


def build_tile_scorer(whitened: WhitenedImages, *, is_first: FloatVector, row_of_tile: IntVector) -> TileScorer:
    """Return what each tile is scored by: the middle and the difference of the lots' means, without its own image.

    Args:
        whitened: The images.
        is_first: 1 for images of the first lot, shape (n_images,).
        row_of_tile: The image of each tile, shape (n_tiles,).
    """
    points, means = whitened.points, []
    for is_member in (is_first[:, None], 1 - is_first[:, None]):
        means.append(((is_member * points).sum(axis=0) - is_member * points) / (is_member.sum() - is_member))
    differences = means[0] - means[1]
    weights = whitened.covariance.pull_back(differences)
    middles = ((means[0] + means[1]) / 2 * differences).sum(axis=1)
    return TileScorer(weights=weights, offsets=-weights @ whitened.centre - middles, row_of_tile=row_of_tile)


def _compute_means(points: FloatMatrix, *, is_member: FloatMatrix) -> tuple[FloatMatrix, FloatMatrix]:
    """Return each image's inner product with the mean of a lot, and that mean's squared length, without the image.

    Both of shape (n_permutations, n_images).
    """
    n_left = is_member.sum(axis=1, keepdims=True) - is_member
    lengths = (points**2).sum(axis=1)
    sums = is_member @ points @ points.T  # from the left: never a matrix of all pairs of images
    all_pairs = (sums * is_member).sum(axis=1, keepdims=True) - (is_member * lengths).sum(axis=1, keepdims=True)
    own_pairs = 2 * (sums - lengths) * is_member
    return (sums - is_member * lengths) / n_left, (all_pairs - own_pairs) / (n_left * (n_left - 1))
