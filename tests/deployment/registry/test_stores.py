import socket
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from sem_search.deployment.registry import list_models, resolve_model_uri, show_version
from sem_search.deployment.registry.stores import describe_store, open_client
from sem_search.errors import ModelNotFoundError, SettingsError, StoreError
from sem_search.places import find_sqlite_file
from sem_search.tracking.mlflow import availability as outages


@pytest.fixture
def set_store():
    before = mlflow.get_tracking_uri()
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)


def test_a_question_in_the_wrong_folder_leaves_nothing_behind(tmp_path: Path, set_store) -> None:
    set_store(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ModelNotFoundError, match=r"There is no registry sqlite:.*mlflow\.db here: give the command in"):
        open_client()
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_opened(tmp_path: Path, set_store, make_mlflow_store) -> None:
    set_store(make_mlflow_store(tmp_path))
    assert open_client().search_registered_models() == []


def test_a_password_is_not_told(set_store) -> None:
    set_store("postgresql://user:secret@host/name")
    assert describe_store() == "postgresql://user:***@host/name"


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite:///a.db?mode=ro", None),
        ("sqlite:///", None),
        ("http://host", None),
        ("postgresql://host/name", None),
    ],
)
def test_the_file_of_a_store(uri: str, file: str | None) -> None:
    assert find_sqlite_file(uri) == (None if file is None else Path(file))


def test_a_store_is_found_in_a_folder_of_any_name(tmp_path: Path, set_store, make_mlflow_store) -> None:
    """MLflow's default URI is percent-encoded, its file is not."""
    folder = tmp_path / "My Search ü"
    folder.mkdir()
    make_mlflow_store(folder)
    set_store(f"sqlite:///{tmp_path}/My%20Search%20%C3%BC/mlflow.db")
    assert open_client().search_registered_models() == []


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look gives up within a second or two; in earnest within about ten."""
    monkeypatch.setattr(outages, "LOOK", {**outages.LOOK, "MLFLOW_HTTP_REQUEST_TIMEOUT": "1"})


ASKS = {
    "list": list_models,
    "show": lambda: show_version("sem-search-tiny", "1"),
    "alias": lambda: resolve_model_uri("models:/sem-search-tiny@champion"),
    "logged model": lambda: resolve_model_uri("models:/m-0123"),
    "run": lambda: resolve_model_uri("runs:/0123/classifier"),
}


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("ask", ASKS)
def test_a_server_that_is_silent_is_told_soon(silent_server: str, set_store, ask: str) -> None:
    set_store(silent_server)
    with pytest.raises(StoreError, match=f"The store {silent_server} does not answer. Start it, or set MLFLOW_TR"):
        ASKS[ask]()


def test_a_server_that_is_not_there_is_told(set_store) -> None:
    set_store("http://127.0.0.1:9")
    with pytest.raises(StoreError, match="does not answer"):
        list_models()


def test_what_is_looked_at_takes_about_ten_seconds_at_most() -> None:
    """Each attempt may take the whole timeout."""
    attempts = 1 + int(outages.LOOK["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    assert attempts * int(outages.LOOK["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 10


def test_a_store_that_is_none_is_refused_in_a_sentence(set_store, tmp_path: Path) -> None:
    set_store(f"file://{tmp_path}/mlruns")
    with pytest.raises(SettingsError, match="Unset MLFLOW_TRACKING_URI for a database in this folder"):
        list_models()


def test_a_model_s_folder_needs_no_store(silent_server: str, set_store, tmp_path: Path) -> None:
    set_store(silent_server)
    assert resolve_model_uri(str(tmp_path)) == str(tmp_path)
