"""The whole way in a folder whose name holds a space and a letter outside ASCII, started from there by `mlflow run`."""

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

from benchmarks.ports import find_free_port
from benchmarks.servers import wait_until_up
from sem_search.places import make_sqlite_url
from tests.conftest import draw_texture, write_tiny_folder
from tests.programs import Program

ROOT = Path(__file__).parents[1]
LIMIT_S = 420
PARAMETERS = {
    "data": "Meine Bilder",
    "backbone": "tiny",
    "weights": "random",
    "preset": "standard",
    "tile_px": "48",
    "epochs": "12",
    "folds": "3",
    "heads": "finetune",
    "augment": "none",
    "refit": "false",
    "learning_rates": "1e-1,1e-2",
    "batch_sizes": "8",
    "threads": "1",
}
KINDS = ("study", "trial")
MODEL = "models:/sem-search-tiny@champion"
RESULTS = {"mlflow.db", "mlruns", "optuna.db", "studies", "inspection"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """As a user has it who has set nothing of MLflow's."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return own | {
        "PYTHONPATH": str(ROOT),
        "SEM_SEARCH_CACHE": str(tmp_path_factory.mktemp("cache")),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def run(*words: str, folder: Path, environment: dict[str, str], code: int = 0) -> str:
    """Run a command in a folder; return what it said."""
    if words[0] == "sem_search":
        program = Program(words[1:], folder=folder, environment=environment, merge=True)
        said, _ = program.communicate(timeout=LIMIT_S)
        assert program.returncode == code, said[-6000:]
        return said
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Path]:
    """Where `mlflow run PATH` was given, with an inspection before."""
    place = tmp_path_factory.mktemp("users") / "My Search \u00fc"
    write_tiny_folder(place / "Meine Bilder")
    before = set(ROOT.iterdir())
    mlflow_run = ("mlflow", "run", str(ROOT), "--env-manager", "local")
    for number in range(6):
        material = ("blobs", "grains")[number % 2]
        (place / "large" / material).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(draw_texture(material, seed=number, side_px=224))
        picture.save(place / "large" / material / f"{number}.png")
    run(*mlflow_run, "-e", "inspect", "-P", "data=large", "-P", "folds=3", folder=place, environment=environment)
    words = [word for name, value in PARAMETERS.items() for word in ("-P", f"{name}={value}")]
    printed = run(*mlflow_run, *words, folder=place, environment=environment)
    (place / "printed.txt").write_text(printed)
    yield place
    assert not {path.name for path in set(ROOT.iterdir()) - before} & RESULTS


def search(folder: Path, environment: dict[str, str]) -> str:
    words = [word for name, value in PARAMETERS.items() for word in (f"--{name.replace('_', '-')}", value)]
    return run("sem_search", "search", *words, folder=folder, environment=environment)


def list_trials(folder: Path, *, experiment: str = "Default") -> tuple[int, int, list[str]]:
    """Return the numbers of study runs and of trial runs, and the states of the trials below the latest study run."""
    # A copy: MLflow goes on with the file that it has opened under a name, also when there is another one by now.
    copy = shutil.copyfile(folder / "mlflow.db", folder.parent / f"{uuid.uuid4().hex}.db")
    client = MlflowClient(tracking_uri=make_sqlite_url(copy))
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], order_by=["start_time DESC"])
    kinds = {
        kind: [run for run in found if run.data.tags.get("sem_search.kind") == kind] for kind in ("study", "trial")
    }
    latest = kinds["study"][0].info.run_id
    below = [run for run in kinds["trial"] if run.data.tags["mlflow.parentRunId"] == latest]
    return len(kinds["study"]), len(kinds["trial"]), sorted(run.data.tags["sem_search.trial_state"] for run in below)


def test_everything_lies_where_the_user_stands(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= RESULTS
    n_studies, n_trials, below = list_trials(folder)
    assert (n_studies, n_trials) == (1, 2)
    assert "complete" in below
    assert len(below) == 2
    printed = (folder / "printed.txt").read_text()
    script = shlex.split(next(line for line in printed.splitlines() if line.startswith("Classify images:")))[2]
    assert (folder / script).is_file(), "relative or not, it is there"


def test_the_registry_is_there_and_answers(folder: Path, environment: dict[str, str]) -> None:
    assert "champion 1" in run("sem_search", "registry", "list", folder=folder, environment=environment)
    words = ("sem_search", "predict", "Meine Bilder/blobs", "--model", MODEL)
    assert "5 of 5 images classified" in run(*words, folder=folder, environment=environment)


def test_the_model_is_served(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    port = find_free_port()
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sem_search", "serve", "--model", MODEL, "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(f"http://127.0.0.1:{port}", process=process, log=tmp_path / "log")
        image = base64.b64encode((folder / "Meine Bilder" / "blobs" / "0.png").read_bytes()).decode()
        body = json.dumps({"dataframe_records": [{"image": image}]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            assert json.load(response)["predictions"][0]["label"] in ("blobs", "grains", "stripes")
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_a_question_is_answered_there_and_refused_elsewhere(
    folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (study,) = (path.parent.name for path in folder.glob("studies/*/study.json"))
    audit = ("sem_search", "audit", study, "--only", "metadata")
    assert "Logged as run" in run(*audit, folder=folder, environment=environment)
    assert "in the folder of the search" in run(*audit, folder=tmp_path, environment=environment, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_cleared_store_and_another_experiment_get_the_trials_anew_and_once(
    folder: Path, environment: dict[str, str]
) -> None:
    _, _, before = list_trials(folder)
    (folder / "mlflow.db").unlink()
    shutil.rmtree(folder / "mlruns")
    for n_new in (2, 0):
        printed = search(folder, environment)
        assert ("without a run in this experiment: 2;" in printed) == (n_new == 2)
        assert "Registered as sem-search-tiny version 1," in printed
        assert list_trials(folder, experiment="sem-search") == (1, 2, before)
    for _ in range(2):
        printed = search(folder, environment | {"MLFLOW_EXPERIMENT_NAME": "E2"})
        assert "Registered as sem-search-tiny version 1, as before" in " ".join(printed.split())
        assert list_trials(folder, experiment="E2") == (1, 2, before)
    assert "without a run in this experiment" not in search(folder, environment)
    assert list_trials(folder, experiment="sem-search") == list_trials(folder, experiment="E2") == (1, 2, before)
