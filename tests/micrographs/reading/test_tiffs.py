"""A TIFF's tags decide what is decoded; gaps are found before a decoder fills them with black."""

import io
import struct
import time
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmarks.hostile_images import iter_hostile_images
from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.micrograph import read_micrograph
from tests.micrographs.reading.pictures import GREY8, GREY16, RANDOM, SMOOTH8, save, save_tiff


def test_the_first_full_page_is_read_and_thumbnails_are_not_pages() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY8[:8, :10], subfiletype=1, contiguous=False)
        writer.write(GREY8, contiguous=False)
    micrograph = read_micrograph(buffer.getvalue())
    assert np.array_equal(micrograph.pixels, GREY8 / np.float32(255))
    assert micrograph.warnings == ("page 1 is a thumbnail; page 2 was read",)

    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY8, contiguous=False)
        writer.write(GREY8[:8, :10], subfiletype=1, contiguous=False)
    assert read_micrograph(buffer.getvalue()).warnings == ()


def save_pages(*pages: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for page in pages:
            writer.write(page, contiguous=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("pages", "read", "warning"),
    [
        ((GREY8[:15, :20], GREY8), 1, "has 2 pages; only page 2, which is larger than those before it, was read"),
        ((GREY8, GREY8[:15, :20]), 0, "has 2 pages; only the first was read"),
        ((GREY8, 255 - GREY8), 0, "has 2 pages; only the first was read"),
        ((GREY8[:3], GREY8[:15], 255 - GREY8, GREY8), 2, "has 4 pages; only page 3, which is larger"),
    ],
)
def test_the_largest_page_is_the_picture(pages: tuple[np.ndarray, ...], read: int, warning: str) -> None:
    """Not every program marks the preview that it puts in front."""
    micrograph = read_micrograph(save_pages(*pages))
    assert np.array_equal(micrograph.pixels, pages[read] / np.float32(255))
    assert micrograph.warnings[0].startswith(warning)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "tiff8", "tiff16", "tiff16 deflate"])
def test_an_orientation_tag_is_followed(orientation: int, kind: str) -> None:
    stored = SMOOTH8 if kind == "jpeg" else (GREY16 if "16" in kind else GREY8)
    if kind == "jpeg":
        exif = Image.Exif()
        exif[274] = orientation
        data = save(Image.fromarray(stored), "JPEG", quality=100, exif=exif)
    else:
        compression = "zlib" if "deflate" in kind else None
        data = save_tiff(stored, extratags=[(274, "H", 1, orientation, True)], compression=compression)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].T,
        8: np.rot90(stored),
    }[orientation]
    micrograph = read_micrograph(data)
    assert micrograph.pixels.shape == upright.shape
    assert np.abs(micrograph.pixels - upright / np.iinfo(stored.dtype).max).max() < (0.02 if kind == "jpeg" else 1e-6)
    assert bool(micrograph.warnings) == (orientation > 1)


def set_tag(data: bytes, code: int, value: int) -> bytes:
    """Overwrite the value of one tag of a little-endian TIFF's first page."""
    start = struct.unpack_from("<I", data, 4)[0]
    n_tags = struct.unpack_from("<H", data, start)[0]
    changed = bytearray(data)
    for at in range(start + 2, start + 2 + 12 * n_tags, 12):
        if struct.unpack_from("<H", data, at)[0] == code:
            struct.pack_into("<I", changed, at + 8, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("code", "value", "reason"),
    [
        (257, 60, "1 of the 2 pieces"),  # more rows than data
        (256, 80, "its image needs 2400 bytes, but the file holds 1200"),
        (279, 600, "its image needs 1200 bytes, but the file holds 600"),
        (279, 10**6, "is truncated"),
        (273, 0, "0 of the 1 pieces"),
        (273, 10**6, "is truncated"),
        (278, 10, "1 of the 3 pieces"),  # as if two strips had been lost
        (256, 0, "the image is empty (0 x 30 px)"),
    ],
)
def test_gaps_in_a_tiff_are_not_filled_with_black(code: int, value: int, reason: str) -> None:
    data = save_tiff(GREY8, rowsperstrip=30)
    with pytest.raises(UnreadableImageError) as caught:
        read_micrograph(set_tag(data, code, value))
    assert reason in str(caught.value)


