"""One move at a time, as far as one machine reaches.

MLflow can neither compare and move an alias in one step nor lock a model. Where the registry is an SQLite file, every
process that can move something sees that file, and the lock lies beside it. For a server or another database it lies
in this machine's cache folder: processes of two machines can then still move at the same moment, and the history shows
it (see `history`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout

from sem_search.errors import StoreError
from sem_search.places import find_sqlite_file, get_cache_folder

WAIT_S = 600
"""A move takes seconds; after this long the process that holds the lock hangs."""


@contextmanager
def lock_registry() -> Iterator[None]:
    """Let no other process of this machine move an alias meanwhile. The lock ends with its process, however that ends.

    Raises:
        StoreError: Another process has held it for ten minutes.
    """
    path = locate_lock(mlflow.get_registry_uri())
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=WAIT_S)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreError(
            f"Another process has been changing the registry for {WAIT_S // 60} minutes and holds {path.name}: end it, "
            "and give the command again."
        ) from error
    try:
        yield
    finally:
        lock.release()


def locate_lock(registry_uri: str) -> Path:
    """Return the lock of a registry: beside its SQLite file, else in the cache folder."""
    file = find_sqlite_file(registry_uri)
    if file is not None:
        return file.with_name(f"{file.name}.registry.lock")
    name = hashlib.sha256(registry_uri.encode()).hexdigest()[:16]
    return get_cache_folder() / "locks" / f"registry-{name}.lock"
