"""The one loop that hands entries to MLflow, and the few calls about runs and data that go with it.

Everything goes through `MlflowClient` with the run named in each call: no active run, no global state, any tracking
store. Nothing is cut in silence: MLflow shortens long parameters and tags by itself, so a value over its limit is
written as a file of the run, and the parameter says where. Passwords in URLs are masked in all that is text.
"""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar

import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from sem_search.tracking.files import write_artifact
from sem_search.tracking.loggable import Artifact, Entry, MetricPoint, Metrics, Params, Scalar, Tags, TextArtifact
from sem_search.tracking.names import make_metric_names, mask_secrets

METRICS_PER_BATCH = 800
PARAMS_PER_BATCH = 100
TAGS_PER_BATCH = 100
"""MLflow takes at most 1000 things per call, of them 100 parameters and 100 tags: these three fill one call."""

PARAM_LENGTH = 6000
TAG_LENGTH = 8000
"""Characters that MLflow keeps of a parameter and of a tag."""

DIGEST_LENGTH = 36
"""Characters that MLflow keeps of a data set's digest."""

INHERITED_TAGS = (MLFLOW_USER, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_GIT_COMMIT)
"""What a child run takes over from its parent: who ran what, which the client alone would not write."""

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
Item = TypeVar("Item")


def log_entries(entries: Iterable[Entry], *, run_id: str) -> None:
    """Write entries into a run: numbers, parameters and tags in as few calls as MLflow allows, files in one.

    A parameter longer than 6000 characters, or a tag longer than 8000, becomes a file below `long_values/`; the value
    itself then says so. Entries are drawn and written one after the other, so memory holds one figure at a time.

    Raises:
        MlflowException: The store refuses, for example because a parameter is already there with another value.
    """
    client = MlflowClient()
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    points: list[MetricPoint] = []
    with tempfile.TemporaryDirectory(prefix="sem_search_") as name:
        folder = Path(name)
        for entry in entries:
            match entry:
                case Params():
                    params |= _shorten(entry.values, kind="params", limit=PARAM_LENGTH, folder=folder)
                case Tags():
                    tags |= _shorten(entry.values, kind="tags", limit=TAG_LENGTH, folder=folder)
                case Metrics():
                    points.extend(entry.points)
                case _:
                    _write(entry, folder=folder)
        _log_batches(client, run_id=run_id, points=points, params=params, tags=tags)
        if any(folder.iterdir()):
            client.log_artifacts(run_id, str(folder))


def open_child_run(*, parent_run_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Open a run below another, in the same experiment; return its id. The caller ends it with `end_run`."""
    client = MlflowClient()
    parent = client.get_run(parent_run_id)
    inherited = {key: parent.data.tags[key] for key in INHERITED_TAGS if key in parent.data.tags}
    own = {key: mask_secrets(value) for key, value in tags.items()}
    all_tags = {**inherited, **own, MLFLOW_PARENT_RUN_ID: parent_run_id}
    run = client.create_run(parent.info.experiment_id, tags=all_tags, run_name=name)
    return str(run.info.run_id)


def end_run(run_id: str, *, status: RunStatus) -> None:
    """End a run: FINISHED, KILLED for a pruned trial, FAILED for one that raised."""
    MlflowClient().set_terminated(run_id, status=status)


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
    dataset = Dataset(
        name=name,
        digest=digest[:DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": mask_secrets(source)}),
        schema=json.dumps({"mlflow_colspec": _build_schema(frame).to_dict()}),
        profile=json.dumps({"num_rows": len(frame), "num_elements": int(frame.size)}),
    )
    context = InputTag(key=MLFLOW_DATASET_CONTEXT, value="training")
    client = MlflowClient()
    client.log_inputs(run_id, datasets=[DatasetInput(dataset=dataset, tags=[context])])
    client.log_text(run_id, mask_secrets(frame.to_csv(index=False)), "data/catalogue.csv")


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


def _log_batches(
    client: MlflowClient,
    *,
    run_id: str,
    points: Sequence[MetricPoint],
    params: Mapping[str, str],
    tags: Mapping[str, str],
) -> None:
    """Write numbers, parameters and tags, each call filled as far as MLflow allows."""
    now_ms = int(time.time() * 1000)
    metrics = [Metric(point.key, point.value, now_ms, point.step) for point in points]
    batches = zip_longest(
        _iter_chunks(metrics, size=METRICS_PER_BATCH),
        _iter_chunks([Param(key, value) for key, value in params.items()], size=PARAMS_PER_BATCH),
        _iter_chunks([RunTag(key, value) for key, value in tags.items()], size=TAGS_PER_BATCH),
        fillvalue=(),
    )
    for some_metrics, some_params, some_tags in batches:
        client.log_batch(run_id, metrics=some_metrics, params=some_params, tags=some_tags)


def _iter_chunks(items: Sequence[Item], *, size: int) -> Iterator[Sequence[Item]]:
    """Yield the items in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


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
