"""A data set as a folder: one sub-folder per class, pictures anywhere below it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sem_search.errors import DataError
from sem_search.micrographs.images import (
    PICTURE_SUFFIXES,
    ListedImage,
    Listing,
    build_listing,
    find_excluded,
    shorten,
    to_nfc,
)
from sem_search.words import join_words, name_some, write_list

COMPANION_SUFFIXES = frozenset(  # what stands beside pictures and is none
    (".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".ini", ".db", ".log")
) | {".hdr"}  # TESCAN's
SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"))
SPLIT_NAMES = frozenset(
    ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "holdout")
)
NUMBERED_NAME = re.compile(r"(\D*?)[ _.-]*\d[\d _.-]*")  # batch1, lot-02, 2024-05-17
DOUBT = "Which folders are the classes?"
"""How a warning begins that the classes may not be the folders that were taken for them."""

BATCH_WORDS = frozenset(("", "batch", "lot", "run", "day", "session", "series"))  # not PH101: classes are so named


def list_class_folders(root: Path, *, exclude: Sequence[str]) -> Listing:
    """Return the pictures below each class folder."""
    entries = sorted(_iter_entries(root))
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise DataError(f"{root} has no sub-folders: put the images of each class into a folder named after the class")
    label_of = {folder: to_nfc(folder.name) for folder in folders}
    excluded = find_excluded(exclude, labels=set(label_of.values()))
    images: list[ListedImage] = []
    files_of_class: dict[str, list[Path]] = {}
    warnings = _warn_about_loose_files([entry for entry in entries if entry not in label_of])
    kept = {folder: label for folder, label in label_of.items() if label not in excluded}
    warnings += _judge_nesting(root, folders=list(kept))
    for folder, label in kept.items():
        files_of_class[label], pictures = list_pictures(folder)
        if not pictures:
            raise DataError(
                f"class {label!r} has no picture: folder {folder} holds no PNG, JPEG, BMP or TIFF file; "
                f"fill it, remove it, or leave it out with exclude={write_list([label])}"
            )
        images += [build_listed(file, root=root, label=label) for file in pictures]
    return build_listing(root, images=images, warnings=[*warnings, *warn_about_strangers(files_of_class)])


def list_pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return all files below a folder, and those of them that are pictures by their names."""
    files = list(_iter_files(folder, ancestors=frozenset()))
    return files, [file for file in files if file.suffix.lower() in PICTURE_SUFFIXES]


def build_listed(file: Path, *, root: Path, label: str, prefix: str = "") -> ListedImage:
    """Return the record of a picture; its id is the path from `root`, behind a prefix.

    Args:
        file: The picture.
        root: Where its id begins.
        label: Its class.
        prefix: What stands before the path in the id.
    """
    image_id = to_nfc(f"{prefix}{file.relative_to(root).as_posix()}")
    return ListedImage(path=file.absolute(), image_id=image_id, label=label, group=None, session=None)


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
            f"search divides the images itself. {advise_inner(folders)}"
        )
    inner = [_list_inner(folder) for folder in folders]
    doubts = _doubt_inner(dict(zip(names, inner, strict=True)))
    shared = sorted(name for name, n in Counter(name for found in inner for name in found).items() if n > 1)
    if not shared or not all(inner):
        return doubts
    if _is_numbered(shared) and not _is_numbered(names):  # lots and days within a class
        return doubts
    all_inner = sorted({name for found in inner for name in found})
    if len(all_inner) > 1 and _are_batches(names) and not _is_numbered(all_inner):
        raise DataError(
            f"the folders {name_some(names)} in {root} are numbered, and hold sub-folders {name_some(all_inner)}, "
            f"which seem to be the classes. {advise_inner(folders)}"
        )
    doubt = (
        f"{DOUBT} All hold sub-folders, and {name_some(shared)} more than once: these are taken as parts of the "
        f"classes {name_some(names)}. If they are the classes: {advise_inner(folders)}"
    )
    return [*doubts, doubt]


def _doubt_inner(inner_of: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a warning for each class folder with sub-folders that are named as other classes: `old/lactose`."""
    named = {name: sorted(set(inner) & set(inner_of) - {name}) for name, inner in inner_of.items()}
    return [
        f"{DOUBT} Class {name!r} holds sub-folders named as other classes ({name_some(others)}), and their images are "
        f"taken as {name!r}. Move them into those classes, or leave them out with exclude={write_list([name])}."
        for name, others in named.items()
        if others
    ]


def _list_inner(folder: Path) -> list[str]:
    """Return the sub-folders of a class folder that hold pictures, none where pictures lie beside them."""
    entries = list(_iter_entries(folder))
    if any(entry.is_file() and entry.suffix.lower() in PICTURE_SUFFIXES for entry in entries):
        return []
    return sorted(to_nfc(entry.name) for entry in entries if entry.is_dir() and list_pictures(entry)[1])


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


def advise_inner(folders: Sequence[Path]) -> str:
    """Return what to do where the classes lie one level deeper, or are to be given in another way."""
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


def _warn_about_loose_files(files: Sequence[Path]) -> list[str]:
    """Return a warning if files lie beside the class folders that may be meant as images."""
    loose = sorted(file.name for file in files if file.suffix.lower() not in COMPANION_SUFFIXES)
    if not loose:
        return []
    return [f"files outside any class folder were left out: {', '.join(shorten(loose))}"]


def warn_about_strangers(files_of_class: Mapping[str, Sequence[Path]]) -> list[str]:
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
    shown = ", ".join(shorten([f"{suffix}: {n}" for suffix, n in sorted(kinds.items())]))
    where = f"{'class' if len(labels) == 1 else 'classes'} {name_some([repr(label) for label in labels])}"
    return [f"{where}: files of unknown kind were left out ({shown})"]
