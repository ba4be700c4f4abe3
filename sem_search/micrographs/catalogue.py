"""Folder or CSV in, one table of images out: every file read once, everything known of it in one record.

The catalogue is the data set as the search sees it. All files that cannot be used are found here, together, before
anything is computed, and its digest stands for the data in every key and log.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from sem_search.errors import DataError, StoreError, UnreadableDataError, UnreadableImageError
from sem_search.micrographs.inspection.findings import MAX_EXAMPLES
from sem_search.micrographs.listing import ListedImage, Listing, list_images
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.reading.micrograph import Micrograph, read_micrograph
from sem_search.micrographs.reading.options import DEFAULT_READING, ReadingOptions
from sem_search.micrographs.threads import map_in_threads
from sem_search.words import MAX_NAMED, count, name_some, write_list

if TYPE_CHECKING:
    import pandas as pd

MAX_SHOWN_ROWS = 20
"""Of a catalogue, in a notebook."""

MAX_REFUSED_NAMES = 50  # per cause, where they are to be mended or removed one by one
TILE_STEP_PX = 32  # sides that are advised; the smallest that is allowed
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
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file that was left out because it could not be used."""

    path: Path
    reason: str
    size_px: tuple[int, int] | None = None
    """Width and height, where what is wrong is that they are smaller than a tile."""


@dataclass(frozen=True, kw_only=True)
class SkippedCause:
    """Files that were left out for one cause."""

    names: tuple[str, ...]
    """Paths from the root, sorted."""
    reason: str
    """In words, of all of them; the first one's where theirs differ in numbers."""
    cases: tuple[str, ...]
    """Each file with its own reason."""
    is_example: bool = False
    """Whether the reason is the first one's alone."""
    is_of_size: bool = False
    """Whether a smaller tile would take them all: they need not be looked at one by one."""

    def to_text(self, *, most: int = MAX_NAMED) -> str:
        """Return which files, at most so many by name, and why: `a.png: is empty`."""
        if len(self.names) == 1:
            return f"{self.names[0]}: {self.reason}"
        told = f"for example {self.cases[0]}" if self.is_example else f"each: {self.reason}"
        return f"{count(len(self.names), 'file')} ({name_some(self.names, most=most)}), {told}"


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All usable micrographs, sorted by image_id."""

    root: Path
    records: tuple[ImageRecord, ...]
    skipped: tuple[SkippedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    reading: ReadingOptions = DEFAULT_READING
    """How the files were read, and are read again."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels, sorted."""
        return tuple(sorted({record.label for record in self.records}))

    @property
    def digest(self) -> str:
        """SHA-256 over what results depend on: ids, labels, groups and pixels; not over place, order or format."""
        rows = sorted((record.image_id, record.label, record.group, record.pixels_sha256) for record in self.records)
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

    def read_image(self, record: ImageRecord) -> FloatImage:
        """Return the grey levels of one of the images, read again and held against its record.

        Raises:
            UnreadableImageError: The file can no longer be read.
            DataError: Its pixels are not those that were catalogued.
        """
        pixels = read_micrograph(record.path, name=record.image_id, reading=self.reading).pixels
        if compute_pixels_sha256(pixels) != record.pixels_sha256:
            raise DataError(
                f"{record.image_id} has changed since it was catalogued, or crop_bottom_px has: its pixels are not "
                "those that were recorded; read the data again, or put the file back"
            )
        return pixels

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each image, as `to_frame` returns it."""
        return self.to_frame()

    def _repr_html_(self) -> str:
        return self.table.to_html(max_rows=MAX_SHOWN_ROWS)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per image, one column per field of ImageRecord; paths and warnings as text."""
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
        """Return the catalogue that `to_json` wrote, its files now below `root`.

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
        """Return the catalogue with other groups; images that are not named keep theirs.

        Raises:
            DataError: The mapping names an image that is not here.
        """
        unknown = sorted(set(group_of_image) - {record.image_id for record in self.records})
        if unknown:
            raise DataError(f"groups are given for {len(unknown)} images that are not in the catalogue: {unknown[0]}")
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
    """Return the catalogue of pictures that are listed already; arguments and errors as `read_catalogue`."""
    read = partial(_read_record, reading=reading)
    results = list(map_in_threads(read, listing.images, label="Reading images", is_shown=progress))
    records = tuple(result for result in results if isinstance(result, ImageRecord))
    skipped = tuple(result for result in results if isinstance(result, SkippedFile))
    causes = find_causes(skipped, root=listing.root, tile_px=reading.min_side_px)
    if skipped:
        _check_skipped(listing.images, records=records, causes=causes, is_allowed=reading.skip_unreadable)
    left_out = [f"left out {cause.to_text()}" for cause in causes]
    warnings = (*listing.warnings, *left_out, *_sum_up_warnings(records))
    return Catalogue(root=listing.root, records=records, skipped=skipped, warnings=warnings, reading=reading)


def locate_below(root: Path, path: Path) -> str:
    """Return a POSIX path from the root, with `..` where it does not lie below it."""
    return PurePath(os.path.relpath(path, root)).as_posix()


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
        pixels: Shape (height_px, width_px); 0 is returned for fewer than 3 rows or columns.
    """
    if min(pixels.shape) < 3:
        return 0.0
    every = 4  # a quarter of the rows tells as much as all of them
    down = pixels[:-2:every] - 2 * pixels[1:-1:every] + pixels[2::every]
    response = down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]
    return float(MEDIAN_TO_DEVIATION * np.median(np.abs(response)) / LAPLACE_GAIN)


