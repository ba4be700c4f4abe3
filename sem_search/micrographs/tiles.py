"""The tile grid and the cutting: the same for training, auditing and serving.

Tiles are cut in order from the top left, as Iwata et al., Int. J. Pharm. X 4 (2022) 100135, Figure S1, did:
1280 x 960 px give 5 x 4 tiles of 224 px.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import ImageTooSmallError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.records import TileTable
from sem_search.seeds import derive_seed

FloatTiles = NDArray[np.float32]
"""Grey levels in [0, 1], shape (n_tiles, size_px, size_px)."""


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Tile side and step, in pixels; a step below the side makes tiles overlap.

    With `per_image` an image that has room for more gives so many tiles, spread evenly over it. Which ones depends on
    the image's size, `per_image` and `seed` alone: whatever else is in the data, and in the served model, they are the
    same.
    """

    size_px: int = 224
    stride_px: int = 224
    per_image: int | None = None
    """Most tiles of an image; None takes all."""
    seed: int = 0
    """Which of the tiles of one region is taken."""

    def count(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Return how many rows and columns of tiles fit; (0, 0) where none does."""
        n_rows, n_columns = (max(0, (side - self.size_px) // self.stride_px + 1) for side in (height_px, width_px))
        return (n_rows, n_columns) if n_rows and n_columns else (0, 0)

    def iter_corners(self, height_px: int, width_px: int) -> Iterator[tuple[int, int]]:
        """Yield (top, left) of each tile that is taken, in pixels, row by row from the top left."""
        n_rows, n_columns = self.count(height_px, width_px)
        places: Iterable[tuple[int, int]] = product(range(n_rows), range(n_columns))
        if self.per_image is not None and self.per_image < n_rows * n_columns:
            places = _spread(self.per_image, n_rows=n_rows, n_columns=n_columns, seed=self.seed)
        for row, column in places:
            yield row * self.stride_px, column * self.stride_px


@lru_cache  # images of a set mostly have one size
def _spread(n_tiles: int, *, n_rows: int, n_columns: int, seed: int) -> tuple[tuple[int, int], ...]:
    """Return (row, column) of tiles spread evenly: one at random from each of `n_tiles` nearly square regions."""
    rng = np.random.default_rng(derive_seed(seed, "tiles of an image", n_tiles, n_rows, n_columns))
    n_bands = round(math.sqrt(n_tiles * n_rows / n_columns))
    n_bands = min(max(n_bands, math.ceil(n_tiles / n_columns)), n_rows, n_tiles)
    bands, shares = (np.array_split(np.arange(n), n_bands) for n in (n_rows, n_tiles))
    places = [
        (int(rng.choice(rows)), int(rng.choice(columns)))
        for rows, share in zip(bands, rng.permutation([len(share) for share in shares]), strict=True)
        for columns in np.array_split(np.arange(n_columns), share)
    ]
    return tuple(sorted(places))


def cut_tiles(image: FloatImage, *, grid: TileGrid) -> FloatTiles:
    """Return the micrograph's tiles, those that the grid takes, row by row from the top left.

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


def build_tile_table(catalogue: Catalogue, *, grid: TileGrid) -> TileTable:
    """Return the tiles of the catalogue's images, from the recorded sizes alone: nothing is decoded.

    Raises:
        ImageTooSmallError: No tile fits into an image; the message names it and gives both sizes.
    """
    records, class_names = catalogue.records, catalogue.class_names
    sizes = [catalogue.get_shape(record) for record in records]
    for record, size in zip(records, sizes, strict=True):
        _check_fits(*size, grid=grid, name=record.image_id)
    n_tiles_of = {size: len(list(grid.iter_corners(*size))) for size in set(sizes)}
    return TileTable(
        class_names=class_names,
        image_ids=tuple(record.image_id for record in records),
        label_of_image=np.array([class_names.index(record.label) for record in records], dtype=np.int64),
        group_of_image=tuple(record.group for record in records),
        image_of_tile=np.repeat(np.arange(len(records)), [n_tiles_of[size] for size in sizes]),
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


def iter_batches(tiles: Iterable[FloatTiles], *, batch_size: int) -> Iterator[FloatTiles]:
    """Yield tiles in batches of one size, in order; the last batch may be smaller.

    Args:
        tiles: Arrays of shape (n, size_px, size_px), of any n.
        batch_size: Tiles in a batch.
    """
    waiting: list[FloatTiles] = []
    n_waiting = 0
    for some in tiles:
        start = 0
        while start < len(some):
            part = some[start : start + batch_size - n_waiting]
            start += len(part)
            waiting.append(part)
            n_waiting += len(part)
            if n_waiting == batch_size:
                yield np.concatenate(waiting)
                waiting, n_waiting = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _check_fits(height_px: int, width_px: int, *, grid: TileGrid, name: str) -> None:
    if min(height_px, width_px) < grid.size_px:
        raise ImageTooSmallError(
            f"{name} has {width_px} x {height_px} px without its data bar, a tile needs {grid.size_px} x "
            f"{grid.size_px} px: choose a smaller tile_px, or leave the image out"
        )
