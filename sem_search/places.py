"""Where things lie that outlive a run: the cache folder, and the files of databases in SQLite."""

import os
from pathlib import Path
from urllib.parse import quote

import platformdirs

from sem_search.errors import SettingsError, StoreError

CACHE_VARIABLE = "SEM_SEARCH_CACHE"

FOLDER_VARIABLE = "SEM_SEARCH_FOLDER"
"""The folder in which the user started `mlflow run`; `scripts/search` sets it."""

REPORT, PAPER = "report.html", "paper.html"
"""The pages in the folder of a study: its report, and that of `sem-search paper` with its first study."""

STORE_VARIABLE = "MLFLOW_TRACKING_URI"
STORE_FILE = "mlflow.db"
"""MLflow's default store, in the folder where the user stands."""


def get_cache_folder() -> Path:
    """Return the folder of trunk features and demonstration pictures; it need not exist yet.

    `SEM_SEARCH_CACHE` names it, else it is the platform's own place for caches
    (`~/.cache/sem_search` on Linux).
    """
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("sem_search"))


def make_cache_folder(folder: Path) -> Path:
    """Make a cache's folder where there is none, for its owner alone, and return it; one that is there stays as it is.

    What lies there can show what is in the micrographs, and what is put there is believed if its hash agrees.

    Raises:
        StoreError: It cannot be made or written.
    """
    try:
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StoreError(explain_cache(folder, reason=str(error.strerror))) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(explain_cache(folder, reason="it may not be written"))
    return folder


def explain_cache(folder: Path, *, reason: str) -> str:
    """Return the sentence for a cache that cannot be used."""
    return (
        f"The cache folder {folder} cannot be used ({reason}): make room, make it writable, or set {CACHE_VARIABLE} to "
        "another folder."
    )


def find_sqlite_file(url: str) -> Path | None:
    """Return the file of a database in SQLite; None for any other database, and for one in memory.

    A URL may hold its path with spaces and letters percent-encoded, as MLflow's default does, or as it is: SQLAlchemy,
    which opens the file, is asked which one it means.

    Args:
        url: Of MLflow's store, or of Optuna's storage.
    """
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except ArgumentError:
        return None  # opening it raises the error
    if not parts.database or parts.database.startswith((":", "file:")) or {"mode", "uri"} & set(parts.query):
        return None
    return Path(parts.database).absolute()


def make_sqlite_url(file: Path) -> str:
    """Return the URL of an SQLite file; only characters of its path that have a meaning in a URL are encoded."""
    return f"sqlite:///{str(file.absolute()).replace('%', '%25').replace('?', '%3F')}"


def find_search_folder() -> Path:
    """Return the folder in which a command works: where data are looked for and all that it makes is put.

    It is the current folder, but for a command that `mlflow run` has started. MLflow starts it in the project's folder,
    and makes its own store where the user stands: all the rest belongs there, too (docs/decisions/024-one-place.md).
    """
    if "MLFLOW_RUN_ID" not in os.environ or not Path("MLproject").is_file():
        return Path.cwd()
    named = os.environ.get(FOLDER_VARIABLE)
    file = find_sqlite_file(os.environ.get(STORE_VARIABLE, ""))
    beside_store = file.parent if file is not None and file.name == STORE_FILE else Path.cwd()
    return Path(named) if named else beside_store


def go_to_search_folder() -> None:
    """Make the folder in which a command works the current one.

    Raises:
        SettingsError: There is no such folder.
    """
    try:
        os.chdir(find_search_folder())
    except OSError as error:
        raise SettingsError(
            f"The folder to work in is not there ({error.strerror}: {error.filename or 'the current folder'}): go to "
            f"one that is, or set {FOLDER_VARIABLE} or {STORE_VARIABLE} to one that is."
        ) from None


def write_store_plainly() -> None:
    """Name MLflow's store by its path as it is, where MLflow would percent-encode it.

    It opens the right file then, but makes an empty folder of the encoded name first, or fails where it may not.
    """
    uri = os.environ.get(STORE_VARIABLE) or f"sqlite:///{quote(str(Path.cwd() / STORE_FILE))}"
    file = find_sqlite_file(uri) if "%" in uri and "?" not in uri else None
    if file is not None:
        os.environ[STORE_VARIABLE] = make_sqlite_url(file)
