"""Maps that agree and maps that do not, and curves by hand."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import spearmanr

from sem_search.evaluation.heat_maps.agreement import (
    bring_to_shape,
    compare_curves,
    compute_heat_map_agreement,
)
from sem_search.evaluation.statistics import average_images

IMAGE_OF_TILE = np.repeat(np.arange(6), 4)


def draw_maps(*, n_explainers: int = 3, common: float = 1.0, middle: float = 0.0, seed: int = 0) -> np.ndarray:
    """Maps of 7 x 7 cells: a part common to the explainers, a hot middle common to all tiles, and noise."""
    rng = np.random.default_rng(seed)
    shared = rng.random((1, 24, 7, 7))
    rows, columns = np.mgrid[-3:4, -3:4]
    hot = np.exp(-(rows**2 + columns**2) / 4)
    return common * shared + middle * hot + 0.3 * rng.random((n_explainers, 24, 7, 7))


def test_agreement_is_spearmans_over_pairs() -> None:
    maps = draw_maps()
    found = compute_heat_map_agreement(maps, image_of_tile=IMAGE_OF_TILE)
    flat = maps.reshape(3, 24, 49)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([[spearmanr(flat[a, t], flat[b, t]).statistic for a, b in pairs] for t in range(24)])
    assert found.rank_correlation.value == pytest.approx(expected)
    overlaps = [
        len(set(np.argsort(flat[a, t])[-5:]) & set(np.argsort(flat[b, t])[-5:])) / 5
        for t in range(24)
        for a, b in pairs
    ]
    assert found.top_overlap.value == pytest.approx(np.mean(overlaps))
    assert found.rank_correlation.low < expected < found.rank_correlation.high <= 1
    assert (found.n_images, found.n_tiles) == (6, 24)


def test_chance_is_what_maps_of_other_images_share() -> None:
    middle = compute_heat_map_agreement(draw_maps(common=0.0, middle=2.0), image_of_tile=IMAGE_OF_TILE)
    assert middle.rank_correlation.value > 0.8
    assert middle.chance_rank_correlation == pytest.approx(middle.rank_correlation.value, abs=0.05)
    true = compute_heat_map_agreement(draw_maps(), image_of_tile=IMAGE_OF_TILE)
    assert abs(true.chance_rank_correlation) < 0.1
    assert true.chance_top_overlap == pytest.approx(5 / 49, abs=0.05)


def test_maps_without_anything_in_common_do_not_agree() -> None:
    found = compute_heat_map_agreement(draw_maps(common=0.0), image_of_tile=IMAGE_OF_TILE)
    assert found.rank_correlation.low < 0 < found.rank_correlation.high
    assert found.top_overlap.value == pytest.approx(5 / 49, abs=0.05)


def test_blank_maps_are_left_out() -> None:
    maps = draw_maps(n_explainers=2)
    whole = compute_heat_map_agreement(maps[:, 4:], image_of_tile=IMAGE_OF_TILE[4:])
    maps[0, :4] = 0.0
    found = compute_heat_map_agreement(maps, image_of_tile=IMAGE_OF_TILE)
    assert (found.n_images, found.n_tiles) == (5, 20)
    assert found.rank_correlation.value == pytest.approx(whole.rank_correlation.value)


def test_equal_cells_share_the_last_places() -> None:
    """Maps that are zero but for one cell agree on that cell, and not on which zeros come next."""
    maps = np.zeros((2, 24, 7, 7))
    maps[0, :, 0, 0] = 1.0
    maps[1, :, 6, 6] = 1.0
    overlap = compute_heat_map_agreement(maps, image_of_tile=IMAGE_OF_TILE).top_overlap.value
    share = 4 / 48  # of each zero among the hottest
    assert overlap == pytest.approx((2 * share + 47 * share**2) / 5)


def test_curves_have_their_area() -> None:
    shares = np.array([0.0, 0.5, 1.0])
    curves = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    found = compare_curves(curves, curves[::-1], shares=shares, image_of_tile=np.arange(2))
    assert (found.area.value, found.other_area.value) == pytest.approx((0.5, 0.5))  # of 0.25 and 0.75
    half = compare_curves(np.ones((2, 2)), np.ones((2, 2)), shares=shares[:2], image_of_tile=np.arange(2))
    assert half.area.value == pytest.approx(1.0)  # a mean score, however far the curve goes


def test_curves_are_compared_tile_by_tile() -> None:
    rng = np.random.default_rng(0)
    shares = np.linspace(0, 1, 11)
    start = rng.uniform(0.5, 1.0, size=(24, 1))
    steep, flat = start * (1 - shares) ** 3, start * (1 - shares)
    found = compare_curves(steep, flat, shares=shares, image_of_tile=IMAGE_OF_TILE)
    assert found.difference.high < 0
    assert found.difference.value == pytest.approx(found.area.value - found.other_area.value)
    width = found.difference.high - found.difference.low
    assert width < found.area.high - found.area.low + found.other_area.high - found.other_area.low
    assert found.n_images == 6


def test_maps_of_unlike_resolution_are_brought_together() -> None:
    coarse = np.random.default_rng(0).random((2, 7, 7))
    fine = coarse.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(bring_to_shape(fine, shape=(7, 7)), coarse)
    np.testing.assert_allclose(bring_to_shape(coarse, shape=(7, 7)), coarse)
    by_thirds = bring_to_shape(np.array([[[3.0, 6.0, 9.0]]]), shape=(1, 2))
    np.testing.assert_allclose(by_thirds, [[[4.0, 8.0]]])


def test_what_cannot_be_compared_is_refused() -> None:
    maps = draw_maps()
    with pytest.raises(ValueError, match="Heat maps of one image only"):
        compute_heat_map_agreement(maps, image_of_tile=np.zeros(24, dtype=np.int64))
    with pytest.raises(ValueError, match="two images or more that can be used, got 0"):
        compute_heat_map_agreement(np.zeros((2, 24, 7, 7)), image_of_tile=IMAGE_OF_TILE)


def test_the_mean_over_images_has_students_interval() -> None:
    values = np.random.default_rng(0).random(12)
    found = average_images(values, lowest=-1.0, highest=2.0)
    expected = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    weighted = average_images(values, lowest=-1.0, highest=2.0, weights=np.full(12, 7.0))
    assert (weighted.low, weighted.high) == pytest.approx(expected)
    alike = average_images(np.full(3, 0.5), lowest=0.0, highest=1.0)
    assert (alike.low, alike.value, alike.high) == (0.5, 0.5, 0.5)
    assert average_images(np.array([0.0, 1.0]), lowest=0.0, highest=1.0).high == 1.0


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_the_interval_of_a_weighted_mean_holds_it(power: float) -> None:
    """Images of unlike numbers of particles, equally or less variable the more they have: 300 samples of 10."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        weights = rng.integers(2, 40, size=10).astype(float)
        values = rng.normal(size=10) / weights**power
        found = average_images(values, lowest=-9.0, highest=9.0, weights=weights)
        held.append(found.low <= 0 <= found.high)
    low, high = stats.binom.interval(0.998, 300, 0.95)
    assert low <= sum(held) <= high
