"""Where things are kept that outlive a run: one cache folder, the user's own to move or to delete."""

import os
from pathlib import Path

import platformdirs

from sem_search.errors import StoreError

CACHE_VARIABLE = "SEM_SEARCH_CACHE"


def get_cache_folder() -> Path:
    """Return the folder of trunk features and demonstration pictures; it need not exist yet.

    `SEM_SEARCH_CACHE` names it, else it is the platform's own place for caches
    (`~/.cache/sem_search` on Linux).
    """
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("sem_search"))


def make_cache_folder(folder: Path) -> Path:
    """Make a cache's folder where there is none, for its owner alone, and return it; one that is there stays as it is.

    What is kept there can tell what the micrographs show, and what is put there is believed if its hash agrees.

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
