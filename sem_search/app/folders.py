"""The folders of this machine that the page may read: those that were named at its start, and what lies in them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sem_search.deployment.server.intake import FORBIDDEN
from sem_search.errors import RefusedRequestError, SettingsError
from sem_search.micrographs.images import PICTURE_SUFFIXES
from sem_search.micrographs.listing import CSV_SUFFIXES
from sem_search.terminal import show_line

MOST_ENTRIES = 5000
"""Entries of a folder that are looked at: enough to count its pictures, or to say that there are very many."""

MOST_FOLDERS = 200
"""Folders in which is looked for classes; among more, a person opens the one that is meant."""

NOT_FOUND = 404


@dataclass(frozen=True, kw_only=True)
class FolderEntry:
    """A folder, or a CSV, within the one that is shown."""

    name: str
    path: str
    n_pictures: int
    """Directly in it."""
    n_classes: int
    """Folders in it that hold pictures directly: two or more make it a data set."""


@dataclass(frozen=True, kw_only=True)
class FolderView:
    """What a person chooses from."""

    path: str
    parents: tuple[tuple[str, str], ...]
    """(name, path) of the folders above, from the one named at the start; the last one is this folder."""
    folders: tuple[FolderEntry, ...]
    tables: tuple[FolderEntry, ...]
    """CSV files."""
    n_pictures: int
    n_classes: int


class Folders:
    """The folders that may be read.

    Args:
        roots: Named at the start; at least one.
        uploads: What was dropped on the page; it need not be there yet.

    Raises:
        SettingsError: One is no folder.
    """

    def __init__(self, roots: Sequence[Path], *, uploads: Path) -> None:
        for root in roots:
            if not root.is_dir():
                raise SettingsError(f"There is no folder {root} here: give folders that the page may read.")
        self.roots = tuple(dict.fromkeys(root.resolve() for root in roots))
        self.uploads = uploads.resolve()

    def find(self, text: str) -> Path:
        """Return a file or folder that may be read, links followed.

        Raises:
            RefusedRequestError: It lies elsewhere (403), or is not there (404).
        """
        try:
            path = Path(text).resolve() if text else self.roots[0]
            is_there = path.exists()
        except (OSError, RuntimeError, ValueError):  # a null character, too long, or links that lead in a circle
            raise RefusedRequestError("That is no path of this machine.", status=NOT_FOUND) from None
        if self.find_root(path) is None:
            named = ", ".join(map(str, self.roots))
            raise RefusedRequestError(
                f"This page may read {named} and what lies in them, and nothing else. Start it with the folder that "
                "you need: sem-search app FOLDER.",
                status=FORBIDDEN,
            )
        if not is_there:
            raise RefusedRequestError(f"There is no {show_line(path.name)!r} here any more.", status=NOT_FOUND)
        return path

    def find_root(self, path: Path) -> Path | None:
        """Return the folder named at the start in which a resolved path lies; None where it lies in none."""
        return next((root for root in (*self.roots, self.uploads) if path.is_relative_to(root)), None)

    def view(self, text: str) -> FolderView:
        """Return what is in a folder, by name.

        Raises:
            RefusedRequestError: It may not be read, or is no folder.
        """
        path = self.find(text)
        if not path.is_dir():
            raise RefusedRequestError(f"{show_line(path.name)!r} is no folder.", status=NOT_FOUND)
        root = self.find_root(path) or path
        between = [each for each in (*reversed(path.parents), path) if each.is_relative_to(root)]
        entries = _scan(path)
        inner = [Path(entry.path) for entry in entries if self._is_folder(entry)]
        folders = [self._describe(folder, is_deep=len(inner) <= MOST_FOLDERS) for folder in inner]
        tables = [
            FolderEntry(name=entry.name, path=entry.path, n_pictures=0, n_classes=0)
            for entry in entries
            if entry.name.lower().endswith(CSV_SUFFIXES[0]) and _is_file(entry)
        ]
        return FolderView(
            path=str(path),
            parents=tuple((each.name or str(each), str(each)) for each in between),
            folders=tuple(folders),
            tables=tuple(tables),
            n_pictures=_count_pictures(entries),
            n_classes=sum(folder.n_pictures > 0 for folder in folders),
        )

    def _is_folder(self, entry: "os.DirEntry[str]") -> bool:
        """Return whether it is a folder that may be read: a link may lead out."""
        try:
            return entry.is_dir() and self.find_root(Path(entry.path).resolve()) is not None
        except (OSError, RuntimeError):  # links that lead in a circle
            return False

    def _describe(self, folder: Path, *, is_deep: bool) -> FolderEntry:
        entries = _scan(folder)
        inner = [_scan(Path(entry.path)) for entry in entries[:MOST_FOLDERS] if is_deep and self._is_folder(entry)]
        return FolderEntry(
            name=folder.name,
            path=str(folder),
            n_pictures=_count_pictures(entries),
            n_classes=sum(_count_pictures(one) > 0 for one in inner),
        )


def _scan(folder: Path) -> list["os.DirEntry[str]"]:
    """Return what is in a folder, by name, hidden entries left out; a folder that cannot be read has nothing."""
    try:
        with os.scandir(folder) as found:
            shown = (entry for _, entry in zip(range(MOST_ENTRIES), found, strict=False))
            return sorted(
                (entry for entry in shown if not entry.name.startswith(".")), key=lambda entry: entry.name.casefold()
            )
    except OSError:
        return []


def _count_pictures(entries: Sequence["os.DirEntry[str]"]) -> int:
    return sum(Path(entry.name).suffix.lower() in PICTURE_SUFFIXES and _is_file(entry) for entry in entries)


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # links that lead in a circle
        return False
