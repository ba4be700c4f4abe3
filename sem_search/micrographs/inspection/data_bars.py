"""A data bar that was left on: rows at the bottom that look alike in images of different places.

The instrument's metadata give the end of the scan, but exported images have lost them. A bar left on ends up in
tiles, where its text gives away session and magnification, and it disturbs the search for overlapping fields.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.finding import Finding
from sem_search.micrographs.inspection.survey import Edges
from sem_search.words import count, name_some

MIN_IMAGES = 4  # of one size, all different: two may look alike for other reasons
MAX_IMAGES = 50  # taken evenly out of all: more say nothing new
MIN_LIKENESS = 0.4  # mean correlation between the same rows of different images: text in fields keeps 0.5 and more
MAX_FLAT = 0.02  # rows that are one even grey, the same in all images, count as alike
SMOOTHING_ROWS = 7  # a bar's rows are judged together with their neighbours: numbers differ, frames do not
MAX_GROUND_DETAIL = 2.0  # times that of the highest rows: text and frames have ten times as much and more
MIN_BAR_SHARE = 0.015  # of the height: lower stripes are scan faults


def choose_bar_images(catalogue: Catalogue) -> tuple[str, ...]:
    """Return the ids of the images whose edges are looked at: of each size some different ones, if there are enough."""
    return tuple(record.image_id for records in _sort_by_size(catalogue).values() for record in _take_some(records))


def find_data_bars(catalogue: Catalogue, edges: Mapping[str, Edges]) -> list[Finding]:
    """Return a warning for each image size in which a data bar seems to be left on.

    Args:
        catalogue: The images.
        edges: Of those that `choose_bar_images` names, by image id.
    """
    findings = []
    for (width_px, height_px), records in sorted(_sort_by_size(catalogue).items()):
        looked_at = [edges[record.image_id] for record in _take_some(records)]
        if not looked_at:
            continue
        feet, heads = [found.foot for found in looked_at], [found.head for found in looked_at]
        bar_px = compute_bar_height(feet)
        if bar_px >= MIN_BAR_SHARE * height_px and not is_even_ground(feet, heads=heads):
            findings.append(_describe(records, bar_px=bar_px, size=f"{width_px} x {height_px} px"))
    return findings


def _sort_by_size(catalogue: Catalogue) -> dict[tuple[int, int], list[ImageRecord]]:
    by_size: dict[tuple[int, int], list[ImageRecord]] = defaultdict(list)
    for record in catalogue.records:
        by_size[record.width_px, record.height_px].append(record)
    return by_size


def _take_some(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return at most MAX_IMAGES with different pixels, evenly out of all; none where fewer than MIN_IMAGES differ."""
    different = list({record.pixels_sha256: record for record in records}.values())
    return different[:: math.ceil(len(different) / MAX_IMAGES)] if len(different) >= MIN_IMAGES else []


def compute_bar_height(feet: Sequence[NDArray[np.uint8]]) -> int:
    """Return how many rows at the bottom look alike in all images, 0 where none do, or all of the rows given.

    Args:
        feet: The lowest rows of each image, levels of 8 bits, all of one shape (n_rows, n_columns).
    """
    is_alike = _find_alike_rows(_stack(feet))
    if is_alike.all() or not is_alike[-1]:
        return 0
    return int(np.argmin(is_alike[::-1]))


def is_even_ground(feet: Sequence[NDArray[np.uint8]], *, heads: Sequence[NDArray[np.uint8]]) -> bool:
    """Return whether the lowest rows look alike because the background does, before which each image has its object.

    The highest rows are alike then, too, with about as much detail. A bar has frames and text, and the ground none.

    Args:
        feet: The lowest rows of each image, as for `compute_bar_height`.
        heads: The highest rows of each, upside down, of the same shape.
    """
    bottom, top = _stack(feet), _stack(heads)
    is_alike = _find_alike_rows(top)
    if not is_alike[-1]:
        return False
    bar = bottom[:, -max(1, compute_bar_height(feet)) :]
    ground = top[:, ::-1][:, : max(1, int(np.argmin(is_alike[::-1])) if not is_alike.all() else len(is_alike))]
    return bool(_measure_detail(bar) <= MAX_GROUND_DETAIL * max(_measure_detail(ground), MAX_FLAT))


def _measure_detail(stack: NDArray[np.float64]) -> float:
    """Return the contrast between neighbouring columns that all images have in common."""
    return float(np.abs(np.diff(stack.mean(axis=0), axis=1)).mean())


def _stack(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return the rows of all images, levels in [0, 1], shape (n_images, n_rows, n_columns)."""
    levels: NDArray[np.float64] = np.stack(parts) / 255
    return levels


def _find_alike_rows(stack: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows look alike in all images, shape (n_rows,)."""
    detail = stack - stack.mean(axis=2, keepdims=True)
    norm = np.sqrt((detail**2).sum(axis=2, keepdims=True))
    units = detail / np.maximum(norm, 1e-9)
    n_images = len(stack)
    together = (units.sum(axis=0) ** 2).sum(axis=1)
    likeness = (together - (units**2).sum(axis=(0, 2))) / max(n_images * (n_images - 1), 1)
    is_flat = (stack.std(axis=2).max(axis=0) < MAX_FLAT) & (stack.mean(axis=2).std(axis=0) < MAX_FLAT)
    score = uniform_filter1d(np.where(is_flat, 1.0, likeness), SMOOTHING_ROWS, mode="nearest")
    is_alike: NDArray[np.bool_] = score >= MIN_LIKENESS
    return is_alike


def _describe(records: Sequence[ImageRecord], *, bar_px: int, size: str) -> Finding:
    ids = [record.image_id for record in records]
    advice = (
        "Find out where it begins, set crop_bottom_px to its height and inspect again: a network can learn its text "
        "instead of the material, and it hides overlaps."
    )
    return Finding(
        kind="data_bar",
        severity="warning",
        message=(
            f"About {bar_px} rows at the bottom look alike in all {count(len(records), 'image')} of {size} "
            f"({name_some(ids)}): they are probably a data bar, which the metadata do not mention. {advice}"
        ),
        advice=advice,
        images=tuple(sorted(ids)),
    )
