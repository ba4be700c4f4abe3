"""The picture files of a data set before any is opened, and what folders and CSVs share in listing them.

Names are compared in Unicode's composed form (NFC), so that a data set keeps its image ids, and with them its folds,
when it moves between macOS and other systems.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sem_search.errors import DataError, SettingsError

READ_SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff")
REFUSED_SUFFIXES = (".gif", ".apng", ".webp", ".jp2", ".heic", ".avif")  # meant as pictures: not to be passed over
PICTURE_SUFFIXES = frozenset((*READ_SUFFIXES, *REFUSED_SUFFIXES))
MAX_PROBLEMS_SHOWN = 10


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


def build_listing(root: Path, *, images: Sequence[ListedImage], warnings: Sequence[str]) -> Listing:
    """Return the listing in an order that does not depend on the file system.

    Args:
        root: Of the data.
        images: In any order.
        warnings: What was left out, and what is doubtful.

    Raises:
        DataError: Two images have one name, or a name cannot be written down.
    """
    _check_names(images)
    ordered = tuple(sorted(images, key=lambda image: image.image_id))
    return Listing(root=root.absolute(), images=ordered, warnings=tuple(warnings))


def find_excluded(exclude: Sequence[str], *, labels: set[str]) -> frozenset[str]:
    """Return the classes to be left out.

    A shell takes the quotation marks from `exclude="MCC, 50 um"`, and the name arrives in two parts: parts that follow
    one another count as one name where there is such a class.

    Raises:
        SettingsError: A class is not there: a typing error would keep it in.
    """
    parts = [to_nfc(name) for name in exclude]
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


def to_nfc(name: str) -> str:
    """Return a name in Unicode's composed form."""
    return unicodedata.normalize("NFC", name)


def shorten(parts: Sequence[str]) -> list[str]:
    """Return the first parts, and how many there are beyond."""
    more = len(parts) - MAX_PROBLEMS_SHOWN
    return [*parts[:MAX_PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def _check_names(images: Sequence[ListedImage]) -> None:
    """Raise if two images would bear one name, or a name cannot be written down."""
    counts = Counter(image.image_id for image in images)
    problems = [f"{image_id}: named {n} times" for image_id, n in counts.items() if n > 1]
    broken = (image_id for image_id in counts if any("\ud800" <= sign <= "\udfff" for sign in image_id))
    problems += [f"{image_id!a}: the name is not valid UTF-8, rename it" for image_id in broken]
    if problems:
        raise DataError("each image needs one name of its own:\n  " + "\n  ".join(shorten(problems)))