def test_storage_tiles_far_larger_than_the_picture_are_refused() -> None:
    data = set_tag(set_tag(save_tiff(GREY8, tile=(32, 48), compression="zlib"), 322, 60000), 323, 60000)
    with pytest.raises(UnreadableImageError, match="stored in tiles of 3600 megapixels"):
        read_micrograph(data)


def test_a_tiff_whose_pages_go_round_in_circles_ends() -> None:
    data = save_tiff(GREY8)
    start = struct.unpack_from("<I", data, 4)[0]
    n_tags = struct.unpack_from("<H", data, start)[0]
    circular = bytearray(data)
    struct.pack_into("<I", circular, start + 2 + 12 * n_tags, start)
    assert np.array_equal(read_micrograph(bytes(circular)).pixels, GREY8 / np.float32(255))


def test_pieces_that_share_their_bytes_are_refused() -> None:
    """Four thousand strips that are one: read one by one, they would take 32 GB."""
    content = next(image.content for image in iter_hostile_images(n=100, seed=0) if "overlapping" in image.name)
    with pytest.raises(UnreadableImageError, match=r"has image pieces of 32\d{9} bytes together in a file of 80\d{5}"):
        read_micrograph(content)


def test_pages_are_counted_only_as_far_as_a_picture_s_go() -> None:
    content = next(image.content for image in iter_hostile_images(n=100, seed=0) if "heavy-pages" in image.name)
    begun_s = time.perf_counter()
    with pytest.raises(UnreadableImageError):
        read_micrograph(content)
    assert time.perf_counter() - begun_s < 10, "it took 62 s when all pages' tags were read"


def test_a_piece_that_is_decoded_again_and_again_is_refused() -> None:
    content = save(Image.fromarray(SMOOTH8), "TIFF", compression="jpeg")
    assert read_micrograph(content + b"\xff\xda" * 100).pixels.shape == (30, 40)
    with pytest.raises(UnreadableImageError, match=r"has 301 JPEG scans in 1 pieces"):
        read_micrograph(content + b"\xff\xda" * 300)


@pytest.mark.parametrize("levels", [GREY8, GREY16, np.stack([GREY8] * 3, -1), np.stack([GREY16] * 3, -1)])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_a_big_endian_bigtiff_is_read_where_it_is_not_compressed(levels: np.ndarray, photometric: str) -> None:
    kind = "rgb" if levels.ndim == 3 else photometric
    options = {"photometric": kind, "bigtiff": True, "byteorder": ">"}
    grey = (levels if levels.ndim == 2 else levels[:, :, 0]) / np.float32(np.iinfo(levels.dtype).max)
    pixels = read_micrograph(save_tiff(levels, **options)).pixels
    assert np.allclose(pixels, 1 - grey if kind == "miniswhite" else grey, rtol=0, atol=1e-6)
    with pytest.raises(
        UnreadableImageError, match=r"is a big-endian BigTIFF .*, which is supported without compression only"
    ):
        read_micrograph(save_tiff(levels, compression="zlib", **options))


