"""MLflow runs of a search: the study run, its trial runs, and those that an interrupted search did not end.

The results of a run that was not ended do not count, and it is never deleted: it is ended as KILLED, with a tag that
names the run that took over. Trials that had finished move below the study run that goes on, so that the study's
latest run always has all of its trials below it.
"""

import os
import sqlite3
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
from alembic.util.exc import CommandError
from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from sem_search.errors import SemSearchError, SettingsError, StoreError, iter_causes
from sem_search.places import find_sqlite_file, make_sqlite_url
from sem_search.secrets import mask_secrets, mask_url
from sem_search.tracking.mlflow.availability import (
    LOOK,
    REFUSALS,
    ask_once,
    check_store_answers,
    describe_refused_request,
    describe_silence,
    get_tracking_uri,
    is_outage,
    reach_database,
)
from sem_search.tracking.mlflow.links import link_run_within
from sem_search.tracking.mlflow.log import RunStatus, end_run
from sem_search.tracking.mlflow.moved import describe_move, find_missing_folder
from sem_search.tracking.mlflow.names import (
    NOT_FOUND,
    OLD_PARAM_TRIAL,
    OLD_TAG_TRIAL_STATE,
    SUPERSEDED,
    TAG_AUDIT,
    TAG_KIND,
    TAG_LEARNING_CURVE,
    TAG_SUPERSEDED_BY,
    TAG_TRIAL,
    TAG_TRIAL_STATE,
    quote,
)
from sem_search.tracking.mlflow.own_runs import (
    RUN_ID_VARIABLE,
    describe_run,
    find_experiment,
    is_in_named_experiment,
    keep_outcome,
    name_run,
)

TAG_STUDY = "sem_search.study"
TAG_CELL = "sem_search.cell"
TAG_PROCESS = "sem_search.process"

ADVICE: Mapping[str, str] = {
    "must be in the 'active' state": (
        "Restore the experiment (mlflow experiments restore --experiment-id ID), or set MLFLOW_EXPERIMENT_NAME to "
        "another one."
    ),
    "Run with id=": (
        "Unset MLFLOW_RUN_ID. Below mlflow run: a relative SQLite URL means another file in each folder, so give the "
        "file's whole path."
    ),
    "in the deleted state": "Unset MLFLOW_RUN_ID, or restore the run (mlflow runs restore --run-id ID).",
    "filesystem tracking backend": (
        "Unset MLFLOW_TRACKING_URI for a database in this folder, or set it to sqlite:///FILE.db or a server's address."
    ),
    "Databricks credential": "Log in (databricks auth login), or set MLFLOW_TRACKING_URI to another store.",
    "Can't locate revision": (
        "Another program's tables lie in this database, Optuna's for example: MLflow needs one of its own."
    ),
    "out-of-date database schema": "Back it up, then upgrade it: mlflow db upgrade URL.",
    "No module named": "Install that driver, or set MLFLOW_TRACKING_URI to another store.",
}
"""What to do, by a part of what MLflow or a library below it says."""

OTHER_ADVICE = "Set MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and MLFLOW_RUN_ID to what is there, or unset them."

SAID_LENGTH = 300
"""Of what a library says, in characters."""

SQLITE_HEADER = b"SQLite format 3\0"

UNFINISHED = ("RUNNING", "SCHEDULED")


