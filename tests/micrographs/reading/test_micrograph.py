"""Every format and depth reads to the grey it holds; whatever cannot be trusted is refused in a sentence."""

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.micrograph import Micrograph, encode_jpeg, encode_png, read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions
from tests.micrographs.reading.pictures import GREY8, GREY16, RANDOM, SMOOTH8, save, save_tiff

SHARED = Path(__file__).parents[4] / "shared"
REAL_FILES = SHARED / "data" / "lung_cells_sem"


def pillow8() -> Image.Image:
    return Image.fromarray(GREY8)


def with_alpha(value: int) -> Image.Image:
    image = pillow8().convert("LA")
    image.putalpha(value)
    return image


EIGHT_BIT = {
    "png": lambda: save(pillow8(), "PNG"),
    "bmp": lambda: save(pillow8(), "BMP"),
    "bmp of 24 bits": lambda: save(pillow8().convert("RGB"), "BMP"),
    "png in colour": lambda: save(pillow8().convert("RGB"), "PNG"),
    "png with opaque alpha": lambda: save(with_alpha(255).convert("RGBA"), "PNG"),
    "png, grey and alpha": lambda: save(with_alpha(255), "PNG"),
    "png with palette": lambda: save(pillow8().convert("P"), "PNG"),
    "tiff": lambda: save_tiff(GREY8),
    "big-endian tiff": lambda: save_tiff(GREY8, byteorder=">"),
    "bigtiff": lambda: save_tiff(GREY8, bigtiff=True),
    "tiff in strips": lambda: save_tiff(GREY8, rowsperstrip=1),
    "tiff in tiles": lambda: save_tiff(GREY8, tile=(16, 32)),
    "tiff with palette": lambda: save(pillow8().convert("P"), "TIFF"),
    "tiff lzw": lambda: save(pillow8(), "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: save(pillow8(), "TIFF", compression="tiff_adobe_deflate"),
    "tiff packbits": lambda: save(pillow8(), "TIFF", compression="packbits"),
    "tiff in colour, planes apart": lambda: save_tiff(
        np.stack([GREY8] * 3), photometric="rgb", planarconfig="separate"
    ),
    "inverted tiff": lambda: save_tiff(255 - GREY8, photometric="miniswhite"),
    "inverted tiff deflate": lambda: save_tiff(255 - GREY8, photometric="miniswhite", compression="zlib"),
}

SIXTEEN_BIT = {
    "png": lambda: save(Image.fromarray(GREY16), "PNG"),
    "tiff": lambda: save_tiff(GREY16),
    "big-endian tiff": lambda: save_tiff(GREY16, byteorder=">"),
    "tiff in strips": lambda: save_tiff(GREY16, rowsperstrip=1),
    "tiff in tiles": lambda: save_tiff(GREY16, tile=(16, 16)),
    "tiff lzw": lambda: save(Image.fromarray(GREY16), "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: save_tiff(GREY16, compression="zlib"),
    "big-endian tiff deflate": lambda: save_tiff(GREY16, compression="zlib", byteorder=">"),
    "inverted tiff": lambda: save_tiff(65535 - GREY16, photometric="miniswhite"),
    "big-endian inverted tiff": lambda: save_tiff(65535 - GREY16, photometric="miniswhite", byteorder=">"),
    "inverted tiff deflate": lambda: save_tiff(65535 - GREY16, photometric="miniswhite", compression="zlib"),
    "tiff in colour": lambda: save_tiff(np.stack([GREY16] * 3, -1), photometric="rgb"),
    "tiff in colour, planes apart": lambda: save_tiff(
        np.stack([GREY16] * 3), photometric="rgb", planarconfig="separate"
    ),
    "tiff, grey and opaque alpha": lambda: save_tiff(
        np.stack([GREY16, np.full_like(GREY16, 65535)], -1),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    ),
}


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_eight_bits_are_read_exactly(name: str) -> None:
    micrograph = read_micrograph(EIGHT_BIT[name]())
    assert micrograph.pixels.dtype == np.float32
    assert np.array_equal(micrograph.pixels, GREY8 / np.float32(255))
    assert (micrograph.bit_depth, micrograph.warnings) == (8, ())


@pytest.mark.parametrize("name", SIXTEEN_BIT)
def test_sixteen_bits_keep_their_range(name: str) -> None:
    micrograph = read_micrograph(SIXTEEN_BIT[name]())
    assert np.array_equal(micrograph.pixels, GREY16 / np.float32(65535))
    assert (micrograph.bit_depth, micrograph.warnings) == (16, ())


def animate(kind: str, **options: Any) -> bytes:
    return save(pillow8(), kind, save_all=True, append_images=[Image.fromarray(255 - GREY8)], **options)


REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"hello world", "is not an image of a known format: export it as PNG, JPEG, BMP or TIFF"),
    "gif": (save(pillow8(), "GIF"), "is a GIF file: export it as PNG, JPEG, BMP or TIFF"),
    "animated gif": (animate("GIF"), "is a GIF file"),
    "webp": (b"RIFF\0\0\0\0WEBPVP8 ", "is a WebP or other RIFF file"),
    "animated png": (animate("PNG"), "is an animation of 2 frames"),
    "int8": (save_tiff(GREY8.view(np.int8)), "holds 8-bit signed integers"),
    "int16": (save_tiff(GREY16.view(np.int16)), "holds 16-bit signed integers"),
    "int32": (save_tiff(GREY16.astype(np.int32)), "holds 32-bit signed integers"),
    "uint32": (save_tiff(GREY16.astype(np.uint32)), "holds 32-bit unsigned integers"),
    "float32": (save_tiff(GREY16.astype(np.float32)), "holds 32-bit floating-point numbers"),
    "float64": (save_tiff(GREY16.astype(np.float64)), "does not say which value is white"),
    "lab": (save_tiff(np.stack([GREY8] * 3, -1), photometric="cielab"), "has the colour mode LAB"),
    "signature only": (b"\x89PNG\r\n\x1a\n", "the PNG file is damaged"),
    "tiff without pages": (b"II*\0\0\0\0\0", "truncated or damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_still_micrograph_is_refused(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(UnreadableImageError) as caught:
        read_micrograph(data, name="a/b.png")
    message = str(caught.value)
    assert message.startswith("a/b.png: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("kind", "at", "found", "changed", "reason"),
    [
        ("JPEG", b"\xff\xc0\x00\x0b", 8, 12, "cannot handle 12-bit layers"),
        ("BMP", b"\x01\x00", 8, 7, r"Unsupported BMP pixel depth \(7\)"),
    ],
)
def test_whole_files_of_a_depth_that_is_not_read_are_called_so(
    kind: str, at: bytes, found: int, changed: int, reason: str
) -> None:
    content = save(pillow8(), kind)
    before = content.index(at, 20 if kind == "BMP" else 0) + len(at)
    assert content[before] == found
    data = content[:before] + bytes([changed]) + content[before + 1 :]
    with pytest.raises(UnreadableImageError, match=rf"is a {kind} file of a kind that is not supported \({reason}"):
        read_micrograph(data)


COMPLETE = {
    **{f"8 bits, {name}": make for name, make in EIGHT_BIT.items()},
    **{f"16 bits, {name}": make for name, make in SIXTEEN_BIT.items()},
    "jpeg": lambda: save(Image.fromarray(SMOOTH8), "JPEG"),
    "progressive jpeg": lambda: save(Image.fromarray(SMOOTH8), "JPEG", progressive=True),
    "tiff jpeg": lambda: save(Image.fromarray(SMOOTH8), "TIFF", compression="jpeg"),
}


@pytest.mark.parametrize("name", COMPLETE)
def test_truncated_files_are_refused(name: str) -> None:
    data = COMPLETE[name]()
    whole = read_micrograph(data).pixels
    for n_kept in {1, 2, 8, 20, len(data) // 4, len(data) // 2, len(data) - 200, len(data) - 40, len(data) - 9}:
        try:
            pixels = read_micrograph(data[:n_kept]).pixels
        except UnreadableImageError:
            continue
        # Only what stands behind the last pixel may be missing.
        assert np.array_equal(pixels, whole), f"{n_kept} of {len(data)} bytes were read as another picture"
        assert n_kept == len(data) - 9


@pytest.mark.parametrize("n_lost", [5, 12, 13, 20])
def test_a_png_is_read_to_its_end(n_lost: int) -> None:
    with pytest.raises(UnreadableImageError, match="PNG file is damaged, truncated"):
        read_micrograph(save(pillow8(), "PNG")[:-n_lost])


def test_a_flipped_bit_in_a_png_is_found() -> None:
    data = bytearray(save(pillow8(), "PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(UnreadableImageError, match="PNG file is damaged"):
        read_micrograph(bytes(data))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "JPEG", "TIFF"])
def test_the_pixel_limit_is_checked_before_decoding(kind: str) -> None:
    data = save(Image.new("L", (2000, 1500)), kind)
    started_s = time.process_time()
    with pytest.raises(UnreadableImageError, match=r"2000 x 1500 px are 3.0 megapixels, more than the limit of 2\.5"):
        read_micrograph(data, reading=ReadingOptions(max_megapixels=2.5))
    assert time.process_time() - started_s < 0.5
    assert read_micrograph(data, reading=ReadingOptions(max_megapixels=3)).pixels.shape == (1500, 2000)


def test_a_bomb_is_refused_and_the_limit_may_exceed_that_of_pillow() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    content = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    rows = zlib.compress(bytes(100))
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + content
        + struct.pack(">I", len(rows))
        + b"IDAT"
        + rows
        + struct.pack(">I", zlib.crc32(b"IDAT" + rows))
    )
    with pytest.raises(UnreadableImageError, match=r"3600\.0 megapixels"):
        read_micrograph(bomb)
    with pytest.raises(UnreadableImageError, match="PNG file is damaged, truncated"):
        read_micrograph(bomb, reading=ReadingOptions(max_megapixels=4000))


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(COMPLETE)),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
    from_end=st.booleans(),
)
def test_damaged_files_give_a_picture_or_one_sentence(
    name: str, changes: list[tuple[int, int]], from_end: bool
) -> None:
    data = bytearray(COMPLETE[name]())
    for offset, value in changes:
        at = offset % len(data)
        data[-1 - at if from_end else at] = value
    try:
        micrograph = read_micrograph(bytes(data), name="x", reading=ReadingOptions(max_megapixels=1))
    except UnreadableImageError as error:
        assert str(error).startswith("x: ")
        assert "\n" not in str(error)
    else:
        assert micrograph.pixels.dtype == np.float32
        assert 0 <= micrograph.pixels.min() <= micrograph.pixels.max() <= 1


