"""Which files belong to which class, found without opening a single picture: in a folder, a CSV, or several folders."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sem_search.errors import DataError
from sem_search.micrographs.class_folders import (
    advise_inner,
    build_listed,
    list_class_folders,
    list_pictures,
    warn_about_strangers,
)
from sem_search.micrographs.csv_table import list_csv
from sem_search.micrographs.images import ListedImage, Listing, build_listing

CSV_SUFFIXES = (".csv", ".tsv", ".txt")


def list_images(data: Path, *, exclude: Sequence[str] = (), allow_outside: bool = False) -> Listing:
    """Return the picture files of a folder or a CSV with their classes.

    Args:
        data: A folder with one sub-folder per class, or a CSV file.
        exclude: Classes to leave out.
        allow_outside: Whether a CSV may name pictures that do not lie below its own folder.

    Raises:
        DataError: There is no such folder or file, it has no classes, a class has no picture, fewer than two classes
            are left, or the CSV is not as it should be (each line with its fault).
        SettingsError: `exclude` names a class that is not there; the message lists those that are.
    """
    if data.is_dir():
        listing = list_class_folders(data, exclude=exclude)
    elif data.is_file() and data.suffix.lower() in CSV_SUFFIXES:
        listing = list_csv(data, exclude=exclude, allow_outside=allow_outside)
    elif data.exists():
        raise DataError(f"{data} is neither a folder nor a CSV file: give a folder with one sub-folder per class")
    else:
        raise DataError(f"there is no folder or CSV file {data}")
    labels = sorted({image.label for image in listing.images})
    if len(labels) < 2:
        found = f"only the class {labels[0]!r}" if labels else "no class"
        inner = f" {advise_inner([data / labels[0]])}" if labels and (data / labels[0]).is_dir() else ""
        left = " that is not excluded" if exclude else ""
        raise DataError(f"{data} has {found}{left}: at least 2 are needed.{inner}")
    return listing


def list_folders(folders: Mapping[str, Path]) -> Listing:
    """Return the picture files of several folders, wherever they lie, each a class (a lot) of its own.

    Args:
        folders: Name to folder; pictures anywhere below it.

    Raises:
        DataError: A folder is not there or has no picture; the message names it.
    """
    images: list[ListedImage] = []
    files_of_class: dict[str, list[Path]] = {}
    for label, folder in folders.items():
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
        files_of_class[label], pictures = list_pictures(folder)
        if not pictures:
            raise DataError(f"folder {folder} holds no PNG, JPEG, BMP or TIFF file")
        images += [build_listed(file, root=folder, label=label, prefix=f"{label}/") for file in pictures]
    root = Path(os.path.commonpath([folder.absolute() for folder in folders.values()]))
    return build_listing(root, images=images, warnings=warn_about_strangers(files_of_class))
