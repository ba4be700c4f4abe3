"""The images that a person has chosen: which there are, what a search shall do with them, and which are left out.

Nothing is copied or changed. Where single images are left out, or kept together by hand, a CSV names the others: a
search reads that in place of the folder.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem_search.app.folders import Folders
from sem_search.errors import DataError, SettingsError
from sem_search.files import write_atomically
from sem_search.micrographs.images import ListedImage
from sem_search.micrographs.listing import list_images
from sem_search.settings import SearchSettings, build_settings
from sem_search.words import write_list

PAGE_SETTINGS = (
    "backbone",
    "preset",
    "weights",
    "exclude",
    "skip_unreadable",
    "overlaps",
    "allow_errors",
    "crop_bottom_px",
    "pixel_size_nm",
    "tile_px",
    "tiles_per_image",
    "folds",
    "heads",
    "learning_rates",
    "batch_sizes",
    "pruner",
    "epochs",
    "augment",
    "class_weight",
    "refit",
    "model_name",
    "study",
    "seed",
    "threads",
)
"""What can be set on the page. Stores, clusters and folders are those in which the page was started."""

INSPECTED_SETTINGS = ("exclude", "overlaps", "crop_bottom_px", "tile_px", "pixel_size_nm", "folds")
"""Of these, what an inspection takes."""

WEIGHTS = ("auto", "imagenet", "particles", "random")

CSV_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What a person asks about: images and settings."""

    data: str
    """Folder or CSV."""
    settings: Mapping[str, str]
    """By name, as the command line takes them."""
    left_out: tuple[str, ...] = ()
    """Ids of single images that are not searched."""
    together: tuple[tuple[str, ...], ...] = ()
    """Ids of images that are kept in one split, group by group."""

    @property
    def is_selection(self) -> bool:
        """Whether single images are treated otherwise than the folder has it."""
        return bool(self.left_out or self.together)


def read_data_set(given: Mapping[str, Any], *, folders: Folders) -> DataSet:
    """Return what the page asks about.

    Args:
        given: `data`, `settings`, `left_out` and `together` of a request.
        folders: What may be read.

    Raises:
        DataError: It is not formed so.
        RefusedRequestError: A path lies outside of what may be read.
        SettingsError: A setting is unknown, or out of range.
    """
    data, settings = given.get("data"), given.get("settings", {})
    left_out, together = given.get("left_out", []), given.get("together", [])
    if (
        not isinstance(data, str)
        or not data.strip()
        or not isinstance(settings, dict)
        or not _is_texts(left_out)
        or not (isinstance(together, list) and all(_is_texts(each) for each in together))
    ):
        raise DataError("The request must give data, settings, left_out and together.")
    unknown = [name for name in settings if name not in PAGE_SETTINGS]
    if unknown:
        raise SettingsError(f"{unknown[0][:60]!r} cannot be set on the page: give it to the command.")
    texts = {name: text for name, value in settings.items() if (text := _write(value))}
    if texts.get("weights", "auto") not in WEIGHTS:
        texts["weights"] = str(folders.find(texts["weights"]))
    found = DataSet(
        data=str(folders.find(data)),
        settings=texts,
        left_out=tuple(sorted(left_out)),
        together=tuple(sorted(tuple(sorted(each)) for each in together if len(each) > 1)),
    )
    build(found)
    return found


def build(data_set: DataSet) -> SearchSettings:
    """Return the settings of a search of these images.

    Raises:
        SettingsError: One is out of range, or they contradict each other.
    """
    return build_settings({**data_set.settings, "data": data_set.data})


def list_classes(data_set: DataSet, *, folders: Folders) -> dict[str, Any]:
    """Return the classes and their images, as JSON values; no picture is opened.

    Raises:
        DataError: It is no data set.
    """
    path = Path(data_set.data)
    listing = list_images(path)
    classes: dict[str, list[str]] = {}
    for image in listing.images:
        classes.setdefault(image.label, []).append(image.image_id)
    return {
        "data": data_set.data,
        "root": str(listing.root),
        "name": path.stem if path.is_file() else path.name,
        "classes": [{"name": name, "images": ids} for name, ids in sorted(classes.items())],
        "warnings": list(listing.warnings),
        "outside": [image.image_id for image in listing.images if folders.find_root(image.path.resolve()) is None],
    }


def write_arguments(data_set: DataSet, *, folder: Path) -> list[str]:
    """Return the options of a search of these images.

    Args:
        data_set: What is asked.
        folder: Where the CSV of a selection is put.

    Raises:
        DataError: An image that is left out or kept together is not there.
        StoreError: The CSV cannot be written.
    """
    options = {"data": data_set.data, **data_set.settings}
    if data_set.is_selection:
        options |= {"data": str(_write_selection(data_set, folder=folder)), "allow_outside": "true"}
    return _list_words(options)


def write_inspection_arguments(data_set: DataSet, *, folder: Path) -> tuple[list[str], str]:
    """Return the options of an inspection of these images, and what is inspected.

    Args:
        data_set: What is asked.
        folder: Where the CSV of a selection is put.

    Raises:
        DataError: An image that is left out or kept together is not there.
        StoreError: The CSV cannot be written.
    """
    data = data_set.data
    options = {name: text for name, text in data_set.settings.items() if name in INSPECTED_SETTINGS}
    if data_set.is_selection:
        data, options["allow_outside"] = str(_write_selection(data_set, folder=folder)), "true"
    return _list_words(options), data


def hash_words(words: Sequence[str]) -> str:
    """Return a short name of a command: the same words have the same."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:CSV_DIGITS]


def _list_words(options: Mapping[str, str]) -> list[str]:
    return [word for name, text in options.items() for word in (f"--{name.replace('_', '-')}", text)]


def _write_selection(data_set: DataSet, *, folder: Path) -> Path:
    """Write the CSV that names the images that are left, and return it; the same selection has the same file."""
    listing = list_images(Path(data_set.data))
    known = {image.image_id for image in listing.images}
    missing = sorted({*data_set.left_out, *(name for each in data_set.together for name in each)} - known)
    if missing:
        raise DataError(f"There is no image {missing[0][:200]!r} in {data_set.data} any more: choose the folder again.")
    kept = [image for image in listing.images if image.image_id not in set(data_set.left_out)]
    content = _format_csv(kept, groups=_join_groups(kept, together=data_set.together)).encode()
    digest = hashlib.sha256(content).hexdigest()[:CSV_DIGITS]
    file = folder / f"{Path(data_set.data).stem}-{digest}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, content)
    return file


def _join_groups(images: Sequence[ListedImage], *, together: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the group of each image that has one: those of a CSV, and those of the page, joined where they meet."""
    group_of = {image.image_id: image.group or image.image_id for image in images}
    for each in together:
        met = {group_of[name] for name in each if name in group_of}
        if met:
            group_of |= {name: min(met) for name, group in group_of.items() if group in met}
    counts: dict[str, int] = {}
    for group in group_of.values():
        counts[group] = counts.get(group, 0) + 1
    own = {image.image_id for image in images if image.group}
    return {name: group for name, group in group_of.items() if counts[group] > 1 or name in own}


def _format_csv(images: Sequence[ListedImage], *, groups: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "label", "group", "session"))
    for image in images:
        writer.writerow((str(image.path), image.label, groups.get(image.image_id, ""), image.session or ""))
    return text.getvalue()


def _write(value: object) -> str:
    """Return a setting as the command line takes it; empty for one that is not set."""
    if value is None or value == "" or value == []:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return write_list([str(each) for each in value])
    if isinstance(value, dict):
        raise DataError("A setting is a text, a number, true, false, or a list of these.")
    return str(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
