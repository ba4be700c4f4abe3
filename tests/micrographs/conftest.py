"""Catalogues without files, for checks that look at records only."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.images import Listing
from sem_search.micrographs.overlaps.similarity import SimilarPair

MakeRecord = Callable[..., ImageRecord]
MakeCatalogue = Callable[..., Catalogue]


def make_pair(first: str, second: str, **changes: Any) -> SimilarPair:
    values = {"kind": "overlapping", "overlap": 0.42, "shift_px": (0, 9), "correlation": 0.876}
    return SimilarPair(first=first, second=second, **{**values, **changes})


def make_copy(first: str, second: str, *, kind: str = "identical_file") -> SimilarPair:
    return make_pair(first, second, kind=kind, overlap=1.0, shift_px=(0, 0), correlation=1.0)


def make_files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def labels_of(listing: Listing) -> Mapping[str, str]:
    return {image.image_id: image.label for image in listing.images}


def build_record(image_id: str, **changes: Any) -> ImageRecord:
    """Make a record out of an image id and whatever differs from an ordinary image."""
    digest = hashlib.sha256(image_id.encode()).hexdigest()
    values: dict[str, Any] = {
        "path": Path("data") / image_id,
        "label": image_id.split("/")[0],
        "group": image_id,
        "session": None,
        "sha256": digest,
        "pixels_sha256": digest,
        "width_px": 1280,
        "height_px": 960,
        "bit_depth": 8,
        "mode": "L",
        "pixel_size_nm": None,
        "acquired_at": None,
        "detector": None,
        "voltage_kv": None,
        "mean_grey": 0.4,
        "contrast": 0.1,
        "noise": 0.02,
    }
    return ImageRecord(image_id=image_id, **{**values, **changes})


@pytest.fixture
def make_record() -> MakeRecord:
    """Return the function that makes records."""
    return build_record


@pytest.fixture
def make_catalogue() -> MakeCatalogue:
    """Return a function that makes a catalogue out of records."""

    def make(*records: ImageRecord, **changes: Any) -> Catalogue:
        ordered = tuple(sorted(records, key=lambda record: record.image_id))
        return Catalogue(root=Path("data"), records=ordered, **changes)

    return make
