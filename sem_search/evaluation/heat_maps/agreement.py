"""Whether heat maps mean anything: agreement of several explainers, deletion and insertion. Numbers only.

A heat map that the network of another fold, or another backbone, does not share shows that network, not the
material. One that stays when the weights are randomised shows the picture's edges (Adebayo et al., NeurIPS 2018).
And one whose hottest places can be blanked without loss of score does not explain the score (RISE: Petsiuk, Das and
Saenko, BMVC 2018).

All figures are means over images, each image with its tiles together, images of one group as one; intervals are
Student's, over images.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sem_search.evaluation.statistics import Interval, average_images, standardise_ranks
from sem_search.records import FloatMatrix, FloatVector, IntVector

TOP_SHARE = 0.1  # of the cells: of 7 x 7, the five hottest


@dataclass(frozen=True, kw_only=True)
class HeatMapAgreement:
    """How alike heat maps of the same tiles are."""

    n_images: int
    n_tiles: int
    """Tiles with two maps or more that are not blank."""
    rank_correlation: Interval
    """Spearman's, over the cells of a tile; 1 is the same order of cells."""
    top_overlap: Interval
    """Share of the hottest cells of one map that are among the hottest of the other."""
    chance_rank_correlation: float
    """The same between maps of different images: what maps share without looking, such as a hot middle."""
    chance_top_overlap: float


@dataclass(frozen=True, kw_only=True)
class CurveScores:
    """Deletion or insertion curves in the order of the heat, against another order of the same tiles."""

    n_images: int
    area: Interval
    """Mean area under the curves, in units of the score."""
    other_area: Interval
    """The same in the other order, as a rule one by chance."""
    difference: Interval
    """Area less other area. A map that explains is below 0 when cells are deleted, above 0 when they are inserted."""


def compute_heat_map_agreement(
    maps: NDArray[np.float64],
    *,
    image_of_tile: IntVector,
    seed: int = 0,
) -> HeatMapAgreement:
    """Return how alike the maps of several explainers (folds, backbones, trained and randomised weights) are.

    Args:
        maps: Shape (n_explainers, n_tiles, height, width), two explainers or more, of one resolution. Blank maps, all
            of whose cells are alike, have no order and are left out.
        image_of_tile: The image, or group of images, of each tile, shape (n_tiles,): what is independent.
        seed: Of the pairs of different images.

    Raises:
        ValueError: There are fewer than two images with two maps that are not blank.
    """
    cells = maps.reshape(len(maps), len(image_of_tile), -1)
    others = _draw_others(image_of_tile, rng=np.random.default_rng(seed))
    correlations, overlaps = _compare_explainers(cells, cells)
    chance = _compare_explainers(cells, cells[:, others])
    is_usable = np.isfinite(correlations)
    images, correlation_of_image = _average_tiles(correlations, image_of_tile=image_of_tile)
    _, overlap_of_image = _average_tiles(overlaps, image_of_tile=image_of_tile)
    return HeatMapAgreement(
        n_images=len(images),
        n_tiles=int(is_usable.sum()),
        rank_correlation=average_images(correlation_of_image, lowest=-1.0, highest=1.0),
        top_overlap=average_images(overlap_of_image, lowest=0.0, highest=1.0),
        chance_rank_correlation=float(np.mean(_average_tiles(chance[0], image_of_tile=image_of_tile)[1])),
        chance_top_overlap=float(np.mean(_average_tiles(chance[1], image_of_tile=image_of_tile)[1])),
    )


def compare_curves(
    scores: FloatMatrix,
    other_scores: FloatMatrix,
    *,
    shares: FloatVector,
    image_of_tile: IntVector,
) -> CurveScores:
    """Return the areas of curves in the order of the heat, of those in another order, and their difference.

    Areas are means over the shares from the first to the last, by the trapezoidal rule.

    Args:
        scores: Score of the explained class after each step in the order of the heat, shape (n_tiles, n_steps).
        other_scores: In the other order, of the same tiles, same shape.
        shares: Share of the cells deleted or inserted by then, ascending, shape (n_steps,), two or more.
        image_of_tile: The image, or group of images, of each tile, shape (n_tiles,).

    Raises:
        ValueError: There are fewer than two images.
    """
    reach = shares[-1] - shares[0]
    areas, others = (np.trapezoid(curves, shares, axis=1) / reach for curves in (scores, other_scores))

    def average(values: FloatVector) -> Interval:
        _, of_image = _average_tiles(values, image_of_tile=image_of_tile)
        return average_images(of_image, lowest=-np.inf, highest=np.inf)

    return CurveScores(
        n_images=len(np.unique(image_of_tile)),
        area=average(areas),
        other_area=average(others),
        difference=average(areas - others),
    )


