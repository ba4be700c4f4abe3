"""The demonstration set: rendered micrographs of ten materials (signatures first; the renderer follows)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.rendering.materials import MATERIALS as MATERIALS
from sem_search.micrographs.rendering.materials import Material as Material


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """How many images of what size the demonstration set has."""

    n_images_per_class: int
    scan_width_px: int
    scan_height_px: int
    bar_height_px: int


DEMO_SIZES = {
    "small": DemoSize(n_images_per_class=5, scan_width_px=672, scan_height_px=448, bar_height_px=32),
    "paper": DemoSize(n_images_per_class=10, scan_width_px=1280, scan_height_px=896, bar_height_px=64),
}


def write_demo_data(folder: Path, *, size: str = "small", seed: int = 0, progress: bool = False) -> Path:
    """Write the set, one folder of PNGs per material, and return the folder."""
    raise NotImplementedError


def render_micrograph(material: Material, *, size: DemoSize, seed: int) -> NDArray[np.uint8]:
    """Return one micrograph with its data bar, shape (scan_height_px + bar_height_px, scan_width_px)."""
    raise NotImplementedError
