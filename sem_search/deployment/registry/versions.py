"""Models, versions and aliases as MLflow's registry has them, and the tags that sem_search gives a version."""

import math

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from sem_search.errors import ModelNotFoundError
from sem_search.places import find_sqlite_file
from sem_search.secrets import mask_url
from sem_search.tracking.mlflow.availability import check_store_answers
from sem_search.tracking.mlflow.names import NOT_FOUND, quote
from sem_search.tracking.mlflow.runs import explain_refusal

CHAMPION = "champion"
CHALLENGER = "challenger"

TAG_SOURCE_RUN = "sem_search.source_run_id"
TAG_SELECT_ON = "sem_search.select_on"
TAG_STUDY = "sem_search.study"
TAG_DECISION = "sem_search.decision"
TAG_PREVIOUS = "sem_search.previous_champion"
TAG_SCORE = "sem_search.score"
TAG_DATA = "sem_search.data_sha256"
TAG_FOLDS = "sem_search.folds_sha256"
TAG_FILES = "sem_search.files_sha256"
"""Hash of the list that names every file of the model with its hash."""

SCORES = {
    "score": TAG_SCORE,
    "validation_f_measure": "sem_search.validation_f_measure",
    "test_f_measure": "sem_search.test_f_measure",
}
HASHES = {"data_sha256": TAG_DATA, "folds_sha256": TAG_FOLDS, "files_sha256": TAG_FILES}

LATEST = "latest"

LISTED = 10
"""Names that a message lists."""


def open_client() -> MlflowClient:
    """Return a client of the registry.

    Raises:
        ModelNotFoundError: It would be an SQLite file that is not there. MLflow would make an empty one, and a question
            asked in the wrong folder would leave a database behind.
        SettingsError: It refuses the request, or is no registry.
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


def resolve_model_uri(model_uri: str) -> str:
    """Return the URI of exactly one version: an alias or `latest` is looked up, anything else stays as it is.

    Raises:
        ModelNotFoundError: There is no such model, version or alias; the message says what there is.
    """
    if not model_uri.startswith(("models:", "runs:")):
        return model_uri
    address = split_model_uri(model_uri)
    client = open_client()  # a store that is missing or away is reported at once; MLflow would try for minutes
    if address is None:
        return model_uri
    name, word = address
    return f"models:/{name}/{find_version(client, name=name, version=word).version}"


def split_model_uri(model_uri: str) -> tuple[str, str] | None:
    """Return name and version, or name and `@alias`, of `models:/...`; None for a model that is not registered.

    Raises:
        ModelNotFoundError: It is no address of a model.
    """
    if not model_uri.startswith("models:"):
        return None
    path = model_uri.removeprefix("models:").lstrip("/")
    name, mark, word = path.partition("/") if "/" in path else path.rpartition("@")
    if not mark and path:
        return None
    if not name or not word or "/" in word:
        raise ModelNotFoundError(
            f"{model_uri!r} is not the address of a model: write models:/<name>@<alias> or models:/<name>/<version>."
        )
    return name, word if mark == "/" else f"@{word}"


def find_version(client: MlflowClient, *, name: str, version: str) -> ModelVersion:
    """Return a version by its number, by an alias or as `latest`.

    Raises:
        ModelNotFoundError: There is no such model, version or alias; the message says what there is.
    """
    registered = get_registered_model(client, name=name)
    versions = list_model_versions(name)
    aliases = get_aliases(registered)
    word = version.removeprefix("@")
    number = next(reversed(versions), word) if word == LATEST else aliases.get(word, word)
    if number not in versions:
        kind = "version" if word.isdigit() or word == LATEST else "alias"
        listed = ", ".join(f"{alias} (version {number})" for alias, number in sorted(aliases.items()))
        raise ModelNotFoundError(
            f"Model {name!r} has no {kind} {word!r}; it has versions {', '.join([*versions][-LISTED:]) or 'none'} and "
            f"{f'the aliases {listed}' if listed else 'no aliases'}."
        )
    return versions[number]


def get_registered_model(client: MlflowClient, *, name: str) -> RegisteredModel:
    """Return a registered model.

    Raises:
        ModelNotFoundError: There is none of this name; the message lists those that there are.
    """
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        names = list_registered_names()
        listed = ", ".join(names[:LISTED]) + (" ..." if len(names) > LISTED else "")
        raise ModelNotFoundError(
            f"There is no registered model {name!r} in {describe_store()}; there is {listed or 'none at all'}."
        ) from error


def get_aliases(registered: RegisteredModel) -> dict[str, str]:
    """Return alias -> version; a database gives versions as numbers, a server as text."""
    return {alias: str(version) for alias, version in registered.aliases.items()}


def list_registered_names() -> list[str]:
    """Return the names of all registered models, sorted."""
    return sorted(model.name for model in mlflow.search_registered_models())


def list_model_versions(name: str) -> dict[str, ModelVersion]:
    """Return number -> version of all that were not deleted, in the order of their numbers."""
    versions = mlflow.search_model_versions(filter_string=f"name = {quote(name)}")
    return {str(version.version): version for version in sorted(versions, key=lambda version: int(version.version))}


def describe_scores(*versions: ModelVersion | None) -> dict[str, dict[str, float]]:
    """Return the scores of each version by its number, as its tags state them."""
    return {
        str(version.version): {
            name: value for name, tag in SCORES.items() if (value := read_number(version, tag=tag)) is not None
        }
        for version in versions
        if version is not None
    }


def describe_hashes(version: ModelVersion) -> dict[str, str]:
    """Return the hashes of data, folds and files, as the version's tags state them."""
    return {name: version.tags[tag] for name, tag in HASHES.items() if tag in version.tags}


def read_number(version: ModelVersion, *, tag: str) -> float | None:
    """Return a finite number from a tag; None where there is no tag, or something else in it."""
    try:
        value = float(version.tags[tag])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None
