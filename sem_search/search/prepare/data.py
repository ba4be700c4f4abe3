"""From the setting `data=...` to tiles in folds: all that needs no network.

Everything that can be wrong with the data is found here, before a run is opened or a network is built.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sem_search.errors import ClassTooSmallError, DataError, SettingsError
from sem_search.micrographs.catalogue import Catalogue, read_catalogue
from sem_search.micrographs.demo import DEMO_SIZES, RECIPE_VERSION, write_demo_data
from sem_search.micrographs.folds import FoldTable, check_folds, draw_folds
from sem_search.micrographs.inspection.inspect import Finding, inspect_catalogue
from sem_search.micrographs.inspection.overlap_findings import explain_grouping
from sem_search.micrographs.one_pixel_size import settle_pixel_size
from sem_search.micrographs.overlaps.similarity import FEW_IMAGES
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.tiles import TileGrid, build_tile_table
from sem_search.places import get_cache_folder, make_cache_folder
from sem_search.records import TileTable
from sem_search.settings import DEMO, SearchSettings
from sem_search.words import count

DEMO_SIZE = "small"


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A catalogue whose groups, folds and tiles are settled."""

    catalogue: Catalogue
    grid: TileGrid
    folds: FoldTable
    tiles: TileTable
    findings: tuple[Finding, ...]

    @property
    def pixels_digest(self) -> str:
        """Hash of the pictures alone, in catalogue order: what trunk features depend on, and labels do not."""
        rows = [record.pixels_sha256 for record in self.catalogue.records]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the inspection found that is more than a note; an error among it is one that was allowed.

        What the catalogue warns of itself is left out.
        """
        words = {"warning": "", "error": "Allowed error: "}
        found = [one for one in self.findings if one.severity in words and one.kind != "nested_classes"]
        return tuple(words[one.severity] + one.message for one in found)

    def describe(self) -> str:
        """Return how many images, classes and tiles there are, as a sentence."""
        n_images, n_classes = len(self.catalogue.records), len(self.tiles.class_names)
        return f"{n_images} images of {n_classes} classes, {self.tiles.n_tiles} tiles."


def prepare_data(settings: SearchSettings) -> PreparedData:
    """Read, inspect, group and divide the micrographs that the settings name.

    Raises:
        DataError: The data cannot be used as they are; the message says why and what to do.
        SettingsError: A class to exclude does not exist, or the folds asked for are too few.
    """
    grid, catalogue = build_grid(settings), read_data(settings)
    catalogue, pixel_size_nm = settle_pixel_size(catalogue, asked=settings.pixel_size_nm, tile_px=settings.tile_px)
    # Drawn once before the slow search for overlaps, so that a class that is too small is refused at once.
    draw_folds(catalogue, n_folds=settings.folds, seed=settings.seed)
    inspection = inspect_catalogue(
        catalogue,
        n_folds=settings.folds,
        grid=grid,
        overlaps=settings.overlaps,
        pixel_size_nm=pixel_size_nm,
        progress=len(catalogue.records) > FEW_IMAGES,  # a few take seconds
    )
    catalogue = inspection.grouped.at_pixel_size(pixel_size_nm)
    try:
        folds = draw_folds(catalogue, n_folds=settings.folds, seed=settings.seed)
    except ClassTooSmallError as error:  # it was large enough before images were grouped
        raise ClassTooSmallError(f"{error}{explain_grouping(inspection.joining)}", changes=error.changes) from error
    check_folds(folds, catalogue=catalogue)
    return PreparedData(
        catalogue=catalogue,
        grid=grid,
        folds=folds,
        tiles=build_study_tiles(catalogue, grid=grid),
        findings=inspection.findings,
    )


def read_data(settings: SearchSettings, *, progress: bool = False) -> Catalogue:
    """Read the images that the settings name, and their labels.

    Raises:
        DataError: The data cannot be used as they are.
        SettingsError: A class to exclude does not exist.
    """
    place, reading = locate_data(settings)
    return read_catalogue(
        place, exclude=settings.exclude, allow_outside=settings.allow_outside, reading=reading, progress=progress
    )


def check_findings(findings: Sequence[Finding], *, allowed: Collection[str]) -> None:
    """Raise if the inspection found errors that the user has not allowed.

    Args:
        findings: What it found.
        allowed: Kinds of errors with which to go on.

    Raises:
        DataError: The message is that of the errors, with their ways out.
    """
    errors = [finding.message for finding in findings if finding.severity == "error" and finding.kind not in allowed]
    if errors:
        raise DataError(" ".join(errors))


def build_reading_options(settings: SearchSettings) -> ReadingOptions:
    """Return how the settings want files to be read."""
    return ReadingOptions(
        crop_bottom_px=settings.crop_bottom_px,
        max_megapixels=settings.max_megapixels,
        min_side_px=settings.tile_px,
        skip_unreadable=settings.skip_unreadable,
    )


def build_grid(settings: SearchSettings) -> TileGrid:
    """Return how the settings want images to be cut."""
    return TileGrid(
        size_px=settings.tile_px,
        stride_px=settings.resolved_stride_px,
        per_image=settings.tiles_per_image,
        seed=settings.seed,
    )


def locate_data(settings: SearchSettings) -> tuple[Path, ReadingOptions]:
    """Return where the data are, and how they are read: the data bar of the demonstration set is known."""
    reading = build_reading_options(settings)
    if settings.data == DEMO:
        # The recipe's version stands in the name: a set of another version is refused where it lies, not overwritten.
        name = f"{DEMO_SIZE}-{settings.seed}-v{RECIPE_VERSION}"
        cache = make_cache_folder(get_cache_folder())
        folder = write_demo_data(cache / "demo" / name, size=DEMO_SIZE, seed=settings.seed, progress=True)
        return folder, dataclasses.replace(reading, crop_bottom_px=DEMO_SIZES[DEMO_SIZE].bar_height_px)
    path = Path(settings.data).expanduser()
    if not path.exists():
        raise DataError(
            f"data={settings.data}: there is no such folder or CSV file here ({path.absolute()}). Give a folder with "
            "one sub-folder per class, a CSV with the columns image and label, or data=demo."
        )
    return path, reading


def build_study_tiles(catalogue: Catalogue, *, grid: TileGrid) -> TileTable:
    """Return the tiles of the images, unless a setting would have no effect: the search would be another by its name.

    Raises:
        SettingsError: `tiles_per_image` leaves out no tile.
        ImageTooSmallError: No tile fits into an image.
    """
    most = max(math.prod(grid.count(*catalogue.get_shape(record))) for record in catalogue.records)
    if grid.per_image is not None and grid.per_image >= most:
        raise SettingsError(
            f"tiles_per_image={grid.per_image} has no effect: no image has more than {count(most, 'tile')}. "
            "Leave it out, or give less."
        )
    return build_tile_table(catalogue, grid=grid)
