"""Picture files that no microscope wrote: good ones of every accepted format, damaged by chance or built to do harm.

All is drawn from one seed. A damaged file may still be a picture (a flipped bit among raw grey levels makes another
grey level): then it must come out as one. Everything else must be refused in one sentence.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 64
FEI_TEXT = "[User]\r\nDate=02/13/2020\r\n[Scan]\r\nPixelWidth=1e-008\r\n[Image]\r\nResolutionX=64\r\nResolutionY=60\r\n"


@dataclass(frozen=True, kw_only=True)
class HostileImage:
    """One file."""

    name: str
    """Format, what was done to it, and a number: also the file's name."""
    content: bytes


def iter_hostile_images(*, n: int, seed: int) -> Iterator[HostileImage]:
    """Yield the files that are built to do harm, then damaged ones of every format in turn, `n` in all."""
    built = list(_iter_built())
    yield from built[:n]
    good = build_good_images()
    names, harms = list(good), list(HARMS)
    for number in range(n - len(built)):
        rng = np.random.default_rng([seed, number])
        name, harm = names[number % len(names)], harms[int(rng.integers(len(harms)))]
        content = HARMS[harm](good[name], rng)
        yield HostileImage(name=f"{number:05d}-{harm}-{name}", content=content)


def build_good_images() -> Mapping[str, bytes]:
    """Return one readable file of every accepted kind, by its name."""
    rng = np.random.default_rng(0)
    grey8 = rng.integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8)
    grey16 = rng.integers(0, 65536, (SIDE_PX, SIDE_PX), dtype=np.uint16)
    smooth = np.add.outer(np.arange(SIDE_PX), np.arange(SIDE_PX)).astype(np.uint8)
    grey, flat = Image.fromarray(grey8), Image.fromarray(smooth)
    colour = Image.merge("RGB", [grey, flat, grey])
    return {
        "grey.png": _save(grey, "PNG"),
        "grey16.png": _save(Image.fromarray(grey16), "PNG"),
        "colour.png": _save(colour, "PNG"),
        "alpha.png": _save(colour.convert("RGBA"), "PNG"),
        "palette.png": _save(flat.convert("P"), "PNG"),
        "bilevel.png": _save(flat.convert("1"), "PNG"),
        "grey.jpg": _save(flat, "JPEG"),
        "colour.jpg": _save(colour, "JPEG", exif=_build_exif()),
        "progressive.jpg": _save(colour, "JPEG", progressive=True),
        "cmyk.jpg": _save(colour.convert("CMYK"), "JPEG"),
        "grey.bmp": _save(grey, "BMP"),
        "colour.bmp": _save(colour, "BMP"),
        "bilevel.bmp": _save(flat.convert("1"), "BMP"),
        "plain.tif": _write(grey8),
        "plain16.tif": _write(grey16),
        "colour16.tif": _write(np.stack([grey16] * 3, axis=-1), photometric="rgb"),
        "planes.tif": _write(np.stack([grey8] * 3), photometric="rgb", planarconfig="separate"),
        "big-endian.tif": _write(grey16, byteorder=">"),
        "bigtiff.tif": _write(grey16, bigtiff=True),
        "tiled.tif": _write(grey8, tile=(32, 32)),
        "strips.tif": _write(grey8, rowsperstrip=4),
        "pages.tif": _write(np.stack([grey8] * 3), photometric="minisblack"),
        "fei.tif": _write(grey8, extratags=[(34682, "s", 0, FEI_TEXT, True)]),
        "lzw.tif": _save(flat, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _save(flat, "TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": _save(flat, "TIFF", compression="packbits"),
        "jpeg.tif": _save(flat, "TIFF", compression="jpeg"),
        "fax.tif": _save(flat.convert("1"), "TIFF", compression="group4"),
        "palette.tif": _save(flat.convert("P"), "TIFF"),
    }


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _write(samples: NDArray[np.generic], **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def _build_exif() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return exif.tobytes()


Harm = Callable[[bytes, np.random.Generator], bytes]


def _truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip one to thirty bits anywhere."""
    damaged = bytearray(content)
    for at in rng.integers(0, len(damaged), int(rng.integers(1, 31))):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _garble_header(content: bytes, rng: np.random.Generator) -> bytes:
    """Put random bytes over some of the first two hundred, the signature left as it is."""
    damaged = bytearray(content)
    for at in rng.integers(4, min(200, len(damaged)), int(rng.integers(1, 9))):
        damaged[at] = int(rng.integers(256))
    return bytes(damaged)


def _set_extreme_number(content: bytes, rng: np.random.Generator) -> bytes:
    """Put a number that is as large, or as negative, as can be where another number may stand."""
    number = (b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\0" * 4, b"\xff\xff\xff\x7f", b"\x80\0\0\0")[int(rng.integers(5))]
    near_end = rng.random() < 0.3  # where a TIFF's directory may stand
    span = (max(4, len(content) - 300), len(content) - 4) if near_end else (4, min(300, len(content) - 4))
    at = int(rng.integers(min(span[0], span[1] - 1), span[1]))
    return content[:at] + number + content[at + 4 :]


def _cut_out(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(0, len(content), 2))
    return content[:start] + content[end:]


def _repeat(content: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(0, len(content), 2))
    return content[:end] + content[start:end] * int(rng.integers(1, 4)) + content[end:]


def _blank(content: bytes, rng: np.random.Generator) -> bytes:
    """Zero a stretch, as a disk does that loses a block."""
    start, end = sorted(rng.integers(0, len(content), 2))
    return content[:start] + b"\0" * (end - start) + content[end:]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(0, len(content)))
    return content[:at] + rng.bytes(int(rng.integers(1, 400))) + content[at:]


def _replace_all(content: bytes, rng: np.random.Generator) -> bytes:
    """Keep the signature, and put noise behind it."""
    return content[:8] + rng.bytes(len(content))


HARMS: Mapping[str, Harm] = {
    "truncated": _truncate,
    "flipped": _flip,
    "garbled": _garble_header,
    "extreme": _set_extreme_number,
    "cut": _cut_out,
    "repeated": _repeat,
    "blanked": _blank,
    "inserted": _insert,
    "noise": _replace_all,
}


def _iter_built() -> Iterator[HostileImage]:
    """Yield files that are built to cost memory, time or trust."""
    huge = 60_000
    zeros = zlib.compress(b"\0" * 10_000_000, 9)
    text = b"Comment\0\0" + zlib.compress(b"a" * 100_000_000, 9)
    profile = b"p\0\0" + zlib.compress(b"a" * 100_000_000, 9)
    scans = _build_scan_bomb(n_scans=2000)
    files: Mapping[str, bytes] = {
        "empty.png": b"",
        "one-byte.tif": b"I",
        "signature-only.png": b"\x89PNG\r\n\x1a\n",
        "text.jpg": b"this is no picture",
        "script.bmp": b"#!/bin/sh\nexit 1\n",
        "pickle.png": b"\x80\x04cos\nsystem\n(S'exit 1'\ntR.",
        "zip.tif": b"PK\x03\x04" + b"\0" * 100,
        "pdf.png": b"%PDF-1.7\n",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "gif.png": _save(Image.new("L", (8, 8)), "GIF"),
        "webp.png": b"RIFF\x10\0\0\0WEBPVP8 ",
        "huge-header.png": _build_png(huge, huge, data=b""),
        "huge-with-data.png": _build_png(huge, huge, data=zeros),
        "below-limit-no-data.png": _build_png(9000, 9000, data=b""),
        "text-bomb.png": _build_png(8, 8, data=zlib.compress(b"\0" * 72), chunks=[(b"zTXt", text)]),
        "profile-bomb.png": _build_png(8, 8, data=zlib.compress(b"\0" * 72), chunks=[(b"iCCP", profile)]),
        "many-chunks.png": _build_png(8, 8, data=zlib.compress(b"\0" * 72), chunks=[(b"tEXt", b"a\0b")] * 100_000),
        "animated.png": _build_png(
            8, 8, data=zlib.compress(b"\0" * 72), chunks=[(b"acTL", struct.pack(">II", 9999, 0))]
        ),
        "no-width.png": _build_png(0, 8, data=zlib.compress(b"\0" * 8)),
        "scan-bomb.jpg": scans,
        "huge-header.jpg": _patch_jpeg_size(_save(Image.new("L", (8, 8)), "JPEG"), 65_000),
        "huge-header.bmp": _patch(_save(Image.new("L", (8, 8)), "BMP"), at=18, number=struct.pack("<ii", huge, huge)),
        "negative.bmp": _patch(_save(Image.new("L", (8, 8)), "BMP"), at=18, number=struct.pack("<ii", -8, -(2**31))),
        "far-offset.bmp": _patch(_save(Image.new("L", (8, 8)), "BMP"), at=10, number=struct.pack("<I", 2**32 - 1)),
        "many-colours.bmp": _patch(_save(Image.new("L", (8, 8)), "BMP"), at=46, number=struct.pack("<I", 2**32 - 1)),
        "circle.tif": b"II*\0" + struct.pack("<IHI", 8, 0, 8),
        "no-tags.tif": b"II*\0" + struct.pack("<IHI", 8, 0, 0),
        "many-tags.tif": b"II*\0" + struct.pack("<IH", 8, 65_535) + struct.pack("<HHII", 256, 3, 1, 8) * 65_535,
        "many-pages.tif": _build_page_chain(n=3000, n_tags=1),
        "heavy-pages.tif": _build_page_chain(n=1000, n_tags=4000),
        "counts.tif": _build_tiff(tags={273: (4, 2**31 - 1, 8), 279: (4, 2**31 - 1, 8)}),
        "huge-header.tif": _build_tiff(tags={256: (4, 1, huge), 257: (4, 1, huge)}),
        "below-limit-no-data.tif": _build_tiff(tags={256: (4, 1, 9000), 257: (4, 1, 9000), 279: (4, 1, 81_000_000)}),
        "overlapping.tif": _build_overlapping_tiff(),
        "many-samples.tif": _build_tiff(tags={277: (3, 1, 65_535)}),
        "no-rows.tif": _build_tiff(tags={278: (4, 1, 0)}),
        "inflating.tif": _build_tiff(tags={259: (3, 1, 8), 256: (4, 1, 9000), 257: (4, 1, 9000), 278: (4, 1, 9000)}),
        "unknown-compression.tif": _build_tiff(tags={259: (3, 1, 50_000)}),
        "floats.tif": _write(np.zeros((8, 8), np.float32)),
        "signed.tif": _write(np.zeros((8, 8), np.int16)),
    }
    for name, content in files.items():
        yield HostileImage(name=f"built-{name}", content=content)


def _build_png(width_px: int, height_px: int, *, data: bytes, chunks: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """Return an 8-bit grey PNG with these chunks before its picture."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *(chunks or []), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def _patch(content: bytes, *, at: int, number: bytes) -> bytes:
    return content[:at] + number + content[at + len(number) :]


def _patch_jpeg_size(content: bytes, side_px: int) -> bytes:
    return _patch(content, at=content.index(b"\xff\xc0") + 5, number=struct.pack(">HH", side_px, side_px))


def _build_scan_bomb(*, n_scans: int) -> bytes:
    """Return a progressive JPEG of 4000 x 4000 px whose last scan is said again and again: few bytes, much time."""
    image = _save(Image.new("L", (4000, 4000), 128), "JPEG", progressive=True)
    last = image.rindex(b"\xff\xda")
    return image[:last] + image[last:-2] * n_scans + image[-2:]


def _build_tiff(*, tags: Mapping[int, tuple[int, int, int]]) -> bytes:
    """Return a TIFF of 8 x 8 px with some of its tags (code -> type, count, value) replaced."""
    plain = {256: (4, 1, 8), 257: (4, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 200)}
    plain |= {277: (3, 1, 1), 278: (4, 1, 8), 279: (4, 1, 64)}
    entries = b"".join(struct.pack("<HHII", code, *value) for code, value in sorted({**plain, **tags}.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries) // 12) + entries + struct.pack("<I", 0)
    return head.ljust(200, b"\0") + zlib.compress(b"\0" * 64).ljust(64, b"\0")


def _build_page_chain(*, n: int, n_tags: int) -> bytes:
    """Return a TIFF of many pages that share their tags: each begins one tag later in the same list."""
    if n_tags == 1:
        size = 2 + 12 + 4
        pages = [
            struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 8) + struct.pack("<I", 8 + (k + 1) * size)
            for k in range(n)
        ]
        return b"II*\0" + struct.pack("<I", 8) + b"".join(pages)
    size = 2 + 12 * n_tags + 4
    tags = b"".join(struct.pack("<HHII", 65_000 - k, 3, 1, k % 100) for k in range(n_tags, 0, -1))
    return (
        b"II*\0"
        + struct.pack("<I", 8)
        + b"".join(struct.pack("<H", n_tags) + tags + struct.pack("<I", 8 + (k + 1) * size) for k in range(n))
    )


def _build_overlapping_tiff() -> bytes:
    """Return a compressed TIFF whose four thousand strips are the same 8 MB: read one by one, 32 GB."""
    n_strips, stored = 4000, zlib.compress(b"\0" * 64) + b"\0" * 8_000_000
    head = 8 + 2 + 9 * 12 + 4
    start = head + 8 * n_strips
    tags = {256: (4, 1, 64), 257: (4, 1, n_strips), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1)}
    tags |= {273: (4, n_strips, head), 277: (3, 1, 1), 278: (4, 1, 1), 279: (4, n_strips, head + 4 * n_strips)}
    entries = b"".join(struct.pack("<HHII", code, *value) for code, value in sorted(tags.items()))
    offsets = struct.pack("<I", start) * n_strips
    counts = struct.pack("<I", len(stored)) * n_strips
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + offsets + counts + stored
