"""What the rest of the program calls to log: entries, child runs and the data.

Everything goes through `MlflowClient` with the run named in each call: no active run, no global state, any tracking
store. Nothing is cut in silence: MLflow shortens long parameters and tags by itself, so a value over its limit is
written as a file of the run, and the parameter says where. Passwords in URLs are masked in all that is text.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Literal, TypeVar

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from sem_search.secrets import mask_secrets
from sem_search.tracking.entries.types import (
    ChartImage,
    Entry,
    EvaluationTable,
    MetricPoint,
    Metrics,
    Params,
    Scalar,
    Tags,
    TextArtifact,
)
from sem_search.tracking.mlflow.files import write_artifact
from sem_search.tracking.mlflow.models import ModelLink
from sem_search.tracking.mlflow.names import make_metric_names

PARAM_LENGTH = 6000
TAG_LENGTH = 8000
"""Characters that MLflow keeps of a parameter and of a tag."""

METRICS_PER_BATCH = 800
PARAMS_PER_BATCH = 100
TAGS_PER_BATCH = 100
"""MLflow takes at most 1000 things per call, of them 100 parameters and 100 tags: these three fill one call."""

INHERITED_TAGS = (MLFLOW_USER, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_GIT_COMMIT)
"""What a child run takes over from its parent: the user and the program, which the client alone would not write."""

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

Part = TypeVar("Part")


@dataclass(kw_only=True)
class _Batch:
    """Entries on their way to MLflow: files in a folder, the rest in memory."""

    folder: Path
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[MetricPoint] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    """PNG by key."""
    tables: list[EvaluationTable] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Take in one entry; a figure is drawn now."""
        match entry:
            case Params():
                self.params |= self._shorten(entry.values, kind="params", limit=PARAM_LENGTH)
            case Tags():
                self.tags |= self._shorten(entry.values, kind="tags", limit=TAG_LENGTH)
            case Metrics():
                self.points.extend(entry.points)
            case ChartImage():
                self.images[entry.key] = entry.artifact.picture.content
            case EvaluationTable():
                self.tables.append(entry)
            case _:
                write_artifact(entry, target=self.folder / entry.path)

    def _shorten(self, values: Mapping[str, Scalar], *, kind: str, limit: int) -> dict[str, str]:
        """Return values as MLflow takes them; those over the limit go into the folder and say so."""
        names = make_metric_names(list(values))
        texts = {key: mask_secrets(str(value)) for key, value in values.items()}
        for key, text in texts.items():
            if len(text) > limit:
                path = f"long_values/{kind}/{names[key]}.txt"
                write_artifact(TextArtifact(path=path, text=text), target=self.folder / path)
                texts[key] = f"{len(text)} characters, in the artifact {path}"
        return texts


def log_entries(
    entries: Iterable[Entry], *, run_id: str, time_ms: int | None = None, link: ModelLink | None = None
) -> None:
    """Write entries into a run: numbers, parameters and tags in as few calls as MLflow allows, files in one.

    A parameter longer than 6000 characters, or a tag longer than 8000, becomes a file below `long_values/`; the value
    itself then says so. Entries are drawn and written one after the other, so memory holds one figure at a time.

    Args:
        entries: What is logged.
        run_id: The run.
        time_ms: When the numbers were found; by default now. Logged again under the same time, they count once.
        link: Whose scores they are, where the run has a model.

    Raises:
        MlflowException: The store refuses, for example because a parameter is already there with another value.
    """
    time_ms = get_time_ms() if time_ms is None else time_ms
    with tempfile.TemporaryDirectory(prefix="sem_search_") as folder:
        batch = _Batch(folder=Path(folder))
        for entry in entries:
            batch.add(entry)
        client = MlflowClient()
        calls = zip_longest(
            _iter_chunks(
                [_build_metric(one, time_ms=time_ms, link=link) for one in batch.points], size=METRICS_PER_BATCH
            ),
            _iter_chunks([Param(*pair) for pair in batch.params.items()], size=PARAMS_PER_BATCH),
            _iter_chunks([RunTag(*pair) for pair in batch.tags.items()], size=TAGS_PER_BATCH),
            fillvalue=(),
        )
        for metrics, params, tags in calls:
            client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        if any(batch.folder.iterdir()):
            client.log_artifacts(run_id, folder)
        for key, content in batch.images.items():
            _log_image(content, key=key, run_id=run_id, time_ms=time_ms)
        for table in batch.tables:
            frame = pd.DataFrame(table.rows, columns=list(table.columns))
            masked = frame.map(lambda value: mask_secrets(value) if isinstance(value, str) else value)
            client.log_table(run_id, masked, artifact_file=table.path)


def open_child_run(*, parent_run_id: str, name: str, tags: Mapping[str, str], start_ms: int | None = None) -> str:
    """Open a run below another, in the same experiment; the caller ends it with `end_run`.

    Args:
        parent_run_id: The run above it.
        name: Its name.
        tags: Its own tags; the user and the program are those of the run above.
        start_ms: When it began; by default now.

    Returns:
        Its id.
    """
    client = MlflowClient()
    parent = client.get_run(parent_run_id)
    inherited = {key: parent.data.tags[key] for key in INHERITED_TAGS if key in parent.data.tags}
    own = {key: mask_secrets(value) for key, value in tags.items()} | {MLFLOW_PARENT_RUN_ID: parent_run_id}
    run = client.create_run(parent.info.experiment_id, start_time=start_ms, tags={**inherited, **own}, run_name=name)
    return str(run.info.run_id)


def end_run(run_id: str, *, status: RunStatus, end_ms: int | None = None) -> None:
    """End a run, by default now: FINISHED, FAILED for one that raised, KILLED for one that was stopped.

    Args:
        run_id: Of a run, ended or not.
        status: What became of it.
        end_ms: Milliseconds since 1970; None is now.
    """
    MlflowClient().set_terminated(run_id, status=status, end_time=end_ms)


def get_time_ms(moment: datetime | None = None) -> int:
    """Return a moment, by default now, in MLflow's unit: milliseconds since 1970."""
    return int((datetime.now(UTC) if moment is None else moment).timestamp() * 1000)


def _build_metric(point: MetricPoint, *, time_ms: int, link: ModelLink | None) -> Metric:
    """Return a number for MLflow; a score is the model's, too."""
    role = point.key.removeprefix("refit/").partition("/")[0]
    owner: dict[str, str] = {}
    if link is not None and (dataset := link.datasets.get(role)):
        owner = {"model_id": link.model_id, "dataset_name": dataset.name, "dataset_digest": dataset.digest}
    return Metric(point.key, point.value, time_ms, point.step, **owner)


def _log_image(content: bytes, *, key: str, run_id: str, time_ms: int) -> None:
    """Log a picture under a key; MLflow adds a small one for its charts."""
    with tempfile.TemporaryDirectory(prefix="sem_search_") as folder:
        path = Path(folder, "image.png")
        path.write_bytes(content)
        image = mlflow.Image(str(path))
        MlflowClient().log_image(run_id, image, key=key, step=0, timestamp=time_ms, synchronous=True)


def _iter_chunks(items: Sequence[Part], *, size: int) -> Iterator[Sequence[Part]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
