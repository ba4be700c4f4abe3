"""A heat map laid over its micrograph, with NumPy alone: no plotting library is needed on a server.

The colours are a perceptually even map from black over red to pale yellow, so that no colour step shows where the
numbers have none. Where the network does not look the micrograph stays as it is: the more heat, the more colour.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.reading.micrograph import encode_png
from sem_search.transfer.gradcam import resize_heat_maps

FloatMap = NDArray[np.float32]
ByteImage = NDArray[np.uint8]

ANCHORS = (
    "000004",
    "160b39",
    "420a68",
    "6a176e",
    "932667",
    "bc3754",
    "dd513a",
    "f37819",
    "fca50a",
    "f6d746",
    "fcffa4",
)
"""Colours at even steps from 0 to 1, in between linear. Lightness rises evenly."""

OPACITY = 0.6
"""Of the colour where the heat is 1: the texture underneath can still be seen."""

MAX_SIDE_PX = 2048
"""Larger micrographs are shown at half, a third ... of their size: an overlay is looked at, not measured."""


def draw_overlay(
    image: FloatImage, *, heat_maps: NDArray[np.float32], corners: Sequence[tuple[int, int]], tile_px: int
) -> bytes:
    """Return the micrograph with the heat maps of its tiles laid over it, as a PNG file.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px).
        heat_maps: Values in [0, 1], shape (n_tiles, h, w), at any resolution.
        corners: (top, left) of each tile in px.
        tile_px: Side of a tile.
    """
    heat = place_heat_maps(heat_maps, corners=corners, tile_px=tile_px, shape=image.shape)
    return encode_png(blend(_shrink(image), heat=_shrink(heat)))


def draw_image(image: FloatImage) -> bytes:
    """Return the micrograph as the classifier looks at it, of the size of its overlay, as a PNG file."""
    return encode_png(np.rint(255 * _shrink(image)).astype(np.uint8))


def _shrink(levels: FloatMap) -> FloatMap:
    step = -(-max(levels.shape) // MAX_SIDE_PX)
    return levels[::step, ::step]


def place_heat_maps(
    heat_maps: NDArray[np.float32],
    *,
    corners: Sequence[tuple[int, int]],
    tile_px: int,
    shape: tuple[int, ...],
) -> FloatMap:
    """Return one map of the whole micrograph, shape (height_px, width_px): 0 where no tile lies.

    Where tiles overlap the highest value stands.

    Args:
        heat_maps: Values in [0, 1], shape (n_tiles, h, w), at any resolution.
        corners: (top, left) of each tile in px.
        tile_px: Side of a tile.
        shape: (height_px, width_px) of the micrograph.
    """
    whole = np.zeros(shape, dtype=np.float32)
    for heat_map, (top, left) in zip(heat_maps, corners, strict=True):
        place = whole[top : top + tile_px, left : left + tile_px]
        np.maximum(place, resize_heat_maps(heat_map[None], size_px=tile_px)[0], out=place)
    return whole


def blend(image: FloatImage, *, heat: FloatMap) -> ByteImage:
    """Return grey levels coloured by heat, both in [0, 1] and of shape (h, w), as shape (h, w, 3)."""
    weight = OPACITY * heat[..., None]
    colours = (1 - weight) * image[..., None] + weight * colour_heat(heat)
    picture: ByteImage = np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8)
    return picture


def colour_heat(heat: FloatMap) -> NDArray[np.float32]:
    """Return the colours of values in [0, 1], shape (..., 3), red, green and blue in [0, 1]."""
    table = np.array([list(bytes.fromhex(anchor)) for anchor in ANCHORS]) / 255
    steps = np.linspace(0, 1, len(table))
    return np.stack([np.interp(heat, steps, channel) for channel in table.T], axis=-1).astype(np.float32)
