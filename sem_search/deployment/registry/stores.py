"""Where the registry is: opened only if it is there, named without its password."""

from pathlib import Path

import mlflow
from mlflow import MlflowClient

from sem_search.errors import ModelNotFoundError
from sem_search.secrets import mask_url

SQLITE = "sqlite:///"


def open_client() -> MlflowClient:
    """Return a client of the registry.

    Raises:
        ModelNotFoundError: It would be an SQLite file that is not there. MLflow would make an empty one, and a question
            asked in the wrong folder would leave a database behind.
    """
    file = find_sqlite_file(mlflow.get_registry_uri())
    if file is not None and not file.is_file():
        raise ModelNotFoundError(
            f"There is no registry {describe_store()} here: give the command in the folder of the search, or say where "
            "the registry is with MLFLOW_TRACKING_URI."
        )
    return MlflowClient()


def describe_store() -> str:
    """Return where the registry is, passwords masked."""
    return mask_url(mlflow.get_registry_uri())


def find_sqlite_file(registry_uri: str) -> Path | None:
    """Return the file of a registry in SQLite; None for any other, and for one in memory."""
    file = registry_uri.removeprefix(SQLITE)
    if not registry_uri.startswith(SQLITE) or not file or set(file) & set("?:"):
        return None
    return Path(file).absolute()
