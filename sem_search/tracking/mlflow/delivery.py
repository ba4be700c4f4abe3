"""How each kind of item reaches MLflow, so that delivering it twice does no more than delivering it once.

A process may be killed, or an answer be lost, between an item's delivery and its removal; then it is delivered again.

- Numbers carry the time at which they were found out: MLflow keeps one of equal key, step, time and value.
- Parameters, tags and files of the same content stay what they are. A run's end has its own time.
- A run is opened under a tag that no other run has. Where an attempt was made before, that tag is looked for first.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TypeVar

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from sem_search.errors import StoreError
from sem_search.tracking.mlflow.names import NOT_FOUND, TAG_TRIAL_STATE
from sem_search.tracking.mlflow.outbox import Item, RunNames
from sem_search.tracking.mlflow.posting import Deliverer

OPEN, ENTRIES, CATALOGUE, SUPERSEDE, END = "open", "entries", "catalogue", "supersede", "end"
"""The kinds of items."""

TAG_NAME = "sem_search.name_in_outbox"
"""By which a run is found again whose id was lost on the way."""

TAG_SUPERSEDED_BY = "sem_search.superseded_by"
SUPERSEDED = "superseded"

ATTEMPTED = "attempted"
"""A file beside an item that was handed to MLflow before, with unknown success."""

METRICS_PER_BATCH = 800
PARAMS_PER_BATCH = 100
TAGS_PER_BATCH = 100
"""MLflow takes at most 1000 things per call, of them 100 parameters and 100 tags: these three fill one call."""

INHERITED_TAGS = (MLFLOW_USER, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_GIT_COMMIT)
"""What a child run takes over from its parent: who ran what, which the client alone would not write."""

DOUBLED = ("UniqueViolation", "UNIQUE constraint", "Duplicate entry")
"""What PostgreSQL, SQLite and MySQL say of a row that another process has just written; MLflow looks, then writes."""

Part = TypeVar("Part")


def open_run(item: Item, runs: RunNames) -> str:
    """Open a run below another, in the same experiment; return its id."""
    client = MlflowClient()
    parent = client.get_run(find_run(item.facts["parent"], runs))
    inherited = {key: parent.data.tags[key] for key in INHERITED_TAGS if key in parent.data.tags}
    own = {TAG_NAME: item.run, MLFLOW_PARENT_RUN_ID: parent.info.run_id}
    run = client.create_run(
        parent.info.experiment_id,
        start_time=item.facts["start_ms"],
        tags={**inherited, **item.facts["tags"], **own},
        run_name=item.facts["name"],
    )
    return str(run.info.run_id)


def deliver_open(item: Item, runs: RunNames) -> None:
    """Open the run that an item names, if that was not done before, and remember its id."""
    if runs.find(item.run) is not None:
        return
    marker = item.folder / ATTEMPTED
    known = _find_opened(item, runs) if marker.exists() else None
    marker.touch()
    runs.set(item.run, known or open_run(item, runs))


def deliver_entries(item: Item, runs: RunNames) -> None:
    """Log numbers, parameters and tags, each call filled as far as MLflow allows, and the files."""
    client, run_id, facts = MlflowClient(), find_run(item.run, runs), item.facts
    metrics = [Metric(key, value, facts["now_ms"], step) for key, value, step in facts["metrics"]]
    batches = zip_longest(
        _iter_chunks(metrics, size=METRICS_PER_BATCH),
        _iter_chunks([Param(key, value) for key, value in facts["params"].items()], size=PARAMS_PER_BATCH),
        _iter_chunks([RunTag(key, value) for key, value in facts["tags"].items()], size=TAGS_PER_BATCH),
        fillvalue=(),
    )
    for some_metrics, some_params, some_tags in batches:
        client.log_batch(run_id, metrics=some_metrics, params=some_params, tags=some_tags)
    _log_files(item, client=client, run_id=run_id)


def deliver_catalogue(item: Item, runs: RunNames) -> None:
    """Log the data set of a run and its table."""
    client, run_id = MlflowClient(), find_run(item.run, runs)
    context = InputTag(key=MLFLOW_DATASET_CONTEXT, value="training")
    data = DatasetInput(dataset=Dataset(**item.facts), tags=[context])
    try:
        client.log_inputs(run_id, datasets=[data])
    except MlflowException as error:
        if not any(words in str(error) for words in DOUBLED):
            raise
        client.log_inputs(run_id, datasets=[data])  # another search has just named the same data: now they are known
    _log_files(item, client=client, run_id=run_id)


def deliver_supersede(item: Item, runs: RunNames) -> None:
    """End a run whose process is gone, and say which run took over; one that has ended keeps its time.

    Its trial counts in the run that took over: whoever filters runs by `trial_state` finds each trial once. A run
    that was deleted, or lies in another store, is left as it is.
    """
    client, run_id = MlflowClient(), find_run(item.run, runs)
    run = find_active_run(run_id)
    if run is None:
        return
    client.set_tag(run_id, TAG_SUPERSEDED_BY, find_run(item.facts["by"], runs))
    if TAG_TRIAL_STATE in run.data.tags:
        client.set_tag(run_id, TAG_TRIAL_STATE, SUPERSEDED)
    client.set_terminated(run_id, status="KILLED", end_time=run.info.end_time or item.facts["end_ms"])


def deliver_end(item: Item, runs: RunNames) -> None:
    """End a run."""
    MlflowClient().set_terminated(find_run(item.run, runs), status=item.facts["status"], end_time=item.facts["end_ms"])


def find_active_run(run_id: str) -> Run | None:
    """Return a run that is in the tracking store and not deleted, else None."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


DELIVERERS: Mapping[str, Deliverer] = {
    OPEN: deliver_open,
    ENTRIES: deliver_entries,
    CATALOGUE: deliver_catalogue,
    SUPERSEDE: deliver_supersede,
    END: deliver_end,
}


def find_run(name: str, runs: RunNames) -> str:
    """Return the id of a run.

    Raises:
        StoreError: It was named while the store was away, and has not been opened since.
    """
    run_id = runs.find(name)
    if run_id is None:
        raise StoreError(
            f"Run {name} has not been opened yet: what opens it waits in another process's outbox, or was refused. "
            "Give the command again when that process has ended; a refusal stands in the study's outbox."
        )
    return run_id


def _find_opened(item: Item, runs: RunNames) -> str | None:
    """Return the run that an attempt before has opened, though its answer was lost; None if it has not."""
    client = MlflowClient()
    experiment_id = client.get_run(find_run(item.facts["parent"], runs)).info.experiment_id
    found = client.search_runs(
        [experiment_id], filter_string=f"tags.`{TAG_NAME}` = '{item.run}'", run_view_type=ViewType.ALL, max_results=1
    )
    return str(found[0].info.run_id) if found else None


def _log_files(item: Item, *, client: MlflowClient, run_id: str) -> None:
    if any(item.files.iterdir()):
        client.log_artifacts(run_id, str(item.files))


def _iter_chunks(items: Sequence[Part], *, size: int) -> Iterator[Sequence[Part]]:
    """Yield the items in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
