"""What counts as away, and what as a refusal."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient

from benchmarks.ports import find_free_port
from sem_search.errors import StoreError
from sem_search.tracking.mlflow import availability as outages
from sem_search.tracking.mlflow.availability import ask_once, is_outage, wait_while_away


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


def test_what_is_away_is_asked_again_and_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(outages.time, "sleep", pauses.append)
    answers = iter([ConnectionError(), ConnectionError(), ConnectionError()])
    warnings: list[str] = []

    def act() -> str:
        for error in answers:
            raise error
        return "done"

    assert wait_while_away(act, wait_s=60, warn=warnings.append) == "done"
    assert pauses == [0.5, 1.0, 2.0]
    assert warnings == [
        "The tracking store does not answer; waiting for it, at most 60 s.",
        "The tracking store answers again.",
    ]


def test_what_stays_away_is_one_sentence_without_a_password() -> None:
    def act() -> None:
        raise ConnectionError("http://me:secret@host is away")

    with pytest.raises(StoreError, match=r"did not answer for 0 s.*Nothing is lost") as caught:
        wait_while_away(act, wait_s=0, warn=lambda _: None)
    assert "secret" not in str(caught.value)


def test_a_pause_ends_with_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(outages, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: now[0]))

    def act() -> None:
        raise ConnectionError

    with pytest.raises(StoreError, match="did not answer for 45 s"):
        wait_while_away(act, wait_s=45, warn=lambda _: None)
    assert sum(pauses) == 45
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 13.5]


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
