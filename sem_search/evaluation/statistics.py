"""What several statistics share: the level of intervals, adjusted p-values, means over images, a shrunk covariance."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sem_search.records import FloatMatrix, FloatVector, IntVector

LEVEL = 0.95
"""Share of cases in which an interval holds the true value."""

MAX_P_VALUE = 0.05
"""A difference is found at this p-value or below."""

ROUNDING = 1e-9
"""Figures that differ by less are equal: sums of the same terms in another order, 10 x 0.9 against 9."""

NEGLIGIBLE = 1e-9
"""Variances below this part of the largest are rounding."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and where its true value lies, in `level` of 100 % of cases."""

    value: float
    low: float
    high: float
    level: float = LEVEL

    def to_text(self, *, digits: int = 3) -> str:
        """Return `0.912 (0.871 to 0.943)`."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def average_images(
    values: FloatVector, *, lowest: float, highest: float, weights: FloatVector | None = None
) -> Interval:
    """Return the mean over independent images with its interval by Student's t.

    Args:
        values: One per image, or group of images, shape (n_images,).
        lowest: What the mean can be at least; the interval ends there.
        highest: What it can be at most.
        weights: How much each value counts, above 0, in any unit, shape (n_images,); by default all alike. Nothing is
            assumed of the values' variances (HC2 of MacKinnon and White, J. Econometrics 29 (1985) 305), and the
            degrees of freedom are those of Kish's effective number of images.

    Raises:
        ValueError: There are fewer than two values.
    """
    n_images = len(values)
    if n_images < 2:
        raise ValueError(f"An interval over images needs two images or more that can be used, got {n_images}.")
    shares = np.full(n_images, 1 / n_images) if weights is None else weights / weights.sum()
    value = float(shares @ values)
    error = np.sqrt(shares**2 / (1 - shares) @ (values - value) ** 2)
    half = float(stdtrit(1 / (shares @ shares) - 1, (1 + LEVEL) / 2) * error)
    return Interval(value=value, low=max(value - half, lowest), high=min(value + half, highest))


def average_rows(rows: FloatMatrix, *, numbers: IntVector) -> FloatMatrix:
    """Return the mean of the rows of each number, shape (n_numbers, n_features).

    Args:
        rows: Shape (n_rows, n_features).
        numbers: 0 to n_numbers - 1, each at least once, shape (n_rows,).
    """
    sums = np.zeros((int(numbers.max()) + 1, rows.shape[1]))
    np.add.at(sums, numbers, rows)
    means: FloatMatrix = sums / np.bincount(numbers)[:, None]
    return means


def standardise_ranks(ranks: FloatMatrix) -> FloatMatrix:
    """Return ranks less their mean, of length 1, along the last axis; NaN where all are alike."""
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=-1, keepdims=True))
    scaled: FloatMatrix = np.divide(centred, length, out=np.full(centred.shape, np.nan), where=length > ROUNDING)
    return scaled


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


@dataclass(frozen=True, kw_only=True)
class ShrunkCovariance:
    """floor_variance in every direction, and `variances` more in some."""

    directions: FloatMatrix
    """Orthonormal rows, shape (n_directions, n_features)."""
    variances: FloatVector
    """Shape (n_directions,)."""
    floor_variance: float

    def measure_from(self, points: FloatMatrix, *, centres: FloatMatrix) -> FloatMatrix:
        """Return the squared Mahalanobis distance of each point from each centre, shape (n_points, n_centres)."""
        along, of_centres = points @ self.directions.T, centres @ self.directions.T  # most of the work: once for all
        less = self.variances / (self.variances + self.floor_variance)
        distances = []
        for centre, own in zip(centres, of_centres, strict=True):
            lengths = ((points - centre) ** 2).sum(axis=1) - (along - own) ** 2 @ less  # Woodbury's identity
            distances.append(np.maximum(lengths, 0.0) / self.floor_variance)
        return np.stack(distances, axis=1)

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
    from sklearn.covariance import ledoit_wolf_shrinkage  # here, because a server only reads what was fitted

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
