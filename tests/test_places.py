"""Where things are kept that outlive a run."""

import os
from pathlib import Path
from urllib.parse import quote

import platformdirs
import pytest
from sqlalchemy import create_engine, text

from sem_search.errors import StoreError
from sem_search.places import (
    CACHE_VARIABLE,
    FOLDER_VARIABLE,
    STORE_VARIABLE,
    find_search_folder,
    find_sqlite_file,
    get_cache_folder,
    make_cache_folder,
    make_sqlite_url,
    write_store_plainly,
)


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


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:////a/My Search ü/m.db", "/a/My Search ü/m.db"),
        ("sqlite:////a/My%20Search%20%C3%BC/m.db", "/a/My Search ü/m.db"),  # as MLflow writes its default
        ("sqlite+pysqlite:////a/50%25/m.db?timeout=5", "/a/50%/m.db"),
        ("sqlite:///a.db?mode=ro", None),
        ("sqlite://", None),
        ("sqlite:///", None),
        ("sqlite:///:memory:", None),
        ("sqlite:///file:m?mode=memory&uri=true", None),
        ("sqlite", None),
        ("postgresql://host/m.db", None),
        ("http://host", None),
        ("", None),
    ],
)
def test_the_file_that_a_url_means(url: str, file: str | None) -> None:
    assert find_sqlite_file(url) == (None if file is None else Path(file))


@pytest.mark.parametrize("name", ["plain", "My Search ü", "50 %", "what?", "a#b", "a%20b", "[x]@y:z"])
def test_a_url_of_a_file_means_that_file(tmp_path: Path, name: str) -> None:
    """Found again, and made there by who opens it."""
    file = tmp_path / name / "m.db"
    file.parent.mkdir()
    assert find_sqlite_file(make_sqlite_url(file)) == file
    with create_engine(make_sqlite_url(file)).connect() as connection:
        connection.execute(text("CREATE TABLE t (a INTEGER)"))
    assert [path.name for path in tmp_path.rglob("*.db")] == ["m.db"]
    assert file.exists()


@pytest.mark.parametrize(
    ("named", "store", "expected"),
    [
        (None, "sqlite:///{elsewhere}/mlflow.db", "elsewhere"),
        (None, "sqlite:///{elsewhere}/central.db", "here"),  # a store of the user's own choice says nothing of him
        (None, "http://server:5000", "here"),
        ("{elsewhere}", "http://server:5000", "elsewhere"),
        (None, "sqlite:///mlflow.db", "here"),
        (None, "", "here"),
    ],
)
def test_a_command_of_mlflow_run_works_where_its_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, store: str, expected: str
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "else where ü"
    here.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv(STORE_VARIABLE, store.format(elsewhere=quote(str(elsewhere))))
    if named is not None:
        monkeypatch.setenv(FOLDER_VARIABLE, named.format(elsewhere=elsewhere))
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    (here / "MLproject").touch()
    assert find_search_folder() == here, "without mlflow run, it is where one stands"
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    (here / "MLproject").rename(here / "project")
    assert find_search_folder() == here, "a run that the user names himself, outside of a project"
    (here / "project").rename(here / "MLproject")
    assert find_search_folder() == (elsewhere if expected == "elsewhere" else here)


@pytest.mark.parametrize(
    ("folder", "store", "expected"),
    [
        ("plain", None, None),
        ("My Search ü", None, "sqlite:///{folder}/mlflow.db"),
        ("plain", "sqlite:////a/My%20Search/x.db", "sqlite:////a/My Search/x.db"),
        ("My Search ü", "http://server:5000/a%20b", "http://server:5000/a%20b"),
        ("My Search ü", "sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_mlflow_is_told_its_default_store_by_the_path_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, store: str | None, expected: str | None
) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.setenv(STORE_VARIABLE, store or "")
    write_store_plainly()
    assert os.environ[STORE_VARIABLE] == (expected or "").format(folder=tmp_path / folder)
