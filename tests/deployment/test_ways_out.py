"""The ways that MLflow offers to take a model elsewhere: an environment of its own, and a Dockerfile."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.pyfunc import PyFuncModel

from sem_search.deployment.package.writing import LoggedClassifier

ROOT = Path(__file__).parents[2]
LIMIT_S = 900

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(store: Path) -> dict[str, str]:
    """What MLflow's commands are started with: and no way to this checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MLFLOW_RUN_ID")}
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def model_folder(logged: LoggedClassifier, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model, as somebody gets it who knows neither store nor registry."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    found = mlflow.artifacts.download_artifacts(logged.model_uri)
    mlflow.set_tracking_uri(before)
    return Path(shutil.copytree(found, tmp_path_factory.mktemp("elsewhere") / "model"))


def run_mlflow(*words: str, environment: dict[str, str], cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "models", *words],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_model_answers_in_a_new_environment_made_of_its_own_requirements(
    model_folder: Path, served: PyFuncModel, environment: dict[str, str], tmp_path: Path
) -> None:
    """Cost: the packages of TensorFlow and MLflow are downloaded; with uv's cache filled, seconds."""
    if shutil.which("uv", path=environment["PATH"]) is None:
        pytest.skip("there is no uv: it comes with the extra dev")
    example = model_folder / "serving_input_example.json"
    run_mlflow(
        *("predict", "--model-uri", str(model_folder), "--env-manager", "uv"),
        *("--input-path", str(example), "--output-path", str(tmp_path / "answers.json")),
        environment=environment,
        cwd=tmp_path,
    )
    (answer,) = json.loads((tmp_path / "answers.json").read_text())["predictions"]
    (here,) = served.predict(json_to_frame(example)).to_dict("records")
    assert answer["label"] == here["label"]
    assert answer["probability"] == pytest.approx(here["probability"], abs=1e-6)
    assert answer["prediction_set"] == here["prediction_set"]
    required = (model_folder / "requirements.txt").read_text()
    assert "sem_search" not in required.replace("-", "_"), "the environment holds no sem_search: the model brought it"


def json_to_frame(path: Path) -> object:
    import pandas as pd

    return pd.DataFrame(**json.loads(path.read_text())["dataframe_split"])


def test_the_dockerfile_holds_the_model_and_nothing_of_this_machine(
    model_folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    run_mlflow(
        *("generate-dockerfile", "--model-uri", str(model_folder), "--output-directory", str(tmp_path / "docker")),
        environment=environment,
        cwd=tmp_path,
    )
    text = (tmp_path / "docker" / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.\d+\.\d+-slim$", text, re.MULTILINE)
    assert f"RUN pip install mlflow=={mlflow.__version__}" in text
    assert re.search(r"^COPY model_dir\S* /opt/ml/model$", text, re.MULTILINE)
    for private in (str(ROOT), str(Path.home()), str(tmp_path)):
        assert private not in text
    (copied,) = (tmp_path / "docker").rglob("MLmodel")
    assert (copied.parent / "artifacts" / "classifier" / "calibration.npz").is_file()
