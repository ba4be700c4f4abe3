"""A data bar that was left on: rows at the bottom that look alike in images of different places.

The instrument's metadata tell where the scan ends, but exported pictures have lost them. A bar left on ends up in
tiles, where its text tells session and magnification, and it disturbs the search for overlapping fields.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.findings import Finding, count, name_some
from sem_search.micrographs.survey import PixelFacts

MIN_IMAGES = 4  # of one size, all different: two may look alike for other reasons
MAX_IMAGES = 50  # taken evenly out of all: more say nothing new
MIN_LIKENESS = 0.4  # mean correlation between the same rows of different images: text in fields keeps 0.5 and more
MAX_FLAT = 0.02  # rows that are one even grey, the same in all images, count as alike
SMOOTHING_ROWS = 7  # a bar's rows are judged together with their neighbours: numbers differ, frames do not
MIN_BAR_SHARE = 0.015  # of the height: lower stripes are scan faults


def find_data_bars(catalogue: Catalogue, facts: Mapping[str, PixelFacts]) -> list[Finding]:
    """Return a warning for each image size in which a data bar seems to be left on.

    Args:
        catalogue: The images.
        facts: What their pixels tell, by image id.
    """
    by_size: dict[tuple[int, int], list[ImageRecord]] = defaultdict(list)
    for record in catalogue.records:
        by_size[record.width_px, record.height_px].append(record)
    findings = []
    for (width_px, height_px), records in sorted(by_size.items()):
        different = {record.pixels_sha256: facts[record.image_id].foot for record in records}
        bar_px = compute_bar_height(list(different.values()))
        if len(different) >= MIN_IMAGES and bar_px >= MIN_BAR_SHARE * height_px:
            findings.append(_describe(records, bar_px=bar_px, size=f"{width_px} x {height_px} px"))
    return findings


def compute_bar_height(feet: Sequence[NDArray[np.uint8]]) -> int:
    """Return how many rows at the bottom look alike in all images, 0 where none do, or all of the rows given.

    Args:
        feet: The lowest rows of each image, levels of 8 bits, all of one shape (n_rows, n_columns).
    """
    stack = np.stack(feet[:: math.ceil(len(feet) / MAX_IMAGES)]) / 255
    detail = stack - stack.mean(axis=2, keepdims=True)
    norm = np.sqrt((detail**2).sum(axis=2, keepdims=True))
    units = detail / np.maximum(norm, 1e-9)
    n_images = len(stack)
    together = (units.sum(axis=0) ** 2).sum(axis=1)
    likeness = (together - (units**2).sum(axis=(0, 2))) / max(n_images * (n_images - 1), 1)
    is_flat = (stack.std(axis=2).max(axis=0) < MAX_FLAT) & (stack.mean(axis=2).std(axis=0) < MAX_FLAT)
    score = uniform_filter1d(np.where(is_flat, 1.0, likeness), SMOOTHING_ROWS, mode="nearest")
    is_alike = score >= MIN_LIKENESS
    if is_alike.all() or not is_alike[-1]:
        return 0
    return int(np.argmin(is_alike[::-1]))


def _describe(records: Sequence[ImageRecord], *, bar_px: int, size: str) -> Finding:
    """Return the warning."""
    ids = [record.image_id for record in records]
    advice = (
        "Look where it begins, set crop_bottom_px to its height and inspect again: its text can tell the class, and "
        "hides what overlaps."
    )
    return Finding(
        kind="data_bar",
        severity="warning",
        message=(
            f"The lowest {bar_px} rows, about, look alike in all {count(len(records), 'image')} of {size} "
            f"({name_some(ids)}): a data bar, it seems, which their metadata do not tell. {advice}"
        ),
        advice=advice,
        images=tuple(sorted(ids)),
    )
