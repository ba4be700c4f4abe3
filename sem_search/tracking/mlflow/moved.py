"""A search's folder that was moved: MLflow keeps whole paths, and no call of its changes those of runs and models."""

from pathlib import Path
from urllib.parse import unquote, urlsplit


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
        "back to where it was, or put a link to it there (ln -s)."
    )
