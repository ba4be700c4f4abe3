"""Models, versions and aliases as MLflow's registry has them, and the tags that sem_search gives a version."""

import math
from contextlib import suppress

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
from sem_search.words import name_some

CHAMPION = "champion"
CHALLENGER = "challenger"

TAG_SOURCE_RUN = "sem_search.source_run_id"
TAG_SELECT_ON = "sem_search.select_on"
TAG_STUDY = "sem_search.study"
TAG_DECISION = "sem_search.decision"
TAG_HEADLINE = "sem_search.headline"
"""How many unseen images were correctly classified, for people."""

TAG_VERDICT = "sem_search.verdict"
"""Which classes the version can be used for, or that it cannot be judged, for people."""

TAG_AT_CHANCE = "sem_search.at_chance"
"""The score of a version that is not shown to be better than chance, in words; others have no such tag."""
TAG_SCORE = "sem_search.score"
TAG_DATA = "sem_search.data_sha256"
TAG_FOLDS = "sem_search.folds_sha256"
TAG_PIXEL_SIZE = "sem_search.pixel_size_nm"
"""To which all images were brought; versions that took them as they are have no such tag."""
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
    with explain_refusal():  # making a client opens a database; where that fails, MLflow tries for minutes
        check_store_answers(lambda: MlflowClient().search_registered_models(max_results=1))
        return MlflowClient()


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

    Args:
        client: Asks the registry.
        name: Registered model.
        version: A number, an alias with or without `@`, or `latest`.

    Raises:
        ModelNotFoundError: There is no such model, version or alias; the message says what there is.
    """
    aliases = get_registered_model(client, name=name).aliases
    versions = list_model_versions(name)
    word = version.removeprefix("@")
    number = next(reversed(versions), word) if word == LATEST else str(aliases.get(word, word))
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
        names = [str(model.name) for model in mlflow.search_registered_models()]
        there = name_some(names, most=LISTED) if names else "none at all"
        raise ModelNotFoundError(
            f"There is no registered model {name!r} in {describe_store()}; there is {there}."
        ) from error


def list_model_versions(name: str) -> dict[str, ModelVersion]:
    """Return number -> version of all that were not deleted, in the order of their numbers."""
    versions = mlflow.search_model_versions(filter_string=f"name = {quote(name)}")
    return {str(version.version): version for version in sorted(versions, key=lambda version: int(version.version))}


def read_headline(model_uri: str) -> str | None:
    """Return what is known of a registered version, as sentences without the last full stop; None where none says it.

    Raises:
        ModelNotFoundError: There is no such version.
    """
    address = split_model_uri(model_uri)
    if address is None:
        return None
    name, number = address
    return join_headline(find_version(open_client(), name=name, version=number))


def join_headline(version: ModelVersion) -> str | None:
    """Return how many unseen images a version classified correctly and what follows, without the last full stop."""
    said = [version.tags[tag].removesuffix(".") for tag in (TAG_HEADLINE, TAG_VERDICT) if tag in version.tags]
    return ". ".join(said) or None


def write_verdict(name: str, version: str, *, verdict: str) -> None:
    """State what follows from a version's scores, as sentences."""
    open_client().set_model_version_tag(name, version, TAG_VERDICT, verdict)


def read_scores(version: ModelVersion) -> dict[str, float]:
    """Return the scores that a version's tags state; what is no finite number is left out."""
    scores = {}
    for name, tag in SCORES.items():
        with suppress(KeyError, ValueError):
            scores[name] = float(version.tags[tag])
    return {name: value for name, value in scores.items() if math.isfinite(value)}


def read_hashes(version: ModelVersion) -> dict[str, str]:
    """Return the hashes of data, folds and files, as the version's tags state them."""
    return {name: version.tags[tag] for name, tag in HASHES.items() if tag in version.tags}
