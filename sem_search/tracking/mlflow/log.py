"""What the rest of the program calls to log: entries, runs, the data, by way of the outbox if one is open.

Everything goes through `MlflowClient` with the run named in each call: no active run, no global state, any tracking
store. Nothing is cut in silence: MLflow shortens long parameters and tags by itself, so a value over its limit is
written as a file of the run, and the parameter says where. Passwords in URLs are masked in all that is text.

How an item reaches MLflow stands in `delivering`.
"""

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from mlflow.types import ColSpec, DataType, Schema

from sem_search.secrets import mask_secrets
from sem_search.terminal import protect_cell
from sem_search.tracking.entries.types import Artifact, Entry, Metrics, Params, Scalar, Tags, TextArtifact
from sem_search.tracking.mlflow.delivery import (
    CATALOGUE,
    END,
    ENTRIES,
    OPEN,
    deliver_catalogue,
    deliver_end,
    deliver_entries,
    open_run,
)
from sem_search.tracking.mlflow.files import write_artifact
from sem_search.tracking.mlflow.names import make_metric_names
from sem_search.tracking.mlflow.outbox import UNNAMED, Item, RunNames
from sem_search.tracking.mlflow.posting import get_outbox, post, post_facts

PARAM_LENGTH = 6000
TAG_LENGTH = 8000
"""Characters that MLflow keeps of a parameter and of a tag."""

DIGEST_LENGTH = 36
"""Characters that MLflow keeps of a data set's digest."""

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


def log_entries(entries: Iterable[Entry], *, run_id: str) -> None:
    """Write entries into a run: numbers, parameters and tags in as few calls as MLflow allows, files in one.

    A parameter longer than 6000 characters, or a tag longer than 8000, becomes a file below `long_values/`; the value
    itself then says so. Entries are drawn and written one after the other, so memory holds one figure at a time.

    Raises:
        MlflowException: The store refuses, for example because a parameter is already there with another value.
    """
    post(ENTRIES, run=run_id, deliverer=deliver_entries, write=lambda folder: _write_entries(entries, folder=folder))


def open_child_run(*, parent_run_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Open a run below another, in the same experiment; the caller ends it with `end_run`.

    Returns:
        Its id. Where an outbox is open and the store is away: a name, which stands for it in every call, and which
        `posting.resolve_run` turns into the id later.
    """
    facts = {
        "parent": parent_run_id,
        "name": name,
        "tags": {key: mask_secrets(value) for key, value in tags.items()},
        "start_ms": _now_ms(),
    }
    run = f"{UNNAMED}{uuid.uuid4().hex}"
    outbox = get_outbox()
    if outbox is None:
        return open_run(Item(folder=Path(), kind=OPEN, run=run, facts=facts), RunNames(Path()))
    outbox.add(OPEN, run=run, write=lambda _: facts)
    outbox.deliver()
    return outbox.runs.find(run) or run


def end_run(run_id: str, *, status: RunStatus) -> None:
    """End a run: FINISHED, KILLED for a pruned trial, FAILED for one that raised."""
    post_facts(END, run=run_id, deliverer=deliver_end, facts={"status": status, "end_ms": _now_ms()})


def log_catalogue(frame: pd.DataFrame, *, name: str, digest: str, source: str, run_id: str) -> None:
    """Name the data of a run, as `mlflow.log_input` does: the UI then shows and filters runs by data set.

    The schema is read off the column types. MLflow's own inference gives up on columns that hold tuples or nothing,
    and warns of every whole number.

    Args:
        frame: One row per image; written whole as `data/catalogue.csv`.
        name: Name of the data set.
        digest: Content hash of the catalogue; MLflow keeps its first 36 characters.
        source: Folder or file that the data came from, or what else they are.
        run_id: The run.
    """
    facts = {
        "name": name,
        "digest": digest[:DIGEST_LENGTH],
        "source_type": "local",
        "source": json.dumps({"uri": mask_secrets(source)}),
        "schema": json.dumps({"mlflow_colspec": _build_schema(frame).to_dict()}),
        "profile": json.dumps({"num_rows": len(frame), "num_elements": int(frame.size)}),
    }

    def write(folder: Path) -> Mapping[str, Any]:
        _write(TextArtifact(path="data/catalogue.csv", text=frame.map(protect_cell).to_csv(index=False)), folder=folder)
        return facts

    post(CATALOGUE, run=run_id, deliverer=deliver_catalogue, write=write)


def _write_entries(entries: Iterable[Entry], *, folder: Path) -> Mapping[str, Any]:
    """Write the files of entries, and return the rest of them."""
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    metrics: list[tuple[str, float, int]] = []
    for entry in entries:
        match entry:
            case Params():
                params |= _shorten(entry.values, kind="params", limit=PARAM_LENGTH, folder=folder)
            case Tags():
                tags |= _shorten(entry.values, kind="tags", limit=TAG_LENGTH, folder=folder)
            case Metrics():
                metrics.extend((point.key, point.value, point.step) for point in entry.points)
            case _:
                _write(entry, folder=folder)
    return {"params": params, "tags": tags, "metrics": metrics, "now_ms": _now_ms()}


def _now_ms() -> int:
    return int(time.time() * 1000)


def _shorten(values: Mapping[str, Scalar], *, kind: str, limit: int, folder: Path) -> dict[str, str]:
    """Return values as MLflow takes them; those over the limit go into the folder and say so."""
    names = make_metric_names(list(values))
    texts = {key: mask_secrets(str(value)) for key, value in values.items()}
    for key, text in texts.items():
        if len(text) > limit:
            long_value = TextArtifact(path=f"long_values/{kind}/{names[key]}.txt", text=text)
            _write(long_value, folder=folder)
            texts[key] = f"{len(text)} characters, in the artifact {long_value.path}"
    return texts


def _write(artifact: Artifact, *, folder: Path) -> None:
    """Write one file of the run into the folder."""
    target = folder / artifact.path
    target.parent.mkdir(parents=True, exist_ok=True)
    write_artifact(artifact, target=target)


def _build_schema(frame: pd.DataFrame) -> Schema:
    """Return the columns with MLflow's types; what is neither number nor truth value counts as text."""
    return Schema([ColSpec(_get_type(frame[name]), name=str(name), required=False) for name in frame.columns])


def _get_type(column: "pd.Series[Any]") -> DataType:
    """Return MLflow's type of one column."""
    if pd.api.types.is_bool_dtype(column):
        return DataType.boolean
    if pd.api.types.is_integer_dtype(column):
        return DataType.long
    if pd.api.types.is_float_dtype(column):
        return DataType.double
    return DataType.string
