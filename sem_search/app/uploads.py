"""Files that are dropped on the page: written into a folder of their own, class by class, within limits.

An archive states what it holds, and may lie: what is unpacked is counted as it comes, and nothing is there before all
of it is.
"""

import filecmp
import lzma
import os
import re
import shutil
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import IO

from sem_search.app.jobs import CONFLICT
from sem_search.deployment.server.admission import TOO_LARGE
from sem_search.errors import DataError, RefusedRequestError, StoreError
from sem_search.micrographs.class_folders import SYSTEM_FOLDERS
from sem_search.micrographs.images import PICTURE_SUFFIXES
from sem_search.terminal import CONTROLS, LINE_BREAKS, show_line

MAX_UPLOAD_BYTES = 20_000_000_000
"""Of an archive, packed and unpacked: twenty thousand micrographs of 1 MB each."""

MAX_FILE_BYTES = 1_000_000_000
MAX_FILES = 50_000
MAX_RATIO = 200
"""Times as large as the archive that its files may be: micrographs are packed to a third, blank ones to a hundredth."""

FREE_BYTES = 1_000_000_000
"""Of the disk, left to the rest of this machine."""

CHUNK_BYTES = 1_000_000
MAX_NAME_BYTES = 200
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for itself."""

TAKEN_SUFFIXES = PICTURE_SUFFIXES | {".txt", ".hdr"}
"""Pictures, and what instruments write beside them."""

DAMAGED = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError),
    *(zlib.error, lzma.LZMAError, ValueError),
)
"""What Python raises of an archive that is damaged, has a password, or is packed in a way of its own."""


def check_name(name: str, *, what: str) -> str:
    """Return the name of a folder or file if every system can have it.

    Args:
        name: As it was given.
        what: What it names, for the message: `class`.

    Raises:
        DataError: It is none, or leads elsewhere.
    """
    plain = unicodedata.normalize("NFC", name).strip()
    is_good = (
        plain
        and not plain.startswith(".")
        and not plain.endswith(".")
        and not re.search(r'[/\\:*?"<>|]', plain)
        and not CONTROLS.search(plain)
        and not LINE_BREAKS.search(plain)
        and not RESERVED.fullmatch(plain)
        and len(plain.encode("utf-8", "replace")) <= MAX_NAME_BYTES
    )
    if not is_good:
        raise DataError(
            f"{show_line(name)[:80]!r} cannot be the name of a {what}: use letters, digits, blanks, - and _, "
            "and no dot at either end."
        )
    return plain


def open_part(folder: Path) -> IO[bytes]:
    """Return a file among the uploads to receive something into; it is gone when it is closed.

    Raises:
        StoreError: The disk is nearly full.
    """
    with _explain_disk():
        folder.mkdir(parents=True, exist_ok=True)
        if not _measure_free(folder):
            raise StoreError(f"The disk of {folder.absolute()} is nearly full: make room.")
        return tempfile.NamedTemporaryFile(dir=folder, prefix=".part-")


def keep_file(part: Path, *, folder: Path, data: str, label: str, name: str) -> Path:
    """Give a picture that was received its place, and return the folder of the data set.

    Args:
        part: What was received.
        folder: Of all uploads.
        data: Name of the data set.
        label: The class.
        name: Of the file.

    Raises:
        DataError: A name cannot be used, or it is no picture by its name.
        RefusedRequestError: There is another file of this name (409).
        StoreError: The disk is full.
    """
    place = folder / check_name(data, what="data set")
    target = place / check_name(label, what="class") / check_name(name, what="file")
    if target.suffix.lower() not in TAKEN_SUFFIXES:
        raise DataError(f"{show_line(name)[:80]!r} is no PNG, JPEG, BMP or TIFF file by its name.")
    with _explain_disk():
        target.parent.mkdir(parents=True, exist_ok=True)
        _give_name(part, target)
    return place


def unpack(archive: Path, *, folder: Path, data: str) -> tuple[Path, int]:
    """Unpack a ZIP of class folders into a new folder; return it, and how many pictures it has.

    Args:
        archive: The file.
        folder: Of all uploads.
        data: Name of the data set.

    Raises:
        DataError: It is no such ZIP, or a name in it cannot be used.
        RefusedRequestError: It is too large (413), or there is a data set of this name (409).
        StoreError: The disk is full.
    """
    target = folder / check_name(data, what="data set")
    if target.exists():
        raise RefusedRequestError(f"There is a data set {target.name!r} already: give another name.", status=CONFLICT)
    with _explain_disk():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
            try:
                with zipfile.ZipFile(archive) as opened:
                    n_pictures = _unpack_all(opened, into=Path(part) / "data", packed_bytes=archive.stat().st_size)
            except FileExistsError as error:
                raise DataError("A file is in the ZIP twice: pack it again.") from error
            except DAMAGED as error:
                raise DataError(f"The ZIP cannot be unpacked ({error}): pack it again, without a password.") from error
            (Path(part) / "data").rename(target)
    return target, n_pictures


def _unpack_all(archive: zipfile.ZipFile, *, into: Path, packed_bytes: int) -> int:
    """Unpack the pictures of an archive; what stands beside them and is none is left out."""
    members = [(member, path) for member in archive.infolist() if (path := _find_place(member)) is not None]
    if len(members) > MAX_FILES:
        raise RefusedRequestError(
            f"The ZIP holds {len(members)} files, and at most {MAX_FILES} are taken.", status=TOO_LARGE
        )
    n_pictures = sum(path.suffix.lower() in PICTURE_SUFFIXES for _, path in members)
    if not n_pictures:
        raise DataError("The ZIP holds no PNG, JPEG, BMP or TIFF file.")
    depth = _count_common(members)
    short = sum(len(path.parts) < depth + 2 for _, path in members)
    if short:
        raise DataError(
            f"{short} of {len(members)} files of the ZIP lie in no class: pack one folder for each class, named after "
            "it."
        )
    left = min(MAX_UPLOAD_BYTES, MAX_RATIO * packed_bytes, _measure_free(into.parent))
    for member, path in members:
        target = into.joinpath(*(check_name(part, what="file or folder") for part in path.parts[depth:]))
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("xb") as file:
            left -= _copy(source, file, most_bytes=min(left, MAX_FILE_BYTES))
    return n_pictures


def _find_place(member: zipfile.ZipInfo) -> PurePosixPath | None:
    """Return where a member of an archive lies in it; None for what is left out.

    Raises:
        DataError: It leads out of the archive.
    """
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if not path.parts or member.is_dir() or stat.S_ISLNK(member.external_attr >> 16):
        return None
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise DataError(f"The ZIP holds {show_line(member.filename)[:80]!r}, which leads out of it: pack it again.")
    is_hidden = any(part.startswith(".") or part in SYSTEM_FOLDERS for part in path.parts)
    return None if is_hidden or path.suffix.lower() not in TAKEN_SUFFIXES else path


def _count_common(members: list[tuple[zipfile.ZipInfo, PurePosixPath]]) -> int:
    """Return how many folders lie around all class folders: a folder that was packed as a whole has one."""
    parents = [path.parts[:-1] for _, path in members]
    common = tuple(names[0] for names in takewhile(lambda names: len(set(names)) == 1, zip(*parents, strict=False)))
    classes = {parts[len(common)] for parts in parents if len(parts) > len(common)}
    return len(common) if len(classes) > 1 else max(len(common) - 1, 0)


def _copy(source: object, file: IO[bytes], *, most_bytes: int) -> int:
    """Copy a member, and return its size.

    Raises:
        RefusedRequestError: It is larger than what is left (413).
    """
    n_bytes = 0
    while chunk := source.read(CHUNK_BYTES):  # type: ignore[attr-defined]
        n_bytes += len(chunk)
        if n_bytes > most_bytes:
            raise RefusedRequestError(
                "The ZIP unpacks to more than is taken, or than the disk has room for: send it in parts.",
                status=TOO_LARGE,
            )
        file.write(chunk)
    return n_bytes


def _give_name(part: Path, target: Path) -> None:
    """Give a file that was received its name; the same file a second time changes nothing.

    Raises:
        RefusedRequestError: Another file has the name (409).
    """
    try:
        os.link(part, target)  # fails where the name is taken, also by a file that came meanwhile
    except FileExistsError:
        if not filecmp.cmp(target, part, shallow=False):
            raise RefusedRequestError(
                f"There is another file {target.name!r} in class {target.parent.name!r} already: rename one of them.",
                status=CONFLICT,
            ) from None
    else:
        target.chmod(0o644)


def _measure_free(folder: Path) -> int:
    return max(0, shutil.disk_usage(folder).free - FREE_BYTES)


@contextmanager
def _explain_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:  # of a decoder
            raise DataError("The ZIP is damaged: pack it again.") from error
        raise StoreError(f"The files cannot be written ({error.strerror}): make room on the disk.") from error
