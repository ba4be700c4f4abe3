"""Whether a micrograph is as coarse as those trained on: a network knows textures in pixels, not in micrometres."""

from collections.abc import Mapping, Sequence
from typing import Literal

FAR_FACTOR = 1.5
"""Beyond 1.5 times the coarsest, or below the finest through 1.5, of a class: magnifications are set in such steps
(200x, 300x, 500x), and tiles are neither scaled nor augmented in training."""

FAR_WORDS = "at another magnification the answer means little"

PixelSizeState = Literal["as trained", "far", "unknown", "untold in training"]
"""`far`: from the sizes of every class. `unknown`: the file states none. `untold in training`: no training file did, so
there is nothing to compare with."""


def check_pixel_size(
    pixel_size_nm: float | None, *, trained_nm: Mapping[str, Sequence[float]], is_brought_to_one: bool = False
) -> tuple[PixelSizeState, str | None]:
    """Return whether a pixel size is near that of any class, and a warning where it is far from all.

    Args:
        pixel_size_nm: What the micrograph's metadata state; None where they state none.
        trained_nm: Class name -> pixel sizes of its training images, without classes whose files state none.
        is_brought_to_one: Whether the classifier brings every image to one pixel size.
    """
    if pixel_size_nm is None:
        return "unknown", None
    ranges = [(min(sizes), max(sizes)) for sizes in trained_nm.values() if sizes]
    if not ranges:
        return "untold in training", None
    if any(low / FAR_FACTOR <= pixel_size_nm <= high * FAR_FACTOR for low, high in ranges):
        return "as trained", None
    so = "sharpness and noise are others, so the answer is less sure" if is_brought_to_one else FAR_WORDS
    finest, coarsest = min(low for low, _ in ranges), max(high for _, high in ranges)
    return "far", (
        f"its pixels are {pixel_size_nm:.4g} nm wide, and those of the training images {finest:.4g} to "
        f"{coarsest:.4g} nm: {so}"
    )
