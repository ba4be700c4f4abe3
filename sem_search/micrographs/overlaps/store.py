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
NAMES_AT_ONCE = 500  # SQLite takes at most 999 values in one statement on old systems
WAIT_S = 30.0  # for another process that writes


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
        wanted = [_add_version(name) for name in names]
        found: dict[str, bytes] = {}
        with self._give_up_on_errors():
            for start in range(0, len(wanted) if self._connection else 0, NAMES_AT_ONCE):
                some = wanted[start : start + NAMES_AT_ONCE]
                marks = ",".join("?" * len(some))
                assert self._connection is not None
                rows = self._connection.execute(f"SELECT * FROM entries WHERE name IN ({marks})", some)  # noqa: S608
                found |= {name: content for name, check, content in rows if check == _compute_check(name, content)}
        return {name.partition(" ")[2]: content for name, content in found.items()}

    def write(self, entries: Mapping[str, bytes]) -> None:
        """Keep some entries; those of the same names are replaced."""
        names = {_add_version(name): content for name, content in entries.items()}
        with self._give_up_on_errors():
            if self._connection is not None:
                rows = [(name, _compute_check(name, content), content) for name, content in names.items()]
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
        except sqlite3.DatabaseError as error:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            is_damaged = not isinstance(error, sqlite3.OperationalError)
            if is_damaged:
                self._file.unlink(missing_ok=True)
            warn(
                f"What is known of overlapping images was damaged ({self._file}: {error}) and is computed again."
                if is_damaged
                else explain_cache(self._file.parent, reason=f"{STORE_FILE}: {error}")
            )


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
    connection = sqlite3.connect(file, timeout=WAIT_S)
    connection.execute("PRAGMA synchronous=OFF")  # what a power cut damages is computed again
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS entries (name TEXT PRIMARY KEY, checksum INTEGER, content BLOB)")
    return connection


def _compute_check(name: str, content: object) -> int:
    return zlib.crc32(content, zlib.crc32(name.encode())) if isinstance(content, bytes) else -1


def _add_version(name: str) -> str:
    return f"{_compute_version()} {name}"


@lru_cache(maxsize=1)
def _compute_version() -> str:
    """Return a hash of the code that the entries depend on: a changed threshold makes all of them anew."""
    files = sorted((*Path(__file__).parent.glob("*.py"), Path(grey.__file__)))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
