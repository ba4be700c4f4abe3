"""Whether an image is like the images that the network was trained on.

Each image is a point: the mean over its tiles of the trunk's channels. Its distance is the squared Mahalanobis distance
to the nearest class mean (Lee, Lee, Lee and Shin, NeurIPS 2018), under one covariance of all classes.

Single tiles lie farther out than means of many. So the limit is measured for each number of tiles, on images that were
left out of the fit: the quantile of their distances above which the requested share is called unknown (conformal
anomaly detection: Bates et al., Ann. Stat. 51 (2023) 149). The share holds for all known images together, not for each
class; the measured share of each class is stored and shown. The reasons: `docs/decisions/028-known-images.md`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.evaluation.statistics import NEGLIGIBLE, ShrunkCovariance, average_rows, fit_covariance
from sem_search.records import FloatMatrix, FloatVector, IntVector

FALSE_ALARM_RATE = 0.1
"""As prediction sets leave out the true class of one image in ten. At half of it, twice as many new images are accepted
as known: the limit then hangs on the two or three oddest of the known images."""

IMAGES_AT_ONCE = 256
"""Whose distances are measured together: one by one, twenty thousand images take minutes."""

UNKNOWN_ABOVE = 1.0
"""An image with a higher novelty is unknown: novelty is the distance over its limit."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The Mahalanobis distance to the nearest class."""

    class_means: FloatMatrix
    """Shape (n_classes, n_features)."""
    covariance: ShrunkCovariance
    """How the images of a class differ from its mean, the same for all classes."""

    def measure(self, points: FloatMatrix) -> FloatVector:
        """Return the squared distance of each point to the nearest class, shape (n_points,)."""
        nearest: FloatVector = self.covariance.measure_from(points, centres=self.class_means).min(axis=1)
        return nearest


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far known images lie, by the number of their tiles."""

    tile_counts: FloatVector
    """Numbers of tiles at which this was measured, ascending, shape (n_counts,)."""
    distances: FloatVector
    """The limit at each of them, shape (n_counts,)."""

    def interpolate(self, n_tiles: IntVector) -> FloatVector:
        """Return the limit for means over so many tiles, above 0, shape of `n_tiles`.

        Between two counts it is linear in 1 / n, as the variance of a mean is; outside it is that of the nearest.
        """
        limits = np.interp(1 / n_tiles, 1 / self.tile_counts[::-1], self.distances[::-1])
        above_zero: FloatVector = np.maximum(limits, NEGLIGIBLE)
        return above_zero


@dataclass(frozen=True, kw_only=True)
class NoveltyModel:
    """All that is needed to score a new image."""

    metric: Metric
    limits: Limits
    false_alarm_rate: float
    """Share of known images that may be called unknown."""
    n_images: int
    """Known images behind the limits."""
    class_sizes: IntVector
    """Known images of each class, shape (n_classes,); zeros where a model of an older version has none."""
    class_alarms: IntVector
    """How many of these were called unknown when they were left out of the fit, shape (n_classes,)."""
    left_out: FloatVector
    """Novelty of each known image when it was left out of the fit, shape (n_images,); empty where a model of an older
    version does not hold it."""
    left_out_classes: IntVector
    """Class of each of these, shape (n_images,)."""

    @property
    def attained_false_alarm_rate(self) -> float:
        """What can be promised: with n images the limit is one of their distances, and no less than 1 / (n + 1)."""
        return max(self.false_alarm_rate, 1 / (self.n_images + 1))

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return everything as arrays, to be stored."""
        return {
            "class_means": self.metric.class_means,
            "directions": self.metric.covariance.directions,
            "variances": self.metric.covariance.variances,
            "floor_variance": np.array(self.metric.covariance.floor_variance),
            "tile_counts": self.limits.tile_counts,
            "limits": self.limits.distances,
            "false_alarm_rate": np.array(self.false_alarm_rate),
            "n_images": np.array(float(self.n_images)),
            "class_sizes": self.class_sizes.astype(np.float64),
            "class_alarms": self.class_alarms.astype(np.float64),
            "left_out": self.left_out,
            "left_out_classes": self.left_out_classes.astype(np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.float64]]) -> "NoveltyModel":
        """Return the model that `to_arrays` took apart, in this version or an older one.

        Raises:
            KeyError: An array is missing.
        """
        class_means = np.asarray(arrays["class_means"], dtype=np.float64)
        unknown = np.zeros(len(class_means))
        return cls(
            metric=Metric(
                class_means=class_means,
                covariance=ShrunkCovariance(
                    directions=np.asarray(arrays["directions"], dtype=np.float64),
                    variances=np.asarray(arrays["variances"], dtype=np.float64),
                    floor_variance=float(arrays["floor_variance"]),
                ),
            ),
            limits=_read_limits(arrays),
            false_alarm_rate=float(arrays["false_alarm_rate"]),
            n_images=int(arrays["n_images"]),
            class_sizes=arrays.get("class_sizes", unknown).astype(np.int64),
            class_alarms=arrays.get("class_alarms", unknown).astype(np.int64),
            left_out=arrays.get("left_out", np.zeros(0)),
            left_out_classes=arrays.get("left_out_classes", np.zeros(0)).astype(np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class _Images:
    """Known images, their tiles side by side in order."""

    tiles: tuple[FloatMatrix, ...]
    """Of each image, shape (n_tiles, n_features)."""
    means: FloatMatrix
    """Shape (n_images, n_features)."""
    n_tiles: IntVector
    labels: IntVector
    parts: IntVector


def fit_novelty(
    features: FloatMatrix,
    *,
    image_of_tile: IntVector,
    label_of_image: IntVector,
    part_of_image: IntVector,
    false_alarm_rate: float = FALSE_ALARM_RATE,
) -> NoveltyModel:
    """Return the model of these images, with limits from images left out part by part.

    Args:
        features: Pooled trunk features, shape (n_tiles, n_features); tiles of an image in the order in which they were
            cut, so that neighbours stand together.
        image_of_tile: Index of each tile's image, shape (n_tiles,); every image has a tile.
        label_of_image: Class of each image, shape (n_images,).
        part_of_image: Images of one part are left out together, shape (n_images,): the folds, which keep groups whole;
            two or more.
        false_alarm_rate: Share of known images that may be called unknown, in (0, 1).

    Raises:
        ValueError: The features are not finite, or images are too few to leave any out.
    """
    images = _gather_images(features, image_of_tile=image_of_tile, labels=label_of_image, parts=part_of_image)
    metrics = {int(part): _fit_metric(images, images.parts != part) for part in np.unique(images.parts)}
    tile_counts = _choose_tile_counts(images.n_tiles, false_alarm_rate=false_alarm_rate)
    distances = [
        _find_limit(_measure_runs(images, metrics=metrics, n_tiles=int(count)), false_alarm_rate=false_alarm_rate)
        for count in tile_counts
    ]
    limits = Limits(tile_counts=tile_counts, distances=np.array(distances))
    whole = np.zeros(len(images.means))
    for part, metric in metrics.items():
        whole[images.parts == part] = metric.measure(images.means[images.parts == part])
    left_out = whole / limits.interpolate(images.n_tiles)
    _, classes = np.unique(images.labels, return_inverse=True)
    return NoveltyModel(
        metric=_fit_metric(images, np.ones(len(whole), dtype=np.bool_)),
        limits=limits,
        false_alarm_rate=false_alarm_rate,
        n_images=len(whole),
        class_sizes=np.bincount(classes),
        class_alarms=np.bincount(classes, weights=left_out > UNKNOWN_ABOVE).astype(np.int64),
        left_out=left_out,
        left_out_classes=classes.astype(np.int64),
    )


def score_novelty(
    model: NoveltyModel, features: FloatMatrix, *, image_of_tile: IntVector
) -> tuple[IntVector, FloatVector]:
    """Return the images that these tiles belong to, and how unlike the known ones each is.

    Args:
        model: From `fit_novelty`.
        features: Shape (n_tiles, n_features).
        image_of_tile: Shape (n_tiles,).

    Returns:
        The image indices, ascending, shape (n_images,), and their novelties, 0 or more; what is above `UNKNOWN_ABOVE`
        is unknown. That of features that are not finite is infinity.
    """
    images, rows, n_tiles = np.unique(image_of_tile, return_inverse=True, return_counts=True)
    novelty = model.metric.measure(average_rows(features, numbers=rows)) / model.limits.interpolate(n_tiles)
    return images.astype(np.int64), np.where(np.isfinite(novelty), novelty, np.inf)


def _read_limits(arrays: Mapping[str, NDArray[np.float64]]) -> Limits:
    """Return stored limits; older versions had a threshold, in multiples of what known images have on average."""
    if "limits" in arrays:
        return Limits(tile_counts=np.asarray(arrays["tile_counts"]), distances=np.asarray(arrays["limits"]))
    of_images, of_tiles = float(arrays["spread_of_images"]), float(arrays["spread_of_tiles"])
    average = np.maximum([of_images + of_tiles, of_images], NEGLIGIBLE)
    return Limits(tile_counts=np.array([1.0, np.inf]), distances=float(arrays["threshold"]) * average)


def _gather_images(features: FloatMatrix, *, image_of_tile: IntVector, labels: IntVector, parts: IntVector) -> _Images:
    if not np.isfinite(features).all():
        raise ValueError("Some features of the known images are not finite: compute them again.")
    n_tiles = np.bincount(image_of_tile)
    in_order = features[np.argsort(image_of_tile, kind="stable")]
    tiles = tuple(np.split(in_order, np.cumsum(n_tiles)[:-1]))
    means = np.stack([some.mean(axis=0) for some in tiles])
    return _Images(tiles=tiles, means=means, n_tiles=n_tiles, labels=labels, parts=parts)


def _fit_metric(images: _Images, is_fitted: NDArray[np.bool_]) -> Metric:
    means, labels = images.means[is_fitted], images.labels[is_fitted]
    classes, rows = np.unique(labels, return_inverse=True)
    if len(means) <= len(classes):
        raise ValueError(
            f"{len(means)} images of {len(classes)} classes do not show how images of a class differ: some class needs "
            "more images."
        )
    class_means = np.stack([means[labels == label].mean(axis=0) for label in classes])
    return Metric(class_means=class_means, covariance=fit_covariance(means - class_means[rows]))


def _choose_tile_counts(n_tiles: IntVector, *, false_alarm_rate: float) -> FloatVector:
    """Return the numbers of tiles to measure limits at: powers of two, up to the most that enough images have."""
    n_needed = min(int(np.ceil(1 / false_alarm_rate - NEGLIGIBLE)) - 1, len(n_tiles))
    most = int(np.sort(n_tiles)[-n_needed])
    return np.array([*(2**power for power in range(most.bit_length()) if 2**power < most), most], dtype=np.float64)


def _measure_runs(images: _Images, *, metrics: Mapping[int, Metric], n_tiles: int) -> list[FloatVector]:
    """Return the distances of runs of so many tiles, for each image that has one, by the metric without its part."""
    found: dict[int, FloatVector] = {}
    for part, metric in metrics.items():
        members = np.flatnonzero((images.parts == part) & (images.n_tiles >= n_tiles))
        for some in np.split(members, range(IMAGES_AT_ONCE, len(members), IMAGES_AT_ONCE)):
            runs = [_average_runs(images.tiles[image], n_tiles=n_tiles) for image in some]
            if runs:
                ends = np.cumsum([len(own) for own in runs])[:-1]
                found.update(zip(some.tolist(), np.split(metric.measure(np.concatenate(runs)), ends), strict=True))
    return [found[image] for image in sorted(found)]


def _average_runs(tiles: FloatMatrix, *, n_tiles: int) -> FloatMatrix:
    """Return the means of each so many neighbouring tiles of an image, shape (n_runs, n_features)."""
    n_runs = len(tiles) // n_tiles
    return np.asarray(tiles[: n_runs * n_tiles].reshape(n_runs, n_tiles, -1).mean(axis=1))


def _find_limit(distances: list[FloatVector], *, false_alarm_rate: float) -> float:
    """Return the conformal quantile over images, one run of each at a time, averaged over the runs.

    Runs of one image are not independent, so it counts once, however many it has.
    """
    n_images, n_runs = len(distances), max(len(some) for some in distances)
    one_of_each = np.sort([np.resize(some, n_runs) for some in distances], axis=0)
    rank = int(np.ceil((n_images + 1) * (1 - false_alarm_rate) - NEGLIGIBLE))
    return float(one_of_each[min(rank, n_images) - 1].mean())
