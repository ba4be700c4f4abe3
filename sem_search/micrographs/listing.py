"""Which files belong to which class, found without opening a single picture.

A folder: one sub-folder per class, pictures anywhere below it. A CSV: `image,label[,group][,session]`, paths relative
to the CSV; they may not leave its folder, by links neither, unless that is allowed: a CSV may come from anybody, and a
model's record holds what its pictures looked like.

Names are compared in Unicode's composed form (NFC), so that a data set keeps its image ids, and with them
its folds, when it moves between macOS and other systems.
"""

import csv
import io
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from sem_search.errors import DataError, SettingsError
from sem_search.words import join_words, name_some, write_list

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff")
REFUSED_SUFFIXES = (".gif", ".apng", ".webp", ".jp2", ".heic", ".avif")  # meant as pictures: not to be passed over
PICTURE_SUFFIXES = frozenset((*READ_SUFFIXES, *REFUSED_SUFFIXES))
COMPANION_SUFFIXES = frozenset(  # what stands beside pictures and is none
    (".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".ini", ".db", ".log")
) | {".hdr"}  # TESCAN's
SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"))
SPLIT_NAMES = frozenset(
    ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "holdout")
)
NUMBERED_NAME = re.compile(r"(\D*?)[ _.-]*\d[\d _.-]*")  # batch1, lot-02, 2024-05-17
BATCH_WORDS = frozenset(("", "batch", "lot", "run", "day", "session", "series"))  # not PH101: classes are so named
CSV_SUFFIXES = (".csv", ".tsv", ".txt")
CSV_COLUMNS = ("image", "label", "group", "session")
CSV_DELIMITERS = (",", ";", "\t")  # spreadsheets write ; where the decimal sign is a comma
MAX_VALUE_LENGTH = 32_768  # paths are shorter on every system
MAX_PROBLEMS_SHOWN = 10
MAX_NAME, MAX_PATH = 255, 4000  # bytes, on all usual file systems
MAX_NAME_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class ListedImage:
    """A picture file that is to be read."""

    path: Path
    image_id: str
    """POSIX path relative to the data root, NFC."""
    label: str
    group: str | None
    session: str | None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All picture files of a data set, sorted by image id, and what was passed over."""

    root: Path
    images: tuple[ListedImage, ...]
    warnings: tuple[str, ...]


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
        listing = _list_folder(data, exclude=exclude)
    elif data.is_file() and data.suffix.lower() in CSV_SUFFIXES:
        listing = _list_csv(data, exclude=exclude, allow_outside=allow_outside)
    elif data.exists():
        raise DataError(f"{data} is neither a folder nor a CSV file: give a folder with one sub-folder per class")
    else:
        raise DataError(f"there is no folder or CSV file {data}")
    _check_names(listing.images)
    labels = sorted({image.label for image in listing.images})
    if len(labels) < 2:
        found = f"only the class {labels[0]!r}" if labels else "no class"
        inner = f" {_advise_inner([data / labels[0]])}" if labels and (data / labels[0]).is_dir() else ""
        raise DataError(f"{data} has {found} that is not excluded: at least 2 are needed to tell apart.{inner}")
    return listing


def list_folders(folders: Mapping[str, Path]) -> Listing:
    """Return the picture files of several folders, wherever they lie, each a class (a lot) of its own.

    Args:
        folders: Name to folder; pictures anywhere below it.

    Raises:
        DataError: A folder is not there or has no picture, or fewer than two are given; the message names it.
    """
    if len(folders) < 2:
        raise DataError(f"{len(folders)} folder is given: at least 2 are needed to compare")
    images: list[ListedImage] = []
    files_of_class: dict[str, list[Path]] = {}
    for label, folder in folders.items():
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
        files = files_of_class[label] = list(_iter_files(folder, ancestors=frozenset()))
        pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
        if not pictures:
            raise DataError(f"folder {folder} holds no PNG, JPEG, BMP or TIFF file")
        for file in pictures:
            image_id = unicodedata.normalize("NFC", f"{label}/{file.relative_to(folder).as_posix()}")
            images.append(ListedImage(path=file.absolute(), image_id=image_id, label=label, group=None, session=None))
    _check_names(images)
    root = Path(os.path.commonpath([folder.absolute() for folder in folders.values()]))
    return _build_listing(root, images=images, warnings=_warn_about_strangers(files_of_class))


def _list_folder(root: Path, *, exclude: Sequence[str]) -> Listing:
    """Return the pictures below each class folder."""
    entries = sorted(_iter_entries(root))
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise DataError(f"{root} has no sub-folders: put the images of each class into a folder named after the class")
    label_of = {folder: unicodedata.normalize("NFC", folder.name) for folder in folders}
    excluded = _find_excluded(exclude, labels=set(label_of.values()))
    images: list[ListedImage] = []
    files_of_class: dict[str, list[Path]] = {}
    warnings = _warn_about_loose_files([entry for entry in entries if entry not in label_of])
    kept = {folder: label for folder, label in label_of.items() if label not in excluded}
    warnings += _judge_nesting(root, folders=list(kept))
    for folder, label in kept.items():
        files = files_of_class[label] = list(_iter_files(folder, ancestors=frozenset()))
        pictures = [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]
        if not pictures:
            raise DataError(
                f"class {label!r} has no picture: folder {folder} holds no PNG, JPEG, BMP or TIFF file; "
                f"fill it, remove it, or leave it out with exclude={write_list([label])}"
            )
        images += [_build_listed(file, root=root, label=label) for file in pictures]
    return _build_listing(root, images=images, warnings=[*warnings, *_warn_about_strangers(files_of_class)])


def _judge_nesting(root: Path, *, folders: Sequence[Path]) -> list[str]:
    """Return a warning if it is not plain which level of folders is the classes.

    Lots within a class (lactose/lot1, starch/lot1) and classes within a lot (lot1/lactose, lot2/lactose) look alike:
    only their names tell them apart. Refused is what can only be the second.

    Raises:
        DataError: The folders are named as splits, or as numbered batches, with sub-folders of the same names that are
            not numbered.
    """
    names = [folder.name for folder in folders]
    splits = [name for name in names if name.lower() in SPLIT_NAMES]
    if len(splits) > 1:
        raise DataError(
            f"the folders {join_words(splits)} in {root} are named as parts of a divided data set, not as classes. A "
            f"search divides the images itself. {_advise_inner(folders)}"
        )
    inner = [_list_inner(folder) for folder in folders]
    shared = sorted(name for name, n in Counter(name for found in inner for name in found).items() if n > 1)
    if not shared or not all(inner):
        return []
    if _is_numbered(shared) and not _is_numbered(names):  # lots and days within a class
        return []
    all_inner = sorted({name for found in inner for name in found})
    if len(all_inner) > 1 and _are_batches(names) and not _is_numbered(all_inner):
        raise DataError(
            f"the folders {name_some(names)} in {root} are numbered, and hold sub-folders {name_some(all_inner)}, "
            f"which seem to be the classes. {_advise_inner(folders)}"
        )
    return [
        f"all class folders hold sub-folders, and {name_some(shared)} more than once: they are taken as parts of the "
        f"classes {name_some(names)}. Are they the classes? {_advise_inner(folders)}"
    ]


def _list_inner(folder: Path) -> list[str]:
    """Return the sub-folders of a class folder that hold pictures, none where pictures lie beside them."""
    entries = list(_iter_entries(folder))
    if any(entry.is_file() and entry.suffix.lower() in PICTURE_SUFFIXES for entry in entries):
        return []
    return sorted(
        unicodedata.normalize("NFC", entry.name)
        for entry in entries
        if entry.is_dir()
        and any(file.suffix.lower() in PICTURE_SUFFIXES for file in _iter_files(entry, ancestors=frozenset()))
    )


def _is_numbered(names: Sequence[str]) -> bool:
    """Whether all names are one word, or none, with a number or a date."""
    return _find_word(names) is not None


def _are_batches(names: Sequence[str]) -> bool:
    """Whether all names are a word for a batch, or none, with a number or a date."""
    return _find_word(names) in BATCH_WORDS


def _find_word(names: Sequence[str]) -> str | None:
    """Return the one word before the number or the date in all names, None where they are not so named."""
    matches = [NUMBERED_NAME.fullmatch(name.lower()) for name in names]
    words = {match[1] if match else None for match in matches}
    return words.pop() if len(words) == 1 else None


def _advise_inner(folders: Sequence[Path]) -> str:
    """Return what to do where the classes lie one level deeper, or are to be told some other way."""
    table = "list all images in a CSV with the columns image and label, and group for those that belong together"
    likeliest = sorted(folders, key=lambda folder: not folder.name.lower().startswith("train"))
    nested = next((folder for folder in likeliest if len(_list_inner(folder)) > 1), None)
    if nested is None:
        return f"Put the images of each class into one folder named after it, or {table}."
    return (
        f"Give data={nested} for its {name_some(_list_inner(nested))} alone; to take all, put the images of each class "
        f"into one folder named after it, or {table}."
    )


def _iter_entries(folder: Path) -> Iterator[Path]:
    """Yield what a folder holds, without what is hidden or belongs to an operating system."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read ({error.strerror}): check its permissions") from error
    for entry in entries:
        if not entry.name.startswith(".") and entry.name not in SYSTEM_FOLDERS:
            yield entry


