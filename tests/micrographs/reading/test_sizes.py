import io

import numpy as np
import pytest
from PIL import Image

from sem_search.micrographs.reading.sizes import read_pixel_count


def encode(file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((np.arange(1500) % 256).astype(np.uint8).reshape(30, 50)).save(buffer, format=file_format)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "TIFF"])
def test_the_header_tells_the_size(file_format: str) -> None:
    assert read_pixel_count(encode(file_format)) == 1500


def test_a_picture_cut_short_still_states_its_size() -> None:
    assert read_pixel_count(encode("PNG")[:-40]) == 1500


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"BM" + b"\xff" * 60, b"\xff\xd8\xff", encode("GIF")],
    ids=["empty", "text", "PNG signature", "TIFF signature", "damaged BMP", "JPEG signature", "GIF"],
)
def test_what_states_no_size_has_none(content: bytes) -> None:
    assert read_pixel_count(content) is None
