"""The registered version of a model, as a process that loads it from the registry knows it."""

import os
from dataclasses import dataclass
from pathlib import Path

from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from mlflow.utils.yaml_utils import read_yaml

SERVED_MODEL_VARIABLE = "SEM_SEARCH_SERVED_MODEL"
"""Gives a server the registered version that it serves: `<name>/<version>`."""


@dataclass(frozen=True, kw_only=True)
class ServedName:
    """What the registry calls a model; None where it was not loaded from the registry."""

    name: str | None = None
    version: str | None = None


def read_served_name(model_folder: Path) -> ServedName:
    """Return what the registry calls the model in a folder.

    `sem-search serve` gives it to the server that it starts; else it is in the note that MLflow writes beside a model
    that it loads from the registry.
    """
    given = os.environ.get(SERVED_MODEL_VARIABLE, "")
    if "/" in given:
        name, _, number = given.rpartition("/")
        return ServedName(name=name, version=number)
    if not (model_folder / REGISTERED_MODEL_META_FILE_NAME).is_file():
        return ServedName()
    note = read_yaml(str(model_folder), REGISTERED_MODEL_META_FILE_NAME)  # type: ignore[no-untyped-call]
    return ServedName(name=str(note["model_name"]), version=str(note["model_version"]))