def test_paths_that_are_no_readable_files_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "x.png"
    folder.mkdir()
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "gone.png")
    for path, reason in [
        (folder, "is a folder, not an image file"),
        (pipe, "is not a regular file"),
        (link, "there is no such file, or it is a link to a file that does not exist any more"),
        (tmp_path / "none.png", "there is no such file"),
        (tmp_path / "x.png" / "y.png", "there is no such file"),
    ]:
        with pytest.raises(UnreadableImageError) as caught:
            read_micrograph(path)
        assert str(caught.value).startswith(f"{path}: {reason}")
    text = tmp_path / "text.png"
    text.write_text("hello world")
    with pytest.raises(UnreadableImageError, match="is not an image of a known format"):
        read_micrograph(text)
    below_text = text / "y.png"
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        read_micrograph(below_text)


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "huge.tif"
    with huge.open("wb") as file:
        file.truncate(200_000_000)  # sparse: takes no room
    with pytest.raises(UnreadableImageError, match="the file has 200 MB, but an image of 1 megapixels needs at most"):
        read_micrograph(huge, reading=ReadingOptions(max_megapixels=1))


def test_what_the_bytes_say_counts_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.JPG"
    path.write_bytes(save(pillow8(), "PNG"))
    assert np.array_equal(read_micrograph(path).pixels, GREY8 / np.float32(255))


