"""Quick scores are those of a plain leave-one-out loop; tiles are scored by the same rule, as a sum over features."""

import numpy as np
import pytest

from sem_search.evaluation.lots.scores import (
    balance_tiles,
    build_tile_scorer,
    permute_images,
    score_permutations,
    whiten_images,
)

IS_FIRST = (np.arange(9) < 4).astype(float)


def test_scores_are_those_of_a_leave_one_out_loop() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 4))
    scores = score_permutations(points, IS_FIRST[None]).scores[0]
    for left_out in range(9):
        kept = np.arange(9) != left_out
        lots = [points[kept & (side == IS_FIRST)] for side in (1, 0)]
        lengths = [(lot.sum(0) @ lot.sum(0) - (lot**2).sum()) / (len(lot) * (len(lot) - 1)) for lot in lots]
        expected = points[left_out] @ (lots[0].mean(0) - lots[1].mean(0)) - (lengths[0] - lengths[1]) / 2
        assert scores[left_out] == pytest.approx(expected)


def test_tiles_are_scored_by_the_means_of_all_other_images() -> None:
    rng = np.random.default_rng(0)
    row_of_tile = np.repeat(np.arange(9), 3)
    features = rng.normal(size=(27, 6)) + 2.0 * IS_FIRST[row_of_tile, None]
    whitened = whiten_images(features, row_of_tile=row_of_tile)
    scores = build_tile_scorer(whitened, is_first=IS_FIRST, row_of_tile=row_of_tile).score(features)
    tiles = whitened.covariance.whiten(features - whitened.centre)
    for tile, row in enumerate(row_of_tile):
        kept = np.arange(9) != row
        first, second = (whitened.points[kept & (side == IS_FIRST)].mean(axis=0) for side in (1, 0))
        assert scores[tile] == pytest.approx((tiles[tile] - (first + second) / 2) @ (first - second))


def test_permutations_keep_the_sizes_of_the_lots() -> None:
    permuted = permute_images(IS_FIRST, n_permutations=50, rng=np.random.default_rng(0))
    assert permuted.shape == (50, 9)
    assert (permuted.sum(axis=1) == 4).all()
    assert (permuted != IS_FIRST).any(axis=1).mean() > 0.9


def test_the_p_value_counts_the_true_assignment_itself() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 4)) + 9.0 * IS_FIRST[:, None]
    permuted = score_permutations(points, permute_images(IS_FIRST, n_permutations=99, rng=rng))
    assert permuted.compute_p_value(auroc=1.1) == pytest.approx(0.01)
    assert permuted.compute_p_value(auroc=0.0) == 1.0


def test_few_permutations_are_all_there_once() -> None:
    permuted = permute_images(IS_FIRST, n_permutations=125, rng=np.random.default_rng(0))
    assert permuted.shape == (125, 9)
    assert (permuted.sum(axis=1) == 4).all()
    assert len({tuple(permutation) for permutation in [*permuted, IS_FIRST]}) == 126


@pytest.mark.parametrize(
    ("n_tiles_of_image", "group_of_image", "expected"),
    [
        ([3, 3, 3], [0, 1, 2], [3, 3, 3]),
        ([1, 3, 20], [0, 1, 2], [1, 1, 1]),
        ([4], [0], [4]),
        ([2, 2, 2, 2], [0, 0, 1, 1], [2, 2, 2, 2]),
        ([2, 5, 4], [0, 0, 1], [0, 4, 4]),  # one image of each group, that with the most tiles
        ([2, 2, 3, 3], [0, 0, 1, 1], [2, 2, 2, 2]),
        ([9, 1, 9, 1], [0, 0, 1, 1], [9, 0, 9, 0]),  # nine tiles of one image are more than one of each of two
        ([2, 2, 2, 2, 2], [1, 1, 1, 0, 0], [2, 2, 0, 2, 2]),
    ],
)
def test_groups_are_balanced(n_tiles_of_image: list[int], group_of_image: list[int], expected: list[int]) -> None:
    image = np.repeat(np.arange(len(n_tiles_of_image)), n_tiles_of_image)
    order = np.random.default_rng(0).permutation(len(image))
    chosen = balance_tiles(
        image[order], group_of_tile=np.array(group_of_image)[image[order]], rng=np.random.default_rng(0)
    )
    assert np.bincount(image[order][chosen], minlength=len(expected)).tolist() == expected
    assert (np.diff(chosen) > 0).all()
