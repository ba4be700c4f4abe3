"""A feature store on disk: plain `.npy` arrays, and a manifest that says what they are and what their hashes are.

A store is written beside its place and moved there whole, under a lock, so that it either is complete or does not
exist; it is hashed when opened, so that one that has been damaged since is computed again instead of believed. Files
are written from front to back, never through a memory map: a full disk then is an error that can be caught, where a
memory map would end the process.
"""

import hashlib
import io
import math
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy_format
from numpy.typing import NDArray
from pydantic import BaseModel, StringConstraints

from sem_search.errors import StoreError

FORMAT: Literal["sem_search features 1"] = "sem_search features 1"
FLOAT32 = np.dtype(np.float32)
FEATURES_FOLDER = "features"
MANIFEST_NAME = "manifest.json"
PARTIAL_SUFFIX = ".partial"
LOCK_SUFFIX = ".lock"
KEY_DIGITS = 32
GIGABYTE = 1e9

_STORE_NAME = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}(\{PARTIAL_SUFFIX})?")
ARRAY_NAME = r"^features_\d+\.npy$"
_FILE_NAME = re.compile(rf"{ARRAY_NAME}|{re.escape(MANIFEST_NAME)}")


class DamagedStoreError(StoreError):
    """A store is not what was once written; it is to be computed again."""


class StoredArray(BaseModel):
    """One file of a store: a plain `.npy` array."""

    file: Annotated[str, StringConstraints(pattern=ARRAY_NAME)]
    shape: list[int]
    sha256: str


class Manifest(BaseModel):
    """The manifest of a store."""

    format: Literal["sem_search features 1"]
    key: str
    n_tiles: int
    written_at: str
    about: dict[str, str]
    arrays: list[StoredArray]


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """What is known of a store without reading its arrays."""

    folder: Path
    backbone: str
    n_tiles: int
    n_bytes: int
    written_at: str
    """ISO 8601, UTC."""

    def __str__(self) -> str:
        return (
            f"{self.folder.name}  {self.backbone}  {self.n_tiles} tiles  "
            f"{self.n_bytes / GIGABYTE:.2f} GB  written {self.written_at}"
        )


def get_store_folder(cache_folder: Path, key: str) -> Path:
    """Return where the store of this key is or will be."""
    return cache_folder / FEATURES_FOLDER / key


def open_store(folder: Path) -> tuple[NDArray[np.float32], ...]:
    """Open a store after hashing its files.

    Returns:
        Read-only memory maps, one for each crossing tensor.

    Raises:
        DamagedStoreError: Something is missing or differs from the manifest.
    """
    return tuple(_open_array(folder, entry) for entry in _read_manifest(folder).arrays)


def open_or_remove_store(folder: Path) -> tuple[tuple[NDArray[np.float32], ...] | None, tuple[str, ...]]:
    """Open a store, if there is one; remove a damaged one, and return a warning about it."""
    if not folder.exists():
        return None, ()
    try:
        return open_store(folder), ()
    except DamagedStoreError as error:
        with explain_write_errors(folder):
            remove_store(folder)
        return None, (f"A feature store was damaged and has been computed again: {error}.",)


def list_stores(cache_folder: Path) -> tuple[StoreSummary, ...]:
    """Return what is known of each whole store in a cache folder, by name; other folders are passed over."""
    return tuple(summary for folder in _list_folders(cache_folder) if (summary := _summarise(folder)) is not None)


def clear_stores(cache_folder: Path) -> int:
    """Remove the stores of a cache folder, whole, damaged or partial; nothing else in it.

    Stores that a process is computing or opening at this moment stay, and so do folders that hold anything else.

    Returns:
        How many whole or damaged stores were removed.
    """
    n_removed = 0
    for folder in _list_folders(cache_folder):
        if folder.is_symlink() or not all(_FILE_NAME.fullmatch(file.name) for file in folder.iterdir()):
            continue
        with suppress(Timeout), FileLock(_get_lock_file(folder), timeout=0):
            remove_store(folder)
            n_removed += not folder.name.endswith(PARTIAL_SUFFIX)
    return n_removed


def _list_folders(cache_folder: Path) -> list[Path]:
    folders = sorted((cache_folder / FEATURES_FOLDER).glob("*"))
    return [folder for folder in folders if folder.is_dir() and _STORE_NAME.fullmatch(folder.name)]


def _summarise(folder: Path) -> StoreSummary | None:
    try:
        manifest = _read_manifest(folder)
    except DamagedStoreError:
        return None
    return StoreSummary(
        folder=folder,
        backbone=manifest.about.get("backbone", "unknown"),
        n_tiles=manifest.n_tiles,
        n_bytes=sum(file.stat().st_size for file in folder.iterdir()),
        written_at=manifest.written_at,
    )


@contextmanager
def lock_store(folder: Path, *, progress: bool) -> Iterator[None]:
    """Hold the lock of a store; a process that is killed loses it.

    Args:
        folder: The store's place.
        progress: Show on standard error that another process holds it.
    """
    with explain_write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_get_lock_file(folder))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                print("Another process is computing these features; waiting for it.", file=sys.stderr, flush=True)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _get_lock_file(folder: Path) -> Path:
    return folder.with_name(folder.name.removesuffix(PARTIAL_SUFFIX) + LOCK_SUFFIX)


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into a StoreError with its remedy."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"The feature store {folder} could not be written: {error.strerror or error}. Make room, run "
            "`sem-search cache clear`, or set SEM_SEARCH_CACHE to a folder that can hold it."
        ) from error


