"""The files of a version, fetched from wherever the registry keeps them into a folder that is removed afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.description import compute_file_sha256
from sem_search.deployment.file_list import FILE_LIST
from sem_search.deployment.record import RECORD_FOLDER

RECORD_PATH = f"artifacts/{RECORD_FOLDER}"
"""Where MLflow puts the record within the model."""

LOGGED_MODEL = "models:/"


@contextmanager
def fetch_files(version: ModelVersion, *, path: str = "") -> Iterator[Path | None]:
    """Give a copy of a version's folder, or of the part of it at a path; None if the version has no such files."""
    uri = f"{LOGGED_MODEL}{version.name}/{version.version}" + (f"/{path}" if path else "")
    if not mlflow.artifacts.list_artifacts(artifact_uri=uri):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="sem_search_") as folder:
        yield Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))


def read_files_sha256(logged_uri: str) -> str | None:
    """Return the hash of a logged model's list of files; None for a model that was logged without one."""
    model_id = logged_uri.removeprefix(LOGGED_MODEL)
    client = MlflowClient()
    if FILE_LIST not in [file.path for file in client.list_logged_model_artifacts(model_id)]:
        return None
    location = client.get_logged_model(model_id).artifact_location
    with tempfile.TemporaryDirectory(prefix="sem_search_") as folder:
        path = mlflow.artifacts.download_artifacts(artifact_uri=f"{location}/{FILE_LIST}", dst_path=folder)
        return compute_file_sha256(Path(path))
