"""Heat maps laid over their micrograph, for served answers and reports, with NumPy and SciPy alone.

The colours are a perceptually even map from black over red to pale yellow, so that no colour step shows where the
numbers have none. Where the network does not look the micrograph stays as it is: the more heat, the more colour. All
tiles are on one scale. Where no tile lies the network has not looked at all; there the picture is pale and hatched.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sem_search.micrographs.reading.grey import FloatImage, resize, to_bytes

FloatMap = NDArray[np.float32]
ByteImage = NDArray[np.uint8]

ANCHORS = ("000004", "160b39", "420a68", "6a176e", "932667", "bc3754", "dd513a", "f37819", "fca50a", "f6d746", "fcffa4")
"""Colours at even steps from 0 to 1, in between linear. Lightness rises evenly."""

OPACITY = 0.6
"""Of the colour where the heat is 1: the texture underneath can still be seen."""

MAX_SIDE_PX = 2048
"""Larger micrographs are drawn at this size: an overlay is looked at, not measured."""

SMOOTHING_CELLS = 0.5
"""Standard deviation of the smoothing, in cells of the heat maps: neither cells nor seams between tiles show."""

HATCHES = 64
"""Stripes along the longer side of a micrograph that no tile covers."""

VEIL_LEVELS, VEIL_OPACITY = (0.55, 0.85), 0.7
"""Grey levels of the stripes, and how far they hide what lies below."""


def draw_overlays(
    image: FloatImage,
    *,
    heat_maps: Sequence[NDArray[np.float32]],
    corners: Sequence[tuple[int, int]],
    tile_px: int,
    max_side_px: int = MAX_SIDE_PX,
) -> tuple[ByteImage, ...]:
    """Return the micrograph once under each set of heat maps, each of shape (height, width, 3).

    One scale holds for all tiles of all sets, so that the pictures of two classes can be compared.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px).
        heat_maps: One or more sets of maps, 0 or more, each of shape (n_tiles, h, w), at any resolution.
        corners: (top, left) of each tile in px.
        tile_px: Side of a tile.
        max_side_px: A longer side is reduced to this.
    """
    small = _reduce(image, max_side_px=max_side_px)
    factor = max(small.shape) / max(image.shape)
    boxes = [[round(end * factor) for end in (top, top + tile_px, left, left + tile_px)] for top, left in corners]
    wholes = [place_heat_maps(maps, boxes=boxes, shape=small.shape) for maps in heat_maps]
    highest = max(float(np.nanmax(whole)) for whole in wholes)
    return tuple(blend(small, heat=whole / highest if highest > 0 else whole) for whole in wholes)


def draw_image(image: FloatImage) -> ByteImage:
    """Return the micrograph without heat, of the size of its overlay, shape (height, width)."""
    return to_bytes(_reduce(image))


def _reduce(image: FloatImage, *, max_side_px: int = MAX_SIDE_PX) -> FloatImage:
    factor = min(1.0, max_side_px / max(image.shape))
    height_px, width_px = (max(1, round(side * factor)) for side in image.shape)
    return resize(image, shape=(height_px, width_px))


def place_heat_maps(
    heat_maps: NDArray[np.float32], *, boxes: Sequence[Sequence[int]], shape: tuple[int, ...]
) -> FloatMap:
    """Return one smooth map of the whole micrograph, shape (height_px, width_px): NaN where no tile lies.

    Where tiles overlap their mean stands.

    Args:
        heat_maps: 0 or more, shape (n_tiles, h, w), at any resolution.
        boxes: Top, bottom, left and right of each tile in px.
        shape: (height_px, width_px) of the picture.
    """
    total, n_tiles = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    for heat_map, (top, bottom, left, right) in zip(heat_maps, boxes, strict=True):
        total[top:bottom, left:right] += resize(heat_map, shape=(bottom - top, right - left))
        n_tiles[top:bottom, left:right] += 1
    is_seen = n_tiles > 0
    top, bottom, _, _ = boxes[0]
    reach_px = SMOOTHING_CELLS * (bottom - top) / heat_maps.shape[1]
    heat, seen = (
        gaussian_filter(layer, reach_px, mode="nearest") for layer in (total / np.maximum(n_tiles, 1), 1.0 * is_seen)
    )
    # Divided by how much of the surroundings was seen: what was not looked at counts neither as warm nor as cold.
    whole: FloatMap = np.divide(heat, seen, out=np.full(shape, np.nan, dtype=np.float32), where=is_seen)
    return whole


def blend(image: FloatImage, *, heat: FloatMap) -> ByteImage:
    """Return grey levels coloured by heat, both in [0, 1] and of shape (h, w), as shape (h, w, 3).

    Where the heat is NaN the picture is pale and hatched.
    """
    is_seen, warmth = ~np.isnan(heat), np.nan_to_num(heat)
    weight = OPACITY * warmth[..., None]
    colours = (1 - weight) * image[..., None] + weight * colour_heat(warmth)
    rows, columns = np.indices(image.shape)
    is_dark = (rows + columns) * HATCHES // max(image.shape) % 2
    veil = (1 - VEIL_OPACITY) * image + VEIL_OPACITY * np.take(VEIL_LEVELS, is_dark)
    shown = np.where(is_seen[..., None], colours, veil[..., None])
    picture: ByteImage = np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)
    return picture


def colour_heat(heat: FloatMap) -> NDArray[np.float32]:
    """Return the colours of values in [0, 1], shape (..., 3), red, green and blue in [0, 1]."""
    table = np.array([list(bytes.fromhex(anchor)) for anchor in ANCHORS]) / 255
    steps = np.linspace(0, 1, len(table))
    return np.stack([np.interp(heat, steps, channel) for channel in table.T], axis=-1).astype(np.float32)
