"""Files that are there whole or not at all, and contents that carry their own hash.

What is written once and believed later is written by these: a process may be killed, and a disk may fill, at any
moment. Arrays are stored as NumPy archives without pickle, so that a file brings no code.
"""

import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import StoreError

HASH_LENGTH = 64
"""Hexadecimal digits of a sha256."""

ARCHIVE_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading an archive raises that is damaged or holds something else, depending on the byte that was hit."""


def write_atomically(path: Path, content: bytes, *, setting: str = "study_folder") -> None:
    """Write a file so that it is either there in full or not at all; folders above it are made.

    Args:
        path: The file.
        content: All of it.
        setting: The setting that names the place, for the message.

    Raises:
        StoreError: It could not be written; the message gives the system's reason. Nothing half-written is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror or error}. Free the disk, or set {setting} to a place "
            "that can be written, and start the same command again: finished folds are kept."
        ) from error


def seal(content: bytes) -> bytes:
    """Return a content below the hash by which a damaged one is recognised."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def unseal(sealed: bytes) -> bytes | None:
    """Return what was sealed; None where it does not match its hash."""
    stated, content = sealed[:HASH_LENGTH], sealed[HASH_LENGTH + 1 :]
    return content if hashlib.sha256(content).hexdigest().encode() == stated else None


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return arrays as a NumPy archive, in their order."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a NumPy archive by name; raises one of ARCHIVE_DAMAGE where it is none."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)
