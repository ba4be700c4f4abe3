"""Tiles are cut in order, whole, and are those that were catalogued."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sem_search.errors import DataError, ImageTooSmallError, UnreadableImageError
from sem_search.micrographs.catalogue import Catalogue, read_catalogue
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.tiles import TileGrid, build_tile_table, cut_tiles, iter_batches, iter_image_tiles

RANDOM = np.random.default_rng(0)
GRID = TileGrid(size_px=16, stride_px=16)


@pytest.mark.parametrize(
    ("size", "stride", "height", "width", "expected"),
    [
        (224, 224, 960, 1280, (4, 5)),  # the paper's
        (224, 224, 1024, 1536, (4, 6)),
        (224, 112, 448, 336, (3, 2)),
        (224, 224, 224, 224, (1, 1)),
        (224, 224, 223, 9999, (0, 0)),
        (224, 224, 9999, 223, (0, 0)),
        (2, 3, 8, 7, (3, 2)),
    ],
)
def test_the_count(size: int, stride: int, height: int, width: int, expected: tuple[int, int]) -> None:
    grid = TileGrid(size_px=size, stride_px=stride)
    assert grid.count(height, width) == expected
    assert len(list(grid.iter_corners(height, width))) == expected[0] * expected[1]


def test_the_default_grid_is_the_papers() -> None:
    assert (TileGrid().size_px, TileGrid().stride_px) == (224, 224)


@given(
    per_image=st.integers(1, 40),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    step=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_some_tiles_of_an_image_are_tiles_of_it_each_once_and_in_order(
    per_image: int, rows: int, columns: int, step: int, seed: int
) -> None:
    whole = TileGrid(size_px=3, stride_px=step)
    height, width = (step * (n - 1) + 3 for n in (rows, columns))
    every = list(whole.iter_corners(height, width))
    some = list(dataclasses.replace(whole, per_image=per_image, seed=seed).iter_corners(height, width))
    assert len(some) == min(per_image, rows * columns)
    assert some == sorted(set(some) & set(every))


@pytest.mark.parametrize(
    ("per_image", "n_regions"), [(1, (1, 1)), (2, (1, 2)), (4, (2, 2)), (6, (2, 3)), (12, (3, 4)), (36, (6, 6))]
)
def test_some_tiles_are_spread_evenly(per_image: int, n_regions: tuple[int, int]) -> None:
    """Cut into as many nearly square regions, an image of 12 x 12 tiles has one tile in each."""
    height, width = (n // parts for n, parts in zip((12, 12), n_regions, strict=True))
    for seed in range(20):
        corners = TileGrid(size_px=1, stride_px=1, per_image=per_image, seed=seed).iter_corners(12, 12)
        assert len({(row // height, column // width) for row, column in corners}) == per_image


def test_another_seed_takes_other_tiles_and_every_tile_is_taken_by_some() -> None:
    grids = [TileGrid(size_px=1, stride_px=1, per_image=3, seed=seed) for seed in range(200)]
    drawn = [tuple(grid.iter_corners(4, 5)) for grid in grids]
    assert drawn == [tuple(grid.iter_corners(4, 5)) for grid in grids]
    counts = Counter(corner for corners in drawn for corner in corners)
    assert len(counts) == 20
    assert max(counts.values()) < 3 * min(counts.values())


@given(size=st.integers(1, 12), stride=st.integers(1, 12), height=st.integers(1, 40), width=st.integers(1, 40))
def test_tiles_lie_within_the_image_and_none_is_forgotten(size: int, stride: int, height: int, width: int) -> None:
    grid = TileGrid(size_px=size, stride_px=stride)
    corners = list(grid.iter_corners(height, width))
    expected = [
        (top, left)
        for top in range(0, height, stride)
        for left in range(0, width, stride)
        if top + size <= height and left + size <= width
    ]
    assert corners == expected


def test_tiles_come_row_by_row_and_edges_are_left_out() -> None:
    image = np.arange(35, dtype=np.float32).reshape(5, 7)
    tiles = cut_tiles(image, grid=TileGrid(size_px=2, stride_px=2))
    assert tiles.shape == (6, 2, 2)
    assert tiles.dtype == np.float32
    assert tiles[:, 0, 0].tolist() == [0, 2, 4, 14, 16, 18]
    assert tiles[0].tolist() == [[0, 1], [7, 8]]
    tiles[:] = -1
    assert image[0, 0] == 0


def test_an_image_without_room_for_a_tile_is_refused() -> None:
    with pytest.raises(ImageTooSmallError, match="the image has 20 x 10 px without its data bar, a tile needs 16 x 16"):
        cut_tiles(np.zeros((10, 20), np.float32), grid=GRID)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    for label, width in (("a", 32), ("b", 48)):
        (tmp_path / label).mkdir()
        for number in range(2):
            pixels = RANDOM.integers(0, 256, (40, width), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    return read_catalogue(tmp_path, reading=ReadingOptions(crop_bottom_px=6, min_side_px=16))


def test_the_table_needs_no_files(catalogue: Catalogue) -> None:
    for record in catalogue.records:
        record.path.unlink()
    layout = build_tile_table(catalogue, grid=GRID)
    assert layout.image_ids == ("a/0.png", "a/1.png", "b/0.png", "b/1.png")
    assert layout.n_tiles == 20
    assert layout.image_of_tile.tolist() == [0] * 4 + [1] * 4 + [2] * 6 + [3] * 6
    assert layout.label_of_tile.tolist() == [0] * 8 + [1] * 12
    assert layout.image_of_tile.dtype == np.int64


def test_the_table_names_an_image_that_is_too_small(catalogue: Catalogue) -> None:
    with pytest.raises(ImageTooSmallError, match=r"a/0.png has 32 x 34 px without its data bar, a tile needs 33 x 33"):
        build_tile_table(catalogue, grid=TileGrid(size_px=33))


def test_the_table_of_nothing_is_empty(catalogue: Catalogue) -> None:
    assert build_tile_table(dataclasses.replace(catalogue, records=()), grid=GRID).n_tiles == 0


def test_the_tiles_are_those_of_the_table(catalogue: Catalogue) -> None:
    layout = build_tile_table(catalogue, grid=GRID)
    pairs = list(iter_image_tiles(catalogue, grid=GRID))
    assert [record.image_id for record, _ in pairs] == list(layout.image_ids)
    tiles = np.concatenate([tiles for _, tiles in pairs])
    assert len(tiles) == layout.n_tiles
    last = np.asarray(Image.open(catalogue.records[3].path))[16:32, 32:48]
    assert np.array_equal(tiles[-1], last / np.float32(255))


def test_some_tiles_are_the_same_in_table_pixels_and_any_company(catalogue: Catalogue) -> None:
    grid = dataclasses.replace(GRID, per_image=3)
    layout = build_tile_table(catalogue, grid=grid)
    assert np.bincount(layout.image_of_tile).tolist() == [3] * 4
    tiles = [tiles for _, tiles in iter_image_tiles(catalogue, grid=grid)]
    alone = dataclasses.replace(catalogue, records=catalogue.records[2:3])
    np.testing.assert_array_equal(next(iter_image_tiles(alone, grid=grid))[1], tiles[2])
    pixels = catalogue.read_image(catalogue.records[2])
    for tile, (top, left) in zip(tiles[2], grid.iter_corners(*pixels.shape), strict=True):
        np.testing.assert_array_equal(tile, pixels[top : top + 16, left : left + 16])


def test_a_changed_file_is_noticed(catalogue: Catalogue) -> None:
    path = catalogue.records[1].path
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    tiles = iter_image_tiles(catalogue, grid=GRID)
    next(tiles)
    with pytest.raises(DataError, match=r"a/1.png has changed since it was catalogued"):
        next(tiles)


def test_another_crop_is_noticed(catalogue: Catalogue) -> None:
    with pytest.raises(DataError, match="or crop_bottom_px has"):
        next(iter_image_tiles(dataclasses.replace(catalogue, reading=ReadingOptions(crop_bottom_px=5)), grid=GRID))


def test_a_lost_file_is_named(catalogue: Catalogue) -> None:
    catalogue.records[0].path.unlink()
    with pytest.raises(UnreadableImageError, match=r"a/0.png: there is no such file"):
        next(iter_image_tiles(catalogue, grid=GRID))


@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        ([4, 4], 4, [4, 4]),
        ([1, 1, 1], 2, [2, 1]),
        ([10], 3, [3, 3, 3, 1]),
        ([2, 7, 1], 4, [4, 4, 2]),
        ([3], 8, [3]),
        ([0, 2], 2, [2]),
        ([], 4, []),
    ],
)
def test_iter_batches_keeps_order_and_loses_nothing(sizes: list[int], batch_size: int, expected: list[int]) -> None:
    numbers = np.arange(sum(sizes), dtype=np.float32)[:, None, None]
    parts = np.split(numbers, np.cumsum(sizes)[:-1]) if sizes else []
    batches = list(iter_batches(parts, batch_size=batch_size))
    assert [len(batch) for batch in batches] == expected
    if sizes:
        np.testing.assert_array_equal(np.concatenate(batches), numbers)
