"""The copies of the history's entries in the runs that caused them, and whether they still agree."""

import json
from collections.abc import Iterator, Sequence

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sem_search.deployment.registry.entries import HistoryEntry
from sem_search.deployment.registry.moves_log import COPY_FOLDER, Journal, name_copy
from sem_search.deployment.registry.tags import TAG_SOURCE_RUN
from sem_search.tracking.mlflow.names import NOT_FOUND, make_safe_name


def iter_copy_problems(client: MlflowClient, *, journal: Journal, versions: Sequence[ModelVersion]) -> Iterator[str]:
    """Yield a sentence for each copy that the history lacks, and for each entry whose run lost its copy.

    A run that was deleted for good takes its copies along, and tells nothing.
    """
    entries = {stored.entry.sha256: stored.entry for stored in journal.history.stored}
    models = sorted({journal.name, *(entry.model for entry in entries.values())})
    runs = {entry.run_id for entry in entries.values()} | {version.tags.get(TAG_SOURCE_RUN) for version in versions}
    for run_id in sorted(run for run in runs if run):
        copies = _read_copies(client, run_id=run_id, models=models)
        if copies is None:
            continue
        yield from _compare(copies, entries=entries, models=models, run_id=run_id)


def _compare(
    copies: dict[str, str], *, entries: dict[str, HistoryEntry], models: list[str], run_id: str
) -> Iterator[str]:
    known = {name_copy(entry): entry for entry in entries.values()}
    for path, text in copies.items():
        if path not in known:
            if _names_model(text, models=models):
                yield f"the run {run_id} holds a copy of the entry {path}, which the history lacks: it was removed."
        elif text != known[path].to_json():
            yield f"entry {known[path].number} and its copy in the run {run_id} differ."
    for path, entry in known.items():
        if entry.run_id == run_id and path not in copies:
            yield f"the copy of entry {entry.number} is missing in the run {run_id}."


def _read_copies(client: MlflowClient, *, run_id: str, models: Sequence[str]) -> dict[str, str] | None:
    """Return artifact path -> text of every copy in a run; None if the run is gone."""
    copies: dict[str, str] = {}
    try:
        for model in models:
            for file in client.list_artifacts(run_id, f"{COPY_FOLDER}/{make_safe_name(model)}"):
                copies[file.path] = mlflow.artifacts.load_text(f"runs:/{run_id}/{file.path}")
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise
    return copies


def _names_model(text: str, *, models: Sequence[str]) -> bool:
    """Tell whether a copy belongs to this model; the folders of two models may have one name."""
    try:
        return json.loads(text)["model"] in models
    except (ValueError, KeyError, TypeError):
        return True  # what cannot be read was altered, and is told
