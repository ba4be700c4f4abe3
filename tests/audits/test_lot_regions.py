"""Shares of places: their mean is the score, and heat is what speaks for the lot."""

import numpy as np
import pytest

from sem_search.audits.lot_regions import compute_heat, compute_shares


def draw_features(*shapes: tuple[int, int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("shapes", [[(7, 7, 5)], [(7, 7, 5), (7, 7, 3)], [(14, 14, 5), (7, 7, 3)]])
def test_the_mean_of_the_places_is_the_score(shapes: list[tuple[int, int, int]]) -> None:
    features = draw_features(*shapes)
    averaged = np.concatenate([array.mean(axis=(0, 1), dtype=np.float64) for array in features])
    weights = np.random.default_rng(1).normal(size=len(averaged))
    shares = compute_shares(features, weights=weights, offset=0.25)
    assert shares.shape == shapes[0][:2]
    assert shares.mean() == pytest.approx(averaged @ weights + 0.25)


def test_a_place_has_what_its_own_channels_say() -> None:
    (features,) = draw_features((3, 3, 2))
    shares = compute_shares([features], weights=np.array([2.0, -1.0]), offset=0.0)
    assert shares[1, 2] == pytest.approx(2 * features[1, 2, 0] - features[1, 2, 1])


def test_heat_is_what_speaks_for_the_lot() -> None:
    assert compute_heat(np.array([[-3.0, 1.0], [2.0, 0.0]])).tolist() == [[0.0, 0.5], [1.0, 0.0]]
    assert compute_heat(np.array([[-3.0, -1.0]])).tolist() == [[0.0, 0.0]]
