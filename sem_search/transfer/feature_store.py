"""A feature store as files: plain `.npy` arrays, and a manifest that says what they are and how they hash.

Files are written from front to back, never through a memory map: a full disk then is an error that can be caught,
where a memory map would end the process.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from sem_search.errors import StoreError

FORMAT = "sem_search features 1"
FEATURES_FOLDER = "features"
MANIFEST_NAME = "manifest.json"
PARTIAL_SUFFIX = ".partial"
LOCK_SUFFIX = ".lock"
KEY_DIGITS = 32
GIGABYTE = 1e9

_STORE_NAME = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}(\{PARTIAL_SUFFIX})?")
_FILE_NAME = re.compile(rf"features_\d+\.npy|{re.escape(MANIFEST_NAME)}")


class DamagedStoreError(StoreError):
    """A store is not what was once written; it is to be computed again."""


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
    manifest = _read_manifest(folder)
    return tuple(_open_array(folder, entry) for entry in _list_entries(folder, manifest))


def iter_summaries(cache_folder: Path) -> Iterator[StoreSummary]:
    """Yield what is known of each whole store, by name; folders that are no stores are passed over."""
    for folder in sorted((cache_folder / FEATURES_FOLDER).glob("*")):
        if folder.is_dir() and _STORE_NAME.fullmatch(folder.name):
            try:
                manifest = _read_manifest(folder)
            except DamagedStoreError:
                continue
            yield StoreSummary(
                folder=folder,
                backbone=manifest["about"].get("backbone", "unknown"),
                n_tiles=manifest["n_tiles"],
                n_bytes=sum(file.stat().st_size for file in folder.iterdir()),
                written_at=manifest["written_at"],
            )


def iter_removable_folders(cache_folder: Path) -> Iterator[Path]:
    """Yield the folders that bear a store's name and hold nothing but a store's files, whole, damaged or partial."""
    for folder in sorted((cache_folder / FEATURES_FOLDER).glob("*")):
        is_ours = folder.is_dir() and not folder.is_symlink() and _STORE_NAME.fullmatch(folder.name)
        if is_ours and all(_FILE_NAME.fullmatch(file.name) for file in folder.iterdir()):
            yield folder


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into a StoreError that says what to do."""
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


class StoreWriter:
    """Writes a store beside its place and moves it there when it is whole; use it in a `with` statement.

    Leaving the `with` on an error removes what was written. The caller holds the store's lock.

    Args:
        folder: The store's place.
        shapes: Shape of each array, (n_tiles, ...).
        about: What the store was computed with, for people.
    """

    def __init__(self, folder: Path, *, shapes: Sequence[tuple[int, ...]], about: Mapping[str, str]) -> None:
        self._folder, self._about = folder, about
        self._partial = folder.with_name(folder.name + PARTIAL_SUFFIX)
        self._arrays = [
            _ArrayWriter(self._partial / f"features_{index}.npy", shape=shape) for index, shape in enumerate(shapes)
        ]

    def __enter__(self) -> Self:
        with explain_write_errors(self._folder):
            remove_store(self._partial)  # left by a process that died
            _check_room(self._folder.parent, n_bytes=sum(array.n_bytes for array in self._arrays))
            self._partial.mkdir()
            for array in self._arrays:
                array.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            with explain_write_errors(self._folder):
                self._finish()
        except StoreError:
            self._discard()
            raise

    def append(self, values: Sequence[NDArray[np.float32]]) -> None:
        """Write the next tiles of every array, each of shape (n, ...)."""
        with explain_write_errors(self._folder):
            for array, part in zip(self._arrays, values, strict=True):
                array.append(part)

    def _finish(self) -> None:
        manifest = {
            "format": FORMAT,
            "key": self._folder.name,
            "n_tiles": self._arrays[0].shape[0],
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "about": dict(self._about),
            "arrays": [array.close() for array in self._arrays],
        }
        (self._partial / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        self._partial.rename(self._folder)

    def _discard(self) -> None:
        for array in self._arrays:
            array.abandon()
        remove_store(self._partial)


class _ArrayWriter:
    """One `.npy` file, written from front to back and hashed on the way."""

    def __init__(self, file: Path, *, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._file = file
        self._stream: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._n_written = 0

    @property
    def n_bytes(self) -> int:
        """Size of the whole array in bytes."""
        return int(np.prod(self.shape)) * np.dtype(np.float32).itemsize

    def open(self) -> None:
        self._stream = self._file.open("w+b")
        header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": self.shape}
        npy_format.write_array_header_1_0(self._stream, header)
        self._stream.seek(0)
        self._digest.update(self._stream.read())

    def append(self, values: NDArray[np.float32]) -> None:
        data = np.ascontiguousarray(values, dtype=np.float32).tobytes()
        self._get_stream().write(data)
        self._digest.update(data)
        self._n_written += len(values)

    def close(self) -> dict[str, Any]:
        """Close the file and return its manifest entry."""
        self._get_stream().close()
        if self._n_written != self.shape[0]:
            raise StoreError(f"{self._n_written} tiles came where {self.shape[0]} were announced: nothing was kept.")
        return {"file": self._file.name, "shape": self.shape, "sha256": self._digest.hexdigest()}

    def abandon(self) -> None:
        if self._stream is not None:
            with suppress(OSError):  # what could not be written is not wanted any more
                self._stream.close()

    def _get_stream(self) -> BinaryIO:
        if self._stream is None:
            raise StoreError(f"{self._file} is not open for writing.")
        return self._stream


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return a store's manifest after checking that it is one."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedStoreError(f"{folder}: its manifest cannot be read ({error})") from error
    entries: dict[str, Any] = manifest if isinstance(manifest, dict) else {}
    kinds = {"n_tiles": int, "written_at": str, "about": dict, "arrays": list}
    is_whole = all(isinstance(entries.get(name), kind) for name, kind in kinds.items())
    if not is_whole or (entries.get("format"), entries.get("key")) != (FORMAT, folder.name):
        raise DamagedStoreError(f"{folder}: its manifest is not one of this store")
    return entries


def _list_entries(folder: Path, manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the manifest's arrays, after looking whether each names a file of this very folder, and its hash."""
    for entry in manifest["arrays"]:
        named = [entry.get("file"), entry.get("sha256")] if isinstance(entry, dict) else [None]
        if not (all(isinstance(name, str) for name in named) and _FILE_NAME.fullmatch(str(named[0]))):
            raise DamagedStoreError(f"{folder}: its manifest names no arrays of this folder")
    return list(manifest["arrays"])


def _open_array(folder: Path, entry: Mapping[str, Any]) -> NDArray[np.float32]:
    file = folder / entry["file"]
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != entry["sha256"]:
            raise DamagedStoreError(f"{file}: it has changed since it was written")
        array: NDArray[np.float32] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # ValueError: no array, or pickled objects, which are not loaded
        raise DamagedStoreError(f"{file}: it cannot be read ({error})") from error
    if list(array.shape) != entry.get("shape"):
        raise DamagedStoreError(f"{file}: its shape is not the manifest's")
    return array


def _check_room(folder: Path, *, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise StoreError(
            f"The features need {n_bytes / GIGABYTE:.2f} GB, {folder} has {free / GIGABYTE:.2f} GB left. Make room, "
            "run `sem-search cache clear`, or set SEM_SEARCH_CACHE to a folder that can hold them."
        )