FEI_TEXT = (
    "[User]\r\nDate=02/06/2020\r\nTime=12:44:01 PM\r\n[System]\r\nSystemType=Versa 3D\r\n[Beam]\r\nHV=5000\r\n"
    "[Scan]\r\nPixelWidth=1.34896e-007\r\n[Image]\r\nResolutionX={width}\r\nResolutionY={height}\r\n"
    "[Detectors]\r\nName=ETD\r\n"
)


def save_fei(width: int, height: int) -> bytes:
    return save_tiff(GREY16, extratags=[(34682, "s", 0, FEI_TEXT.format(width=width, height=height), True)])


def test_the_scan_height_of_the_instrument_wins_over_the_setting() -> None:
    micrograph = read_micrograph(save_fei(40, 24), reading=ReadingOptions(crop_bottom_px=10))
    assert np.array_equal(micrograph.pixels, GREY16[:24] / np.float32(65535))
    assert (micrograph.file_height_px, micrograph.metadata.scan_height_px) == (30, 24)
    assert micrograph.metadata.pixel_size_nm == 134.896


def test_without_metadata_the_setting_cuts() -> None:
    assert read_micrograph(save_tiff(GREY16), reading=ReadingOptions(crop_bottom_px=7)).pixels.shape == (23, 40)
    assert read_micrograph(save_tiff(GREY16)).pixels.shape == (30, 40)


