"""Where things are kept that outlive a run: one cache folder, the user's own to move or to delete."""

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "SEM_SEARCH_CACHE"


def get_cache_folder() -> Path:
    """Return the folder of trunk features and demonstration pictures; it need not exist yet.

    `SEM_SEARCH_CACHE` names it, else it is the platform's own place for caches
    (`~/.cache/sem_search` on Linux).
    """
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("sem_search"))
