"""`sem-search app` as a real process: names, hostile requests, the page in a real browser, the end.

One server serves all tests of this file, in the order of the file; it starts in seconds. How a champion is
exchanged is in `test_story`.
"""

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import psutil
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from benchmarks.fuzz import NASTIES, fuzz, iter_drawn, send
from benchmarks.servers import RunningServer, run_server
from sem_search.deployment.package.writing import LoggedClassifier
from tests.browsing import open_browser

SHARED = Path(__file__).parents[3] / "shared"
MODEL = "sem-search-watched"
LIMIT_S = 120
N_FUZZED = 120
MEMORY_GROWTH_MB = 700
"""Two requests of the largest size under way at once, several times over: as bytes, as text, and as pictures."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def registry(logged: LoggedClassifier, store: Path) -> Iterator[mlflow.MlflowClient]:
    """A registered model whose only version is champion."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    client = mlflow.MlflowClient()
    mlflow.register_model(logged.model_uri, MODEL)
    client.set_registered_model_alias(MODEL, "champion", "1")
    yield client
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def server(
    registry: mlflow.MlflowClient, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    words = ["app", "--no-browser", "--model", f"models:/{MODEL}@champion", "--watch", "1", "--max-request-mb", "40"]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with run_server(words, folder=store, log=log) as running:
        yield running


@pytest.fixture(scope="module")
def body(pictures: Any) -> bytes:
    return json.dumps({"inputs": [pictures.to_text(pictures.draw())]}).encode()


def ask(server: RunningServer, body: bytes) -> tuple[int, dict[str, Any], Any]:
    request = urllib.request.Request(
        f"{server.url}/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            return response.status, json.load(response), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), error.headers


def test_the_version_that_answers_is_named_in_answer_header_and_version(server: RunningServer, body: bytes) -> None:
    status, answer, headers = ask(server, body)
    assert status == 200
    (row,) = answer["predictions"]
    assert (row["model_name"], row["model_version"]) == (MODEL, "1")
    assert (headers["X-Model-Name"], headers["X-Model-Version"]) == (MODEL, "1")
    with urllib.request.urlopen(f"{server.url}/version", timeout=LIMIT_S) as response:
        told = json.load(response)
    assert (told["address"], told["model"], told["version"]) == (f"models:/{MODEL}@champion", MODEL, "1")


def test_it_is_one_process_that_listens_on_one_port(server: RunningServer) -> None:
    process = psutil.Process(server.process.pid)
    assert process.children(recursive=True) == []
    listening = [place.laddr.port for place in process.net_connections("tcp") if place.status == "LISTEN"]
    assert listening == [server.port]


def test_mlflow_s_own_client_gets_its_answers(server: RunningServer, pictures: Any) -> None:
    client = ScoringServerClient("127.0.0.1", server.port)
    client.ping()
    assert json.loads(client.get_version())["mlflow"] == mlflow.__version__
    frame = pd.DataFrame({"image": [pictures.to_text(pictures.draw())]})
    answers = client.invoke(frame, params={"coverage": 0.8}).get_predictions()
    assert (answers["model_version"][0], answers["coverage"][0]) == ("1", 0.8)


def test_a_refusal_holds_its_reason_alone(server: RunningServer) -> None:
    status, answer, _ = ask(server, b'{"inputs": ["not base64!"]}')
    assert status == 400
    assert answer["message"].startswith("1 of 1 images cannot be answered")
    assert "Failed to predict" not in answer["message"]


def test_hostile_requests_are_refused_and_the_server_goes_on_within_its_memory(
    server: RunningServer, body: bytes
) -> None:
    before_mb = server.measure_memory_mb()
    quick = [build for name, build in NASTIES.items() if "JSON" not in name and not name.startswith("slow")]
    answers = [send(server.port, build()) for build in quick]
    assert [f"{answer.request.name}: {answer.complaint}" for answer in answers if answer.complaint] == []
    by_name = {answer.request.name: answer.status for answer in answers}
    assert by_name["10,000 rows"] == by_name["PNG bomb"] == by_name["many PNG bombs"] == 413
    wide = {name: status for name, status in by_name.items() if name.startswith("wide: ")}
    assert {name: status for name, status in wide.items() if status != 413} == {"wide: short lines": 400}
    foreign = [status for name, status in by_name.items() if name.startswith("foreign: ")]
    assert foreign
    assert set(foreign) == {403}
    assert by_name["Parquet"] == by_name["deflated"] == 415
    report = fuzz(server.port, n=N_FUZZED, measure_mb=server.measure_memory_mb)
    assert report.complaints == ()
    assert sum(report.statuses.values()) == N_FUZZED
    assert report.peak_mb - before_mb < MEMORY_GROWTH_MB
    assert ask(server, body)[0] == 200


def test_the_fuzzer_draws_the_same_requests_again() -> None:
    assert iter_drawn(20) == iter_drawn(20)


def find_instrument_file() -> Path:
    """Return a TIFF as an instrument wrote it."""
    files = sorted((SHARED / "data" / "lung_cells_sem").rglob("*.tif"))
    if not files:
        pytest.skip(f"{SHARED / 'data' / 'lung_cells_sem'} has no instrument TIFF")
    return files[0]


def test_a_person_drops_a_micrograph_on_the_page(server: RunningServer, tmp_path: Path) -> None:
    picture = find_instrument_file()
    with open_browser() as browser:
        browser.open(f"{server.url}/#classify")
        assert MODEL in browser.wait_for_text("#model", f"{MODEL}, version 1")
        browser.choose_files("#file", picture)
        browser.wait_for_text("figcaption", "Where the model looks for")
        shown = browser.read_text("body")
        assert picture.name in shown
        for words in ("Distance to the training images", "Pixel size", "Tiles", "Answered by"):
            assert words in shown
        assert "134.9 nm" in shown
        assert f"{MODEL}, version 1" in browser.read_text("article")
        assert browser.run("return document.querySelector('figure img').naturalWidth") == 1536
        browser.run("document.getElementById('model').textContent = 'of before'")
        browser.wait_for_text("#model", f"{MODEL}, version 1")
        (tmp_path / "torn.png").write_bytes(picture.read_bytes()[:1000])
        browser.choose_files("#file", tmp_path / "torn.png")
        assert browser.wait_for_text(".failed", "No answer\nThe ")
        places = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert {place[: len(server.url)] for place in places if not place.startswith("blob:")} == {server.url}
        assert browser.read_errors() == []


def test_sigterm_ends_it_after_the_last_answer(server: RunningServer, pictures: Any) -> None:
    large = json.dumps({"inputs": [pictures.to_text(pictures.draw(1200, 1600))] * 2}).encode()
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(ask(server, large)[0]))
    caller.start()
    time.sleep(0.4)
    server.process.send_signal(signal.SIGTERM)
    caller.join(timeout=LIMIT_S)
    assert server.process.wait(timeout=30) == 0
    assert answers == [200]
