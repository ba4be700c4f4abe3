"""The files of a version, fetched from wherever the registry keeps them into a folder that is removed afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

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


def find_missing_folder(model_uri: str) -> Path | None:
    """Return the folder of this machine in which a model's files should lie and which is not there, else None.

    Args:
        model_uri: `models:/<name>/<version>` or `models:/<model id>`.
    """
    client = MlflowClient()
    try:
        name, _, version = model_uri.removeprefix(LOGGED_MODEL).partition("/")
        source = client.get_model_version(name, version).source if version else model_uri
        location = client.get_logged_model(str(source).removeprefix(LOGGED_MODEL)).artifact_location
    except MlflowException:
        return None
    folder = Path(unquote(urlsplit(location).path) if location.startswith("file:") else location)
    return None if "://" in str(folder) or not folder.is_absolute() or folder.exists() else folder


def describe_failure(model_uri: str, *, error: Exception) -> str:
    """Return why a model cannot be loaded; of one whose folder was moved, MLflow itself names no folder."""
    missing = find_missing_folder(model_uri) if model_uri.startswith(LOGGED_MODEL) else None
    if missing is not None:
        return (
            f"Model {model_uri!r} cannot be loaded: its files should lie in {missing}, which is not there. "
            "MLflow keeps whole paths: move the search's folder back to where it was, or put a link to it there."
        )
    lines = str(error).strip().splitlines()
    return f"Model {model_uri!r} cannot be loaded: {lines[0][:300] if lines else type(error).__name__}"


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
