"""Registered versions and who is champion.

A version carries, as tags, all that leads back from an answer to its data, weights, study and score. The champion is
what is served; a newcomer takes its place only if it is better on the very same data and folds. A score on other data
is a score of another question: such a newcomer is a challenger, and the reason says that nothing was compared.

Moves are safe to interrupt: a version is created with its tags in one step and found by them when the search is run
again; the alias is moved in one step, so that there is a champion at every moment; and the decision is noted last.
MLflow cannot compare and move at once: of two searches that beat the same champion in the same moment, the later move
stands, and both decisions can be read.
Source of the words: MLflow's registry; challengers and champions are its own suggestion for aliases.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from sem_search.errors import ModelNotFoundError, StoreError
from sem_search.tracking.names import mask_secrets

CHAMPION = "champion"
CHALLENGER = "challenger"

TAG_SOURCE_RUN = "sem_search.source_run_id"
TAG_SCORE = "sem_search.score"
TAG_DATA = "sem_search.data_sha256"
TAG_FOLDS = "sem_search.folds_sha256"
TAG_SELECT_ON = "sem_search.select_on"
TAG_DECISION = "sem_search.decision"
TAG_PREVIOUS = "sem_search.previous_champion"

COMPARABLE = {TAG_DATA: "data", TAG_FOLDS: "folds", TAG_SELECT_ON: "side of the score"}
"""Tags that must agree before two scores may be compared, and what a reason calls them."""

LATEST = "latest"

LISTED = 10
"""Names that a message lists."""

NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND")


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """What became of a model that was brought to the registry."""

    name: str
    version: str
    alias: str | None
    """`champion`, `challenger`, or None if another version has taken the alias since."""
    reason: str
    """Continues "registered as <name> version <version>, "."""


def register_winner(
    *,
    model_uri: str,
    run_id: str,
    model_name: str,
    score: float,
    data_digest: str,
    folds_digest: str,
    tags: Mapping[str, str],
) -> RegisteredVersion:
    """Register a study's winner once, and give it the alias that it deserves.

    Args:
        model_uri: `runs:/<run id>/<name>` or `models:/<model id>`.
        run_id: The run that the model was logged to. Its model is registered once, however often this is called.
        model_name: Registered model; created where there is none.
        score: The study's objective, in [0, 1].
        data_digest: Of the catalogue.
        folds_digest: Of the fold table.
        tags: Further tags of the version. `sem_search.select_on` says which tiles the score is of; scores of
            different tiles are not compared.

    Returns:
        The version, its alias, and why it has that one.

    Raises:
        ModelNotFoundError: The run has no such model.
        StoreError: The score is not a number between 0 and 1.
    """
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise StoreError(f"score={score} of run {run_id} is no objective: it must lie between 0 and 1.")
    client = MlflowClient()
    version = _find_registered(client, model_name=model_name, run_id=run_id)
    if version is None:
        all_tags = {
            **tags,
            TAG_SOURCE_RUN: run_id,
            TAG_SCORE: repr(float(score)),
            TAG_DATA: data_digest,
            TAG_FOLDS: folds_digest,
        }
        logged_uri = _find_logged_model(client, model_uri=model_uri, run_id=run_id)
        version = mlflow.register_model(logged_uri, model_name, tags=all_tags)
    elif TAG_DECISION in version.tags:
        return _describe_again(client, version=version)
    return _decide(client, version=version)


def resolve_model_uri(model_uri: str) -> str:
    """Return the URI of exactly one version: an alias or `latest` is looked up, anything else stays as it is.

    Raises:
        ModelNotFoundError: There is no such model, version or alias; the message says what there is.
    """
    if not model_uri.startswith("models:"):
        return model_uri
    address = _parse_address(model_uri)
    if address is None:
        return model_uri
    client = MlflowClient()
    registered = _get_registered_model(client, name=address.name)
    if address.alias is not None:
        return f"models:/{address.name}/{_find_alias(registered, alias=address.alias)}"
    numbers = _list_versions(client, name=address.name)
    if address.version == LATEST and numbers:
        return f"models:/{address.name}/{numbers[-1]}"
    if address.version not in [str(number) for number in numbers]:
        raise ModelNotFoundError(
            f"Model {address.name!r} has no version {address.version!r}; it has versions "
            f"{', '.join(str(number) for number in numbers[-LISTED:]) or 'none'} and {_list_aliases(registered)}."
        )
    return model_uri


@dataclass(frozen=True, kw_only=True)
class _Address:
    """A registered model with either an alias or a version."""

    name: str
    alias: str | None = None
    version: str | None = None


def _parse_address(model_uri: str) -> _Address | None:
    """Return what `models:/...` names, or None for a model that is not registered, `models:/<model id>`."""
    path = model_uri.removeprefix("models:").lstrip("/")
    name, slash, version = path.partition("/")
    if slash and name and version and "/" not in version:
        return _Address(name=name, version=version)
    name, at, alias = path.rpartition("@")
    if at and name and alias and not slash:
        return _Address(name=name, alias=alias)
    if path and not slash and not at:
        return None
    raise ModelNotFoundError(
        f"{model_uri!r} is not the address of a model: write models:/<name>@<alias> or models:/<name>/<version>."
    )


def _find_alias(registered: RegisteredModel, *, alias: str) -> str:
    version = registered.aliases.get(alias)
    if version is None:
        raise ModelNotFoundError(
            f"Model {registered.name!r} has no alias {alias!r}; it has {_list_aliases(registered)}."
        )
    return str(version)


def _find_registered(client: MlflowClient, *, model_name: str, run_id: str) -> ModelVersion | None:
    """Return the version that was made of this run's model, if there is one."""
    versions = client.search_model_versions(f"name = {_quote(model_name)} AND tags.`{TAG_SOURCE_RUN}` = '{run_id}'")
    return min(versions, key=lambda version: int(version.version), default=None)


