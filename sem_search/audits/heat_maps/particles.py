"""Particles found in a micrograph and measured, to be compared with a heat map.

Particles are taken to be brighter than their ground, as secondary electrons show them. A threshold (Otsu, IEEE Trans.
Syst. Man Cybern. 9 (1979) 62) separates them from it, a watershed of the distance to the ground separates those that
touch (Beucher and Lantuéjoul 1979); both are scikit-image's. On a closed bed of particles, where no ground is seen,
what is found are bright parts of surfaces: the share that is covered is reported, so that this can be seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from sem_search.micrographs.reading.grey import FloatImage
from sem_search.records import FloatVector

SMOOTHING_PX = 1.5
"""Of the image before it is parted: noise of single pixels makes no particle."""

MIN_AREA_PX = 64
"""Smaller ones have no shape that could be measured: 9 px across."""

NECK_PX = 1.0
"""By how much the distance to the ground must fall between the middles of two particles: a lower saddle (h-maxima;
Soille, Morphological Image Analysis, 2003) is the ridge of one long particle."""

ROUGHNESS_PX = 3.0
"""Surface detail below this size counts as roughness; what is larger is shading."""

MEASURES = ("equivalent diameter", "aspect ratio", "circularity", "solidity", "roughness")


@dataclass(frozen=True, kw_only=True)
class Particles:
    """The particles of one image."""

    labels: NDArray[np.int64]
    """0 on the ground, k + 1 on particle k, shape of the image."""
    measures: dict[str, FloatVector]
    """Each of `MEASURES` for each particle, shape (n_particles,); the diameter in px, aspect ratio 1 or more,
    circularity (4 pi area / perimeter squared) and solidity about 0 to 1, roughness in grey levels of [0, 1]."""

    @property
    def n_particles(self) -> int:
        """Number of particles."""
        return len(self.measures["solidity"])

    @property
    def share_covered(self) -> float:
        """Share of the image that is segmented as particles."""
        return float((self.labels > 0).mean())


def find_particles(image: FloatImage) -> Particles:
    """Return the particles of a micrograph, measured.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px). An image of one grey has no particles.
    """
    smooth = gaussian_filter(image, SMOOTHING_PX)
    if float(np.ptp(smooth)) == 0:
        return measure_particles(np.zeros(image.shape, dtype=np.int64), image=image)
    is_particle = binary_fill_holes(smooth > threshold_otsu(smooth))
    distance = gaussian_filter(distance_transform_edt(is_particle), 1.0)
    cores = label(h_maxima(distance, NECK_PX))
    return measure_particles(watershed(-distance, cores, mask=is_particle), image=image)


def measure_particles(labels: NDArray[np.int64], *, image: FloatImage) -> Particles:
    """Return the labelled particles that are large enough, measured and numbered anew.

    Args:
        labels: 0 on the ground, a number on each particle, shape of the image.
        image: Grey levels in [0, 1].
    """
    detail = image - gaussian_filter(image, ROUGHNESS_PX)
    regions = [region for region in regionprops(labels) if region.area >= MIN_AREA_PX]
    numbered = np.zeros(labels.shape, dtype=np.int64)
    rows = []
    for number, region in enumerate(regions, start=1):
        places = tuple(region.coords.T)
        numbered[places] = number
        rows.append(_measure(region, detail=detail[places]))
    table = np.array(rows, dtype=np.float64).reshape(-1, len(MEASURES))
    return Particles(labels=numbered, measures=dict(zip(MEASURES, table.T, strict=True)))


def _measure(region: Any, *, detail: NDArray[np.float32]) -> tuple[float, ...]:
    """Return the measures of one particle, in the order of `MEASURES`."""
    area, perimeter = float(region.area), max(float(region.perimeter_crofton), 1.0)
    return (
        float(region.equivalent_diameter_area),
        float(region.axis_major_length) / max(float(region.axis_minor_length), 1.0),
        4 * np.pi * area / perimeter**2,
        float(region.solidity),
        float(detail.std()),
    )
