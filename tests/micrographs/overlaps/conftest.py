"""Each test of overlaps has a cache folder of its own: what others found must not answer for it."""

from pathlib import Path

import pytest

from sem_search.places import CACHE_VARIABLE


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache's folder, which is not there yet."""
    folder = tmp_path_factory.mktemp("kept") / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder
