"""How much accepted lots differ: the yardstick by which a new lot is judged.

Lots of one process differ by chance, and so do the images of a lot: a random-effects model (Searle, Casella and
McCulloch, Variance Components, 1992). The distance between lots is measured in few directions: the first principal
components of images within lots, each in standard deviations of images, and one more for all the rest, as process
monitoring joins Hotelling's T squared and the squared prediction error (Yue and Qin, Ind. Eng. Chem. Res. 40 (2001)
4403). The means of lots are independent of these directions, and a lot that differs in a direction of its own is found.

Where lots differ much in one direction, say in brightness, that hides what is different in others. So there are several
views of the lots: in all directions, and without the one, two or three in which the reference lots differ most.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sem_search.errors import DataError
from sem_search.evaluation.statistics import NEGLIGIBLE
from sem_search.records import FloatMatrix, FloatVector, IntVector
from sem_search.words import count

MIN_LOTS = 5
"""With fewer, the spread between lots is known to a factor of two at best."""

N_DIRECTIONS = 10
"""Principal components at most, and at most one for five images: `docs/trust.md` has more and fewer."""

MAX_REMOVED = 3
"""Directions removed at most, and one for four lots at most: fewer lots do not show them."""

MAX_FITS = 10
"""Directions are fitted anew for so many parts of the lots, to measure the spread of images that they did not see."""


@dataclass(frozen=True, kw_only=True)
class LotSpace:
    """Directions in which lots are compared, scaled by how much images of one lot spread."""

    components: FloatMatrix
    """Orthonormal rows, shape (n_directions, n_features)."""
    deviations: FloatVector
    """Standard deviation of images along each, shape (n_directions,)."""
    rest_deviation: float
    """Root of the summed variance of images in all other directions; infinite where there is none."""

    def embed(self, points: FloatMatrix) -> FloatMatrix:
        """Return points whose plain distances are those between lots, shape (n, n_directions + n_features).

        Args:
            points: Shape (n, n_features).
        """
        along = points @ self.components.T
        return np.hstack([along / self.deviations, (points - along @ self.components) / self.rest_deviation])

    def measure_variances(self, images: FloatMatrix) -> FloatVector:
        """Return the variance of a lot's images in each direction and in the rest, shape (n_directions + 1,)."""
        variances = self.embed(images).var(axis=0, ddof=1)
        n_directions = len(self.deviations)
        return np.append(variances[:n_directions], variances[n_directions:].sum())


