"""Folder or CSV in, one table of images out (being written: signatures first)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sem_search.micrographs.reading import DEFAULT_MAX_MEGAPIXELS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One micrograph of the catalogue."""

    image_id: str
    path: Path
    label: str
    group: str
    session: str | None
    sha256: str
    pixels_sha256: str
    width_px: int
    height_px: int
    bit_depth: int
    mode: str
    pixel_size_nm: float | None
    acquired_at: str | None
    detector: str | None
    voltage_kv: float | None
    mean_grey: float
    contrast: float
    noise: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file that was left out because it could not be used."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All usable micrographs, sorted by image_id."""

    root: Path
    records: tuple[ImageRecord, ...]
    skipped: tuple[SkippedFile, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels, sorted."""
        return tuple(sorted({record.label for record in self.records}))

    @property
    def digest(self) -> str:
        """SHA-256 over what the numbers depend on."""
        raise NotImplementedError

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per image."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Return the catalogue as JSON."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, text: str, *, root: Path) -> "Catalogue":
        """Return the catalogue that `to_json` wrote."""
        raise NotImplementedError

    def with_groups(self, group_of_image: Mapping[str, str]) -> "Catalogue":
        """Return the catalogue with other groups."""
        raise NotImplementedError


def read_catalogue(
    data: Path,
    *,
    exclude: Sequence[str] = (),
    skip_unreadable: bool = False,
    crop_bottom_px: int = 0,
    min_side_px: int = 224,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = False,
) -> Catalogue:
    """Return the catalogue of a folder or a CSV."""
    raise NotImplementedError
