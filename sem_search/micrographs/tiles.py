"""The tile grid and the cutting (being written: signatures first)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.reading import DEFAULT_MAX_MEGAPIXELS, FloatImage

FloatTiles = NDArray[np.float32]
IntVector = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Tile side and step, in pixels."""

    size_px: int = 224
    stride_px: int = 224

    def count(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Return how many rows and columns of tiles fit."""
        raise NotImplementedError

    def iter_corners(self, height_px: int, width_px: int) -> Iterator[tuple[int, int]]:
        """Yield (top, left) of each tile."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TileLayout:
    """Where each tile of a catalogue lies."""

    image_ids: tuple[str, ...]
    image_of_tile: IntVector
    top_px: IntVector
    left_px: IntVector

    @property
    def n_tiles(self) -> int:
        """Number of tiles of all images."""
        return len(self.image_of_tile)


def cut_tiles(image: FloatImage, *, grid: TileGrid) -> FloatTiles:
    """Return the micrograph as square tiles."""
    raise NotImplementedError


def build_tile_table(catalogue: Catalogue, *, grid: TileGrid) -> TileLayout:
    """Return where each tile lies."""
    raise NotImplementedError


def iter_image_tiles(
    catalogue: Catalogue,
    *,
    grid: TileGrid,
    crop_bottom_px: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> Iterator[tuple[ImageRecord, FloatTiles]]:
    """Yield each image's tiles."""
    raise NotImplementedError
