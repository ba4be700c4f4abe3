"""The tile grid and the cutting: the same for training, auditing and serving.

Tiles are cut in order from the top left, as Iwata et al., Int. J. Pharm. X 4 (2022) 100135, Figure S1, did:
1280 x 960 px give 5 x 4 tiles of 224 px.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import ImageTooSmallError, SettingsError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.reading.grey import FloatImage

FloatTiles = NDArray[np.float32]
"""Grey levels in [0, 1], shape (n_tiles, size_px, size_px)."""
IntVector = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Tile side and step, in pixels; a step below the side makes tiles overlap.

    Raises:
        SettingsError: A size below 1.
    """

    size_px: int = 224
    stride_px: int = 224

    def __post_init__(self) -> None:
        for name, value in (("tile_px", self.size_px), ("stride_px", self.stride_px)):
            if value < 1:
                raise SettingsError(f"{name} must be 1 or more, got {value}")

    def count(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Return how many rows and columns of tiles fit; (0, 0) where none does."""
        n_rows, n_columns = (max(0, (side - self.size_px) // self.stride_px + 1) for side in (height_px, width_px))
        return (n_rows, n_columns) if n_rows and n_columns else (0, 0)

    def iter_corners(self, height_px: int, width_px: int) -> Iterator[tuple[int, int]]:
        """Yield (top, left) of each tile in pixels, row by row from the top left."""
        n_rows, n_columns = self.count(height_px, width_px)
        for row in range(n_rows):
            for column in range(n_columns):
                yield row * self.stride_px, column * self.stride_px


@dataclass(frozen=True, kw_only=True)
class TileLayout:
    """Where each tile of a catalogue lies: images in the catalogue's order, tiles image by image, row by row."""

    image_ids: tuple[str, ...]
    image_of_tile: IntVector
    """Shape (n_tiles,), index into `image_ids`."""
    top_px: IntVector
    """Shape (n_tiles,)."""
    left_px: IntVector
    """Shape (n_tiles,)."""

    @property
    def n_tiles(self) -> int:
        """Number of tiles of all images."""
        return len(self.image_of_tile)


def cut_tiles(image: FloatImage, *, grid: TileGrid) -> FloatTiles:
    """Return the micrograph as square tiles, row by row from the top left.

    Tiles that would cross the right or lower edge are left out, not padded: a padded border is texture that no
    specimen has.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px), data bar removed.
        grid: Tile side and step, in pixels.

    Returns:
        Shape (n_tiles, grid.size_px, grid.size_px), dtype float32; a copy.

    Raises:
        ImageTooSmallError: No tile fits; the message gives both sizes.
    """
    height_px, width_px = image.shape
    _check_fits(height_px, width_px, grid=grid, name="the image")
    corners = grid.iter_corners(height_px, width_px)
    size = grid.size_px
    return np.stack([image[top : top + size, left : left + size] for top, left in corners])


def build_tile_table(catalogue: Catalogue, *, grid: TileGrid) -> TileLayout:
    """Return where each tile of the catalogue lies, from the recorded sizes alone: nothing is decoded.

    Raises:
        ImageTooSmallError: No tile fits into an image; the message names it and gives both sizes.
    """
    image_of_tile, corners = [], []
    for index, record in enumerate(catalogue.records):
        _check_fits(record.height_px, record.width_px, grid=grid, name=record.image_id)
        for corner in grid.iter_corners(record.height_px, record.width_px):
            image_of_tile.append(index)
            corners.append(corner)
    top_left = np.array(corners, dtype=np.int64).reshape(-1, 2)
    return TileLayout(
        image_ids=tuple(record.image_id for record in catalogue.records),
        image_of_tile=np.array(image_of_tile, dtype=np.int64),
        top_px=top_left[:, 0],
        left_px=top_left[:, 1],
    )


def iter_image_tiles(catalogue: Catalogue, *, grid: TileGrid) -> Iterator[tuple[ImageRecord, FloatTiles]]:
    """Yield each image with its tiles, in the catalogue's order; one image is in memory at a time.

    Raises:
        UnreadableImageError: A file can no longer be read.
        DataError: A file's pixels are not those that were catalogued.
        ImageTooSmallError: No tile fits into an image.
    """
    for record in catalogue.records:
        yield record, cut_tiles(catalogue.read_image(record), grid=grid)


def _check_fits(height_px: int, width_px: int, *, grid: TileGrid, name: str) -> None:
    """Raise if no tile fits."""
    if min(height_px, width_px) < grid.size_px:
        raise ImageTooSmallError(
            f"{name} has {width_px} x {height_px} px without its data bar, a tile needs {grid.size_px} x "
            f"{grid.size_px} px: choose a smaller tile_px, or leave the image out"
        )
