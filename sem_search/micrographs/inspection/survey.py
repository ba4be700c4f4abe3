"""What only the pixels show of each image, in one pass over the files: clipping, hollow bits, a data bar left on.

Everything kept is small, so that a survey of thousands of images fits into memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.reading.grey import FloatImage, resize, stretch_contrast, to_bytes
from sem_search.micrographs.reading.micrograph import encode_jpeg
from sem_search.micrographs.threads import map_in_threads

THUMBNAIL_SIDE_PX = 360  # two of them fit side by side on a telephone
THUMBNAIL_QUALITY = 80  # about 15 kB
FOOT_SHARE = 0.2  # of the height, from below: no instrument's data bar is higher
FOOT_COLUMNS = 128  # text stays recognisable as text
BLACK, WHITE = 0.5 / 255, 65279.5 / 65535  # 16-bit files with 8 bits in them end at 65280, not at white
MAX_HOLLOW_LEVELS = 256
N_LEVELS = 65536


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelFacts:
    """What the pixels of one image show."""

    black: float
    white: float
    """Shares of the pixels that stand at either end of the scale, in [0, 1]."""
    n_levels: int
    """Different grey levels, as 16-bit numbers."""
    foot: NDArray[np.uint8]
    """The lowest fifth, all its rows, averaged to FOOT_COLUMNS columns, shape (n_rows, FOOT_COLUMNS)."""
    head: NDArray[np.uint8]
    """The highest fifth in the same form, upside down: its last row is the picture's first."""
    thumbnail: bytes
    """JPEG, its contrast stretched, longer side THUMBNAIL_SIDE_PX."""


def survey_pixels(catalogue: Catalogue, *, progress: bool = False) -> Mapping[str, PixelFacts]:
    """Return what the pixels show, by image id, in the catalogue's order; the files are read again.

    Raises:
        UnreadableImageError: A file cannot be read any more.
        DataError: A file's pixels are not those that were catalogued.
    """
    facts = map_in_threads(
        lambda record: compute_pixel_facts(catalogue.read_image(record)),
        catalogue.records,
        label="Surveying pixels",
        is_shown=progress,
    )
    return {record.image_id: found for record, found in zip(catalogue.records, facts, strict=True)}


def compute_pixel_facts(image: FloatImage) -> PixelFacts:
    """Return what one image's pixels show.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px).
    """
    levels = np.round(image * (N_LEVELS - 1)).astype(np.int64).ravel()
    foot_px = max(1, round(image.shape[0] * FOOT_SHARE))
    return PixelFacts(
        black=float((image <= BLACK).mean()),
        white=float((image >= WHITE).mean()),
        n_levels=int(np.count_nonzero(np.bincount(levels, minlength=N_LEVELS))),
        foot=to_bytes(resize(image[-foot_px:], shape=(foot_px, FOOT_COLUMNS))),
        head=to_bytes(resize(image[:foot_px][::-1], shape=(foot_px, FOOT_COLUMNS))),
        thumbnail=_build_thumbnail(image),
    )


def _build_thumbnail(image: FloatImage) -> bytes:
    """Return a small JPEG for people to look at."""
    factor = min(1.0, THUMBNAIL_SIDE_PX / max(image.shape))
    height_px, width_px = (max(1, round(side * factor)) for side in image.shape)
    small = resize(image, shape=(height_px, width_px))
    return encode_jpeg(to_bytes(stretch_contrast(small)), quality=THUMBNAIL_QUALITY)