def remove_store(folder: Path) -> None:
    """Remove a store's files and its folder, if they are there; anything else in it is an error, and stays."""
    if not folder.is_dir():
        return
    (folder / MANIFEST_NAME).unlink(missing_ok=True)  # first: without it, nothing else is believed
    for file in folder.glob("features_*.npy"):
        file.unlink()
    folder.rmdir()


def write_store(
    folder: Path,
    *,
    shapes: Sequence[tuple[int, ...]],
    about: Mapping[str, str],
    batches: Iterable[Sequence[NDArray[np.float32]]],
) -> None:
    """Write a store beside its place and move it there when it is whole; after an error nothing of it is left.

    The caller holds the store's lock.

    Args:
        folder: The store's place.
        shapes: Shape of each array, (n_tiles, ...).
        about: What the store was computed with, for people.
        batches: The next tiles of every array, each of shape (n, ...).

    Raises:
        StoreError: The disk cannot take it, or there are not as many tiles as in the shapes.
    """
    partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
    try:
        with explain_write_errors(folder):
            remove_store(partial)  # of a process that was killed
            _check_room(folder.parent, n_bytes=sum(map(compute_file_bytes, shapes)))
            partial.mkdir()
        arrays = _write_arrays(partial, shapes=shapes, batches=batches)
        manifest = Manifest(
            format=FORMAT,
            key=folder.name,
            n_tiles=shapes[0][0],
            written_at=datetime.now(UTC).isoformat(timespec="seconds"),
            about=dict(about),
            arrays=arrays,
        )
        with explain_write_errors(folder):
            (partial / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
            partial.rename(folder)
    except BaseException:
        with suppress(OSError):
            remove_store(partial)
        raise


def _write_arrays(
    partial: Path, *, shapes: Sequence[tuple[int, ...]], batches: Iterable[Sequence[NDArray[np.float32]]]
) -> list[StoredArray]:
    """Write the files from front to back, and hash them on the way."""
    files = [partial / f"features_{index}.npy" for index in range(len(shapes))]
    digests = [hashlib.sha256(_build_header(shape)) for shape in shapes]
    streams: list[BinaryIO] = []
    n_written = 0
    with ExitStack() as stack:
        with explain_write_errors(partial):
            for file, shape in zip(files, shapes, strict=True):
                streams.append(file.open("wb"))
                stack.callback(_close_quietly, streams[-1])
                streams[-1].write(_build_header(shape))
        for features in batches:
            with explain_write_errors(partial):
                for stream, digest, values in zip(streams, digests, features, strict=True):
                    data = np.ascontiguousarray(values, dtype=FLOAT32).tobytes()
                    stream.write(data)
                    digest.update(data)
            n_written += len(features[0])
        with explain_write_errors(partial):
            for stream in streams:
                stream.close()
    if n_written != shapes[0][0]:
        raise StoreError(f"{n_written} tiles came where {shapes[0][0]} were announced: no features were stored.")
    return [
        StoredArray(file=file.name, shape=list(shape), sha256=digest.hexdigest())
        for file, shape, digest in zip(files, shapes, digests, strict=True)
    ]


def compute_file_bytes(shape: tuple[int, ...]) -> int:
    """Return how many bytes the file of an array of this shape has."""
    return len(_build_header(shape)) + math.prod(shape) * FLOAT32.itemsize


def _build_header(shape: tuple[int, ...]) -> bytes:
    """Return what a `.npy` file of this shape begins with."""
    header = io.BytesIO()
    npy_format.write_array_header_1_0(header, {"descr": FLOAT32.str, "fortran_order": False, "shape": shape})
    return header.getvalue()


def _close_quietly(stream: BinaryIO) -> None:
    with suppress(OSError):  # after an error: what could not be written is not wanted any more
        stream.close()


def _read_manifest(folder: Path) -> Manifest:
    """Return a store's manifest after checking that it is one."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except OSError as error:
        raise DamagedStoreError(f"{folder}: its manifest cannot be read ({error})") from error
    except ValueError as error:
        raise DamagedStoreError(f"{folder}: its manifest is not one of a feature store") from error
    if manifest.key != folder.name:
        raise DamagedStoreError(f"{folder}: its manifest is that of another store")
    return manifest


def _open_array(folder: Path, entry: StoredArray) -> NDArray[np.float32]:
    file = folder / entry.file
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != entry.sha256:
            raise DamagedStoreError(f"{file}: it has changed since it was written")
        array: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # ValueError: no array, or pickled objects, which are not loaded
        raise DamagedStoreError(f"{file}: it cannot be read ({error})") from error
    if list(array.shape) != entry.shape:
        raise DamagedStoreError(f"{file}: its shape is not the manifest's")
    return array


def _check_room(folder: Path, *, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise StoreError(
            f"The features need {n_bytes / GIGABYTE:.2f} GB, {folder} has {free / GIGABYTE:.2f} GB left. Make room, "
            "run `sem-search cache clear`, or set SEM_SEARCH_CACHE to a folder that can hold them."
        )
