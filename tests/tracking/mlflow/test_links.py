"""Links into MLflow's pages: on a server, and for a store on this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from sem_search.tracking.mlflow.links import (
    find_pages,
    format_links,
    link_run,
    link_run_within,
    link_version,
    link_version_within,
)

VIEW = "?workflowType=machine_learning"


@pytest.fixture
def run_id(tmp_path: Path, make_mlflow_store: Callable[[Path], str]) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    yield str(MlflowClient().create_run("0").info.run_id)
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("artifact", "expected"),
    [(None, ""), ("report.html", "/artifacts/report.html"), ("a b/c.html", "/artifacts/a%20b/c.html")],
)
def test_a_link_opens_a_run_or_its_file_among_machine_learning(
    run_id: str, artifact: str | None, expected: str
) -> None:
    page = f"#/experiments/0/runs/{run_id}{expected}{VIEW}"
    assert link_run_within(run_id, artifact=artifact) == page
    assert link_run(run_id, artifact=artifact) == f"http://127.0.0.1:5000/{page}"


def test_a_link_opens_a_version_whatever_its_name(run_id: str) -> None:
    assert link_version_within("a/b c", "3") == f"#/models/a%2Fb%20c/versions/3{VIEW}"
    assert link_version("m", "3") == f"http://127.0.0.1:5000/#/models/m/versions/3{VIEW}"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://db:5000", "http://db:5000"),
        ("https://db/mlflow/", "https://db/mlflow"),
        ("https://me:secret@db:443", "https://db:443"),
        ("sqlite:///mlflow.db", "http://127.0.0.1:5000"),
    ],
)
def test_the_pages_are_the_server_s_without_its_password(
    monkeypatch: pytest.MonkeyPatch, uri: str, expected: str
) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    assert find_pages() == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://db:5000", "In MLflow:"),
        ("sqlite:///{folder}/mlflow.db", "In MLflow, once it runs (mlflow ui):"),
        (
            "sqlite:////my place/x.db",
            "In MLflow, once it runs (mlflow ui --backend-store-uri 'sqlite:////my place/x.db'):",
        ),
        (
            "postgresql://me:secret@db/runs",
            "In MLflow, once it runs (mlflow ui --backend-store-uri 'postgresql://me:***@db/runs'):",
        ),
    ],
)
def test_what_shows_the_pages_of_a_store_is_named_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, expected: str
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", "activated")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri.format(folder=tmp_path))
    lines = format_links({"run": "http://a", "report": "http://b"}).splitlines()
    assert lines == [expected, "  run     http://a", "  report  http://b"]