@pytest.mark.parametrize("height", [0, -5, 31, 1024])
def test_a_scan_height_that_cannot_be_is_refused(height: int) -> None:
    with pytest.raises(UnreadableImageError, match=f"scan height of {height} px, but the file has 30 rows"):
        read_micrograph(save_fei(40, height))


def test_metadata_of_a_scan_of_another_width_are_not_used() -> None:
    micrograph = read_micrograph(save_fei(80, 24), reading=ReadingOptions(crop_bottom_px=2))
    assert micrograph.pixels.shape == (28, 40)
    assert micrograph.metadata.pixel_size_nm is None
    assert micrograph.metadata.detector == "ETD"
    assert "a scan width of 80 px, but the file has 40" in " ".join(micrograph.warnings)


def test_a_crop_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="has 30 rows, and crop_bottom_px=30 leaves none"):
        read_micrograph(save(pillow8(), "PNG"), reading=ReadingOptions(crop_bottom_px=30))


def test_the_sidecar_is_read_for_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(save_tiff(GREY8))
    (tmp_path / "a.txt").write_text("$CM_FULL_SIZE 40 25\n$$SM_MICRON_BAR 160\n$$SM_MICRON_MARKER 5um\n")
    micrograph = read_micrograph(path, reading=ReadingOptions(crop_bottom_px=3))
    assert micrograph.pixels.shape == (25, 40)
    assert micrograph.metadata.pixel_size_nm == 31.25
    assert "set crop_bottom_px=5 as well" in micrograph.warnings[0]
    assert read_micrograph(path, reading=ReadingOptions(crop_bottom_px=5)).warnings == ()
    assert read_micrograph(path.read_bytes()).metadata.pixel_size_nm is None


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_text_of_another_size_gives_no_advice(tmp_path: Path, factor: float) -> None:
    """To cut as many rows as the text of a smaller picture seems to say would throw away half of this one."""
    path = tmp_path / "a.tif"
    path.write_bytes(save_tiff(GREY8))
    size = f"{round(40 * factor)}x{round(25 * factor)}"
    (tmp_path / "a.txt").write_text(f"[SemImageFile]\nDataSize={size}\nPixelSize=5.0\nSignalName=SE\n")
    micrograph = read_micrograph(path)
    assert micrograph.pixels.shape == (30, 40)
    assert (micrograph.metadata.pixel_size_nm, micrograph.metadata.detector) == (None, "SE")
    (warning,) = micrograph.warnings
    assert f"a scan width of {round(40 * factor)} px, but the file has 40" in warning


