"""The whole story over real HTTP: train, register, serve, score, be beaten, roll back, verify, be tampered with."""

import base64
import io
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image

from benchmarks.servers import RunningServer, run_server
from tests.conftest import draw_texture
from tests.test_end_to_end import TINY_PARAMETERS, Place

MODEL = "sem-search-tiny"
ADDRESS = f"models:/{MODEL}@champion"
LIMIT_S = 240

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An empty working folder, whose store is MLflow's in this process, too."""
    folder = tmp_path_factory.mktemp("story")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    yield Place(folder=folder)
    mlflow.set_tracking_uri(before)


def train(place: Place, data: Path, **parameters: str) -> str:
    """Search one cell; return what was printed."""
    told = TINY_PARAMETERS | {"batch_sizes": "8", "folds": "3", "data": str(data), "model_name": MODEL} | parameters
    done = place.run_search(**told)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_registry(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `sem-search registry ...` as a person would."""
    return subprocess.run(
        [sys.executable, "-m", "sem_search", "registry", *words],
        cwd=place.folder,
        env=place.make_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@dataclass
class Caller:
    """Asks again and again in the background, and counts which version answered."""

    url: str
    body: bytes
    seen: Counter[Any] = field(default_factory=Counter)

    def __enter__(self) -> "Caller":
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(timeout=LIMIT_S)

    def _call(self) -> None:
        while not self._is_over.is_set():
            try:
                answers, headers = ask(self.url, self.body)
                self.seen[headers["X-Model-Version"], answers[0]["model_version"]] += 1
            except OSError as error:
                self.seen[repr(error)] += 1
            time.sleep(0.1)  # the search that goes on meanwhile needs the cores, too


def ask(url: str, body: bytes, *, content_type: str = "application/json") -> tuple[list[dict[str, Any]], Any]:
    request = urllib.request.Request(f"{url}/invocations", data=body, headers={"Content-Type": content_type})
    with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
        return json.load(response)["predictions"], response.headers


def wait_for_version(url: str, version: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        with urllib.request.urlopen(f"{url}/version", timeout=LIMIT_S) as response:
            if json.load(response)["version"] == version:
                return
        assert time.monotonic() < deadline_s, f"version {version} never came"
        time.sleep(0.2)


def encode(pixels: np.ndarray, file_format: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=file_format)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def write_every_format(material: str) -> dict[str, str]:
    """Return one new micrograph of a material in every accepted format, as base64."""
    grey = draw_texture(material, seed=987)
    colour = np.repeat(grey[..., None], 3, axis=-1)
    return {
        "PNG": encode(grey, "PNG"),
        "JPEG": encode(grey, "JPEG"),
        "BMP": encode(grey, "BMP"),
        "TIFF": encode(grey, "TIFF"),
        "16-bit PNG": encode(grey.astype(np.uint16) * 257, "PNG"),
        "16-bit TIFF": encode(grey.astype(np.uint16) * 257, "TIFF"),
        "colour PNG": encode(colour, "PNG"),
        "data URL": "data:image/png;base64," + encode(grey, "PNG"),
    }


def test_the_whole_story(place: Place, tiny_folder: Path) -> None:
    # Train, register: a model that has learnt next to nothing is no champion; a person makes it so.
    printed = train(place, tiny_folder, learning_rates="1e-6", epochs="1", patience="0")
    assert "challenger: it is not shown to be better than chance" in " ".join(printed.split())
    assert run_registry(place, "promote", "1", "--model", MODEL).returncode != 0
    done = run_registry(place, "promote", "1", "--model", MODEL, "--reason", "to begin with")
    assert done.returncode == 0, done.stderr
    words = ["serve", "--model", ADDRESS, "--watch", "1"]
    with run_server(words, folder=place.folder, log=place.folder / "serve.log") as server:
        cells = write_every_format("stripes")
        one = json.dumps({"inputs": [cells["PNG"]]}).encode()
        wait_for_version(server.url, "1")
        # A better one on the same data and folds takes its place; no request is lost meanwhile.
        with Caller(server.url, one) as caller:
            printed = train(place, tiny_folder, learning_rates="1e-1", epochs="8")
            assert "Registered as sem-search-tiny version 2, champion" in " ".join(printed.split())
            wait_for_version(server.url, "2")
            time.sleep(0.5)
        assert set(caller.seen) == {("1", "1"), ("2", "2")}, caller.seen
        check_every_format(server, cells)
        # Back to the first.
        done = run_registry(place, "rollback", "--model", MODEL, "--reason", "for the story")
        assert done.returncode == 0, done.stderr
        wait_for_version(server.url, "1")
        assert ask(server.url, one)[0][0]["model_version"] == "1"
    check_tampering(place)


def check_every_format(server: RunningServer, cells: dict[str, str]) -> None:
    """Every format gets the answer of the others, and the right one; as JSON and as CSV."""
    body = json.dumps({"dataframe_records": [{"image": cell} for cell in cells.values()]}).encode()
    answers, _ = ask(server.url, body)
    assert [answer["label"] for answer in answers] == ["stripes"] * len(cells)
    for name, answer in zip(cells, answers, strict=True):
        tolerance = 0.05 if name == "JPEG" else 1e-5
        assert answer["probability"] == pytest.approx(answers[0]["probability"], abs=tolerance), name
        assert answer["prediction_set"][0] == "stripes"
        assert answer["n_calibration_images"] == 15
        assert answer["novelty"] < 3 * answer["novelty_threshold"]
    as_csv, _ = ask(server.url, f"image\n{cells['PNG']}\n".encode(), content_type="text/csv")
    assert as_csv[0]["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-6)


def check_tampering(place: Place) -> None:
    """All is as it was written, until one byte of the heads is not."""
    done = run_registry(place, "verify", "2", "--model", MODEL)
    assert done.returncode == 0, done.stdout + done.stderr
    (head, *_) = sorted(place.folder.rglob("artifacts/classifier/heads.onnx"), key=lambda path: path.stat().st_mtime)[
        ::-1
    ]
    content = bytearray(head.read_bytes())
    content[len(content) // 2] ^= 1
    head.write_bytes(content)
    done = run_registry(place, "verify", "2", "--model", MODEL)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "heads.onnx" in done.stdout + done.stderr
