import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from sem_search.deployment.registry import (
    compare_versions,
    list_models,
    list_versions,
    promote_version,
    read_headline,
    resolve_model_uri,
    roll_back,
    show_version,
    verify_version,
    write_verdict,
)
from sem_search.deployment.registry.versions import (
    describe_store,
    find_version,
    list_model_versions,
    open_client,
    read_hashes,
    read_scores,
)
from sem_search.errors import ModelNotFoundError, SettingsError, StoreError
from sem_search.tracking.mlflow import availability as outages

MODEL = "sem-search-tiny"


@pytest.fixture
def two(three: Any) -> Any:
    """Champion 1 and challenger 2."""
    three.client.delete_model_version(three.name, "3")
    three.client.set_registered_model_alias(three.name, "challenger", "2")
    return three


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (f"models:/{MODEL}@champion", f"models:/{MODEL}/1"),
        (f"models:/{MODEL}@challenger", f"models:/{MODEL}/2"),
        (f"models:/{MODEL}/1", f"models:/{MODEL}/1"),
        (f"models:/{MODEL}/latest", f"models:/{MODEL}/2"),
        ("models:/m-0123", "models:/m-0123"),
        ("runs:/0123/classifier", "runs:/0123/classifier"),
        ("some/folder", "some/folder"),
    ],
)
def test_resolve_model_uri(two: Any, given: str, wanted: str) -> None:
    assert resolve_model_uri(given) == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("models:/other@champion", f"no registered model 'other' in sqlite:.*; there is {MODEL}"),
        (
            f"models:/{MODEL}@chumpion",
            r"no alias 'chumpion'; it has versions 1, 2 and the aliases challenger \(version 2\), champion",
        ),
        (
            f"models:/{MODEL}/7",
            r"no version '7'; it has versions 1, 2 and the aliases challenger \(version 2\), champion",
        ),
        (f"models:/{MODEL}/Production", "no alias 'Production'"),
        ("models:/", "is not the address of a model"),
        (f"models:/{MODEL}/1/2", "is not the address of a model"),
        ("models:/@champion", "is not the address of a model"),
    ],
)
def test_a_message_says_what_there_is(two: Any, given: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        resolve_model_uri(given)


def test_an_empty_registry(laboratory: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="there is none at all"):
        resolve_model_uri("models:/x@champion")
    assert list_models() == ()


@pytest.mark.parametrize("word", ["1", "champion", "@champion"])
def test_a_version_is_found_by_number_and_by_alias(two: Any, word: str) -> None:
    assert str(find_version(two.client, name=MODEL, version=word).version) == "1"
    assert str(find_version(two.client, name=MODEL, version="latest").version) == "2"


@pytest.mark.parametrize("word", ["0", "9", "-1", "", "@", "one"])
def test_a_version_that_is_not_there_is_reported(two: Any, word: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no (version|alias) .*; it has "):
        find_version(two.client, name=MODEL, version=word)


ASKED = {
    "promote": lambda name: promote_version(name, "9", reason="r"),
    "compare": lambda name: compare_versions(name, "9", "1"),
    "show": lambda name: show_version(name, "9"),
    "verify": lambda name: verify_version(name, "9"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_what_is_not_there_is_reported_by_every_command(two: Any, ask: Callable[[str], Any]) -> None:
    with pytest.raises(ModelNotFoundError, match="no version '9'"):
        ask(MODEL)
    for act in (ask, list_versions, roll_back):
        with pytest.raises(ModelNotFoundError, match="no registered model 'other'"):
            act("other")


def test_the_headline_of_a_version_is_read_and_others_have_none(two: Any, tmp_path: Path) -> None:
    assert read_headline(f"models:/{MODEL}/1") is None
    two.client.set_model_version_tag(MODEL, "1", "sem_search.headline", "44 of 50 unseen images")
    assert read_headline(f"models:/{MODEL}/1") == "44 of 50 unseen images"
    write_verdict(MODEL, "1", verdict="Usable for a; not for b.")
    assert read_headline(f"models:/{MODEL}/1") == "44 of 50 unseen images. Usable for a; not for b"
    assert read_headline(str(tmp_path)) is None, "a model's folder is in no registry"


def test_versions_are_listed_in_the_order_of_their_numbers(laboratory: Any) -> None:
    laboratory.client.create_registered_model(MODEL)
    for _ in range(11):
        laboratory.client.create_model_version(MODEL, (laboratory.folder / "model").as_uri())
    assert list(list_model_versions(MODEL)) == [str(number) for number in range(1, 12)]


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    # By its variable: mlflow.set_registry_uri would hold every later test of this process to one registry.
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://user:secret@host/name")
    assert describe_store() == "postgresql://user:***@host/name"


VERSION = SimpleNamespace(
    version=2,
    tags={
        "sem_search.score": "0.75",
        "sem_search.test_f_measure": "0.5",
        "sem_search.data_sha256": "d",
        "sem_search.files_sha256": "f",
        "other": "x",
    },
)


def test_scores_and_hashes_that_there_are() -> None:
    assert read_scores(VERSION) == {"score": 0.75, "test_f_measure": 0.5}
    assert read_hashes(VERSION) == {"data_sha256": "d", "files_sha256": "f"}


@pytest.mark.parametrize("text", ["nan", "inf", "good", ""])
def test_a_tag_that_is_no_finite_number_is_no_score(text: str) -> None:
    assert read_scores(SimpleNamespace(tags={"sem_search.score": text})) == {}


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
def test_a_server_that_is_silent_is_reported_soon(silent_server: str, set_store, ask: str) -> None:
    set_store(silent_server)
    with pytest.raises(StoreError, match=f"The store {silent_server} does not answer. Start it, or set MLFLOW_TR"):
        ASKS[ask]()


def test_a_server_that_is_not_there_is_reported(set_store) -> None:
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
