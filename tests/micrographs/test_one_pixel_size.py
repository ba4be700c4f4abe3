"""The one pixel size of a data set, and images that cannot be brought to it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sem_search.errors import DataError, UnreadableDataError
from sem_search.micrographs.catalogue import Catalogue, read_catalogue
from sem_search.micrographs.one_pixel_size import choose_common_size, settle_pixel_size
from sem_search.micrographs.reading.micrograph import encode_tiff
from sem_search.micrographs.reading.options import COMMON, ReadingOptions
from sem_search.micrographs.tiles import TileGrid, build_tile_table, iter_image_tiles
from tests.micrographs.conftest import MakeCatalogue, MakeRecord

LEAVE_OUT = ReadingOptions(skip_unreadable=True)


@pytest.fixture
def two_sizes(make_catalogue: MakeCatalogue, make_record: MakeRecord) -> Catalogue:
    """Two images of each of two classes: 1280 x 960 px at 20 nm, and at 50 nm."""
    return make_catalogue(
        *(make_record(f"fine/{n}.tif", pixel_size_nm=20.0) for n in range(2)),
        *(make_record(f"coarse/{n}.tif", pixel_size_nm=50.0) for n in range(2)),
    )


def test_common_size_is_that_of_the_coarsest_image(two_sizes: Catalogue) -> None:
    kept, wanted_nm = settle_pixel_size(two_sizes, asked=COMMON, tile_px=224)
    brought = kept.at_pixel_size(wanted_nm)

    assert (kept, wanted_nm) == (two_sizes, 50.0)
    assert [brought.get_shape(record) for record in brought.records] == [(960, 1280)] * 2 + [(384, 512)] * 2
    assert {brought.get_pixel_size(record) for record in brought.records} == {50.0}
    assert brought.digest == two_sizes.digest


def test_common_size_is_written_with_four_digits(make_record: MakeRecord) -> None:
    records = [make_record(f"a/{n}.tif", pixel_size_nm=size) for n, size in enumerate((49.99871, 20.0, None))]

    assert choose_common_size(records) == 50.0
    assert choose_common_size(records[2:]) is None


def test_images_stay_as_they_are_by_default(two_sizes: Catalogue) -> None:
    assert settle_pixel_size(two_sizes, asked=None, tile_px=224) == (two_sizes, None)
    assert two_sizes.get_shape(two_sizes.records[0]) == (960, 1280)


def test_number_that_is_too_fine_is_refused_by_name(two_sizes: Catalogue) -> None:
    with pytest.raises(
        UnreadableDataError, match=r"(?s)2 of 4 files.*coarse/0.tif: its pixels are 50 nm wide, too coarse"
    ):
        settle_pixel_size(two_sizes, asked=20.0, tile_px=224)


def test_image_that_has_no_room_for_a_tile_is_refused_by_name(two_sizes: Catalogue) -> None:
    with pytest.raises(UnreadableDataError, match=r"fine/1.tif: has 512 x 384 px .* 20 to 50 nm .* tile of 400 px"):
        settle_pixel_size(two_sizes, asked=COMMON, tile_px=400)


def test_images_without_a_size_are_left_out_where_files_may_be(two_sizes: Catalogue, make_record: MakeRecord) -> None:
    with_unknown = dataclasses.replace(two_sizes, records=(*two_sizes.records, make_record("fine/a.png")))
    with pytest.raises(UnreadableDataError, match=r"fine/a.png: does not state its pixel size"):
        settle_pixel_size(with_unknown, asked=COMMON, tile_px=224)

    kept, _ = settle_pixel_size(dataclasses.replace(with_unknown, reading=LEAVE_OUT), asked=COMMON, tile_px=224)

    assert kept.records == two_sizes.records
    assert [file.path.name for file in kept.skipped] == ["a.png"]
    assert "left out fine/a.png: does not state its pixel size" in kept.warnings[0]


def test_class_that_would_be_lost_is_refused(make_catalogue: MakeCatalogue, make_record: MakeRecord) -> None:
    catalogue = make_catalogue(make_record("a/0.tif", pixel_size_nm=9.0), make_record("b/0.png"), reading=LEAVE_OUT)

    with pytest.raises(UnreadableDataError, match="no usable image is left of class 'b'"):
        settle_pixel_size(catalogue, asked=COMMON, tile_px=224)


def test_common_size_of_images_without_any_is_refused(make_catalogue: MakeCatalogue, make_record: MakeRecord) -> None:
    with pytest.raises(DataError, match="pixel_size_nm=common: no image states its pixel size"):
        settle_pixel_size(make_catalogue(make_record("a/0.png")), asked=COMMON, tile_px=224)


def test_tiles_are_cut_from_what_was_brought(tmp_path: Path) -> None:
    for name, pixel_nm in (("fine", 10.0), ("coarse", 20.0)):
        (tmp_path / name).mkdir()
        levels = np.random.default_rng(0).integers(0, 256, (96, 128), dtype=np.uint8)
        (tmp_path / name / "0.tif").write_bytes(encode_tiff(levels, pixel_nm=pixel_nm))
    catalogue = read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=32)).at_pixel_size(20.0)
    grid = TileGrid(size_px=32, stride_px=32)

    cut = {record.label: tiles for record, tiles in iter_image_tiles(catalogue, grid=grid)}

    assert {name: len(tiles) for name, tiles in cut.items()} == {"coarse": 12, "fine": 2}
    assert build_tile_table(catalogue, grid=grid).n_tiles == 14
    of_fine = catalogue.at_pixel_size(None).read_image(catalogue.records[1])[:64, :64]
    np.testing.assert_allclose(cut["fine"][0], of_fine.reshape(32, 2, 32, 2).mean(axis=(1, 3)), atol=1e-6)


def test_a_size_that_only_the_text_beside_a_picture_states_is_warned_of(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    levels = np.random.default_rng(0).integers(0, 256, (96, 128), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "0.txt").write_text("[SemImageFile]\nPixelSize=12.5\n")
    (tmp_path / "b" / "1.tif").write_bytes(encode_tiff(levels, pixel_nm=12.5))
    catalogue = read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=32))
    assert [record.is_pixel_size_beside for record in catalogue.records] == [True, False]

    kept, _ = settle_pixel_size(catalogue, asked=COMMON, tile_px=32)

    assert kept.warnings[-1].startswith("1 image of 2: only the text file beside the picture states the pixel size.")
    assert settle_pixel_size(catalogue, asked=None, tile_px=32)[0].warnings == catalogue.warnings
