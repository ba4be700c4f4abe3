from pathlib import Path

import mlflow

from sem_search.deployment.package.writing import LoggedClassifier
from sem_search.deployment.pyfunc.answers import ServedName
from sem_search.deployment.pyfunc.model import read_served_name


def test_the_note_of_mlflow_tells_it(tmp_path: Path) -> None:
    (tmp_path / "registered_model_meta").write_text("model_name: lactose\nmodel_version: '3'\n")
    assert read_served_name(tmp_path) == ServedName(name="lactose", version="3")


def test_a_folder_without_a_note_has_no_name(tmp_path: Path) -> None:
    assert read_served_name(tmp_path) == ServedName()


def test_mlflow_still_writes_that_note(logged: LoggedClassifier, tracking: mlflow.MlflowClient) -> None:
    version = mlflow.register_model(logged.model_uri, "lactose")
    folder = mlflow.artifacts.download_artifacts(f"models:/lactose/{version.version}")
    assert read_served_name(Path(folder)) == ServedName(name="lactose", version=str(version.version))
    (Path(folder) / "registered_model_meta").unlink()