def _read_record(image: ListedImage, *, reading: ReadingOptions) -> ImageRecord | SkippedFile:
    """Return what is known of one picture, or why it cannot be used."""
    try:
        micrograph = read_micrograph(image.path, name=image.image_id, reading=reading)
    except UnreadableImageError as error:
        return SkippedFile(path=image.path, reason=str(error).removeprefix(f"{image.image_id}: "))
    height_px, width_px = micrograph.pixels.shape
    if min(height_px, width_px) < reading.min_side_px:
        size_px = (width_px, height_px)
        reason = _describe_sizes([size_px], tile_px=reading.min_side_px)
        return SkippedFile(path=image.path, reason=reason, size_px=size_px)
    try:
        return _build_record(image, micrograph=micrograph)
    except OSError as error:
        return SkippedFile(path=image.path, reason=f"vanished while it was read ({error.strerror}): put it back")


def _build_record(image: ListedImage, *, micrograph: Micrograph) -> ImageRecord:
    """Return the record of a usable picture."""
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
        warnings=micrograph.warnings,
    )


def _check_skipped(
    images: Sequence[ListedImage],
    *,
    records: Sequence[ImageRecord],
    causes: Sequence[SkippedCause],
    is_allowed: bool,
) -> None:
    """Raise if files may not be skipped, or if a class has none left."""
    listed = "\n".join(
        f"  - {cause.to_text(most=MAX_NAMED if cause.is_of_size else MAX_REFUSED_NAMES)}" for cause in causes
    )
    left = {record.label for record in records}
    lost = sorted({image.label for image in images} - left)
    if not is_allowed:
        way_out = "remove them" if lost else "remove them, or go on without them with skip_unreadable=true"
        raise UnreadableDataError(
            f"{len(images) - len(records)} of {len(images)} files cannot be used:\n{listed}\nMend or {way_out}."
        )
    if lost:
        way_out = f", or leave the class out with exclude={write_list(lost)}" if len(left) > 1 else ""
        raise UnreadableDataError(
            f"no usable image is left of class {', '.join(map(repr, lost))}:\n{listed}\nMend the files{way_out}."
        )


def find_causes(skipped: Iterable[SkippedFile], *, root: Path, tile_px: int | None = None) -> list[SkippedCause]:
    """Return the files that were left out by cause: a thousand files with one fault are one piece of news.

    Up to MAX_EXAMPLES files of one cause are told one by one.

    Args:
        skipped: The files.
        root: Of the data: names are told from there.
        tile_px: Side of a tile, where it is known.
    """
    by_cause: dict[object, list[SkippedFile]] = {}
    for file in skipped:
        by_cause.setdefault(file.size_px is not None or _strip_numbers(file.reason), []).append(file)
    causes = []
    few = [[file] for files in by_cause.values() if len(files) <= MAX_EXAMPLES for file in files]
    for files in [*few, *(files for files in by_cause.values() if len(files) > MAX_EXAMPLES)]:
        cases = sorted((locate_below(root, file.path), file.reason) for file in files)
        sizes = sorted({file.size_px for file in files if file.size_px is not None})
        causes.append(
            SkippedCause(
                names=tuple(name for name, _ in cases),
                reason=_describe_sizes(sizes, tile_px=tile_px) if len(sizes) > 1 else cases[0][1],
                cases=tuple(f"{name}: {reason}" for name, reason in cases),
                is_of_size=bool(sizes),
                is_example=len(sizes) < 2 and len({reason for _, reason in cases}) > 1,
            )
        )
    return causes


def _strip_numbers(text: str) -> str:
    """Return a text without what may differ between two files that have one fault."""
    return re.sub(r"\d+", "0", text)


def _describe_sizes(sizes: Sequence[tuple[int, int]], *, tile_px: int | None) -> str:
    """Return what is said of pictures that are smaller than a tile, and the tile that they would take."""
    smallest = min(sizes, key=min)
    fitting_px = min(smallest) // TILE_STEP_PX * TILE_STEP_PX
    way_out = f"set tile_px={fitting_px} or less, or leave" if fitting_px else "leave"
    tile = "a tile" if tile_px is None else f"a tile of {tile_px} px"
    size = f"{smallest[0]} x {smallest[1]} px"
    if len(sizes) == 1:
        return f"is {size} without its data bar, smaller than {tile}: {way_out} it out"
    return f"is smaller than {tile} without its data bar, the smallest {size}: {way_out} them out"


def _sum_up_warnings(records: Sequence[ImageRecord]) -> list[str]:
    """Return each warning of the images once, with how many have it and the first that does.

    Warnings that differ in numbers alone are one; that of the first image is the example.
    """
    same_cause: dict[str, list[tuple[str, str]]] = {}
    for record in records:
        for warning in record.warnings:
            same_cause.setdefault(_strip_numbers(warning), []).append((warning, record.image_id))
    summed = []
    for cases in same_cause.values():
        warning, name = cases[0]
        images = count(len({image_id for _, image_id in cases}), "image")
        differ = len({words for words, _ in cases}) > 1
        summed.append(f"{warning} ({f'for example {name}; {images} in all' if differ else f'{images}, first {name}'})")
    return summed


def _encode_paths(values: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Return a record's fields with its path as text relative to the root."""
    return {**values, "path": locate_below(root, values["path"])}


def _decode_paths(values: Mapping[str, Any], *, root: Path) -> dict[str, Any]:
    """Undo `_encode_paths`, and make lists tuples again."""
    tuples = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return {**values, **tuples, "path": root / values["path"]}
