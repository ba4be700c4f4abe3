"""What MLflow's registry holds, asked for in one place: models, versions and aliases, or a sentence that says what is
there instead."""

from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from sem_search.deployment.registry.stores import describe_store, open_client
from sem_search.deployment.registry.tags import TAG_SOURCE_RUN
from sem_search.errors import ModelNotFoundError
from sem_search.tracking.mlflow.names import NOT_FOUND, quote

LATEST = "latest"

LISTED = 10
"""Names that a message lists."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A registered model with either an alias or a version."""

    name: str
    alias: str | None = None
    version: str | None = None


def resolve_model_uri(model_uri: str) -> str:
    """Return the URI of exactly one version: an alias or `latest` is looked up, anything else stays as it is.

    Raises:
        ModelNotFoundError: There is no such model, version or alias; the message says what there is.
    """
    if not model_uri.startswith(("models:", "runs:")):
        return model_uri
    address = parse_address(model_uri) if model_uri.startswith("models:") else None
    client = open_client()  # a store that is not there, or away, is told at once; MLflow would ask for minutes
    return model_uri if address is None else f"models:/{address.name}/{_resolve(client, address=address)}"


def find_version(client: MlflowClient, *, name: str, version: str) -> ModelVersion:
    """Return a version by its number, by an alias or as `latest`.

    Raises:
        ModelNotFoundError: There is no such model, version or alias; the message says what there is.
    """
    word = version.removeprefix("@")
    is_number = word.isdigit() or word == LATEST
    address = Address(name=name, version=word) if is_number else Address(name=name, alias=word)
    return client.get_model_version(name, _resolve(client, address=address))


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
        names = sorted(model.name for model in client.search_registered_models(max_results=LISTED + 1))
        listed = ", ".join(names[:LISTED]) + (" ..." if len(names) > LISTED else "")
        raise ModelNotFoundError(
            f"There is no registered model {name!r} in {describe_store()}; there is {listed or 'none at all'}."
        ) from error


def get_aliases(registered: RegisteredModel) -> dict[str, str]:
    """Return alias -> version; a database gives versions as numbers, a server as text."""
    return {alias: str(version) for alias, version in registered.aliases.items()}


def list_registered_names(client: MlflowClient) -> list[str]:
    """Return the names of all registered models, sorted."""
    names: list[str] = []
    token: str | None = None
    while True:
        page = client.search_registered_models(page_token=token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            return sorted(names)


def list_model_versions(client: MlflowClient, *, name: str) -> list[ModelVersion]:
    """Return all versions of a model that were not deleted, in the order of their numbers."""
    versions: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = {quote(name)}", page_token=token)
        versions += page
        token = page.token
        if not token:
            return sorted(versions, key=lambda version: int(version.version))


def find_version_of_run(client: MlflowClient, *, name: str, run_id: str) -> ModelVersion | None:
    """Return the version that was made of this run's model, if there is one."""
    versions = client.search_model_versions(f"name = {quote(name)} AND tags.`{TAG_SOURCE_RUN}` = '{run_id}'")
    return min(versions, key=lambda version: int(version.version), default=None)


def parse_address(model_uri: str) -> Address | None:
    """Return what `models:/...` names, or None for a model that is not registered, `models:/<model id>`."""
    path = model_uri.removeprefix("models:").lstrip("/")
    name, slash, version = path.partition("/")
    if slash and name and version and "/" not in version:
        return Address(name=name, version=version)
    name, at, alias = path.rpartition("@")
    if at and name and alias and not slash:
        return Address(name=name, alias=alias)
    if path and not slash and not at:
        return None
    raise ModelNotFoundError(
        f"{model_uri!r} is not the address of a model: write models:/<name>@<alias> or models:/<name>/<version>."
    )


def _resolve(client: MlflowClient, *, address: Address) -> str:
    """Return the number of the version that an address means."""
    registered = get_registered_model(client, name=address.name)
    if address.alias is not None:
        return _find_alias(registered, alias=address.alias)
    numbers = [str(version.version) for version in list_model_versions(client, name=address.name)]
    if address.version == LATEST and numbers:
        return numbers[-1]
    if address.version is None or address.version not in numbers:
        raise ModelNotFoundError(
            f"Model {address.name!r} has no version {address.version!r}; it has versions "
            f"{', '.join(numbers[-LISTED:]) or 'none'} and {_list_aliases(registered)}."
        )
    return address.version


def _find_alias(registered: RegisteredModel, *, alias: str) -> str:
    version = get_aliases(registered).get(alias)
    if version is None:
        raise ModelNotFoundError(
            f"Model {registered.name!r} has no alias {alias!r}; it has {_list_aliases(registered)}."
        )
    return version


def _list_aliases(registered: RegisteredModel) -> str:
    listed = [f"{alias} (version {version})" for alias, version in sorted(get_aliases(registered).items())]
    return f"the aliases {', '.join(listed)}" if listed else "no aliases"
