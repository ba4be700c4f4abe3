"""Small pictures, and their files' bytes, that the tests of this room share."""

import io
from typing import Any

import numpy as np
import tifffile
from PIL import Image

RANDOM = np.random.default_rng(0)
GREY8 = RANDOM.integers(0, 256, (30, 40), dtype=np.uint8)
GREY16 = RANDOM.integers(0, 65536, (30, 40), dtype=np.uint16)
SMOOTH8 = np.add.outer(np.arange(30), np.arange(40)).astype(np.uint8) * 3


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def save_tiff(samples: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()