@dataclass(frozen=True, kw_only=True)
class LotSpread:
    """Accepted lots in their space, and how much they differ."""

    space: LotSpace
    means: FloatMatrix
    """Of each lot, embedded, shape (n_lots, n)."""
    noises: FloatVector
    """Variance of each lot's mean that its images explain, shape (n_lots,)."""
    n_images: IntVector
    """Of each lot, shape (n_lots,)."""
    n_effective: float
    """Directions in which images spread alike and that would do as much."""

    @property
    def n_lots(self) -> int:
        """Number of lots."""
        return len(self.means)

    @property
    def centre(self) -> FloatVector:
        """Mean over the lots, shape (n,)."""
        centre: FloatVector = self.means.mean(axis=0)
        return centre

    @property
    def image_variance(self) -> float:
        """Of images of one lot, summed over the directions."""
        return float((self.noises * self.n_images).mean())

    def list_views(self) -> list["LotView"]:
        """Return the views of these lots, that in all directions first."""
        n_most = min((self.n_lots - 1) // 4, MAX_REMOVED, int(self.n_effective) - 1)
        return [self._view(n_removed) for n_removed in range(n_most + 1)]

    def _view(self, n_removed: int) -> "LotView":
        """Return the view without so many directions; each lot is measured without those that the others show."""
        kept = 1 - n_removed / self.n_effective  # of the spread of images, which is alike in all
        squares = 0.0
        for lot in range(self.n_lots):
            others = np.delete(self.means, lot, axis=0)
            step = _remove(self.means[lot] - others.mean(axis=0), directions=find_directions(others, n=n_removed))
            squares += float(step @ step)
        return LotView(
            removed=find_directions(self.means, n=n_removed),
            total=squares / self.n_lots * (self.n_lots - 1) / self.n_lots,
            noise=kept * float(self.noises.mean()),
            image_variance=kept * self.image_variance,
            n_effective=self.n_effective - n_removed,
            kept=kept,
        )

    def leave_out(self, lot: int) -> "LotSpread":
        """Return the spread of all lots but one, in the same space."""
        is_kept = np.arange(self.n_lots) != lot
        return replace(self, means=self.means[is_kept], noises=self.noises[is_kept], n_images=self.n_images[is_kept])


@dataclass(frozen=True, kw_only=True)
class LotView:
    """How much lots differ without the directions in which they differ most."""

    removed: FloatMatrix
    """These directions, orthonormal rows, shape (n_removed, n)."""
    total: float
    """Variance of the measured means of lots: that between lots, and the noise."""
    noise: float
    """Mean variance of the mean of a lot that its images explain."""
    image_variance: float
    n_effective: float
    kept: float
    """Share of the spread of images that is left."""

    @property
    def between(self) -> float:
        """Variance between lots, 0 where the measured means differ no more than by their noise."""
        return max(self.total - self.noise, 0.0)

    def measure(self, step: FloatVector) -> float:
        """Return the squared length of a step in this view, shape (n,)."""
        left = _remove(step, directions=self.removed)
        return float(left @ left)


def check_number(n_lots: int) -> None:
    """Raise DataError if so few lots do not show how much lots differ."""
    if n_lots < MIN_LOTS:
        raise DataError(
            f"the reference has {count(n_lots, 'lot')}: give {MIN_LOTS} or more, which show how much lots differ"
        )


def measure_spread(lots: Sequence[FloatMatrix]) -> LotSpread:
    """Return how much lots differ.

    Args:
        lots: Mean features of the independent images of each lot, five lots or more of four images or more, each of
            shape (n_images, n_features).

    Raises:
        ValueError: Features are not finite.
    """
    if not all(np.isfinite(images).all() for images in lots):
        raise ValueError("Some features are not finite: compute them again.")
    residuals = [images - images.mean(axis=0) for images in lots]
    parts = [range(first, len(lots), MAX_FITS) for first in range(min(MAX_FITS, len(lots)))]
    n_free = [len(lot) - 1 for lot in lots]
    n_fewest = sum(n_free) - max(sum(n_free[lot] for lot in part) for part in parts)
    n_directions = min(max(n_fewest // 5, 1), N_DIRECTIONS, lots[0].shape[1])
    variances = np.empty((len(lots), n_directions + 1))
    for part in parts:
        others = [residual for lot, residual in enumerate(residuals) if lot not in part]
        space = fit_space(others, n_directions=n_directions)
        for lot in part:
            variances[lot] = space.measure_variances(lots[lot])
    space = fit_space(residuals, n_directions=n_directions)
    pooled = variances.mean(axis=0)
    return LotSpread(
        space=space,
        means=space.embed(np.stack([images.mean(axis=0) for images in lots])),
        noises=variances.sum(axis=1) / [len(images) for images in lots],
        n_images=np.array([len(images) for images in lots]),
        n_effective=float(pooled.sum() ** 2 / (pooled**2).sum()),
    )


def fit_space(residuals: Sequence[FloatMatrix], *, n_directions: int) -> LotSpace:
    """Return the directions in which images of one lot spread most.

    Args:
        residuals: Images less the mean of their lot, each of shape (n_images, n_features).
        n_directions: How many at most.
    """
    n_free = sum(len(lot) - 1 for lot in residuals)
    stacked = np.concatenate(residuals)
    components = find_directions(stacked, n=n_directions)
    along = ((stacked @ components.T) ** 2).sum(axis=0) / n_free
    rest = float((stacked**2).sum() / n_free - along.sum())
    smallest = max(NEGLIGIBLE * along.max(), np.finfo(np.float64).tiny)
    return LotSpace(
        components=components,
        deviations=np.sqrt(np.maximum(along, smallest)),
        rest_deviation=float(np.sqrt(rest)) if rest > smallest else np.inf,
    )


def find_directions(points: FloatMatrix, *, n: int) -> FloatMatrix:
    """Return the directions in which points spread most, orthonormal rows, shape (n, n_features); fewer if fewer do.

    Found from the inner products of the points, of which there are fewer than features: many times quicker.
    """
    if n == 0:
        return np.zeros((0, points.shape[1]))
    centred = points - points.mean(axis=0)
    squares, along = np.linalg.eigh(centred @ centred.T)
    largest = [place for place in np.argsort(-squares)[:n] if squares[place] > NEGLIGIBLE * squares.max()]
    directions: FloatMatrix = (along[:, largest] / np.sqrt(squares[largest])).T @ centred
    return directions


def _remove(step: FloatVector, *, directions: FloatMatrix) -> FloatVector:
    """Return a step without its parts along some directions."""
    left: FloatVector = step - (directions @ step) @ directions
    return left
