"""PNG files that are the same bytes on every machine.

Image libraries compress with whichever zlib they were built with, and builds differ in the bytes they write. The
pictures here are noise for the most part and shrink little, so they are stored uncompressed: then the PNG standard
(ISO/IEC 15948) leaves nothing open but the length of the blocks.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LONGEST_BLOCK = 65535
_ZLIB_HEADER = b"\x78\x01"
_GREY_8_BIT = struct.pack(">5B", 8, 0, 0, 0, 0)  # depth, grey, deflate, filtered by row, not interlaced


def compute_png(image: NDArray[np.uint8], *, text: dict[str, str]) -> bytes:
    """Return an 8-bit grey PNG file.

    Args:
        image: Grey levels, shape (height_px, width_px).
        text: Keyword and text of its tEXt chunks, in Latin-1.
    """
    height, width = image.shape
    rows = np.zeros((height, width + 1), dtype=np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = image
    chunks = [_build_chunk(b"IHDR", struct.pack(">2I", width, height) + _GREY_8_BIT)]
    for keyword, value in text.items():
        chunks.append(_build_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value.encode("latin-1")))
    chunks += [_build_chunk(b"IDAT", _store(rows.tobytes())), _build_chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(chunks)


def _store(data: bytes) -> bytes:
    """Return the data as a zlib stream of uncompressed blocks."""
    blocks = []
    for start in range(0, len(data), _LONGEST_BLOCK):
        block = data[start : start + _LONGEST_BLOCK]
        is_last = start + _LONGEST_BLOCK >= len(data)
        blocks.append(struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block)
    return _ZLIB_HEADER + b"".join(blocks) + struct.pack(">I", zlib.adler32(data))


def _build_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
