"""How the files of a data set are read: one record, which the catalogue carries along with the images."""

from dataclasses import dataclass
from typing import Literal

DEFAULT_MAX_MEGAPIXELS = 100.0  # ten times what a microscope's largest usual scan has (4096 x 3072 px)

COMMON = "common"
"""The pixel size of the coarsest image: the only one to which all can be brought without enlarging any."""

PixelSize = float | Literal["common"] | None
"""What can be asked for: a size in nm, that of the coarsest image, or that all images stay as they are."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How files are read, and which of them may be left out."""

    crop_bottom_px: int = 0
    """Rows of the data bar, cut off where a file's metadata do not give the height of the scan."""
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    """Larger pictures are refused before they are decoded."""
    min_side_px: int = 224
    """Smallest width and height without data bar: the side of a tile. Asked only when a catalogue is read."""
    skip_unreadable: bool = False
    """Whether a catalogue goes on without files that cannot be used."""
    pixel_size_nm: float | None = None
    """To which every image is brought before tiles are cut; None leaves all as they are."""

    @property
    def max_pixels(self) -> float:
        """Largest width x height."""
        return self.max_megapixels * 1e6


DEFAULT_READING = ReadingOptions()
