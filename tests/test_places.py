"""Where things are kept that outlive a run."""

from pathlib import Path

import platformdirs
import pytest

from sem_search.places import CACHE_VARIABLE, get_cache_folder


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("/somewhere/else", Path("/somewhere/else")),
        ("here", Path("here")),
        ("~/mine", Path("/home/me/mine")),
    ],
)
def test_the_variable_names_the_cache(named: str, expected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv(CACHE_VARIABLE, named)
    assert get_cache_folder() == expected


@pytest.mark.parametrize("unset", [None, ""])
def test_else_it_is_the_platform_s_own_place(unset: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if unset is None:
        monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(CACHE_VARIABLE, unset)
    folder = get_cache_folder()
    assert folder == Path(platformdirs.user_cache_dir("sem_search"))
    assert folder.name == "sem_search"


def test_asking_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    assert not get_cache_folder().exists()