def _iter_files(folder: Path, *, ancestors: frozenset[Path]) -> Iterator[Path]:
    """Yield all files below a folder, through links, but never round in circles.

    A folder that is named like a picture is yielded, too, so that it is refused as what it is.
    """
    real = folder.resolve()
    if real in ancestors:
        return
    for entry in _iter_entries(folder):
        if entry.is_dir() and entry.suffix.lower() not in PICTURE_SUFFIXES:
            yield from _iter_files(entry, ancestors=ancestors | {real})
        else:
            yield entry


def _find_excluded(exclude: Sequence[str], *, labels: set[str]) -> frozenset[str]:
    """Return the classes to be left out.

    A shell takes the quotation marks from `exclude="MCC, 50 um"`, and the name arrives in two parts: parts that follow
    one another count as one name where there is such a class.

    Raises:
        SettingsError: A class is not there: a typing error would keep it in.
    """
    parts = [unicodedata.normalize("NFC", name) for name in exclude]
    plain = {re.sub(r",\s*", ",", label): label for label in labels}
    if set(parts) <= labels:
        return frozenset(parts)
    excluded, unknown, begin = set(), set(), 0
    while begin < len(parts):
        ends = range(len(parts), begin, -1)
        end = next((end for end in ends if ",".join(parts[begin:end]) in plain), None)
        if end is None:
            unknown.add(parts[begin])
        else:
            excluded.add(plain[",".join(parts[begin:end])])
        begin = end or begin + 1
    if unknown:
        shown, known = (", ".join(map(repr, sorted(names))) for names in (unknown, labels))
        raise SettingsError(f"exclude names {shown}, but the classes are {known}")
    return frozenset(excluded)


def _warn_about_loose_files(files: Sequence[Path]) -> list[str]:
    """Return a warning if files lie beside the class folders that may be meant as images."""
    loose = sorted(file.name for file in files if file.suffix.lower() not in COMPANION_SUFFIXES)
    if not loose:
        return []
    return [f"files outside any class folder were left out: {_shorten(loose)}"]


def _warn_about_strangers(files_of_class: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return one warning if classes hold files that are neither pictures nor what usually stands beside them."""
    known = PICTURE_SUFFIXES | COMPANION_SUFFIXES
    strangers = [
        (label, file.suffix.lower())
        for label, files in files_of_class.items()
        for file in files
        if file.suffix.lower() not in known
    ]
    if not strangers:
        return []
    labels = sorted({label for label, _ in strangers})
    kinds = Counter(suffix or "no suffix" for _, suffix in strangers)
    shown = _shorten([f"{suffix}: {n}" for suffix, n in sorted(kinds.items())])
    where = f"{'class' if len(labels) == 1 else 'classes'} {name_some([repr(label) for label in labels])}"
    return [f"{where}: files of unknown kind were left out ({shown})"]


def _shorten(names: Sequence[str]) -> str:
    """Return names as a list that does not fill the screen."""
    more = len(names) - MAX_PROBLEMS_SHOWN
    return ", ".join(names[:MAX_PROBLEMS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _build_listed(file: Path, *, root: Path, label: str) -> ListedImage:
    """Return the record of a picture found in a class folder."""
    image_id = unicodedata.normalize("NFC", file.relative_to(root).as_posix())
    return ListedImage(path=file.absolute(), image_id=image_id, label=label, group=None, session=None)


def _build_listing(root: Path, *, images: Sequence[ListedImage], warnings: Sequence[str]) -> Listing:
    """Return the listing in an order that does not depend on the file system."""
    ordered = tuple(sorted(images, key=lambda image: image.image_id))
    return Listing(root=root.absolute(), images=ordered, warnings=tuple(warnings))


def _list_csv(file: Path, *, exclude: Sequence[str], allow_outside: bool) -> Listing:
    """Return the pictures that a CSV names."""
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
        raise DataError(f"{file} has faulty lines ({len(problems)}):\n  " + "\n  ".join(_cut(problems)))
    if not images:
        raise DataError(f"{file} names no images: it should hold one line image,label for each")
    excluded = _find_excluded(exclude, labels={image.label for image in images})
    unused = [column for column in header if column not in CSV_COLUMNS and column]
    warnings = [f"columns of the CSV that were not used: {', '.join(unused)}"] if unused else []
    kept = [image for image in images if image.label not in excluded]
    return _build_listing(file.parent, images=kept, warnings=warnings)


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
        lines = [(reader.line_num, [value.strip() for value in _check_lengths(values)]) for values in reader]
    except csv.Error as error:
        raise DataError(f"{file} is not a well-formed CSV: line {reader.line_num}, {error}") from error
    filled = [(line, values) for line, values in lines if any(values)]
    if not filled:
        raise DataError(f"{file} is empty: its first line should be image,label[,group][,session]")
    header = [name.lower() for name in filled[0][1]]
    return header, [(line, _name_values(header, values)) for line, values in filled[1:]]


def _check_lengths(values: list[str]) -> list[str]:
    """Return the values of a line, none of them absurdly long; `csv` has a limit, too, which others may have raised."""
    if any(len(value) > MAX_VALUE_LENGTH for value in values):
        raise csv.Error(f"a value of more than {MAX_VALUE_LENGTH} characters")
    return values


def _name_values(header: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """Return column -> value; values beyond the header go under an empty name."""
    named = dict(zip(header, values, strict=False))
    surplus = ",".join(value for value in values[len(header) :] if value)
    return {**named, "": surplus} if surplus else named


def _find_fault(row: dict[str, str]) -> str | None:
    """Return what is wrong with a row, or None."""
    image = row.get("image", "")
    if row.get(""):
        return f"more values than columns ({row['']!r}); put values that hold the separator in quotes"
    if not image or not row.get("label"):
        return f"image is {image!r} and label is {row.get('label', '')!r}; both are needed"
    if any(unicodedata.category(sign) == "Cc" for sign in image + row["label"]):
        return f"image is {_abridge(image)!r} and label is {_abridge(row['label'])!r}; control characters name nothing"
    names = (row["label"], *_to_posix(image).split("/"))
    longest = max(len(name.encode(errors="surrogatepass")) for name in names)
    if longest > MAX_NAME or len(image.encode(errors="surrogatepass")) > MAX_PATH:
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
    """Return the record of a row without fault."""
    return ListedImage(
        path=_locate(row, root=root).absolute(),
        image_id=unicodedata.normalize("NFC", _to_posix(row["image"])),
        label=unicodedata.normalize("NFC", row["label"]),
        group=row.get("group") or None,
        session=row.get("session") or None,
    )


def _locate(row: dict[str, str], *, root: Path) -> Path:
    """Return the file that a row means, in whichever spelling of its name there is one."""
    relative = _to_posix(row["image"])
    spellings = [relative, *(unicodedata.normalize(form, relative) for form in ("NFC", "NFD"))]
    return next((path for spelling in spellings if (path := root / spelling).exists()), root / relative)


def _check_names(images: Sequence[ListedImage]) -> None:
    """Raise if two images would bear one name, or a name cannot be written down."""
    counts = Counter(image.image_id for image in images)
    problems = [f"{image_id}: named {n} times" for image_id, n in counts.items() if n > 1]
    problems += [f"{image_id!a}: the name is not valid UTF-8, rename it" for image_id in counts if _is_broken(image_id)]
    if problems:
        raise DataError("each image needs one name of its own:\n  " + "\n  ".join(_cut(problems)))


def _is_broken(name: str) -> bool:
    """Return whether a file name holds bytes that are no text."""
    return any("\ud800" <= character <= "\udfff" for character in name)


def _cut(problems: Sequence[str]) -> list[str]:
    """Return the first problems, and how many there are beyond."""
    more = len(problems) - MAX_PROBLEMS_SHOWN
    return [*problems[:MAX_PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]