def set_grey(bits: int, *, width: int, **options: Any) -> bytes:
    """A TIFF of grey levels that are packed to the bit, of any content."""
    n_bytes = -(-width * bits // 8)
    packed = save_tiff(RANDOM.integers(0, 256, (30, n_bytes), dtype=np.uint8), rowsperstrip=30, **options)
    return set_tag(set_tag(packed, 256, width), 258, bits)


NOT_READ = {
    "10 bits": (set_grey(10, width=28), r"holds 1 x 10-bit samples \(MINISBLACK, NONE\), a kind of TIFF"),
    "14 bits": (set_grey(14, width=20), "holds 1 x 14-bit samples"),
    "12 bits inverted": (set_grey(12, width=20, photometric="miniswhite"), r"holds 1 x 12-bit samples \(MINISWHITE"),
    "three of grey": (
        save_tiff(np.stack([GREY8] * 3, -1), photometric="minisblack", planarconfig="contig"),
        "holds 3 x 8-bit samples",
    ),
    "two of 16 bits deflate": (
        save_tiff(np.stack([GREY16] * 2, -1), photometric="minisblack", planarconfig="contig", compression="zlib"),
        "holds 2 x 16-bit samples",
    ),
    "JPEG 2000": (set_tag(save_tiff(GREY8), 259, 34712), "is compressed with JPEG2000, which is not supported"),
    "LERC": (set_tag(save_tiff(GREY8), 259, 34887), "is compressed with LERC"),
    "JPEG XL": (set_tag(save_tiff(GREY8), 259, 50002), "is compressed with JPEGXL"),
    "PNG": (set_tag(save_tiff(GREY8), 259, 34933), "is compressed with PNG"),
    "WebP": (set_tag(save_tiff(GREY8), 259, 50001), "is compressed with WEBP"),
    "ThunderScan": (set_tag(save_tiff(GREY8), 259, 32809), "is compressed with THUNDERSCAN"),
    "a number": (set_tag(save_tiff(GREY8), 259, 60123), "is compressed with 60123"),
    "predictor without compression": (
        set_tag(save_tiff(GREY8, compression="zlib", predictor=True), 259, 1),
        r"\(predictor 2\), which programs read in two ways with the compression NONE",
    ),
    "predictor with packbits": (
        set_tag(save_tiff(GREY8, compression="zlib", predictor=True), 259, 32773),
        "which programs read in two ways with the compression PACKBITS",
    ),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_whole_files_of_a_kind_that_is_not_read_are_called_so(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, reason = NOT_READ[name]
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_micrograph(data)
    assert "damaged" not in str(caught.value)
    assert "save it" in str(caught.value)
    assert capfd.readouterr().err == "", "decoders write of their own accord about what they do not know"


def test_rows_are_packed_together_with_all_their_samples() -> None:
    """Three samples of 12 bits: a row of 3 pixels has 13.5 bytes, not three times 4.5 that are each rounded up."""
    data = save_tiff(np.zeros((30, 5, 3), np.uint8), photometric="rgb", rowsperstrip=30)
    data = data.replace(struct.pack("<3H", 8, 8, 8), struct.pack("<3H", 12, 12, 12), 1)
    data = set_tag(set_tag(data, 256, 3), 279, 30 * 14)
    with pytest.raises(UnreadableImageError, match="holds 3 x 12-bit samples"):
        read_micrograph(data)
    with pytest.raises(UnreadableImageError, match="its image needs 420 bytes, but the file holds 419"):
        read_micrograph(set_tag(data, 279, 30 * 14 - 1))


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_second_sample_is_left_out_with_a_word(compression: str | None, planar: str) -> None:
    """Two detectors in one file, for instance; alpha is told by the file."""
    samples = np.stack([GREY8, 255 - GREY8], -1 if planar == "contig" else 0)
    options = {"photometric": "minisblack", "planarconfig": planar, "compression": compression}
    read = read_micrograph(save_tiff(samples, extrasamples=["unspecified"], **options))
    assert np.array_equal(read.pixels, GREY8 / np.float32(255))
    assert (read.mode, read.warnings) == ("L", ("has 2 samples per pixel; only the first was read",))
    alpha = read_micrograph(save_tiff(samples, extrasamples=["unassalpha"], **options))
    assert np.array_equal(alpha.pixels, GREY8 / np.float32(255))
    assert (alpha.mode, alpha.warnings) == ("LA", ("transparency was ignored",))
