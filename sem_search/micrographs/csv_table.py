"""A data set as a CSV: `image,label[,group][,session][,id]`, paths relative to the CSV.

An `id` names the image in results; else its path does.

They may not leave its folder, by links neither, unless that is allowed: a CSV may come from anybody, and a model's
record holds what its pictures looked like.
"""

import csv
import io
import os
import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from sem_search.errors import DataError
from sem_search.micrographs.images import ListedImage, Listing, build_listing, find_excluded, shorten, to_nfc
from sem_search.words import name_some

CSV_COLUMNS = ("image", "label", "group", "session", "id")
CSV_DELIMITERS = (",", ";", "\t")  # spreadsheets write ; where the decimal sign is a comma
MAX_NAME, MAX_PATH = 255, 4000  # bytes, on all usual file systems
MAX_NAME_SHOWN = 60


def list_csv(file: Path, *, exclude: Sequence[str], allow_outside: bool) -> Listing:
    """Return the pictures that a CSV names.

    Args:
        file: The CSV.
        exclude: Classes to leave out.
        allow_outside: Whether it may name pictures that do not lie below its own folder.
    """
    header, rows = _read_csv(file)
    missing = [column for column in ("image", "label") if column not in header]
    if missing:
        raise DataError(
            f"{file} has no column {' and '.join(map(repr, missing))}: "
            f"its first line is {_abridge(','.join(header))!r}, it should be image,label[,group][,session]"
        )
    problems, images = [], []
    for line, written in rows:
        row = _make_relative(written, root=file.parent)
        fault = _find_fault(row) or (None if allow_outside else _find_way_out(row, root=file.parent))
        if fault:
            problems.append(f"line {line}: {fault}")
        else:
            images.append(_build_listed_from_row(row, root=file.parent))
    if problems:
        raise DataError(f"{file} has faulty lines ({len(problems)}):\n  " + "\n  ".join(shorten(problems)))
    if not images:
        raise DataError(f"{file} names no images: it should hold one line image,label for each")
    excluded = find_excluded(exclude, labels={image.label for image in images})
    unused = _list_unused(header)
    warnings = [f"columns of the CSV that were not used: {', '.join(unused)}"] if unused else []
    kept = [image for image in images if image.label not in excluded]
    return build_listing(file.parent, images=kept, warnings=warnings)


def read_class_facts(file: Path) -> dict[str, dict[str, str]]:
    """Return what a CSV says of its classes in columns that a search does not use, such as a supplier.

    Args:
        file: A CSV that `list_csv` takes.

    Returns:
        Class -> column -> its values over the images of the class, the first few of many.
    """
    header, rows = _read_csv(file)
    found: dict[str, dict[str, set[str]]] = {}
    for _, row in rows:
        of_class = found.setdefault(to_nfc(row["label"]), {column: set() for column in _list_unused(header)})
        for column, values in of_class.items():
            values |= {row[column]} - {""} if column in row else set()
    return {
        label: {column: name_some(values) if values else "" for column, values in of_class.items()}
        for label, of_class in found.items()
    }


def _list_unused(header: Sequence[str]) -> list[str]:
    return [column for column in header if column not in CSV_COLUMNS and column]


def _read_csv(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Return the header, and each non-empty row with its line number."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from error
    first = text.lstrip().partition("\n")[0]
    delimiter = max(CSV_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [value.strip() for value in values]) for values in reader]
    except csv.Error as error:
        raise DataError(f"{file} is not a well-formed CSV: line {reader.line_num}, {error}") from error
    filled = [(line, values) for line, values in lines if any(values)]
    if not filled:
        raise DataError(f"{file} is empty: its first line should be image,label[,group][,session]")
    header = [name.lower() for name in filled[0][1]]
    return header, [(line, _name_values(header, values)) for line, values in filled[1:]]


def _name_values(header: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Return column -> value; values beyond the header go under an empty name."""
    named = dict(zip(header, values, strict=False))
    surplus = ",".join(value for value in values[len(header) :] if value)
    return {**named, "": surplus} if surplus else named


def _find_fault(row: dict[str, str]) -> str | None:
    image = row.get("image", "")
    if row.get(""):
        return f"more values than columns ({row['']!r}); put values that hold the separator in quotes"
    if not image or not row.get("label"):
        return f"image is {image!r} and label is {row.get('label', '')!r}; both are needed"
    name = row.get("id", "")
    if any(unicodedata.category(sign) == "Cc" for sign in image + row["label"] + name):
        return (
            f"image is {_abridge(image)!r} and label is {_abridge(row['label'])!r}; control characters are not allowed"
        )
    names = (row["label"], *_to_posix(image).split("/"))
    longest = max(len(name.encode(errors="surrogatepass")) for name in names)
    if longest > MAX_NAME or max(len(text.encode(errors="surrogatepass")) for text in (image, name)) > MAX_PATH:
        return f"image {_abridge(image)!r} or label {_abridge(row['label'])!r} is longer than a file's name can be"
    return None


def _find_way_out(row: dict[str, str], *, root: Path) -> str | None:
    """Return a fault if a row's path leaves the folder of the CSV, as it is written or through links."""
    image = row["image"]
    path = _to_posix(image)
    way_out = "give paths relative to it, or set allow_outside=true if you trust the CSV"
    if PureWindowsPath(image).drive or path.startswith("/") or path == ".." or path.startswith("../"):
        return f"{image!r} leaves the folder of the CSV; {way_out}"
    try:
        is_inside = _locate(row, root=root).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links that run in a circle
        return f"{image!r} cannot be followed: its links run in a circle, or a folder cannot be read"
    return None if is_inside else f"{image!r} leads through a link out of the folder of the CSV; {way_out}"


def _make_relative(row: dict[str, str], *, root: Path) -> dict[str, str]:
    """Return a row whose absolute path lies in the folder of the CSV with the path from there."""
    path = Path(row.get("image", "").replace("\\", "/"))
    if not path.is_absolute():
        return row
    normal, folders = Path(os.path.normpath(path)), (root.absolute(), root.resolve())
    inside = next((normal.relative_to(folder) for folder in folders if normal.is_relative_to(folder)), None)
    return row if inside is None else {**row, "image": inside.as_posix()}


def _abridge(text: str) -> str:
    return text if len(text) <= MAX_NAME_SHOWN else f"{text[:MAX_NAME_SHOWN]}..."


def _to_posix(image: str) -> str:
    """Return a path as written on any system in one form."""
    return posixpath.normpath(image.replace("\\", "/"))


def _build_listed_from_row(row: dict[str, str], *, root: Path) -> ListedImage:
    return ListedImage(
        path=_locate(row, root=root).absolute(),
        image_id=to_nfc(row.get("id") or _to_posix(row["image"])),
        label=to_nfc(row["label"]),
        group=row.get("group") or None,
        session=row.get("session") or None,
    )


def _locate(row: dict[str, str], *, root: Path) -> Path:
    """Return the file that a row means, in whichever spelling of its name there is one."""
    relative = _to_posix(row["image"])
    spellings = [relative, *(unicodedata.normalize(form, relative) for form in ("NFC", "NFD"))]
    return next((path for spelling in spellings if (path := root / spelling).exists()), root / relative)
