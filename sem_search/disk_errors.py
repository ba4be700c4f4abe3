"""A disk that is full or cannot be written, explained in one sentence wherever it was met.

Our own files say so themselves. MLflow, Optuna and SQLite raise what they like, from an `OSError` deep in a chain of
causes to SQLite's own errors, and their last line seldom names the disk.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sem_search.errors import InputError, StoreError, iter_causes

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM})
SQLITE_DISK_ERRORS = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


@contextmanager
def explain_disk_errors() -> Iterator[None]:
    """Turn what the disk refuses, however deep it stands among the causes, into a StoreError that says what to do."""
    try:
        yield
    except Exception as error:
        # Wrong input says what is wrong with it: a storage that cannot be opened is a mistyped setting as a rule.
        reason = None if isinstance(error, (StoreError, InputError)) else find_disk_error(error)
        if reason is None:
            raise
        raise StoreError(
            f"The disk refused to write or to read: {reason}. Free it, or make it writable, and start the same command "
            "again: finished folds are kept, and nothing half-written is believed."
        ) from error


def find_disk_error(error: BaseException) -> str | None:
    """Return what the disk said, if it is among the causes of an error, else None."""
    for one in iter_causes(error):
        if isinstance(one, OSError) and one.errno in DISK_ERRORS:
            return one.strerror if one.filename is None else f"{one.strerror} ({one.filename})"
        if is_refusal_of_sqlite(one):
            return f"SQLite says {one}"
    return None


def is_refusal_of_sqlite(error: BaseException) -> bool:
    """Tell whether SQLite cannot read or write its file; one that is locked is another matter."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return isinstance(error, sqlite3.Error) and name.startswith(SQLITE_DISK_ERRORS)