def create_store() -> None:
    """Make the tracking store's tables where they do not exist yet; to be called by one process at a time.

    A new SQLite file appears under its name when all of its tables are there. MLflow makes them one after the other,
    and a file in which it was stopped halfway, by a full disk for example, it can neither open nor repair. One that
    another program has made meanwhile is left as it is.
    """
    file = find_sqlite_file(mlflow.get_tracking_uri())
    if file is None or file.exists():
        _check_file(file)
        with explain_refusal():
            reach_database()
            MlflowClient().search_experiments(max_results=1)
        return
    # Named anew each time: MLflow remembers what it has opened, and would not make the tables of a second one.
    partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
    try:
        MlflowClient(tracking_uri=make_sqlite_url(partial)).search_experiments(max_results=1)
        _give_name(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _check_file(file: Path | None) -> None:
    """Refuse a file that is no database at once; MLflow would try to open it for minutes."""
    if file is not None and file.is_file() and file.stat().st_size:
        with file.open("rb") as opened:
            if opened.read(len(SQLITE_HEADER)) != SQLITE_HEADER:
                raise SettingsError(f"MLFLOW_TRACKING_URI={get_tracking_uri()}: {file} is no SQLite database.")


def _give_name(partial: Path, file: Path) -> None:
    """Let a file appear under its name unless there is one; where the file system knows no links, it is moved."""
    try:
        os.link(partial, file)
    except FileExistsError:
        return
    except OSError:
        partial.rename(file)


@contextmanager
def open_study_run(
    *, study: str, process: str, earlier_run_id: str | None = None, is_finished: bool = False
) -> Iterator[str]:
    """Open the study run and give its id: the one that `mlflow run` opened, else the study's earlier one, else a new.

    It ends as FINISHED, as KILLED if the user interrupted, as FAILED on any other error, which is its description
    then. The variable that names `mlflow run`'s run is dropped from the environment, so that no process started later
    writes into it by accident.

    Args:
        study: Name of the study; also the run's name where it has none of its own.
        process: The searching process, as `search.trials.process_id` describes it.
        earlier_run_id: The run of a search of this study that has ended. It goes on; below `mlflow run` it names the
            run that took over, and has no trials below it any more.
        is_finished: All was trained and logged: the earlier run keeps its status and its end, whatever happens now.

    Raises:
        SettingsError: The experiment or the run that the environment names is not there, or was deleted; or another
            run is active.
    """
    is_from_mlflow_run = RUN_ID_VARIABLE in os.environ
    if earlier_run_id is not None and is_finished and not is_from_mlflow_run:
        yield earlier_run_id
        return
    with explain_refusal():
        run_id = _start_study_run(None if is_from_mlflow_run else earlier_run_id, study=study)
        for key, value in describe_kind("study", study=study, process=process).items():
            MlflowClient().set_tag(run_id, key, value)
        if earlier_run_id is not None and earlier_run_id != run_id:
            _pass_on(earlier_run_id, to=run_id, study=study)
    with keep_outcome(run_id, end=lambda status: _end_study_run(run_id, status=status)):
        yield run_id


@contextmanager
def open_side_run(*, kind: str, name: str) -> Iterator[str]:
    """Give the id of a new run that belongs to no study; it ends as FINISHED, KILLED or FAILED.

    Args:
        kind: What it is about: `lots`.
        name: Of the run.

    Raises:
        StoreError: The tracking store does not answer.
        SettingsError: The experiment is not there, or was deleted; or another run is active.
    """
    check_store_answers()
    _check_no_run_is_active()
    with explain_refusal():
        run = mlflow.start_run(
            experiment_id=find_experiment(), run_name=name, tags={TAG_KIND: kind}, log_system_metrics=False
        )
    with keep_outcome(run.info.run_id, end=mlflow.end_run):
        yield str(run.info.run_id)


def _start_study_run(run_id: str | None, *, study: str) -> str:
    """Return the id of a run that is active: the one named, else the one that `mlflow run` opened, else a new one."""
    _check_no_run_is_active()
    begun_id = run_id or os.environ.get(RUN_ID_VARIABLE)
    begun = find_active_run(begun_id) if begun_id else None
    run = mlflow.start_run(
        run_id=run_id,
        experiment_id=None if begun_id else find_experiment(),
        run_name=None if begun_id else study,
    )
    os.environ.pop(RUN_ID_VARIABLE, None)
    if begun is not None and begun.info.status == "FAILED":
        describe_run(begun.info.run_id, text="")  # it said why
    name_run(run.info.run_id, name=study)
    return str(run.info.run_id)


def _check_no_run_is_active() -> None:
    """Refuse to open a run while the user's own is open, in a notebook for example: MLflow has one at a time.

    Raises:
        SettingsError: Says how to end it.
    """
    active = mlflow.active_run()
    if active is not None:
        raise SettingsError(
            f"MLflow's run {active.info.run_id} is still active here, and this needs a run of its own: end it first "
            "(mlflow.end_run())."
        )


def _pass_on(run_id: str, *, to: str, study: str) -> None:
    """Let a study's run say which one took over: its trials stand below that one now."""
    supersede_run(run_id, by=to, is_whole_spared=True)
    client = MlflowClient()
    client.set_tag(run_id, TAG_SUPERSEDED_BY, to)
    client.update_run(run_id, name=f"{study} (earlier)")
    describe_run(run_id, text=f"The same search was started again. [Its trials and its report]({link_run_within(to)})")


def _end_study_run(run_id: str, *, status: RunStatus) -> None:
    """End the study's run; with the store away, a search that was stopped leaves that to the next one."""
    try:
        with ask_once(LOOK):
            try:
                mlflow.end_run(status)  # also where this fails, MLflow forgets which run is active
            finally:
                end_run(run_id, status=status)
    except MlflowException as error:
        if not is_outage(error):
            raise
        if status == "FINISHED":
            raise StoreError(f"{describe_silence()} What is finished is kept.") from None


def describe_trial(*, study: str, cell: str, process: str) -> dict[str, str]:
    """Return the tags by which a trial's run is found again.

    Args:
        study: Name of the study.
        cell: Name of the cell.
        process: Which process logs it.
    """
    return {**describe_kind("trial", study=study, process=process), TAG_CELL: cell}


def describe_kind(kind: str, *, study: str, process: str) -> dict[str, str]:
    """Return the tags of a run about a study.

    Args:
        kind: What it is: `study`, `trial`, or what is asked of a finished study: `audit`, `morphology` ...
        study: Name of the study.
        process: Which process logs it.
    """
    return {TAG_STUDY: study, TAG_KIND: kind, TAG_PROCESS: process}


def supersede_run(run_id: str, *, by: str, is_whole_spared: bool = False) -> None:
    """End a run whose process is gone, and name the run that took over; one that has ended keeps its time.

    Its trial counts in the run that took over: a user who filters runs by their state finds each trial once. A run
    that was deleted, or lies in another store, is left as it is.

    Args:
        run_id: The run.
        by: The run that took over.
        is_whole_spared: Leave a run as it is that was logged to its end.
    """
    client, run = MlflowClient(), find_active_run(run_id)
    if run is None or (is_whole_spared and run.info.status not in UNFINISHED):
        return
    client.set_tag(run_id, TAG_SUPERSEDED_BY, by)
    for tag in {TAG_TRIAL_STATE, OLD_TAG_TRIAL_STATE} & run.data.tags.keys():
        client.set_tag(run_id, tag, SUPERSEDED)
    client.set_terminated(run_id, status="KILLED", end_time=run.info.end_time)


def find_earlier_run(run_id: str | None, *, is_gone: Callable[[str], bool]) -> str | None:
    """Return a study's run if it can go on: it is there, lies where the user wants runs, and its search has ended.

    Args:
        run_id: The run, None where there was none.
        is_gone: Tells of a process, as its run describes it, whether it has surely ended.
    """
    run = find_active_run(run_id) if run_id else None
    if run is None or not is_in_named_experiment(run.info.experiment_id):
        return None
    has_ended = run.info.status not in UNFINISHED or is_gone(run.data.tags.get(TAG_PROCESS, ""))
    return str(run.info.run_id) if has_ended else None


def has_finished(run_id: str) -> bool:
    """Return whether a run was logged to its end, not stopped, killed or failed before."""
    return bool(MlflowClient().get_run(run_id).info.status == "FINISHED")


def find_active_run(run_id: str) -> Run | None:
    """Return a run that is in the tracking store and not deleted, else None."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code not in NOT_FOUND:
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None


def adopt_trial_runs(run_ids: Collection[str], *, study: str, parent_run_id: str) -> None:
    """Put finished trial runs of a study below the study run that goes on, unless they are there already.

    Args:
        run_ids: Of finished trial runs.
        study: Name of the study.
        parent_run_id: Of the study's run that goes on.
    """
    where = f"tags.`{MLFLOW_PARENT_RUN_ID}` != {quote(parent_run_id)}"
    elsewhere = _iter_runs("trial", study=study, near_run_id=parent_run_id, where=where)
    client = MlflowClient()
    for run_id in [run.info.run_id for run in elsewhere if run.info.run_id in run_ids]:
        client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent_run_id)


def list_trial_runs(*, study: str, near_run_id: str) -> Mapping[str, tuple[str, str]]:
    """Return run id -> trial number and state (complete, pruned, failed) of a study's trials that were logged whole.

    Deleted and superseded runs are left out.

    Args:
        study: The study's name.
        near_run_id: A run in the experiment that is looked through.
    """
    return {
        run.info.run_id: _read_trial(run)
        for run in _iter_runs("trial", study=study, near_run_id=near_run_id)
        if TAG_SUPERSEDED_BY not in run.data.tags and run.info.status not in UNFINISHED
    }


def read_audit_light(*, study: str, near_run_id: str) -> str | None:
    """Return what the latest whole audit of a study came to: good, unclear or bad; None where there was none.

    Args:
        study: The study's name.
        near_run_id: A run in the experiment that is looked through.
    """
    run = find_latest_run(TAG_AUDIT, kind="audit", study=study, near_run_id=near_run_id)
    return None if run is None else str(run.data.tags[TAG_AUDIT])


def read_learning_curve(*, study: str, near_run_id: str) -> str | None:
    """Return what the latest learning curve of a study came to, in words; None where there was none.

    Args:
        study: The study's name.
        near_run_id: A run in the experiment that is looked through.
    """
    run = find_latest_run(TAG_LEARNING_CURVE, kind="learning-curve", study=study, near_run_id=near_run_id)
    return None if run is None else str(run.data.tags[TAG_LEARNING_CURVE])


def find_latest_run(tag: str, *, kind: str, study: str, near_run_id: str) -> Run | None:
    """Return the latest run of a kind that has a tag; None where there is none.

    Args:
        tag: Its name.
        kind: Such as `audit`.
        study: The study's name.
        near_run_id: A run in the experiment that is looked through.
    """
    runs = [run for run in _iter_runs(kind, study=study, near_run_id=near_run_id) if tag in run.data.tags]
    return max(runs, key=lambda run: int(run.info.start_time), default=None)


def _read_trial(run: Run) -> tuple[str, str]:
    tags, params = run.data.tags, run.data.params
    state = tags.get(TAG_TRIAL_STATE, tags.get(OLD_TAG_TRIAL_STATE, ""))
    return tags.get(TAG_TRIAL, params.get(OLD_PARAM_TRIAL, "")), state


def find_unfinished_runs(*, study: str, but: str) -> Mapping[str, str]:
    """Return run id -> process of the study's own and its trials' runs that were never ended, but for one."""
    return {
        run.info.run_id: run.data.tags.get(TAG_PROCESS, "")
        for kind in ("study", "trial")
        for run in _iter_runs(kind, study=study, near_run_id=but)
        if run.info.status in UNFINISHED and run.info.run_id != but
    }


def _iter_runs(kind: str, *, study: str, near_run_id: str, where: str | None = None) -> Iterator[Run]:
    """Yield the runs of one kind; MLflow picks them, since a large study has thousands of others."""
    client = MlflowClient()
    experiment_id = client.get_run(near_run_id).info.experiment_id
    conditions = [f"tags.`{TAG_STUDY}` = {quote(study)}", f"tags.`{TAG_KIND}` = '{kind}'", *([where] if where else [])]
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment_id],
            filter_string=" and ".join(conditions),
            run_view_type=ViewType.ACTIVE_ONLY,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def get_params(run_id: str) -> dict[str, str]:
    """Return the parameters that a run holds already."""
    return dict(MlflowClient().get_run(run_id).data.params)


def get_tags(run_id: str) -> dict[str, str]:
    """Return the tags that a run holds already."""
    return dict(MlflowClient().get_run(run_id).data.tags)


def check_run_is_known(run_id: str) -> None:
    """Refuse a tracking store that does not hold a study's run: what is logged there, the search would never see.

    Raises:
        SettingsError: Names the store.
    """
    file = find_sqlite_file(mlflow.get_tracking_uri())
    _check_file(file)
    is_there = file is None or file.exists()  # MLflow would make an empty one
    with explain_refusal(), ask_once(LOOK):
        reach_database()
        run = find_active_run(run_id) if is_there else None
    if run is None:
        raise SettingsError(
            f"MLFLOW_TRACKING_URI={get_tracking_uri()} does not hold the study's run {run_id}: set it to the tracking "
            "server that the search logs to, or give the command in the folder of the search. If the run was deleted, "
            "give the search's own command again: it logs the study anew."
        )
    with explain_artifact_store(run_id):
        MlflowClient().list_artifacts(run_id)


def check_files_are_there(run_id: str) -> None:
    """Refuse a run whose folder was moved: MLflow would make the old one anew, and nobody would look there.

    Raises:
        SettingsError: Names the folder, and says what to do.
    """
    missing = find_missing_folder(str(MlflowClient().get_run(run_id).info.artifact_uri))
    if missing is not None:
        raise SettingsError(f"Run {run_id} cannot be gone on with: {describe_move(missing)}")


@contextmanager
def explain_refusal() -> Iterator[None]:
    """Turn what a tracking store refuses into a SettingsError that says what to do.

    Errors of an outage and of the disk are passed on unchanged: other functions wait, or explain the disk.
    """
    try:
        yield
    except (MlflowException, ImportError, SQLAlchemyError, CommandError) as error:
        if is_outage(error) or _is_of_disk(error):
            raise
        code = error.error_code if isinstance(error, MlflowException) else ""
        if code in REFUSALS:
            raise SettingsError(describe_refused_request(code)) from None
        advice = next((advice for part, advice in ADVICE.items() if part in str(error)), OTHER_ADVICE)
        raise SettingsError(f"MLFLOW_TRACKING_URI={get_tracking_uri()}: {_quote(error)}. {advice}") from None


def _quote(error: Exception) -> str:
    """Return the first sentence of what a library said, without passwords."""
    sentence = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
    return mask_secrets(sentence)[:SAID_LENGTH].rstrip(".")


def _is_of_disk(error: BaseException) -> bool:
    """Return whether SQLite or the operating system is among the causes; errors of HTTP are OSErrors, too."""
    return any(
        isinstance(cause, sqlite3.Error) or (isinstance(cause, OSError) and cause.errno is not None)
        for cause in iter_causes(error)
    )


@contextmanager
def explain_artifact_store(run_id: str) -> Iterator[None]:
    """Turn what an experiment's artifact store refuses into a SettingsError, before anything is computed.

    Each kind of store raises what it likes: a driver that is not installed, credentials that are not there, a bucket or
    a folder of the server's that this machine does not see.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, SemSearchError) or is_outage(error):
            raise
        place = mask_url(str(MlflowClient().get_run(run_id).info.artifact_uri))
        missing = error.name if isinstance(error, ImportError) else None
        package = "boto3" if missing in ("boto3", "botocore") else missing
        advice = f"Install it: pip install {package}." if package else "Make it writable from this machine."
        raise SettingsError(
            f"The experiment's artifact store {place} cannot be used: {_quote(error)}. {advice} Or set "
            "MLFLOW_EXPERIMENT_NAME to an experiment with another store."
        ) from error
