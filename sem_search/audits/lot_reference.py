"""A library of accepted lots in one file: all that judging a new lot needs, and no pictures.

The file is a NumPy archive without pickle, so that it brings no code. Lots are in the order of their folders.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.audits.heat_maps.particles import MEASURES, find_particles
from sem_search.errors import DataError, StoreError
from sem_search.evaluation.answers import number_groups
from sem_search.evaluation.lots.two_sample import MIN_IMAGES
from sem_search.evaluation.statistics import average_rows
from sem_search.files import ARCHIVE_DAMAGE, pack_arrays, unpack_arrays, write_atomically
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.confounds import ATTRIBUTES
from sem_search.micrographs.threads import map_in_threads
from sem_search.records import FloatMatrix, FloatVector, TileTable
from sem_search.transfer.features import embed_stored_features
from sem_search.words import count, name_some

FILE = "lots.npz"


@dataclass(frozen=True, kw_only=True)
class Lot:
    """One lot as it is judged."""

    name: str
    features: FloatMatrix
    """Mean features of each independent image (group), shape (n_images, n_features)."""
    measures: dict[str, FloatVector]
    """Logarithm of the median of each particle measure, shape (n_pictures,); NaN where no particle was found. The
    diameter is in nm where the pixel size is known, else in px."""
    pixels: tuple[str, ...]
    """Hash of the pixels of each picture."""
    acquired_at: str | None
    """The earliest date that its pictures state, ISO 8601."""
    attributes: dict[str, list[str]]
    """How the pictures were taken: pixel size, detector, voltage ... and the values that occur."""


@dataclass(frozen=True, kw_only=True)
class LotReference:
    """Accepted lots, and how they were looked at."""

    lots: tuple[Lot, ...]
    looked_at: dict[str, Any]
    """Settings that decide the features, and `weights_sha256`."""


def build_lot(
    name: str, *, catalogue: Catalogue, tiles: TileTable, features: Sequence[NDArray[np.float32]], progress: bool = True
) -> Lot:
    """Return what is kept of a lot; its pictures are read again for their particles.

    Args:
        name: Of the lot.
        catalogue: Its pictures.
        tiles: Their tiles.
        features: Trunk outputs of the tiles.
        progress: Show a bar.

    Raises:
        DataError: The lot has fewer than 4 independent images.
    """
    groups = number_groups(tiles.group_of_image)
    n_groups = int(groups.max()) + 1
    if n_groups < MIN_IMAGES:
        raise DataError(
            f"lot {name} has {count(n_groups, 'independent image')}, and {MIN_IMAGES} are needed: take more images"
        )
    embedded = embed_stored_features(features)
    measure = partial(_measure_picture, catalogue=catalogue)
    measured = map_in_threads(measure, catalogue.records, label=f"Particles of {name}", is_shown=progress)
    table = np.array(list(measured))
    dates = sorted(record.acquired_at for record in catalogue.records if record.acquired_at)
    return Lot(
        name=name,
        features=average_rows(average_rows(embedded, numbers=tiles.image_of_tile), numbers=groups),
        measures=dict(zip(MEASURES, table.T, strict=True)),
        pixels=tuple(record.pixels_sha256 for record in catalogue.records),
        acquired_at=dates[0] if dates else None,
        attributes={
            attribute: sorted({describe(record) for record in catalogue.records})
            for attribute, describe in ATTRIBUTES.items()
            if attribute != "session"  # lots have days of their own: that is part of how much they differ
        },
    )


def check_lots(lots: Sequence[Lot]) -> None:
    """Raise unless all lots have names and pictures of their own.

    Raises:
        DataError: The message names the lots.
    """
    if twice := [name for name, n in Counter(lot.name for lot in lots).items() if n > 1]:
        raise DataError(f"two lots are called {name_some(twice)}: rename a folder, and give each lot once")
    owner: dict[str, str] = {}
    for lot in lots:
        for pixels in set(lot.pixels):
            if pixels in owner:
                raise DataError(f"lots {owner[pixels]} and {lot.name} hold the same picture: leave it out of one")
            owner[pixels] = lot.name


def write_reference(reference: LotReference, *, folder: Path) -> Path:
    """Write a reference below a folder, and return the file.

    Raises:
        StoreError: It could not be written.
    """
    about = [{**vars(lot), "features": None, "measures": list(lot.measures)} for lot in reference.lots]
    arrays: dict[str, NDArray[Any]] = {"about": np.array(json.dumps({"lots": about, "looked_at": reference.looked_at}))}
    for number, lot in enumerate(reference.lots):
        arrays[f"features_{number}"] = lot.features
        arrays[f"measures_{number}"] = np.stack(list(lot.measures.values()))
    write_atomically(folder / FILE, pack_arrays(arrays), setting="--output")
    return folder / FILE


def read_reference(folder: Path) -> LotReference:
    """Return the reference that `write_reference` wrote.

    Raises:
        DataError: There is none.
        StoreError: It is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        raise DataError(f"{folder} holds no {FILE}: make a reference with `sem-search lots-reference`")
    try:
        arrays = unpack_arrays(file.read_bytes())
        about = json.loads(str(arrays["about"]))
        lots = tuple(_unpack_lot(entry, number=number, arrays=arrays) for number, entry in enumerate(about["lots"]))
        return LotReference(lots=lots, looked_at=about["looked_at"])
    except ARCHIVE_DAMAGE as error:
        raise StoreError(f"{file} is damaged ({error}): make it again with `sem-search lots-reference`") from error


def _unpack_lot(entry: dict[str, Any], *, number: int, arrays: Mapping[str, NDArray[Any]]) -> Lot:
    measures = dict(zip(entry["measures"], arrays[f"measures_{number}"], strict=True))
    return Lot(
        **{**entry, "features": arrays[f"features_{number}"], "measures": measures, "pixels": tuple(entry["pixels"])}
    )


def _measure_picture(record: ImageRecord, *, catalogue: Catalogue) -> FloatVector:
    """Return the logarithm of the median of each particle measure, shape (n_measures,)."""
    particles = find_particles(catalogue.read_image(record))
    if not particles.n_particles:
        return np.full(len(MEASURES), np.nan)
    medians = np.array([np.median(particles.measures[name]) for name in MEASURES])
    medians[0] *= catalogue.get_pixel_size(record) or 1.0
    with np.errstate(divide="ignore"):
        logarithms: FloatVector = np.log(medians)
    return logarithms
