"""Runs that a command opens for itself: in which experiment, under which name, and how they end.

A run that failed holds, as its description, the sentence that the terminal showed. That is also so for the run that
`mlflow run` opened before this program began, and that nothing has used yet.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from sem_search.errors import SemSearchError, StoreError
from sem_search.secrets import mask_secrets
from sem_search.tracking.entries.types import Entry
from sem_search.tracking.mlflow.availability import LOOK, ask_once, explain_store_error
from sem_search.tracking.mlflow.log import RunStatus, end_run, log_entries
from sem_search.tracking.mlflow.names import TAG_KIND

RUN_ID_VARIABLE = "MLFLOW_RUN_ID"
"""Names the run that `mlflow run` has opened."""

EXPERIMENT = "sem-search"
"""Where new runs go unless the user has named an experiment."""

NAME_VARIABLE = "MLFLOW_EXPERIMENT_NAME"
ID_VARIABLE = "MLFLOW_EXPERIMENT_ID"
"""How a user names one; `mlflow.set_experiment` and `mlflow run` set the second."""

NOTE_LENGTH = 5000
"""Characters that every database of MLflow's keeps of a description."""

_GENERATED = re.compile(r"[a-z]+-[a-z]+-\d{1,3}")
"""A name that MLflow may have drawn, such as `honorable-ant-471`; a user's `steel-batch-12` looks the same."""

_MARKUP = re.compile(r"([\\`*\[\]<>~]|(?<!\w)_|_(?!\w))")
"""What Markdown may obey. It leaves `_` within a word alone."""


def find_experiment() -> str | None:
    """Return the id of this program's experiment, made where there is none; None where the user has named another."""
    if os.environ.get(NAME_VARIABLE) or os.environ.get(ID_VARIABLE):
        return None
    client = MlflowClient()
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(EXPERIMENT))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return find_experiment()  # another search has made it just now


def is_in_named_experiment(experiment_id: str) -> bool:
    """Tell whether a run of this experiment lies where the user wants runs; anywhere, where no experiment is named."""
    chosen, name = os.environ.get(ID_VARIABLE), os.environ.get(NAME_VARIABLE)
    if chosen:  # first, as MLflow does: `mlflow.set_experiment` sets it, whatever the name says
        return chosen == experiment_id
    return not name or bool(MlflowClient().get_experiment(experiment_id).name == name)


@contextmanager
def keep_outcome(run_id: str, *, end: Callable[[RunStatus], object]) -> Iterator[None]:
    """End a run as what is done within ends: FINISHED, KILLED by the user, or FAILED, and then say why.

    Args:
        run_id: The run.
        end: Ends it with the status that it is given.

    Raises:
        StoreError: The tracking store went away.
        SettingsError: It refused.
    """
    status: RunStatus = "FAILED"
    try:
        yield
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    except Exception as error:
        explained = explain_store_error(error)
        note_failure(run_id, error=explained or error)
        if explained is None:
            raise
        raise explained from None
    finally:
        end(status)


def log_to_own_run(entries: Iterable[Entry], *, kind: str, name: str) -> str | None:
    """Log what a command made to the run that `mlflow run` opened for it; a command given by itself logs nothing.

    Args:
        entries: What is logged.
        kind: What the run is about: `inspection`, `predictions`.
        name: Of the run, in place of one that MLflow may have drawn.

    Returns:
        The run's id; None where there is no run.
    """
    run_id = os.environ.get(RUN_ID_VARIABLE)
    if run_id is None:
        return None
    name_run(run_id, name=name)
    MlflowClient().set_tag(run_id, TAG_KIND, kind)
    log_entries(entries, run_id=run_id)
    return run_id


@contextmanager
def spare_own_run() -> Iterator[None]:
    """Keep the run that `mlflow run` opened for what comes after: searches within open runs of their own."""
    run_id = os.environ.pop(RUN_ID_VARIABLE, None)
    try:
        yield
    finally:
        if run_id is not None:
            os.environ[RUN_ID_VARIABLE] = run_id


def name_run(run_id: str, *, name: str) -> None:
    """Give a new run a speaking name in place of one that MLflow may have drawn; any other name is kept."""
    client = MlflowClient()
    run = client.get_run(run_id)
    is_new = not any(tag.startswith("sem_search.") for tag in run.data.tags)
    if is_new and _GENERATED.fullmatch(run.info.run_name or ""):
        client.update_run(run_id, name=name)


def note_failure(run_id: str, *, error: BaseException) -> None:
    """Write into a run why it failed; a store that is away, or refuses, does not hide the error itself."""
    with suppress(MlflowException, StoreError, OSError), ask_once(LOOK):
        describe_run(run_id, text=escape_markdown(describe_error(error)))


def end_refused_run(error: BaseException, *, command: str) -> None:
    """End the run that `mlflow run` opened for a command that did not get as far as using it.

    Args:
        error: Why.
        command: The command's name.
    """
    run_id = os.environ.get(RUN_ID_VARIABLE)
    if run_id is None:
        return
    note_failure(run_id, error=error)
    with suppress(MlflowException, OSError), ask_once(LOOK):
        what = "failed" if isinstance(error, StoreError) or not isinstance(error, SemSearchError) else "refused"
        name_run(run_id, name=f"{command}: {what}")
        end_run(run_id, status="FAILED")


def describe_run(run_id: str, *, text: str) -> None:
    """Write a run's description, in Markdown."""
    MlflowClient().set_tag(run_id, MLFLOW_RUN_NOTE, text[:NOTE_LENGTH])


def describe_error(error: BaseException) -> str:
    """Return the sentence of an error; of one that was not foreseen, its kind and its message."""
    said = " ".join(str(error).split())
    return mask_secrets(said if isinstance(error, SemSearchError) else f"{type(error).__name__}: {said}")


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", text)
