"""The model outside this process: `mlflow models serve` over real HTTP, and a process that knows no sem_search."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from sem_search.deployment.package.writing import SERVING_REQUIREMENTS, LoggedClassifier
from sem_search.deployment.registry import register_winner
from sem_search.micrographs.reading.micrograph import read_micrograph

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
MODEL = "sem-search-tiny"
TILE_PX = 32
START_LIMIT_S = 240
ANSWER_LIMIT_S = 60

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(store: Path) -> dict[str, str]:
    """What a server is started with: the store, and no way to this checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_RUN_ID")}
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def server(
    logged: LoggedClassifier, store: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a running `mlflow models serve` of the registry's champion."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(environment["MLFLOW_TRACKING_URI"])
    register_winner(run_id=logged.run_id, model_name=MODEL, score=0.5, tags={})
    mlflow.set_tracking_uri(before)
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}@champion"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_up(address, process=process, log=folder / "log.txt")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def wait_until_up(address: str, *, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/ping", timeout=5) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"no answer in {START_LIMIT_S} s:\n{log.read_text()}")


def ask(address: str, body: Any) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{address}/invocations", data=data, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT_S) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def records(*cells: Any, **params: Any) -> dict[str, Any]:
    return {"dataframe_records": [{"image": cell} for cell in cells]} | ({"params": params} if params else {})


def encode_sixteen_bit(grey: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(grey.astype(np.uint16) * 257).save(buffer, format="TIFF")
    return base64.b64encode(buffer.getvalue()).decode()


def test_every_format_is_answered_as_in_this_process(server: str, served: PyFuncModel, pictures: Any) -> None:
    grey = pictures.draw(96, 130, seed=5)
    texts = [
        pictures.to_text(grey),
        pictures.to_text(grey, "JPEG"),
        encode_sixteen_bit(grey),
        "data:image/png;base64," + pictures.to_text(grey),
    ]
    status, body = ask(server, records(*texts))
    assert status == 200, body
    answers = json.loads(body)["predictions"]
    here = served.predict(pd.DataFrame({"image": texts})).to_dict("records")
    assert [answer["n_tiles"] for answer in answers] == [12, 12, 12, 12]
    for answer, wanted in zip(answers, here, strict=True):
        assert answer["label"] == wanted["label"]
        assert answer["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-6)


def test_explained_and_tile_by_tile(server: str, pictures: Any) -> None:
    status, body = ask(server, records(pictures.to_text(pictures.draw()), explain=True, tiles=True))
    assert status == 200, body
    (answer,) = json.loads(body)["predictions"]
    with Image.open(io.BytesIO(base64.b64decode(answer["overlay_png"]))) as picture:
        assert (picture.format, picture.size) == ("PNG", (100, 70))
    assert len(answer["tiles"]) == answer["n_tiles"] == 6


@pytest.mark.parametrize(
    ("make_body", "message"),
    [
        (lambda good: records(good, "no!"), "row 1: is not valid base64"),
        (lambda good: records(good, good, None), r"row 2: holds nothing \(null\)"),
        (lambda good: records(good[: len(good) // 8 * 4]), "row 0: .*(truncated|damaged)"),
        (lambda good: records(base64.b64encode(b"hello").decode()), "row 0: is not an image of a known format"),
        (lambda good: {"dataframe_records": []}, "missing inputs"),
        (lambda good: {"dataframe_records": [{"picture": good}]}, "missing inputs"),
        (lambda good: records(good, explain="maybe"), "explain"),
        (lambda good: b"{", "valid JSON"),
    ],
    ids=["base64", "null", "truncated", "no picture", "empty", "other column", "parameter", "no JSON"],
)
def test_bad_requests_are_a_clean_400_and_the_server_goes_on(
    server: str, pictures: Any, make_body: Any, message: str
) -> None:
    good = pictures.to_text(pictures.draw())
    status, body = ask(server, make_body(good))
    assert status == 400, body
    assert re.search(message, json.loads(body)["message"]), body
    for leak in ("Traceback", "stack_trace", "site-packages", ".py", str(Path.home()), "/tmp", str(ROOT)):
        assert leak not in body
    assert ask(server, records(good))[0] == 200


def test_an_instrument_s_tiff_is_answered_as_it_came(server: str) -> None:
    folder = SHARED / "data" / "lung_cells_sem"
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".tif", ".tiff"))
    if not files:
        pytest.skip(f"{folder} has no instrument TIFF")
    status, body = ask(server, records(base64.b64encode(files[0].read_bytes()).decode(), explain=True))
    assert status == 200, body
    (answer,) = json.loads(body)["predictions"]
    without_bar = read_micrograph(files[0]).pixels
    assert answer["n_tiles"] == (without_bar.shape[0] // TILE_PX) * (without_bar.shape[1] // TILE_PX)
    with Image.open(io.BytesIO(base64.b64decode(answer["overlay_png"]))) as picture:
        assert picture.size == without_bar.shape[::-1]


SCRIPT = """
import json, sys

class Refuse:
    blocked = set(json.loads(sys.argv[3]))
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.blocked:
            raise ModuleNotFoundError(f"No module named {name!r} (not required by the model)", name=name)

sys.meta_path.insert(0, Refuse())
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
answers = model.predict(pd.DataFrame({"image": [sys.argv[2]]}), params={"explain": True, "tiles": True})
import sem_search
print(json.dumps({"package": sem_search.__file__, "probability": answers["probability"][0]}))
"""


def test_a_process_without_sem_search_runs_the_model_s_own_code(
    logged: LoggedClassifier,
    served: PyFuncModel,
    environment: dict[str, str],
    pictures: Any,
    tmp_path: Path,
) -> None:
    text = pictures.to_text(pictures.draw())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, logged.model_uri, text, json.dumps(list_modules_not_required())],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert not Path(told["package"]).is_relative_to(ROOT)
    assert "sem_search that is imported here differs" not in done.stderr
    assert told["probability"] == pytest.approx(
        served.predict(pd.DataFrame({"image": [text]}))["probability"][0], abs=1e-6
    )


def list_modules_not_required() -> list[str]:
    """Return the importable names that an environment made of the model's own requirements would not have.

    sem_search itself is none of them, installed here or not: the model brings its own, which must then be found.
    """
    required = close_over_requirements(SERVING_REQUIREMENTS)
    return [
        module
        for module, owners in packages_distributions().items()
        if module != "sem_search" and not {canonicalize_name(owner) for owner in owners} & required
    ]


def close_over_requirements(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            stated = [Requirement(text) for text in requires(name) or ()]
        except ModuleNotFoundError:
            continue
        waiting += [
            canonicalize_name(some.name)
            for some in stated
            if some.marker is None or some.marker.evaluate({"extra": ""})
        ]
    return found
