"""The images that a person has chosen: which there are, what a search shall do with them, and which are left out.

Nothing is copied or changed. Where single images are left out, or kept together by hand, a CSV names the others: a
search reads that in place of the folder.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sem_search.app.folders import Folders
from sem_search.deployment.server.intake import FORBIDDEN
from sem_search.errors import DataError, RefusedRequestError, SettingsError
from sem_search.files import write_atomically
from sem_search.micrographs.class_folders import list_pictures
from sem_search.micrographs.images import ListedImage, Listing, to_nfc
from sem_search.micrographs.listing import list_images
from sem_search.settings import build_settings
from sem_search.terminal import CONTROLS, LINE_BREAKS
from sem_search.words import count, read_list, write_list

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
    "epochs",
    "augment",
    "study",
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
        or not isinstance(settings, dict)
        or not _is_texts(left_out)
        or not (isinstance(together, list) and all(_is_texts(each) for each in together))
    ):
        raise DataError("The request must give data, settings, left_out and together.")
    if not data.strip():
        raise DataError("No images have been chosen yet: choose a folder under Images.")
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
    build_settings({**found.settings, "data": found.data})  # raises where one is out of range
    return found


def list_classes(data: str, *, folders: Folders) -> dict[str, Any]:
    """Return the classes of a folder or CSV and their images, as JSON values; no picture is opened.

    Classes without a picture are named apart: a search must leave them out.

    Args:
        data: As the page asks for it.
        folders: What may be read.

    Raises:
        DataError: It is no data set.
        RefusedRequestError: It, or an image of it, lies outside of what may be read.
    """
    path = folders.find(data)
    empty = _find_empty_classes(path)
    listing = _list_inside(path, folders=folders, exclude=empty)
    classes: dict[str, list[str]] = {}
    for image in listing.images:
        classes.setdefault(image.label, []).append(image.image_id)
    return {
        "data": str(path),
        "root": str(listing.root),
        "name": path.stem if path.is_file() else path.name,
        "classes": [{"name": name, "images": ids} for name, ids in sorted(classes.items())],
        "empty": empty,
        "paths": {
            image.image_id: str(image.path)
            for image in listing.images
            if str(image.path) != f"{listing.root}/{image.image_id}"
        },
        "warnings": list(listing.warnings),
    }


def _find_empty_classes(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    filled = [folder for folder in folders if list_pictures(folder)[1]]
    return [to_nfc(folder.name) for folder in folders if folder not in filled] if filled else []


def _list_inside(path: Path, *, folders: Folders, exclude: Sequence[str] = ()) -> Listing:
    """Return the images of a data set, all of which lie in folders that may be read.

    Raises:
        DataError: It is no data set.
        RefusedRequestError: A link or a CSV leads to an image that may not be read (403).
    """
    listing = list_images(path, exclude=exclude, allow_outside=True)
    outside = [image.image_id for image in listing.images if folders.find_root(image.path.resolve()) is None]
    if outside:
        raise RefusedRequestError(
            f"{count(len(outside), 'image')} of {path.name} ({outside[0][:80]!r} first) are links to, or paths of, "
            "folders that this page may not read: start it with these folders, too.",
            status=FORBIDDEN,
        )
    return listing


def write_arguments(data_set: DataSet, *, folders: Folders, work: Path) -> list[str]:
    """Return the options of a search of these images.

    Args:
        data_set: What is asked.
        folders: What may be read.
        work: Where the CSV of a selection is put.

    Raises:
        DataError: It is no data set.
        RefusedRequestError: An image lies outside of what may be read (403).
        StoreError: The CSV cannot be written.
    """
    return _list_words({**data_set.settings, **_write_data(data_set, folders=folders, work=work)})


def write_inspection_arguments(data_set: DataSet, *, folders: Folders, work: Path) -> tuple[list[str], str]:
    """Return the options of an inspection of these images, and what is inspected; arguments and errors as above."""
    options = _write_data(data_set, folders=folders, work=work)
    data = options.pop("data")
    asked = {name: text for name, text in data_set.settings.items() if name in INSPECTED_SETTINGS}
    return _list_words({**asked, **options}), data


def hash_words(words: Sequence[str]) -> str:
    """Return a short name of a command: the same words have the same."""
    return hashlib.sha256(json.dumps(list(words)).encode()).hexdigest()[:CSV_DIGITS]


def _list_words(options: Mapping[str, str]) -> list[str]:
    given = {name: text for name, text in options.items() if text}
    return [word for name, text in given.items() for word in (f"--{name.replace('_', '-')}", text)]


def _write_data(data_set: DataSet, *, folders: Folders, work: Path) -> dict[str, str]:
    """Return the options that say which images: those of the folder or CSV, or of a CSV that names the ones left."""
    path = Path(data_set.data)
    empty = _find_empty_classes(path)
    listing = _list_inside(path, folders=folders, exclude=empty)
    if not (data_set.left_out or data_set.together):
        return {"data": data_set.data, **({"allow_outside": "true"} if path.is_file() else {})}
    left_out = [name for name in read_list(data_set.settings.get("exclude", "")) if name not in empty]
    kept = [image for image in listing.images if image.image_id not in set(data_set.left_out)]
    content = _format_csv(kept, groups=_join_groups(kept, together=data_set.together)).encode()
    digest = hashlib.sha256(content).hexdigest()[:CSV_DIGITS]
    file = work / "selections" / f"{path.stem}-{digest}.csv"  # the same selection has the same file
    write_atomically(file, content)
    return {"data": str(file), "allow_outside": "true", "exclude": write_list(left_out)}


def _join_groups(images: Sequence[ListedImage], *, together: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the group of each image that has one: those of a CSV, and those of the page, joined where they meet."""
    group_of = {image.image_id: image.group or image.image_id for image in images}
    for each in together:
        met = {group_of[name] for name in each if name in group_of}
        if met:
            group_of |= {name: min(met) for name, group in group_of.items() if group in met}
    counts = Counter(group_of.values())
    own = {image.image_id for image in images if image.group}
    return {name: group for name, group in group_of.items() if counts[group] > 1 or name in own}


def _format_csv(images: Sequence[ListedImage], *, groups: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "label", "group", "session", "id"))
    for image in images:
        group = groups.get(image.image_id, "")
        writer.writerow((str(image.path), image.label, group, image.session or "", image.image_id))
    return text.getvalue()


def _write(value: object) -> str:
    """Return a setting as the command line takes it; empty for one that is not set."""
    if value is None or value == "" or value == []:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return write_list([_write(each) for each in value if not isinstance(each, list)])
    text = str(value)
    if isinstance(value, dict) or CONTROLS.search(text) or LINE_BREAKS.search(text):
        raise DataError("A setting is a text in one line, a number, true, false, or a list of these.")
    return text


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
