"""An image brought to another pixel size, by averages over areas.

A detector with larger pixels would have counted the same: each new pixel is the mean of what it covers, of an old pixel
by the share that lies within. The mean grey level stays, and no moiré arises as by taking every second pixel. Pillow's
BOX filter takes whole pixels only, so that at 1.5 times every other new pixel would be as noisy as an old one.
"""

import math

import numpy as np
from scipy.sparse import csr_array

from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.grey import FloatImage

SAME_SIZE = 1.01
"""Within 1 % a pixel size counts as the one that is wanted, and the image stays as it is: no instrument's scale is
better known, and averages over 1.005 pixels would be sharp here and soft there."""

MAX_ENLARGEMENT = 1.25
"""An image is enlarged so many times at most: no method adds the detail that an enlarged image lacks, and a network
sees that it lacks it."""

ROUNDING = 1e-9  # of a number of pixels


def bring_to_pixel_size(image: FloatImage, *, own_nm: float | None, wanted_nm: float | None) -> FloatImage:
    """Return the image with pixels of the wanted size; the same array where nothing is to be done.

    What fills no whole new pixel at the right and the lower edge is left out.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px).
        own_nm: Width of its pixels; None where it is not known.
        wanted_nm: Width of the pixels that are wanted; None leaves the image as it is.

    Raises:
        UnreadableImageError: Its pixel size is not known, or too coarse; the message is a reason without a name.
    """
    factor = compute_factor(own_nm, wanted_nm=wanted_nm)
    if factor == 1:
        return image
    if min(image.shape) < factor:
        raise UnreadableImageError(
            f"is smaller than one pixel of the {wanted_nm:.4g} nm to which all images are brought (pixel_size_nm), if "
            f"its pixels are {own_nm:.4g} nm wide as it states: give the instrument's own file"
        )
    return average_areas(image, factor=factor)


def compute_factor(own_nm: float | None, *, wanted_nm: float | None) -> float:
    """Return how many old pixels a new one is wide; 1 for an image that stays as it is.

    Raises:
        UnreadableImageError: See `bring_to_pixel_size`.
    """
    if wanted_nm is None:
        return 1.0
    if own_nm is None:
        raise UnreadableImageError(
            f"does not state its pixel size, and all images are brought to {wanted_nm:.4g} nm per pixel "
            "(pixel_size_nm): give the instrument's own file, or leave it out (a text file beside it is read by a "
            "search, not by a served model)"
        )
    factor = wanted_nm / own_nm
    if 1 / SAME_SIZE <= factor <= SAME_SIZE:
        return 1.0
    if factor * MAX_ENLARGEMENT < 1 - ROUNDING:
        raise UnreadableImageError(
            f"its pixels are {own_nm:.4g} nm wide, too coarse for the {wanted_nm:.4g} nm to which all images are "
            f"brought (pixel_size_nm), since an image is enlarged {MAX_ENLARGEMENT:g} times at most: leave it out, or "
            "search with a larger pixel_size_nm"
        )
    return factor


def compute_shape(shape: tuple[int, int], *, factor: float) -> tuple[int, int]:
    """Return the height and width in new pixels, each of which is `factor` old ones wide."""
    height_px, width_px = (math.floor(side / factor + ROUNDING) for side in shape)
    return height_px, width_px


def average_areas(image: FloatImage, *, factor: float) -> FloatImage:
    """Return the means over squares of `factor` x `factor` pixels, row by row from the top left.

    Args:
        image: Shape (height_px, width_px).
        factor: Side of a square, not necessarily whole; below 1 the image is enlarged.
    """
    shape = compute_shape((image.shape[0], image.shape[1]), factor=factor)
    down, across = (_weigh(n_new, n_old=n_old, factor=factor) for n_new, n_old in zip(shape, image.shape, strict=True))
    averaged: FloatImage = np.ascontiguousarray((across @ (down @ image).T).T, dtype=np.float32)
    return averaged


def _weigh(n_new: int, *, n_old: int, factor: float) -> csr_array:
    """Return the share of each old pixel in each new one along a side, shape (n_new, n_old); rows sum to 1."""
    begins = np.arange(n_new, dtype=np.float64)[:, None] * factor
    old = np.floor(begins).astype(np.int64) + np.arange(math.ceil(factor) + 1)
    shares = np.minimum(old + 1, begins + factor) - np.maximum(old, begins)
    shares = np.where(old < n_old, np.maximum(shares, 0.0), 0.0)
    shares /= shares.sum(axis=1, keepdims=True)
    rows = np.broadcast_to(np.arange(n_new)[:, None], old.shape)
    columns = np.minimum(old, n_old - 1)
    return csr_array((shares.ravel().astype(np.float32), (rows.ravel(), columns.ravel())), shape=(n_new, n_old))
