"""What only the pixels show of each image, in one pass over the files: clipping, hollow bits, a data bar left on.

Of every image a few numbers are kept; rows at its edges and thumbnails only of the images that are asked for, so that
a survey of twenty thousand images fits into memory.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
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


@dataclass(frozen=True, kw_only=True)
class PixelFacts:
    """What the pixels of one image show."""

    black: float
    white: float
    """Shares of the pixels that stand at either end of the scale, in [0, 1]."""
    n_levels: int
    """Different grey levels, as 16-bit numbers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """The lowest and the highest rows of one image, where an instrument's data bar may be."""

    foot: NDArray[np.uint8]
    """The lowest fifth, all its rows, averaged to FOOT_COLUMNS columns, shape (n_rows, FOOT_COLUMNS)."""
    head: NDArray[np.uint8]
    """The highest fifth in the same form, upside down: its last row is the picture's first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """What the pixels of all images show, by image id, in the catalogue's order."""

    facts: Mapping[str, PixelFacts]
    edges: Mapping[str, Edges]
    """Of the images whose edges were asked for."""
    thumbnails: Mapping[str, bytes]
    """JPEG, its contrast stretched, longer side THUMBNAIL_SIDE_PX; of the images that are to be shown."""


def survey_pixels(
    catalogue: Catalogue, *, edges_of: Collection[str] = (), shown: Collection[str] = (), progress: bool = False
) -> Survey:
    """Return what the pixels show; the files are read again.

    Args:
        catalogue: The images.
        edges_of: Ids of the images whose edges are kept.
        shown: Ids of the images whose thumbnails are made.
        progress: Show a bar.

    Raises:
        UnreadableImageError: A file cannot be read any more.
        DataError: A file's pixels are not those that were catalogued.
    """
    with_edges, with_thumbnail = frozenset(edges_of), frozenset(shown)

    def look(record: ImageRecord) -> tuple[PixelFacts, Edges | None, bytes | None]:
        image, name = catalogue.read_image(record), record.image_id
        return (
            compute_pixel_facts(image),
            cut_edges(image) if name in with_edges else None,
            build_thumbnail(image) if name in with_thumbnail else None,
        )

    looked = map_in_threads(look, catalogue.records, label="Surveying pixels", is_shown=progress)
    found = {record.image_id: one for record, one in zip(catalogue.records, looked, strict=True)}
    return Survey(
        facts={name: facts for name, (facts, _, _) in found.items()},
        edges={name: edges for name, (_, edges, _) in found.items() if edges is not None},
        thumbnails={name: thumbnail for name, (_, _, thumbnail) in found.items() if thumbnail is not None},
    )


def compute_pixel_facts(image: FloatImage) -> PixelFacts:
    """Return what one image's pixels show.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px).
    """
    levels = np.round(image * (N_LEVELS - 1)).astype(np.int64).ravel()
    return PixelFacts(
        black=float((image <= BLACK).mean()),
        white=float((image >= WHITE).mean()),
        n_levels=int(np.count_nonzero(np.bincount(levels, minlength=N_LEVELS))),
    )


def cut_edges(image: FloatImage) -> Edges:
    """Return the lowest and the highest rows of an image, shape (height_px, width_px), levels in [0, 1]."""
    foot_px = max(1, round(image.shape[0] * FOOT_SHARE))
    return Edges(
        foot=to_bytes(resize(image[-foot_px:], shape=(foot_px, FOOT_COLUMNS))),
        head=to_bytes(resize(image[:foot_px][::-1], shape=(foot_px, FOOT_COLUMNS))),
    )


def build_thumbnail(image: FloatImage, *, side_px: int = THUMBNAIL_SIDE_PX) -> bytes:
    """Return a small JPEG of an image, its contrast stretched, for people to look at.

    Args:
        image: Grey levels in [0, 1], shape (height_px, width_px).
        side_px: Longer side; a smaller image is not enlarged.
    """
    factor = min(1.0, side_px / max(image.shape))
    height_px, width_px = (max(1, round(side * factor)) for side in image.shape)
    small = resize(image, shape=(height_px, width_px))
    return encode_jpeg(to_bytes(stretch_contrast(small)), quality=THUMBNAIL_QUALITY)
