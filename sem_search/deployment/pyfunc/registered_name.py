"""The registered version of a model, as a process that loads it from the registry knows it."""

from dataclasses import dataclass
from pathlib import Path

from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from mlflow.utils.yaml_utils import read_yaml


@dataclass(frozen=True, kw_only=True)
class ServedName:
    """What the registry calls a model; None where it was not loaded from the registry."""

    name: str | None = None
    version: str | None = None


def read_served_name(model_folder: Path) -> ServedName:
    """Return what the registry calls the model in a folder, by the note that MLflow writes beside it."""
    if not (model_folder / REGISTERED_MODEL_META_FILE_NAME).is_file():
        return ServedName()
    note = read_yaml(str(model_folder), REGISTERED_MODEL_META_FILE_NAME)  # type: ignore[no-untyped-call]
    return ServedName(name=str(note["model_name"]), version=str(note["model_version"]))
