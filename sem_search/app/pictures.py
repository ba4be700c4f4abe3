"""Small JPEGs of micrographs, decoded as a search decodes them, and kept for as long as there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from sem_search.micrographs.inspection.survey import build_thumbnail
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions

SIDES_PX = {"small": 240, "large": 1400}
"""Longer side of a thumbnail, and of a picture that fills the page."""

MOST_BYTES = 60_000_000
"""Of all pictures that are kept, a few thousand thumbnails."""


class PictureCache:
    """Pictures by what they were made of; safe to share between threads."""

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[object, bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def get(self, key: object, *, make: Callable[[], bytes]) -> bytes:
        """Return the picture of a key; it is made if it is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        picture = make()
        with self._lock:
            self._n_bytes += len(picture) - len(self._kept.pop(key, b""))
            self._kept[key] = picture
            while self._n_bytes > self._most_bytes and len(self._kept) > 1:
                self._n_bytes -= len(self._kept.popitem(last=False)[1])
        return picture


def render_file(path: Path, *, side_px: int) -> bytes:
    """Return a JPEG of a micrograph's file, its contrast stretched.

    A data bar stays on, unless the file says how high it is.

    Args:
        path: The file.
        side_px: Longer side; a smaller picture is not enlarged.

    Raises:
        UnreadableImageError: It is no micrograph that can be read.
    """
    return build_thumbnail(read_micrograph(path, name=path.name, reading=ReadingOptions()).pixels, side_px=side_px)


def describe_file(path: Path) -> dict[str, object]:
    """Return what a file's header and metadata say, as JSON values.

    Raises:
        UnreadableImageError: It is no micrograph that can be read.
    """
    micrograph = read_micrograph(path, name=path.name, reading=ReadingOptions())
    height_px, width_px = micrograph.pixels.shape
    return {
        "width_px": width_px,
        "height_px": height_px,
        "is_bar_known": height_px != micrograph.file_height_px,
        "pixel_size_nm": micrograph.metadata.pixel_size_nm,
        "instrument": micrograph.metadata.instrument,
        "bits": micrograph.bit_depth,
    }
