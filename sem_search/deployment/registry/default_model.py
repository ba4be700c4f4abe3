"""Which model is meant, where the user names none, or less than its whole address."""

import re
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import RegisteredModel

from sem_search.deployment.registry.versions import (
    CHAMPION,
    LISTED,
    describe_store,
    list_model_versions,
    open_client,
    split_model_uri,
)
from sem_search.errors import ModelNotFoundError
from sem_search.settings import AUTO
from sem_search.words import name_some

LOGGED_MODEL_ID = re.compile("m-[0-9a-f]+")
"""Of a model that may not be registered; `models:/` stands before it, too."""


def complete_model_uri(given: str | None) -> str:
    """Return the URI of a model; an alias in it stays as it is.

    Args:
        given: A whole URI or a model's folder; `NAME`, `models:/NAME` or `NAME@ALIAS`, where no alias stands for the
            champion; None or `auto` for the champion of the only model that has one.

    Raises:
        ModelNotFoundError: None is given, and no model or several have a champion; the message lists them.
        StoreError: The registry does not answer.
    """
    if given is None or given == AUTO:
        return _find_only_champion()
    uri = _write_uri(given)
    is_whole = not uri.startswith("models:") or split_model_uri(uri) is not None
    name = uri.removeprefix("models:").lstrip("/")
    return uri if is_whole or LOGGED_MODEL_ID.fullmatch(name) else f"models:/{name}@{CHAMPION}"


def _write_uri(given: str) -> str:
    """Return the URI that a bare `NAME` or `NAME@ALIAS` stands for; a URI or a path stays as it is."""
    is_name = not re.search(r"[:/\\]", given) and not Path(given).exists()
    return f"models:/{given}" if is_name else given


def choose_model_name(given: str | None) -> str:
    """Return the name of a registered model, also of its URI or `NAME@ALIAS`; None: the only one that there is.

    Raises:
        ModelNotFoundError: None is given, and there is no model, or there are several; the message lists them.
        StoreError: The registry does not answer.
    """
    if given is not None:
        uri = _write_uri(given)
        address = split_model_uri(uri)
        return uri.removeprefix("models:").lstrip("/") if address is None else address[0]
    names = list(_list_models())
    if len(names) == 1:
        return names[0]
    raise ModelNotFoundError(
        f"{describe_store()} has {len(names)} models: {name_some(names, most=LISTED)}. Say which one: model=NAME."
    )


def _find_only_champion() -> str:
    models = _list_models()
    led = [name for name, model in models.items() if CHAMPION in model.aliases]
    if len(led) == 1:
        return f"models:/{led[0]}@{CHAMPION}"
    if led:
        raise ModelNotFoundError(
            f"{len(led)} models have a champion in {describe_store()}: {name_some(led, most=LISTED)}. Say which one: "
            f"model=models:/{led[0]}@{CHAMPION}."
        )
    name = next(iter(models))
    version = next(reversed(list_model_versions(name)), "NUMBER")
    raise ModelNotFoundError(
        f"No model in {describe_store()} has a champion; there is {name_some(models, most=LISTED)}. Make a version "
        f"champion (sem-search registry promote), or say which version: model=models:/{name}/{version}."
    )


def _list_models() -> dict[str, RegisteredModel]:
    """Return the registered models by name, in the order of the names; there is at least one."""
    open_client()  # reports a registry that is missing or away
    models = {str(model.name): model for model in mlflow.search_registered_models()}
    if not models:
        raise ModelNotFoundError(
            f"There is no registered model in {describe_store()}: a search registers one. Give the command in the "
            "folder of the search, or say where the registry is with MLFLOW_TRACKING_URI."
        )
    return dict(sorted(models.items()))