def _find_logged_model(client: MlflowClient, *, model_uri: str, run_id: str) -> str:
    """Return `models:/<model id>` of the model that the run's URI means."""
    if not model_uri.startswith("runs:/"):
        return model_uri
    name = model_uri.removeprefix("runs:/").partition("/")[2]
    try:
        experiment_id = client.get_run(run_id).info.experiment_id
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        raise ModelNotFoundError(f"There is no run {run_id} in {_describe_store()}.") from error
    logged = client.search_logged_models(
        [experiment_id], filter_string=f"source_run_id = '{run_id}' AND name = {_quote(name)}"
    )
    finished = [model for model in logged if model.status == LoggedModelStatus.READY]
    if not finished:
        raise ModelNotFoundError(f"Run {run_id} has no model {name!r}: its trial was not finished.")
    return f"models:/{max(finished, key=lambda model: model.creation_timestamp).model_id}"


def _decide(client: MlflowClient, *, version: ModelVersion) -> RegisteredVersion:
    """Give the version its alias, in one step, and note the decision."""
    name, number = version.name, str(version.version)
    champion = _get_aliases(client, name=name).get(CHAMPION)
    if champion is None:
        alias, reason = CHAMPION, "champion: there was none."
    elif champion == number:
        alias, reason = CHAMPION, "champion."  # a search that was stopped between move and note
    else:
        alias, reason = _compare(version, champion=client.get_model_version(name, champion))
        if alias == CHAMPION:
            client.set_model_version_tag(name, number, TAG_PREVIOUS, champion)
    client.set_registered_model_alias(name, alias, number)
    if alias == CHAMPION and _get_aliases(client, name=name).get(CHALLENGER) == number:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_model_version_tag(name, number, TAG_DECISION, reason)
    return RegisteredVersion(name=name, version=number, alias=alias, reason=reason)


def _compare(version: ModelVersion, *, champion: ModelVersion) -> tuple[str, str]:
    """Return alias and reason of a newcomer."""
    title = f"the champion, version {champion.version}"
    if TAG_SCORE not in champion.tags:
        return CHALLENGER, f"challenger: {title}, carries no score, so the two were not compared."
    different = [word for tag, word in COMPARABLE.items() if version.tags.get(tag) != champion.tags.get(tag)]
    if different:
        return CHALLENGER, (
            f"challenger: {title}, was measured on other {' and '.join(different)}, so the two were not compared."
        )
    new, old = float(version.tags[TAG_SCORE]), float(champion.tags[TAG_SCORE])
    if new > old:
        return CHAMPION, f"champion: its score of {new:.4f} beats the {old:.4f} of version {champion.version}."
    return CHALLENGER, f"challenger: its score of {new:.4f} does not beat the {old:.4f} of {title}."


def _describe_again(client: MlflowClient, *, version: ModelVersion) -> RegisteredVersion:
    """Return what is known of a version that was registered and judged before; nothing is moved."""
    number = str(version.version)
    aliases = _get_aliases(client, name=version.name)
    held = [alias for alias in (CHAMPION, CHALLENGER) if aliases.get(alias) == number]
    return RegisteredVersion(
        name=version.name,
        version=number,
        alias=held[0] if held else None,
        reason=f"as before: {version.tags[TAG_DECISION]}",
    )


def _get_aliases(client: MlflowClient, *, name: str) -> dict[str, str]:
    """Return alias -> version; a database gives versions as numbers, a server as text."""
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def _get_registered_model(client: MlflowClient, *, name: str) -> RegisteredModel:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        names = sorted(model.name for model in client.search_registered_models(max_results=LISTED + 1))
        listed = ", ".join(names[:LISTED]) + (" ..." if len(names) > LISTED else "")
        raise ModelNotFoundError(
            f"There is no registered model {name!r} in {_describe_store()}; there is {listed or 'none at all'}."
        ) from error


def _list_versions(client: MlflowClient, *, name: str) -> list[int]:
    return sorted(int(version.version) for version in client.search_model_versions(f"name = {_quote(name)}"))


def _list_aliases(registered: RegisteredModel) -> str:
    listed = [f"{alias} (version {version})" for alias, version in sorted(registered.aliases.items())]
    return f"the aliases {', '.join(listed)}" if listed else "no aliases"


def _describe_store() -> str:
    return mask_secrets(mlflow.get_registry_uri())


def _quote(text: str) -> str:
    """Return a string for MLflow's filters, which know two kinds of quotes and no escape."""
    return f'"{text}"' if "'" in text else f"'{text}'"
