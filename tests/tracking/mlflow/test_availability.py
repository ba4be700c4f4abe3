"""What counts as away, and what as a refusal."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from benchmarks.ports import find_free_port
from sem_search.errors import SettingsError, StoreError
from sem_search.tracking.mlflow import availability
from sem_search.tracking.mlflow.availability import (
    ask_once,
    check_store_answers,
    explain_store_error,
    is_outage,
    reach_database,
    wait_while_away,
)


def make_http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True),
        (requests.ConnectionError(), True),
        (requests.ReadTimeout(), True),
        (make_http_error(503), True),
        (make_http_error(429), True),
        (make_http_error(404), False),
        (MlflowException("the database is locked", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("no", error_code=INVALID_PARAMETER_VALUE), False),
        (OSError(28, "No space left on device"), False),
        (ValueError(), False),
    ],
)
def test_away_or_refusing(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected
    try:
        raise MlflowException("wrapped") from error
    except MlflowException as wrapped:
        assert is_outage(wrapped) is expected


def test_a_server_that_is_not_there_is_away_and_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "6")
    client = MlflowClient(tracking_uri=f"http://127.0.0.1:{find_free_port()}")
    with ask_once(), pytest.raises(MlflowException) as caught:
        client.search_experiments(max_results=1)
    assert is_outage(caught.value)
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "6"


def test_variables_that_were_not_set_are_not_set_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with ask_once():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_what_stays_away_is_one_sentence_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://me:secret@host")

    def act() -> None:
        raise ConnectionError("http://me:secret@host is away")

    with pytest.raises(
        StoreError, match=r"The tracking store does not answer\. It is http://me:\*\*\*@host\. Nothing is lost"
    ):
        wait_while_away(act, wait_s=0, warn=lambda _: None)


AWAY_DATABASE = "postgresql+psycopg://me:secret@127.0.0.1:1/mlflow"


@pytest.mark.parametrize(("ask", "kind"), [(check_store_answers, StoreError), (reach_database, ConnectionError)])
def test_a_database_that_is_away_is_one_sentence_at_once(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], None], kind: type[Exception]
) -> None:
    """MLflow itself would try for two minutes."""
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: AWAY_DATABASE)
    monkeypatch.setattr(MlflowClient, "search_experiments", lambda *_, **__: pytest.fail("MLflow was asked"))
    with pytest.raises(kind, match=r"The store postgresql.*me:\*\*\*@.* does not answer"):
        ask()


def test_a_database_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OperationalError("", {}, Exception('FATAL:  password authentication failed for user "me"'))

    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: AWAY_DATABASE)
    monkeypatch.setattr(availability, "connect", refuse)
    with pytest.raises(SettingsError, match=r"it says: password authentication failed .*PGPASSWORD") as caught:
        check_store_answers()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MlflowException("no", error_code=UNAUTHENTICATED), "SettingsError: .*MLFLOW_TRACKING_USERNAME"),
        (MlflowException("no", error_code=PERMISSION_DENIED), "SettingsError: .*--allowed-hosts"),
        (MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE), "StoreError: The store .* does not answer"),
        (MlflowException("no", error_code=INVALID_PARAMETER_VALUE), "NoneType: None"),
        (ConnectionError("of a cluster, say"), "NoneType: None"),
    ],
)
def test_an_error_in_the_middle_is_a_sentence(error: Exception, expected: str) -> None:
    wrapped, sentence = RuntimeError("a trial failed"), StoreError("said already")
    wrapped.__cause__ = sentence.__cause__ = error
    explained = explain_store_error(wrapped)
    assert explain_store_error(sentence) is None
    assert re.match(expected, f"{type(explained).__name__}: {explained}")


def test_a_refusal_is_raised_at_once() -> None:
    def act() -> None:
        raise MlflowException("no", error_code=INVALID_PARAMETER_VALUE)

    with pytest.raises(MlflowException, match="no"):
        wait_while_away(act, wait_s=60, warn=lambda _: pytest.fail("it is there"))


@pytest.mark.parametrize(("is_quick", "n_retries"), [(True, "1"), (False, "5")])
def test_only_a_quick_act_gives_up_at_once(monkeypatch: pytest.MonkeyPatch, is_quick: bool, n_retries: str) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
    seen = wait_while_away(
        lambda: os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"], wait_s=0, warn=lambda _: None, is_quick=is_quick
    )
    assert seen == n_retries


def test_an_sqlite_file_that_cannot_be_written_is_no_outage(
    tmp_path: Path, make_mlflow_store: Callable[[Path], str]
) -> None:
    """MLflow says TEMPORARILY_UNAVAILABLE of it, as of one that is locked."""
    run_id = MlflowClient(tracking_uri=make_mlflow_store(tmp_path)).create_run("0").info.run_id
    read_only = MlflowClient(tracking_uri=f"sqlite:///file:{tmp_path}/mlflow.db?mode=ro&uri=true")
    with pytest.raises(MlflowException, match="readonly") as caught:
        read_only.set_tag(run_id, "a", "b")
    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"
    assert not is_outage(caught.value)
