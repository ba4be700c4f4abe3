"""Where the registry is: opened only if it is there, named without its password."""

import mlflow
from mlflow import MlflowClient

from sem_search.errors import ModelNotFoundError
from sem_search.places import find_sqlite_file
from sem_search.secrets import mask_url
from sem_search.tracking.mlflow.availability import check_store_answers
from sem_search.tracking.mlflow.runs import explain_refusal


def open_client() -> MlflowClient:
    """Return a client of the registry.

    Raises:
        ModelNotFoundError: It would be an SQLite file that is not there. MLflow would make an empty one, and a question
            asked in the wrong folder would leave a database behind.
        SettingsError: It refuses us, or is none.
        StoreError: It does not answer.
    """
    file = find_sqlite_file(mlflow.get_registry_uri())
    if file is not None and not file.is_file():
        raise ModelNotFoundError(
            f"There is no registry {describe_store()} here: give the command in the folder of the search, or say where "
            "the registry is with MLFLOW_TRACKING_URI."
        )
    with explain_refusal():
        client = MlflowClient()
        check_store_answers(lambda: client.search_registered_models(max_results=1))
    return client


def describe_store() -> str:
    """Return where the registry is, passwords masked."""
    return mask_url(mlflow.get_registry_uri())
