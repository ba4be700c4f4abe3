"""Averages over areas keep grey levels, whatever the factor, and what cannot be brought to a size is refused."""

import numpy as np
import pytest

from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.micrograph import encode_tiff, read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.reading.pixel_size import (
    average_areas,
    bring_to_pixel_size,
    compute_factor,
    compute_shape,
)

NOISE = np.random.default_rng(0).random((60, 84)).astype(np.float32)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_average_of_whole_pixels_is_that_of_blocks(factor: int) -> None:
    blocks = NOISE.reshape(60 // factor, factor, 84 // factor, factor).mean(axis=(1, 3))

    np.testing.assert_allclose(average_areas(NOISE, factor=factor), blocks, atol=1e-6)


def test_shares_of_pixels_count_by_their_area() -> None:
    row = np.array([[0.0, 1.0, 0.5]] * 3, dtype=np.float32)  # at 1.5: 1 and half of the next; the other half and 1

    np.testing.assert_allclose(average_areas(row, factor=1.5), [[1 / 3, 2 / 3]] * 2, atol=1e-6)


@pytest.mark.parametrize("factor", [0.8, 1.1, 1.25, 1.5, 2.4, 7.0])
def test_grey_levels_stay(factor: float) -> None:
    grey = np.full((60, 84), 0.7, dtype=np.float32)

    np.testing.assert_allclose(average_areas(grey, factor=factor), 0.7, atol=1e-6)
    assert average_areas(NOISE, factor=factor).mean() == pytest.approx(NOISE.mean(), abs=0.02)


@pytest.mark.parametrize("factor", [1.5, 2.0, 2.4])
def test_finer_image_shows_what_a_coarser_one_does(factor: float) -> None:
    """A wave of 40 nm is as long in pixels from fine pixels that are averaged as from coarse ones."""

    def take(pixel_nm: float, n: int) -> np.ndarray:
        edges = np.arange(n + 1) * pixel_nm
        wave = np.diff(-np.cos(2 * np.pi * edges / 40)) * 40 / (2 * np.pi) / pixel_nm  # the mean over each pixel
        return np.tile(0.5 + 0.4 * wave, (n, 1)).astype(np.float32)

    brought = bring_to_pixel_size(take(4 / factor, 240), own_nm=4 / factor, wanted_nm=4.0)

    np.testing.assert_allclose(brought, take(4.0, len(brought)), atol=0.02)


@pytest.mark.parametrize(
    ("shape", "factor", "wanted"),
    [((100, 130), 2.0, (50, 65)), ((101, 7), 2.0, (50, 3)), ((90, 9), 0.3 / 0.1, (30, 3))],
)
def test_shape_leaves_out_pixels_that_are_not_filled(
    shape: tuple[int, int], factor: float, wanted: tuple[int, int]
) -> None:
    assert compute_shape(shape, factor=factor) == wanted
    assert average_areas(np.zeros(shape, dtype=np.float32), factor=factor).shape == wanted


@pytest.mark.parametrize("own_nm", [40.0, 40.3, 39.7])
def test_nearly_the_same_size_stays_as_it_is(own_nm: float) -> None:
    assert bring_to_pixel_size(NOISE, own_nm=own_nm, wanted_nm=40.0) is NOISE


def test_nothing_is_done_unless_it_is_asked_for() -> None:
    assert bring_to_pixel_size(NOISE, own_nm=None, wanted_nm=None) is NOISE


def test_image_is_enlarged_a_little_and_no_more() -> None:
    assert compute_factor(50.0, wanted_nm=40.0) == pytest.approx(0.8)
    with pytest.raises(UnreadableImageError, match=r"pixels are 52 nm wide, too coarse for the 40 nm .* 1.25 times"):
        compute_factor(52.0, wanted_nm=40.0)


def test_image_without_a_pixel_size_is_refused() -> None:
    with pytest.raises(
        UnreadableImageError, match="does not state its pixel size, and all images are brought to 40 nm"
    ):
        compute_factor(None, wanted_nm=40.0)


def test_micrograph_keeps_what_its_file_holds() -> None:
    levels = np.arange(6000, dtype=np.uint16).reshape(60, 100).astype(np.uint8)

    micrograph = read_micrograph(encode_tiff(levels, pixel_nm=20.0), reading=ReadingOptions(pixel_size_nm=50.0))

    assert (micrograph.pixels.shape, micrograph.original.shape) == ((24, 40), (60, 100))
    assert micrograph.metadata.pixel_size_nm == 20.0
    np.testing.assert_array_equal(micrograph.original * 255, levels)


@pytest.mark.parametrize("own_nm", [1e-9, 1e-300, 1e-320])
def test_an_absurd_pixel_size_is_refused_before_memory_is_asked_for(own_nm: float) -> None:
    with pytest.raises(UnreadableImageError, match="is smaller than one pixel of the 20 nm"):
        bring_to_pixel_size(np.zeros((300, 300), dtype=np.float32), own_nm=own_nm, wanted_nm=20.0)