@pytest.mark.parametrize(("width", "height"), [(80, 60), (20, 12)])
def test_instrument_files_made_smaller_or_larger_are_read_alike(width: int, height: int) -> None:
    micrograph = read_micrograph(save_fei(width, height))
    assert (micrograph.pixels.shape, micrograph.metadata.pixel_size_nm) == ((30, 40), None)
    assert f"a scan width of {width} px, but the file has 40" in micrograph.warnings[-1]


def test_the_scale_of_a_file_saved_anew_outlives_the_text_of_the_old_one(tmp_path: Path) -> None:
    """ImageJ tells the size of the pixels that it saved, whatever their number was before."""
    path = tmp_path / "a.tif"
    description = "ImageJ=1.53t\nunit=nm\n"
    path.write_bytes(save_tiff(GREY8, description=description, resolution=(0.1, 0.1), metadata=None))
    (tmp_path / "a.txt").write_text(
        "$CM_FULL_SIZE 80 60\n$$SM_MICRON_BAR 160\n$$SM_MICRON_MARKER 800nm\n$CM_SIGNAL SEI\n"
    )
    metadata = read_micrograph(path).metadata
    assert (metadata.pixel_size_nm, metadata.detector) == (10.0, "SEI")


CASES = SHARED / "cases"


@pytest.mark.parametrize(
    ("name", "pixel_size_nm", "shape"),
    [
        ("zeiss-old-pixel-size/zeiss_512.tif", 11.65, (384, 512)),
        ("zeiss-old-pixel-size/zeiss_1024.tif", 5.825, (768, 1024)),
        ("zeiss-old-pixel-size/zeiss_2048.tif", 2.9125, (1536, 2048)),
        ("jeol-new-sidecar/jsm_it.tif", 100.0, (960, 1280)),
        ("jeol-micro-sign-cp932/a.tif", 94.3396, (960, 1280)),
        ("tescan/with_tag.tif", 2501.2, (768, 1024)),
        ("tescan/with_hdr.tif", 2501.2, (768, 1024)),
        ("phenom/phenom.tif", 131.0, (1088, 1024)),
        ("thumbnail-unmarked/small_first.tif", None, (256, 320)),
        ("bigtiff-big-endian/u8.tif", None, (256, 320)),
        ("bigtiff-big-endian/u16_plain_is_read.tif", None, (256, 320)),
    ],
)
def test_files_that_were_once_misread(name: str, pixel_size_nm: float | None, shape: tuple[int, int]) -> None:
    if not (CASES / name).is_file():
        pytest.skip(f"needs {CASES / name}")
    micrograph = read_micrograph(CASES / name)
    told = micrograph.metadata.pixel_size_nm
    assert told == (None if pixel_size_nm is None else pytest.approx(pixel_size_nm, rel=1e-4))
    assert micrograph.pixels.shape == shape


@pytest.mark.parametrize(
    ("name", "reason"),
    [("jpeg2000-in-tiff/j2k.tif", "is compressed with JPEG2000"), ("bigtiff-big-endian/u16_lzw.tif", "BigTIFF")],
)
def test_files_that_were_once_called_damaged(name: str, reason: str) -> None:
    if not (CASES / name).is_file():
        pytest.skip(f"needs {CASES / name}")
    with pytest.raises(UnreadableImageError, match=reason):
        read_micrograph(CASES / name)


