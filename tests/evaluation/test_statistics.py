"""The shrunk covariance against scikit-learn's, as a matrix."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from sem_search.evaluation.statistics import ShrunkCovariance, fit_covariance


def measure(covariance: ShrunkCovariance, steps: np.ndarray) -> np.ndarray:
    """Squared Mahalanobis length of each step."""
    return covariance.measure_from(steps, centres=np.zeros((1, steps.shape[1])))[:, 0]


@pytest.mark.parametrize("shape", [(10, 30), (50, 8), (5, 5), (3, 1)])
def test_it_is_ledoit_and_wolfs(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    steps = rng.normal(size=shape) * np.arange(1, shape[1] + 1)
    fitted = LedoitWolf(assume_centered=True).fit(steps)
    covariance = fit_covariance(steps)
    matrix = covariance.floor_variance * np.eye(shape[1])
    matrix += (covariance.directions.T * covariance.variances) @ covariance.directions
    np.testing.assert_allclose(matrix, fitted.covariance_, atol=1e-7 * fitted.covariance_.max())
    new = rng.normal(size=(4, shape[1]))
    expected = np.einsum("nd,de,ne->n", new, np.linalg.inv(matrix), new)
    np.testing.assert_allclose(measure(covariance, new), expected, rtol=1e-5)


def test_whitened_points_have_mahalanobis_lengths() -> None:
    steps = np.random.default_rng(0).normal(size=(12, 40))
    covariance = fit_covariance(steps)
    np.testing.assert_allclose((covariance.whiten(steps) ** 2).sum(axis=1), measure(covariance, steps))
    for column, centre in zip(covariance.measure_from(steps, centres=steps[:3]).T, steps[:3], strict=True):
        np.testing.assert_allclose(column, measure(covariance, steps - centre), atol=1e-9)


def test_weights_are_pulled_back_through_the_whitening() -> None:
    rng = np.random.default_rng(0)
    steps, weights = rng.normal(size=(12, 40)), rng.normal(size=(3, 12))
    covariance = fit_covariance(steps)
    pulled = covariance.pull_back(weights[:, : len(covariance.directions)])
    expected = covariance.whiten(steps) @ weights[:, : len(covariance.directions)].T
    np.testing.assert_allclose(steps @ pulled.T, expected)


def test_points_without_spread_have_no_infinite_lengths() -> None:
    covariance = fit_covariance(np.zeros((4, 3)))
    assert measure(covariance, np.zeros((1, 3)))[0] == 0
    one_direction = fit_covariance(np.outer(np.arange(-2.0, 3.0), [1.0, 2.0, 0.0]))
    assert np.isfinite(measure(one_direction, np.eye(3))).all()
