"""A search's folder that was moved: MLflow keeps whole paths, and no call of its changes those of runs and models."""

import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow

from sem_search.places import find_sqlite_file

ARTIFACTS = "mlruns"
"""MLflow's own folder for files, beside its default store."""


def find_missing_folder(location: str) -> Path | None:
    """Return the folder of this machine that a location of MLflow's names and that is not there, else None."""
    if location.startswith("file:"):
        location = unquote(urlsplit(location).path)
    folder = Path(location)
    return folder if folder.is_absolute() and "://" not in location and not folder.exists() else None


def describe_move(missing: Path) -> str:
    """Return what it means that a folder is missing, and what to do, as sentences."""
    return (
        f"its files should lie in {missing}, which is not there. MLflow keeps whole paths: move the search's folder "
        f"back to where it was, or put a link to it there{_advise_link(missing)}."
    )


def _advise_link(missing: Path) -> str:
    """Return the command that makes the link, where the store shows to which folder."""
    store = find_sqlite_file(mlflow.get_tracking_uri())
    before = next((folder.parent for folder in missing.parents if folder.name == ARTIFACTS), None)
    if store is None or before is None or before.exists() or not (store.parent / ARTIFACTS).is_dir():
        return ""
    make = "" if before.parent.is_dir() else f"mkdir -p {shlex.quote(str(before.parent))} && "
    return f": {make}ln -s {shlex.quote(str(store.parent))} {shlex.quote(str(before))}"
