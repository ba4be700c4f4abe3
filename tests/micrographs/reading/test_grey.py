"""Stored levels become the grey they mean, and what is lost on the way is told."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sem_search.micrographs.reading.grey import stretch_contrast, to_bytes
from sem_search.micrographs.reading.micrograph import read_micrograph
from tests.micrographs.reading.pictures import GREY8, GREY16, SMOOTH8, save, save_tiff


def save_deep_png(samples: np.ndarray) -> bytes:
    """A 16-bit PNG of 1 to 4 channels; Pillow cannot write them in colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, n_channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[n_channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pillow8() -> Image.Image:
    return Image.fromarray(GREY8)


def with_alpha(value: int) -> Image.Image:
    image = pillow8().convert("LA")
    image.putalpha(value)
    return image


def test_equal_pictures_of_either_depth_give_equal_floats() -> None:
    levels = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    shallow = read_micrograph(save_tiff(levels)).pixels
    deep = read_micrograph(save_tiff(levels.astype(np.uint16) * 257)).pixels
    assert shallow.tobytes() == deep.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "JPEG"])
def test_colour_becomes_luma(kind: str) -> None:
    colour = np.zeros((16, 24, 3), dtype=np.uint8)
    colour[:, :8, 0], colour[:, 8:16, 1], colour[:, 16:, 2] = 255, 255, 255
    pixels = read_micrograph(save(Image.fromarray(colour), kind)).pixels
    expected = np.repeat([0.299, 0.587, 0.114], 8)
    tolerance = 0.02 if kind == "JPEG" else 0.002
    assert np.abs(pixels[8] - expected)[[2, 12, 22]].max() < tolerance


def test_jpegs_of_all_colour_spaces_are_read() -> None:
    for mode in ("L", "RGB", "CMYK"):
        image = Image.fromarray(SMOOTH8).convert("RGB").convert(mode)
        micrograph = read_micrograph(save(image, "JPEG", quality=95))
        assert micrograph.mode == mode
        assert np.abs(micrograph.pixels - SMOOTH8 / 255).mean() < 0.02, mode


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (save(with_alpha(128), "PNG"), "transparency was ignored"),
        (save(pillow8(), "PNG", transparency=7), "transparency was ignored"),
        (save_deep_png(np.stack([GREY16] * 3, -1)), "16-bit colour was read with 8 bits"),
        (save_deep_png(np.stack([GREY16, np.full_like(GREY16, 65535)], -1)), "16-bit colour was read with 8 bits"),
        (save(pillow8().convert("1"), "PNG"), "only two grey levels (1 bit)"),
        (save(pillow8().convert("1"), "TIFF", compression="group4"), "only two grey levels (1 bit)"),
        (save_tiff(np.stack([GREY8, GREY8, GREY8]), photometric="minisblack"), "has 3 pages; only the first was read"),
        (save_tiff(GREY16 % 4096), "as if the instrument had stored 12 bits"),
        (save(Image.fromarray(GREY16 % 4096), "PNG"), "as if the instrument had stored 12 bits"),
    ],
)
def test_what_the_user_must_know_is_a_warning(data: bytes, warning: str) -> None:
    assert any(warning in text for text in read_micrograph(data).warnings)


@pytest.mark.parametrize("n_channels", [2, 3, 4])
def test_deep_colour_png_keeps_its_high_bytes(n_channels: int) -> None:
    samples = np.stack([GREY16] * n_channels, -1)
    if n_channels in (2, 4):
        samples[:, :, -1] = 65535
    micrograph = read_micrograph(save_deep_png(samples))
    assert np.array_equal(micrograph.pixels, (GREY16 >> 8) / np.float32(255))
    assert micrograph.bit_depth == 16


def test_twelve_bits_count_against_their_own_white_where_the_file_tells_it() -> None:
    levels = GREY16 % 4096
    told = read_micrograph(save_tiff(levels, extratags=[(281, "H", 1, 4095, True)]))
    assert np.array_equal(told.pixels, levels / np.float32(4095))
    assert told.warnings == ()
    wrong = read_micrograph(save_tiff(GREY16, extratags=[(281, "H", 1, 4095, True)]))
    assert np.array_equal(wrong.pixels, GREY16 / np.float32(65535))


def test_levels_count_from_their_own_white_where_zero_is_white() -> None:
    levels = GREY16 % 4096
    told = read_micrograph(save_tiff(levels, photometric="miniswhite", extratags=[(281, "H", 1, 4095, True)]))
    assert np.array_equal(told.pixels, (4095 - levels) / np.float32(4095))
    assert told.warnings == ()
    untold = read_micrograph(save_tiff(levels, photometric="miniswhite"))
    assert np.array_equal(untold.pixels, (65535 - levels) / np.float32(65535))
    assert "so the image is nearly white" in untold.warnings[0]


@pytest.mark.parametrize("factor", [1, 256, 257])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_palette_of_8_bits_is_read_like_one_of_16(factor: int, compression: str | None) -> None:
    """Libtiff's programs take a palette without an entry above 255 as 8 bits; as 16 bits it would be black."""
    grey = np.arange(256, dtype=np.uint16)[::-1] * np.uint16(factor)
    data = save_tiff(GREY8, photometric="palette", colormap=np.stack([grey] * 3), compression=compression)
    micrograph = read_micrograph(data)
    assert np.array_equal(micrograph.pixels, (255 - GREY8) / np.float32(255))
    assert (micrograph.mode, micrograph.warnings) == ("P", ())


def test_a_palette_of_8_bits_has_its_colours() -> None:
    colours = np.zeros((3, 256), np.uint16)
    colours[0, 1], colours[1, 2], colours[2, 3] = 255, 255, 255
    data = save_tiff(np.tile(np.arange(4, dtype=np.uint8), (8, 4)), photometric="palette", colormap=colours)
    assert np.abs(read_micrograph(data).pixels[0, :4] - [0, 0.299, 0.587, 0.114]).max() < 0.002


def test_an_all_black_palette_stays_black() -> None:
    data = save_tiff(GREY8, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    assert read_micrograph(data).pixels.max() == 0


def test_stretched_contrast_fills_the_range_whatever_single_pixels_do() -> None:
    image = np.linspace(0.4, 0.5, 1000, dtype=np.float32).reshape(20, 50)
    image[0, 0], image[-1, -1] = 0, 1
    stretched = stretch_contrast(image)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert np.median(stretched) == pytest.approx(0.5, abs=0.01)


def test_a_flat_image_stays_flat() -> None:
    assert np.ptp(stretch_contrast(np.full((4, 4), 0.3, np.float32))) == 0


def test_bytes_are_the_nearest_levels_and_clipped() -> None:
    assert to_bytes(np.array([[-1, 0.0, 0.499, 1.0, 2]], np.float32)).tolist() == [[0, 0, 127, 255, 255]]
