"""The list of a model's files with their hashes: `files.json`, written when the model is logged and never again.

`model.json` names the files that a server reads; this list names all others, too: MLflow's own, the code, the record of
what was measured, and `model.json` itself. The hash of the list stands for the whole model, and the registry's history
holds it.

MLflow's own commands, which load a model in place, leave files beside those that were logged: a note of MLflow's and
Python's bytecode. They do not count as tampering. But an attacker who can write there could write other bytecode, which
is why `verify` counts it, and `registry.contents.fetch_model` leaves it out.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sem_search.deployment.package.description import compute_file_sha256, read_format

FILE_LIST = "files.json"
FORMAT_VERSION = 1

BYTECODE = "__pycache__"
MLFLOW_NOTE = "registered_model_meta"
"""MLflow writes which version it is beside a model that is downloaded, in the store itself where that is a folder."""


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What became of the files of a model."""

    n_files: int
    """Named in the list."""
    problems: tuple[str, ...]
    """A sentence for each file that is not what was logged, in the order of the list."""
    n_bytecode: int
    """Files of bytecode, which are on no list."""


def write_file_list(folder: Path) -> None:
    """List every file below a folder with its hash, in the folder itself."""
    files = {path: compute_file_sha256(folder / path) for path in _list_files(folder) if path != FILE_LIST}
    content = {"format_version": FORMAT_VERSION, "files": files}
    (folder / FILE_LIST).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def read_file_list(path: Path) -> Mapping[str, str]:
    """Return path -> sha256 of every file that was logged.

    Raises:
        StoreError: The file is no such list.
    """
    return read_format(
        path.read_text(encoding="utf-8", errors="replace"),
        name=FILE_LIST,
        last=FORMAT_VERSION,
        damage=f"{FILE_LIST} is damaged: it does not list the files of a model.",
        build=lambda content: {str(name): str(sha256) for name, sha256 in content["files"].items()},
    )


def check_files(folder: Path) -> FileReport:
    """Compare the files of a model with its list.

    Raises:
        StoreError: The list cannot be read.
    """
    listed = read_file_list(folder / FILE_LIST)
    unlisted = set(_list_files(folder)) - {FILE_LIST, MLFLOW_NOTE} - set(listed)
    bytecode = {path for path in unlisted if BYTECODE in PurePosixPath(path).parts}
    return FileReport(
        n_files=len(listed),
        problems=tuple(_iter_problems(folder, listed=listed, unlisted=unlisted - bytecode)),
        n_bytecode=len(bytecode),
    )


def _iter_problems(folder: Path, *, listed: Mapping[str, str], unlisted: set[str]) -> Iterator[str]:
    for path, sha256 in listed.items():
        is_inside = (folder / path).resolve().is_relative_to(folder.resolve())  # an altered list may name other places
        if not is_inside or not (folder / path).is_file():
            yield f"{path} is missing."
        elif (found := compute_file_sha256(folder / path)) != sha256:
            yield f"{path} is not the file that was logged: its sha256 is {found[:16]}..., not {sha256[:16]}..."
    for path in sorted(unlisted):
        yield f"{path} was not logged: it was put there later."


def _list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
