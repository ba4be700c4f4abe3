"""Where things are kept that outlive a run."""

from pathlib import Path

import platformdirs
import pytest

from sem_search.errors import StoreError
from sem_search.places import CACHE_VARIABLE, get_cache_folder, make_cache_folder


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


def test_a_cache_is_made_for_its_owner_alone_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    folder = make_cache_folder(tmp_path / "new" / "cache")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)
    assert make_cache_folder(folder).stat().st_mode & 0o777 == 0o750, "shared on purpose"


def test_a_cache_that_cannot_be_made_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        StoreError, match=r"cache folder .*file/cache cannot be used \((Not a directory|File exists)\): make room"
    ):
        make_cache_folder(tmp_path / "file" / "cache")


def test_a_cache_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # as root may write everywhere
    with pytest.raises(StoreError, match=r"\(it may not be written\).* or set SEM_SEARCH_CACHE"):
        make_cache_folder(tmp_path)
