"""The page in a browser, in front of a model of stone: each "image" is the JSON of what the model answers to it."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sem_search.app.page import read_page
from sem_search.micrographs.reading.micrograph import encode_png
from tests.browsing import Browser, open_browser

ANSWER: dict[str, Any] = {
    "label": "lactose",
    "probability": 0.6,
    "probabilities": {"cellulose": 0.15, "lactose": 0.6, "starch": 0.25},
    "prediction_set": ["lactose"],
    "n_calibration_images": 20,
    "is_known": True,
    "novelty": 0.75,
    "novelty_threshold": 1.0,
    "is_training_image": False,
    "agreement": 0.8,
    "spread": 0.12,
    "pixel_size_nm": 100.0,
    "pixel_size": "as trained",
    "n_tiles": 20,
    "warnings": [],
    "model_name": "powders",
    "error": None,
}
ANSWERS: dict[str, Any] = {
    "/api/start": {
        "may_change": True,
        "roots": ["/"],
        "folder": "/home",
        "backbones": ["tiny"],
        "presets": ["quick"],
        "descriptions": {},
    },
    "/api/folder": {"path": "/", "parents": [["all", "/"]], "folders": [], "tables": [], "n_classes": 0},
    "/api/events": {},
}
"""What the other rooms of the page are told."""

PICTURE = base64.b64encode(encode_png(np.full((8, 12), 99, dtype=np.uint8))).decode()


class StoneModel:
    """A server with the page, and a model that answers what the images say."""

    def __init__(self) -> None:
        self.version = "1"
        self.is_busy = False
        self.params: list[dict[str, Any]] = []
        """Of each request that was answered, in order."""
        self.gate = threading.Event()
        """While it is not set, answers wait."""
        self.gate.set()

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and body."""
        self.gate.wait(30)
        if self.is_busy:
            self.is_busy = False
            return 503, {"message": "try again soon"}
        told = json.loads(base64.b64decode(request["dataframe_records"][0]["image"].removeprefix("data:;base64,")))
        if "refusal" in told:
            return 400, {"message": told["refusal"]} if told["refusal"] else {}
        params = request["params"]
        self.params.append(params)
        pictures = {"image_png": PICTURE, "overlay_png": PICTURE} if params["explain"] else {}
        own = {"model_version": self.version, "coverage": params["coverage"]}
        return 200, {"predictions": [ANSWER | own | pictures | told]}


class StoneServer(ThreadingHTTPServer):
    """Serves the page and a model of stone."""

    daemon_threads = True
    stone: StoneModel


class _Handler(BaseHTTPRequestHandler):
    server: StoneServer

    def do_GET(self) -> None:
        if self.path == "/version":
            address = "models:/powders@champion"
            self._reply(200, json.dumps({"address": address, "model": "powders", "version": self.server.stone.version}))
        elif self.path.startswith("/api/"):
            self._reply(200, json.dumps(ANSWERS[self.path.split("?")[0]]))
        else:
            page = read_page()
            self._reply(200, page.html, policy=page.policy)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, body = self.server.stone.answer(request)
        self._reply(status, json.dumps(body))

    def _reply(self, status: int, text: str, *, policy: str | None = None) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if policy is None else "text/html; charset=utf-8")
        if policy is not None:
            self.send_header("Content-Security-Policy", policy)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class PageBench:
    """A page that is open, its model, and files to give it."""

    def __init__(self, browser: Browser, *, stone: StoneModel, folder: Path) -> None:
        self.browser = browser
        self.stone = stone
        self.folder = folder

    def write(self, name: str, **told: Any) -> Path:
        """Return a file to which the model answers so."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told))
        return path

    def choose(self, *paths: Path, until: str = "done") -> None:
        """Choose files, and wait until the progress says so."""
        self.browser.choose_files("#file", *paths)
        self.wait(until)

    def wait(self, until: str = "done") -> None:
        """Wait until no image waits for its answer, and the progress holds these words."""
        self.browser.wait_for("items.length > 0 && !items.some((item) => ['waiting', 'asking'].includes(item.state))")
        assert until in self.browser.run("return document.querySelector('#progress span').textContent")

    def call(self, function: str, *values: Any) -> Any:
        """Return what a function of the page returns."""
        return self.browser.run(f"return {function}({', '.join(json.dumps(value) for value in values)})")

    def read_all(self, selector: str) -> list[str]:
        """Return the text of all elements."""
        texts: list[str] = self.browser.run(
            f"return [...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText)"
        )
        return texts


@pytest.fixture(scope="package")
def stone_server() -> Iterator[StoneServer]:
    server = StoneServer(("127.0.0.1", 0), _Handler)
    server.stone = StoneModel()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, stone_server: StoneServer, tmp_path: Path) -> Iterator[PageBench]:
    """The page, opened anew; afterwards nothing may have been refused or come from elsewhere."""
    stone = stone_server.stone = StoneModel()
    url = f"http://127.0.0.1:{stone_server.server_port}"
    browser.open(f"{url}/?#classify")
    browser.run("location.reload()")
    browser.wait_for_text("#model", "powders, version 1")
    yield PageBench(browser, stone=stone, folder=tmp_path)
    stone.gate.set()
    places = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert {place[: len(url)] for place in places if not place.startswith(("blob:", "data:"))} == {url}
    assert [error for error in browser.read_errors() if "policy" in error.lower()] == []
