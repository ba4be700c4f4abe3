"""The files of a version: fetched from where the registry keeps them, and compared with what was registered."""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sem_search.deployment.package.description import compute_file_sha256
from sem_search.deployment.package.export import export_model
from sem_search.deployment.package.files import BYTECODE, FILE_LIST, check_files
from sem_search.deployment.package.record import RECORD_FOLDER
from sem_search.deployment.pyfunc.model import MODEL_FOLDER
from sem_search.deployment.registry.versions import TAG_FILES, find_version, open_client, split_model_uri
from sem_search.errors import ModelNotFoundError, StoreError, get_first_line
from sem_search.tracking.mlflow.moved import describe_move, find_missing_folder

RECORD_PATH = f"artifacts/{RECORD_FOLDER}"
"""Where MLflow puts the record within the model."""

LOGGED_MODEL = "models:/"

_logger = logging.getLogger(__name__)


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


def fetch_model(model_uri: str, *, folder: Path) -> Path:
    """Return a copy of a model whose files are those that were registered, to be loaded from there.

    Code and weights are compared before anything of them is run: the hash of the list of files with the one that the
    registry holds, and every file with the list. Bytecode, which is on no list, is left out of the copy.

    Args:
        model_uri: `models:/<name>/<version>`, or any other URI of a model.
        folder: Where to put the copy.

    Raises:
        MlflowException: There is no such model, or it cannot be fetched.
        ModelNotFoundError: The folder of its files is not where it was; MLflow gives an empty copy then.
        StoreError: A file is not what was registered; the message names it.
    """
    registered_sha256 = _read_registered_sha256(model_uri)
    model = Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri, dst_path=str(folder / "model")))
    for bytecode in list(model.rglob(BYTECODE)):
        shutil.rmtree(bytecode)
    has_list = (model / FILE_LIST).is_file()
    if not has_list and find_missing_files(model_uri) is not None:
        raise ModelNotFoundError(describe_failure(model_uri))
    problems = [find_list_problem(model, registered_sha256=registered_sha256)] if registered_sha256 else []
    problems += check_files(model).problems if has_list else ()
    if problem := next(filter(None, problems), None):
        raise StoreError(f"{model_uri} is not served: {problem} `sem-search registry verify` says more.")
    return model


@contextmanager
def borrow_model(model_uri: str) -> Iterator[Path]:
    """Give a copy of a model, as `fetch_model` does, that is removed afterwards.

    Raises:
        ModelNotFoundError: There is no such model, or its files cannot be read.
        StoreError: A file is not what was registered.
    """
    with tempfile.TemporaryDirectory(prefix="sem-search-") as folder:  # mode 0700
        try:
            yield fetch_model(model_uri, folder=Path(folder))
        except (MlflowException, OSError) as error:
            raise ModelNotFoundError(describe_failure(model_uri, error=error)) from error


def export_version(name: str, version: str, *, folder: Path) -> tuple[str, ...]:
    """Write the ONNX graphs of a version into a new folder, with a page on how to use them; return the files' names.

    Args:
        name: Registered model.
        version: A number, an alias or `latest`.
        folder: Where to; new, or empty.

    Raises:
        ModelNotFoundError: There is no such version.
        SettingsError: There is something in the folder, or it cannot be written.
        StoreError: A file of the model is not what was registered.
    """
    number = find_version(open_client(), name=name, version=version).version
    with tempfile.TemporaryDirectory(prefix="sem_search_") as place:
        model = fetch_model(f"{LOGGED_MODEL}{name}/{number}", folder=Path(place))
        return export_model(model / "artifacts" / MODEL_FOLDER, folder=folder, source=f"{name} version {number}")


def find_list_problem(model: Path, *, registered_sha256: str) -> str | None:
    """Return how the list of a model's files differs from the registered one, as a sentence; None where it does not."""
    if not (model / FILE_LIST).is_file():
        return f"{FILE_LIST} is missing."
    found = compute_file_sha256(model / FILE_LIST)
    if found == registered_sha256:
        return None
    return f"{FILE_LIST} is not what was registered: its sha256 is {found[:16]}..., not {registered_sha256[:16]}..."


def find_missing_files(model_uri: str) -> Path | None:
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
    return find_missing_folder(location)


def describe_failure(model_uri: str, *, error: Exception | None = None) -> str:
    """Return why a model cannot be loaded; of one whose folder was moved, MLflow itself names no folder."""
    missing = find_missing_files(model_uri) if model_uri.startswith(LOGGED_MODEL) else None
    said = get_first_line(error) if missing is None else describe_move(missing)
    return f"Model {model_uri!r} cannot be loaded: {said}"


def _read_registered_sha256(model_uri: str) -> str | None:
    """Return the hash of a registered version's list of files; None for a model that is not registered."""
    address = split_model_uri(model_uri)
    if address is None or not address[1].isdigit():
        return None
    sha256: str | None = open_client().get_model_version(*address).tags.get(TAG_FILES)
    if sha256 is None:
        _logger.warning("The registry holds no hash of %s: its files are compared with its own list only.", model_uri)
    return sha256
