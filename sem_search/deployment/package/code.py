"""The code that travels with a model: a copy of this package, and its hash.

A server that knows no sem_search runs this copy. A process that has already imported sem_search goes on with what it
has (Python imports a package once), and the hash then shows whether that is the code which was measured.
"""

import hashlib
import shutil
from pathlib import Path

import sem_search

PACKAGE_FOLDER = Path(sem_search.__file__).parent

ANSWERING_ROOMS = ("micrographs", "transfer", "evaluation", "deployment")
"""What an answer passes through; a change of any other module changes no answer."""

LEFT_OUT = ("__pycache__", "*.pyc", "*.h5", "*.keras", "*.npz")
"""Bytecode, and the weights that ship with the package: a model brings its own."""


def copy_package(target: Path, *, package: Path = PACKAGE_FOLDER) -> None:
    """Copy the package's code into a folder that does not exist yet."""
    shutil.copytree(package, target, ignore=shutil.ignore_patterns(*LEFT_OUT))


def compute_code_sha256(package: Path = PACKAGE_FOLDER) -> str:
    """Return one hash over the names and contents of all code that makes an answer."""
    digest = hashlib.sha256()
    for room in ANSWERING_ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            digest.update(f"{path.relative_to(package).as_posix()}\0".encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()
