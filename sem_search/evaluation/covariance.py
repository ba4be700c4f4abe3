"""The covariance of fewer points than dimensions: shrunk, and kept by its directions alone.

Shrinking towards equal variances in all directions (Ledoit and Wolf, J. Multivar. Anal. 88 (2004) 365) makes it
regular, and the amount follows from the points, without a setting. With n points there are at most n directions in
which it differs from its floor, so that no n_features x n_features matrix is built, stored or inverted.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

from sem_search.records import FloatMatrix, FloatVector

NEGLIGIBLE = 1e-9
"""Variances below this part of the largest are rounding."""


@dataclass(frozen=True, kw_only=True)
class ShrunkCovariance:
    """floor_variance in every direction, and `variances` more in some."""

    directions: FloatMatrix
    """Orthonormal rows, shape (n_directions, n_features)."""
    variances: FloatVector
    """Shape (n_directions,)."""
    floor_variance: float

    def measure(self, steps: FloatMatrix) -> FloatVector:
        """Return the squared Mahalanobis length of each step, shape (n_steps,); by Woodbury's identity."""
        less = self.variances / (self.variances + self.floor_variance)
        along = (steps @ self.directions.T) ** 2
        lengths: FloatVector = np.maximum((steps**2).sum(axis=1) - along @ less, 0.0) / self.floor_variance
        return lengths

    def whiten(self, steps: FloatMatrix) -> FloatMatrix:
        """Return what each step is along the directions, in standard deviations, shape (n_steps, n_directions)."""
        whitened: FloatMatrix = (steps @ self.directions.T) / np.sqrt(self.variances + self.floor_variance)
        return whitened

    def pull_back(self, whitened: FloatMatrix) -> FloatMatrix:
        """Return the weights of the features whose sum over a step is its whitened form times each row.

        Args:
            whitened: Shape (n_rows, n_directions).

        Returns:
            Shape (n_rows, n_features): `step @ pull_back(w).T == whiten(step) @ w.T`.
        """
        weights: FloatMatrix = (whitened / np.sqrt(self.variances + self.floor_variance)) @ self.directions
        return weights


def fit_covariance(steps: FloatMatrix) -> ShrunkCovariance:
    """Return the shrunk covariance of steps from a known centre.

    Args:
        steps: Shape (n_steps, n_features), at least one.
    """
    shrinkage = float(ledoit_wolf_shrinkage(steps, assume_centered=True))
    _, singular, directions = np.linalg.svd(steps, full_matrices=False)
    variances = singular**2 / len(steps)
    largest = float(variances.max())
    is_kept = variances > NEGLIGIBLE * largest
    average = float(variances.sum()) / steps.shape[1]
    return ShrunkCovariance(
        directions=directions[is_kept],
        variances=(1 - shrinkage) * variances[is_kept],
        floor_variance=max(shrinkage * average, NEGLIGIBLE * largest, float(np.finfo(np.float64).tiny)),
    )
