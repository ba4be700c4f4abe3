"""Folder or CSV in, one table of images out: every file read once, everything known of it in one record.

The catalogue is the data set as the search sees it. All files that cannot be used are found here, together, before
anything is computed, and its digest stands for the data in every key and log.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sem_search.errors import DataError, StoreError, UnreadableImageError
from sem_search.micrographs.images import ListedImage, Listing
from sem_search.micrographs.listing import list_images
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.reading.micrograph import Micrograph, read_micrograph
from sem_search.micrographs.reading.options import DEFAULT_READING, ReadingOptions
from sem_search.micrographs.reading.pixel_size import compute_factor, compute_shape
from sem_search.micrographs.threads import map_in_threads
from sem_search.micrographs.unusable_files import (
    SkippedFile,
    check_skipped,
    describe_sizes,
    find_causes,
    locate_below,
    sum_up_warnings,
)
from sem_search.words import count

if TYPE_CHECKING:
    import pandas as pd

MAX_SHOWN_ROWS = 20
"""Of a catalogue, in a notebook."""

LAPLACE_GAIN = 6.0  # root of the summed squares of the noise mask
MEDIAN_TO_DEVIATION = 1.4826  # standard deviation over median absolute deviation of a normal distribution


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One micrograph of the catalogue."""

    image_id: str
    """POSIX path relative to the data root."""
    path: Path
    label: str
    group: str
    """Images of one group never stand in two splits; by default each image alone."""
    session: str | None
    """The CSV's column, else the day of acquisition, else None."""
    sha256: str
    """Over the file's bytes."""
    pixels_sha256: str
    """Over the decoded grey levels without data bar, and their shape: equal for equal pictures in any format."""
    width_px: int
    height_px: int
    """Without data bar."""
    bit_depth: int
    mode: str
    pixel_size_nm: float | None
    acquired_at: str | None
    """ISO 8601."""
    detector: str | None
    voltage_kv: float | None
    mean_grey: float
    """In [0, 1]."""
    contrast: float
    """Standard deviation of the grey levels, in [0, 0.5]."""
    noise: float
    """Standard deviation of the pixel noise, estimated robustly."""
    stage: tuple[float, float, float] | None = None
    """Where the stage stood: x and y in mm, rotation in degrees."""
    warnings: tuple[str, ...] = ()
    is_pixel_size_beside: bool = False
    """Whether only the text file beside the picture states the pixel size."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Catalogue:
    """All usable micrographs, sorted by image_id."""

    root: Path
    records: tuple[ImageRecord, ...]
    skipped: tuple[SkippedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    reading: ReadingOptions = DEFAULT_READING
    """How the files were read, and are read again."""

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Labels, sorted."""
        return tuple(sorted({record.label for record in self.records}))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over what results depend on: ids, labels, groups and pixels; not over place, order or format."""
        rows = sorted((record.image_id, record.label, record.group, record.pixels_sha256) for record in self.records)
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

    def read_image(self, record: ImageRecord) -> FloatImage:
        """Return the grey levels of one of the images, read again and held against its record.

        They have the shape that `get_shape` gives: an image is brought to one pixel size after the comparison.

        Raises:
            UnreadableImageError: The file can no longer be read.
            DataError: Its pixels are not those that were catalogued.
        """
        micrograph = read_micrograph(record.path, name=record.image_id, reading=self.reading)
        if compute_pixels_sha256(micrograph.original) != record.pixels_sha256:
            raise DataError(
                f"{record.image_id} has changed since it was catalogued, or crop_bottom_px has: its pixels are not "
                "those that were recorded; read the data again, or put the file back"
            )
        return micrograph.pixels

    def get_shape(self, record: ImageRecord) -> tuple[int, int]:
        """Return height and width of what `read_image` returns, in px."""
        factor = compute_factor(record.pixel_size_nm, wanted_nm=self.reading.pixel_size_nm)
        return compute_shape((record.height_px, record.width_px), factor=factor)

    def get_pixel_size(self, record: ImageRecord) -> float | None:
        """Return the width of the pixels of what `read_image` returns, in nm; None where it is not known."""
        return self.reading.pixel_size_nm or record.pixel_size_nm

    def at_pixel_size(self, pixel_size_nm: float | None) -> "Catalogue":
        """Return the catalogue whose images `read_image` brings to one pixel size; its records stay as they are."""
        return dataclasses.replace(self, reading=dataclasses.replace(self.reading, pixel_size_nm=pixel_size_nm))

    def __repr__(self) -> str:
        return f"<Catalogue of {count(len(self.records), 'image')} in {count(len(self.class_names), 'class')}>"

    def _repr_html_(self) -> str:
        return self.table.to_html(max_rows=MAX_SHOWN_ROWS)

    @property
    def table(self) -> "pd.DataFrame":
        """One row per image, one column per field of ImageRecord; paths and warnings as text."""
        import pandas as pd  # half a second that only this method needs

        names = [field.name for field in dataclasses.fields(ImageRecord)]
        rows = [
            {**vars(record), "path": str(record.path), "warnings": "; ".join(record.warnings)}
            for record in self.records
        ]
        return pd.DataFrame(rows, columns=names)

    def to_json(self) -> str:
        """Return the catalogue as JSON, with paths relative to its root."""
        content = {
            "records": [_encode_paths(vars(record), root=self.root) for record in self.records],
            "skipped": [_encode_paths(vars(skipped), root=self.root) for skipped in self.skipped],
            "warnings": self.warnings,
        }
        return json.dumps(content, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str, *, root: Path) -> "Catalogue":
        """Return the catalogue that `to_json` wrote, its files now below `root`, but for how they were read.

        Raises:
            StoreError: The text is no catalogue.
        """
        try:
            content = json.loads(text)
            return cls(
                root=root,
                records=tuple(ImageRecord(**_decode_paths(row, root=root)) for row in content["records"]),
                skipped=tuple(SkippedFile(**_decode_paths(row, root=root)) for row in content["skipped"]),
                warnings=tuple(content["warnings"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"a stored catalogue is damaged ({error!r}): delete it, it is made anew") from error

    def with_groups(self, group_of_image: Mapping[str, str]) -> "Catalogue":
        """Return the catalogue with other groups; images that are not named keep theirs."""
        records = tuple(
            dataclasses.replace(record, group=group_of_image.get(record.image_id, record.group))
            for record in self.records
        )
        return dataclasses.replace(self, records=records)


def read_catalogue(
    data: Path,
    *,
    exclude: Sequence[str] = (),
    allow_outside: bool = False,
    reading: ReadingOptions = DEFAULT_READING,
    progress: bool = False,
) -> Catalogue:
    """Return the catalogue of a folder or a CSV, every picture decoded once.

    Args:
        data: A folder with one sub-folder per class, or a CSV `image,label[,group][,session]`.
        exclude: Classes to leave out.
        allow_outside: Whether a CSV may name pictures that do not lie below its own folder.
        reading: How the files are read; those that it lets be left out stand in `skipped` and `warnings`.
        progress: Show a bar.

    Raises:
        DataError: No such data, no or too few classes, a class without pictures, a faulty CSV.
        SettingsError: `exclude` names an unknown class.
        UnreadableDataError: Files cannot be used; the message lists all of them, each with its reason.
    """
    listing = list_images(data, exclude=exclude, allow_outside=allow_outside)
    return read_listing(listing, reading=reading, progress=progress)


def read_listing(listing: Listing, *, reading: ReadingOptions = DEFAULT_READING, progress: bool = False) -> Catalogue:
    """Return the catalogue of pictures that are listed already.

    Args:
        listing: The files and their classes.
        reading: How the files are read.
        progress: Show a bar.

    Raises:
        UnreadableDataError: Files cannot be used; the message lists all of them, each with its reason.
    """
    read = partial(_read_record, reading=reading)
    results = list(map_in_threads(read, listing.images, label="Reading images", is_shown=progress))
    records = tuple(result for result in results if isinstance(result, ImageRecord))
    skipped = tuple(result for result in results if isinstance(result, SkippedFile))
    causes = find_causes(skipped, root=listing.root, tile_px=reading.min_side_px)
    if skipped:
        check_skipped(
            causes,
            n_files=len(listing.images),
            labels={image.label for image in listing.images},
            left={record.label for record in records},
            is_allowed=reading.skip_unreadable,
        )
    left_out = [f"left out {cause.to_text()}" for cause in causes]
    warnings = (
        *listing.warnings,
        *left_out,
        *sum_up_warnings({record.image_id: record.warnings for record in records}),
    )
    return Catalogue(root=listing.root, records=records, skipped=skipped, warnings=warnings, reading=reading)


def compute_pixels_sha256(pixels: FloatImage) -> str:
    """Return the SHA-256 over shape and grey levels, the same on every machine."""
    shape = f"{pixels.shape[0]} x {pixels.shape[1]} float32\n"
    digest = hashlib.sha256(shape.encode())
    digest.update(np.ascontiguousarray(pixels, dtype="<f4").data)
    return digest.hexdigest()


def compute_noise(pixels: FloatImage) -> float:
    """Return the standard deviation of the pixel noise, in grey levels of [0, 1].

    J. Immerkær, "Fast noise variance estimation", CVIU 64 (1996) 300-302: a mask that cancels planes and edges; here
    with the median in place of the mean, so that rough particles do not count as noise.

    Args:
        pixels: Shape (height_px, width_px), no side below 3.
    """
    every = 4  # a quarter of the rows is enough
    down = pixels[:-2:every] - 2 * pixels[1:-1:every] + pixels[2::every]
    response = down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]
    return float(MEDIAN_TO_DEVIATION * np.median(np.abs(response)) / LAPLACE_GAIN)


def _read_record(image: ListedImage, *, reading: ReadingOptions) -> ImageRecord | SkippedFile:
    try:
        micrograph = read_micrograph(image.path, name=image.image_id, reading=reading)
    except UnreadableImageError as error:
        return SkippedFile(path=image.path, reason=str(error).removeprefix(f"{image.image_id}: "))
    height_px, width_px = micrograph.pixels.shape
    if min(height_px, width_px) < reading.min_side_px:
        size_px = (width_px, height_px)
        reason = describe_sizes([size_px], tile_px=reading.min_side_px)
        return SkippedFile(path=image.path, reason=reason, size_px=size_px)
    try:
        return _build_record(image, micrograph=micrograph)
    except OSError as error:
        return SkippedFile(path=image.path, reason=f"vanished while it was read ({error.strerror}): put it back")


def _build_record(image: ListedImage, *, micrograph: Micrograph) -> ImageRecord:
    pixels, metadata = micrograph.pixels, micrograph.metadata
    with image.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ImageRecord(
        image_id=image.image_id,
        path=image.path,
        label=image.label,
        group=image.group or image.image_id,
        session=image.session or (metadata.acquired_at[:10] if metadata.acquired_at else None),
        sha256=sha256,
        pixels_sha256=compute_pixels_sha256(pixels),
        width_px=pixels.shape[1],
        height_px=pixels.shape[0],
        bit_depth=micrograph.bit_depth,
        mode=micrograph.mode,
        pixel_size_nm=metadata.pixel_size_nm,
        acquired_at=metadata.acquired_at,
        detector=metadata.detector,
        voltage_kv=metadata.voltage_kv,
        mean_grey=float(pixels.mean(dtype=np.float64)),
        contrast=float(pixels.std(dtype=np.float64)),
        noise=compute_noise(pixels),
        stage=metadata.stage,
        warnings=micrograph.warnings,
        is_pixel_size_beside=micrograph.is_pixel_size_beside,
    )


def _encode_paths(values: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Return a record's fields with its path as text relative to the root."""
    return {**values, "path": locate_below(root, values["path"])}


def _decode_paths(values: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Undo `_encode_paths`, and make lists tuples again."""
    tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return {**values, **tuples, "path": root / values["path"]}