def test_reading_does_not_depend_on_the_locale(tmp_path: Path) -> None:
    path = tmp_path / "ü.tif"
    path.write_bytes(save_fei(40, 24))
    code = (
        "import sys, locale; locale.setlocale(locale.LC_ALL, '');"
        "from pathlib import Path; from sem_search.micrographs.reading.micrograph import read_micrograph;"
        "print(read_micrograph(Path(sys.argv[1])).metadata.voltage_kv)"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env={"LC_ALL": "C", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "5.0"


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_a_written_png_reads_back(shape: tuple[int, ...]) -> None:
    picture = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(picture)))), picture)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(picture[::-1, ::2])))), picture[::-1, ::2])


@pytest.mark.parametrize(("shape", "mode"), [((50, 70), "L"), ((50, 70, 3), "RGB")])
def test_a_written_jpeg_shows_the_picture(shape: tuple[int, ...], mode: str) -> None:
    picture = np.full(shape, 90, dtype=np.uint8)
    with Image.open(io.BytesIO(encode_jpeg(picture, quality=75))) as read:
        assert (read.format, read.mode, read.size) == ("JPEG", mode, (70, 50))
        assert np.abs(np.asarray(read).astype(int) - 90).max() <= 2


@pytest.fixture(scope="module")
def real_micrographs() -> dict[str, Micrograph]:
    if not REAL_FILES.is_dir():
        pytest.skip(f"needs the instrument files in {REAL_FILES}")
    return {path.name: read_micrograph(path) for path in sorted(REAL_FILES.rglob("*.tif"))}


def test_all_instrument_files_are_read(real_micrographs: dict[str, Micrograph]) -> None:
    assert len(real_micrographs) == 35
    assert [m.bit_depth for m in real_micrographs.values()].count(16) == 22
    for name, micrograph in real_micrographs.items():
        assert micrograph.pixels.shape == (1024, 1536), name
        assert micrograph.file_height_px == 1103, name
        assert micrograph.warnings == (), name
        assert 0.15 < micrograph.pixels.mean() < 0.4, name
        assert micrograph.pixels.max() > 0.8, name
        assert micrograph.metadata.voltage_kv == 5.0, name
        assert micrograph.metadata.instrument == "Versa 3D", name
        assert micrograph.metadata.detector in ("ETD", "ICE"), name


def test_instrument_files_equal_what_tifffile_decodes(real_micrographs: dict[str, Micrograph]) -> None:
    for path in sorted(REAL_FILES.rglob("*.tif"))[::6]:
        levels = tifffile.imread(path)[:1024]
        expected = levels / np.float32(np.iinfo(levels.dtype).max)
        assert np.array_equal(real_micrographs[path.name].pixels, expected), path.name


def test_a_jpeg_that_is_said_again_and_again_is_refused_at_once() -> None:
    content = save(pillow8(), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    assert read_micrograph(content[:last] + content[last:-2] * 20 + content[-2:]).pixels.shape == (30, 40)
    with pytest.raises(UnreadableImageError, match=r"has 3\d\d JPEG scans instead of about ten"):
        read_micrograph(content[:last] + content[last:-2] * 300 + content[-2:])


def test_a_png_of_crumbs_is_refused_at_once() -> None:
    content = save(pillow8(), "PNG")
    crumb = b"\0\0\0\0tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))
    assert read_micrograph(content[:33] + crumb * 500 + content[33:]).pixels.shape == (30, 40)
    with pytest.raises(UnreadableImageError, match=r"has more than \d+ chunks for \d+ bytes: export it again"):
        read_micrograph(content[:33] + crumb * 5000 + content[33:])


def test_a_name_that_no_file_can_bear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"cannot be read \(embedded null byte\): check the file"):
        read_micrograph(tmp_path / "a\0.png")
