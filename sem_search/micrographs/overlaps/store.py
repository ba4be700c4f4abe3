"""What was computed of pictures and of pairs, kept in the cache folder: a second search computes only what is new.

One SQLite file. Each entry has a name that holds the hash of the pixels, so nothing in it can be out of date, and a
checksum, so nothing that was damaged is believed. What cannot be read is computed again; what cannot be written is not
kept, with one warning.
"""

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

from sem_search.errors import StoreError
from sem_search.micrographs.reading import grey
from sem_search.places import explain_cache, get_cache_folder, make_cache_folder
from sem_search.terminal import warn

STORE_FILE = "overlaps.sqlite"
LAST = "\U0010ffff"  # no name begins with it
NAMES_AT_ONCE = 500  # SQLite takes at most 999 values in one statement on old systems
WAIT_S = 30.0  # for another process that writes
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
UNUSABLE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
"""Errors of the place where the file lies. All others, such as another table of the same name, are damage."""


class OverlapStore:
    """Entries by name; use it in a `with` statement, and from one thread."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._file = get_cache_folder() / STORE_FILE

    def __enter__(self) -> Self:
        try:
            make_cache_folder(self._file.parent)
        except StoreError as error:
            warn(f"{error} Until then, each search for overlapping images begins anew.")
        else:
            with self._give_up_on_errors():
                self._connection = _open(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the entries that are there and whole."""
        wanted = {_add_version(name): name for name in names}
        keys = list(wanted)
        found: dict[str, bytes] = {}
        with self._give_up_on_errors():
            for start in range(0, len(keys) if self._connection else 0, NAMES_AT_ONCE):
                some = keys[start : start + NAMES_AT_ONCE]
                marks = ",".join("?" * len(some))
                assert self._connection is not None
                query = f"SELECT name, checksum, content FROM entries WHERE name IN ({marks})"  # noqa: S608
                rows = [row for row in self._connection.execute(query, some) if _is_whole(*row)]
                found |= {wanted[key.decode()]: content for key, _, content in rows if key.decode() in wanted}
        return found

    def write(self, entries: Mapping[str, bytes]) -> None:
        """Keep some entries; those of the same names are replaced."""
        names = {_add_version(name): content for name, content in entries.items()}
        with self._give_up_on_errors():
            if self._connection is not None:
                rows = [(name, _compute_check(name.encode(), content), content) for name, content in names.items()]
                with self._connection:
                    self._connection.executemany("REPLACE INTO entries VALUES (?, ?, ?)", rows)

    @contextmanager
    def write_in_batches(self, n_items: int) -> Iterator[Callable[[Mapping[str, bytes]], None]]:
        """Yield a function that keeps entries, so many results at once: a transaction for each would be slow."""
        waiting: dict[str, bytes] = {}
        n_waiting = 0

        def keep(entries: Mapping[str, bytes]) -> None:
            nonlocal n_waiting
            waiting.update(entries)
            n_waiting += 1
            if n_waiting % n_items == 0:
                self.write(waiting)
                waiting.clear()

        try:
            yield keep
        finally:  # also on Ctrl-C
            self.write(waiting)

    @contextmanager
    def _give_up_on_errors(self) -> Iterator[None]:
        """Go on without the file if it fails, with a warning; a damaged one is removed."""
        try:
            yield
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter where a message holds damaged text
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
            if code in LOCKED:
                warn(
                    f"Another process keeps {self._file} locked: what is known of overlapping images is not used this "
                    "time, and what is found is not kept. Let that process end first, if this takes long."
                )
            elif code in UNUSABLE:
                warn(explain_cache(self._file.parent, reason=f"{STORE_FILE}: {error}"))
            else:
                self._file.unlink(missing_ok=True)
                warn(f"What is known of overlapping images was damaged ({self._file}: {error}) and is computed again.")


def measure_store(cache_folder: Path) -> int:
    """Return how many bytes what is kept of overlapping images takes."""
    file = cache_folder / STORE_FILE
    return file.stat().st_size if file.exists() else 0


def clear_store(cache_folder: Path) -> bool:
    """Remove what is kept of overlapping images, and return whether there was anything."""
    is_there = measure_store(cache_folder) > 0
    (cache_folder / STORE_FILE).unlink(missing_ok=True)
    return is_there


def _open(file: Path) -> sqlite3.Connection:
    """Return a connection to the file, made if need be, without what other versions of the code have left in it."""
    connection = sqlite3.connect(file, timeout=WAIT_S)
    try:
        connection.text_factory = bytes  # damaged names are no text
        connection.execute("PRAGMA synchronous=OFF")  # what a power cut damages is computed again
        connection.execute("CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, checksum INTEGER, content BLOB)")
        others = "FROM entries WHERE name < ? OR name > ?"
        ours = _add_version(""), _add_version(LAST)
        if connection.execute(f"SELECT 1 {others} LIMIT 1", ours).fetchone():
            with connection:
                connection.execute(f"DELETE {others}", ours)
            connection.execute("VACUUM")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_whole(name: object, check: object, content: object) -> bool:
    return isinstance(name, bytes) and isinstance(content, bytes) and check == _compute_check(name, content)


def _compute_check(name: bytes, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(name))


def _add_version(name: str) -> str:
    return f"{_compute_version()} {name}"


@lru_cache(maxsize=1)
def _compute_version() -> str:
    """Return a hash of the code that the entries depend on: a changed threshold makes all of them anew."""
    files = sorted((*Path(__file__).parent.glob("*.py"), Path(grey.__file__)))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
