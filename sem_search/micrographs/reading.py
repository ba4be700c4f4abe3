"""One file in, one grey micrograph out (being written: signatures first)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.instruments import InstrumentMetadata

__all__ = ["DEFAULT_MAX_MEGAPIXELS", "FloatImage", "InstrumentMetadata", "Micrograph", "encode_png", "read_micrograph"]

FloatImage = NDArray[np.float32]

DEFAULT_MAX_MEGAPIXELS = 100.0


@dataclass(frozen=True, kw_only=True)
class Micrograph:
    """One decoded micrograph, data bar removed."""

    pixels: FloatImage
    """Grey levels in [0, 1], shape (height_px, width_px)."""
    metadata: InstrumentMetadata
    bit_depth: int
    file_width_px: int
    file_height_px: int
    mode: str
    warnings: tuple[str, ...] = ()


def read_micrograph(
    source: Path | bytes,
    *,
    name: str | None = None,
    crop_bottom_px: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
) -> Micrograph:
    """Return one micrograph as grey levels in [0, 1], data bar removed."""
    raise NotImplementedError


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """Return the picture as a PNG file, shape (h, w) or (h, w, 3)."""
    raise NotImplementedError