def bring_to_shape(maps: NDArray[np.float64], *, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return maps at a coarser resolution, each cell the mean of what it covers; for networks of unlike resolution.

    Args:
        maps: Shape (n_tiles, height, width).
        shape: Height and width wanted, neither more than there is.
    """
    rows, columns = (_compute_cover(n_fine, n) for n_fine, n in zip(maps.shape[1:], shape, strict=True))
    coarse: NDArray[np.float64] = rows @ maps @ columns.T
    return coarse


def _compare_explainers(first: FloatMatrix, second: FloatMatrix) -> tuple[FloatVector, FloatVector]:
    """Return rank correlation and overlap of each tile, (n_tiles,), means over pairs of explainers; NaN where blank.

    Both arrays have shape (n_explainers, n_tiles, n_cells).
    """
    ranks = [standardise_ranks(rankdata(cells, axis=-1)) for cells in (first, second)]
    n_top = max(round(TOP_SHARE * first.shape[-1]), 1)
    members = [_find_hottest(cells, n_top=n_top) for cells in (first, second)]
    pairs = list(combinations(range(len(first)), 2))
    correlations = np.stack([(ranks[0][one] * ranks[1][two]).sum(axis=-1) for one, two in pairs])
    overlaps = np.stack([(members[0][one] * members[1][two]).sum(axis=-1) / n_top for one, two in pairs])
    return _average_rows(correlations), _average_rows(np.where(np.isfinite(correlations), overlaps, np.nan))


def _find_hottest(cells: FloatMatrix, *, n_top: int) -> FloatMatrix:
    """Return how far each cell is among the n hottest, in [0, 1], shape of `cells`; equal cells share the last
    places."""
    threshold = np.partition(cells, -n_top, axis=-1)[..., [-n_top]]
    is_above, is_equal = cells > threshold, cells == threshold
    left = n_top - is_above.sum(axis=-1, keepdims=True)
    members: FloatMatrix = is_above + is_equal * left / is_equal.sum(axis=-1, keepdims=True)
    return members


def _compute_cover(n_fine: int, n_coarse: int) -> FloatMatrix:
    """Return which share of each coarse cell each fine one makes up, shape (n_coarse, n_fine)."""
    edges = np.arange(n_coarse + 1) / n_coarse
    low, high = np.arange(n_fine) / n_fine, np.arange(1, n_fine + 1) / n_fine
    shared = np.minimum(edges[1:, None], high) - np.maximum(edges[:-1, None], low)
    cover: FloatMatrix = np.maximum(shared, 0.0) * n_coarse
    return cover


def _draw_others(image_of_tile: IntVector, *, rng: np.random.Generator) -> IntVector:
    """Return for each tile a tile of another image, shape (n_tiles,)."""
    if len(np.unique(image_of_tile)) < 2:
        raise ValueError("Heat maps of one image only: two are needed to distinguish agreement from chance.")
    others = [rng.choice(np.flatnonzero(image_of_tile != image)) for image in image_of_tile]
    return np.array(others, dtype=np.int64)


def _average_rows(values: FloatMatrix) -> FloatVector:
    """Return the mean over the first axis of what is not NaN, NaN where all is."""
    is_known = np.isfinite(values)
    n_known = is_known.sum(axis=0)
    sums = np.where(is_known, values, 0.0).sum(axis=0)
    means: FloatVector = np.divide(sums, n_known, out=np.full(sums.shape, np.nan), where=n_known > 0)
    return means


def _average_tiles(values: FloatVector, *, image_of_tile: IntVector) -> tuple[IntVector, FloatVector]:
    """Return the images that have a value that is not NaN, and the mean of each, each of shape (n_images,)."""
    is_known = np.isfinite(values)
    images, rows = np.unique(image_of_tile[is_known], return_inverse=True)
    sums = np.bincount(rows, weights=values[is_known], minlength=len(images))
    return images, sums / np.maximum(np.bincount(rows, minlength=len(images)), 1)
