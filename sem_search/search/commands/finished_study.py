"""A finished study taken up again: settings, data, folds, features and outcome, as its search left them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna

from sem_search.deployment.registry import find_registered
from sem_search.errors import InputError, StoreError, StudyMismatchError
from sem_search.records import StudyOutcome
from sem_search.search.prepare.data import prepare_data
from sem_search.search.prepare.prepared_search import PreparedSearch, prepare_search
from sem_search.search.prepare.study_folder import STATEMENT, get_study_folder
from sem_search.search.process import quieten_libraries
from sem_search.search.results.conclusion import list_winner_runs
from sem_search.search.results.model import name_model
from sem_search.search.results.outcome import read_stored_outcome, read_study_outcome
from sem_search.search.results.study_result import Study
from sem_search.search.trials.attributes import FINGERPRINT, SETTINGS, STUDY_RUN_ID
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.study import load_study
from sem_search.secrets import MASK
from sem_search.settings import SearchSettings, read_stored_settings
from sem_search.terminal import warn
from sem_search.tracking.mlflow.availability import check_store_answers
from sem_search.tracking.mlflow.log import end_run, open_child_run
from sem_search.tracking.mlflow.models import find_model_uri
from sem_search.tracking.mlflow.own_runs import keep_outcome
from sem_search.tracking.mlflow.runs import check_files_are_there, check_run_is_known, describe_kind

SAME_DATA = "Questions need the search's own images and weights: put them back as they were."


@dataclass(frozen=True, kw_only=True)
class FinishedStudy:
    """A study with a winner."""

    prepared: PreparedSearch
    outcome: StudyOutcome
    run_id: str
    """MLflow's run of the study."""


def take_up_study(
    name: str, *, storage: str, study_folder: str | None = None, threads: int | None = None
) -> FinishedStudy:
    """Return a study that a search has finished, with its features; those that are not in the cache are computed.

    Args:
        name: The study's name.
        storage: Its Optuna storage.
        study_folder: Where finished folds lie; the search's own by default.
        threads: Processor threads; the search's by default.

    Raises:
        StudyMismatchError: There is no such study or no folder of it, or data and weights are not its own any more.
        FailedTrialError: No trial of it has finished.
        StoreError: Finished folds are lost or damaged.
    """
    quieten_libraries()
    begun = load_study(name=name, storage=storage)
    settings = read_settings(begun, storage=storage, changes={"study_folder": study_folder, "threads": threads})
    if MASK in (settings.shared or ""):  # its password is not stored; finished folds and features also lie here
        settings = settings.model_copy(update={"shared": None})
    check_study_folder(settings, name=name)
    check_study_run(begun)
    prepared = prepare_search(settings, begun=begun, remedy=SAME_DATA)
    return FinishedStudy(
        prepared=prepared,
        outcome=read_study_outcome(begun, prepared=prepared),
        run_id=str(begun.user_attrs[STUDY_RUN_ID]),
    )


def read_study(name: str, *, storage: str, study_folder: str | None = None) -> Study:
    """Return a finished study's tables; its images are read again, and no network is built.

    Args:
        name, storage, study_folder: As of `take_up_study`.

    Raises:
        StudyMismatchError: There is no such study, no folder of it, or its data have changed.
        FailedTrialError: No trial of it has finished.
        StoreError: Finished folds are lost or damaged.
    """
    quieten_libraries()
    begun = load_study(name=name, storage=storage)
    settings = read_settings(begun, storage=storage, changes={"study_folder": study_folder})
    check_study_folder(settings, name=name)
    data = prepare_data(settings)
    check_same_data(begun, digest=data.catalogue.digest)
    outcome = read_stored_outcome(begun, name=name, settings=settings, data=data)
    return Study(
        settings=settings,
        outcome=outcome,
        run_id=str(begun.user_attrs[STUDY_RUN_ID]),
        model_uri=_find_model_uri(begun, outcome=outcome, name=settings.resolved_model_name),
    )


def _find_model_uri(study: optuna.Study, *, outcome: StudyOutcome, name: str) -> str:
    """Return the URI of the winner's version; that of its run's model where no version is registered.

    A registry that is away is a warning, not an error: the study's tables need none.
    """
    winner = outcome.winner
    run_id = str(winner.run_id)
    try:
        registered = find_registered(model_name=name, run_ids=list_winner_runs(study, outcome=outcome))
        if registered is not None:
            return f"models:/{name}/{registered.version}"
        check_run_is_known(run_id)
        return find_model_uri(run_id)
    except StoreError as error:
        warn(f"{error} Until then, the study's model_uri is that of its run.")
    except InputError:
        pass  # there is no registry here, or it holds neither version nor run
    return f"runs:/{run_id}/{name_model(outcome.backbone, cell=winner.cell, is_refit=winner.is_refit)}"


def check_same_data(study: optuna.Study, *, digest: str) -> None:
    """Raise StudyMismatchError if the data are not those that the study was made of."""
    stated = json.loads(study.user_attrs[FINGERPRINT]).get("data")
    if stated != digest:
        raise StudyMismatchError(
            f"The data of study {study.study_name!r} have changed since ({str(stated)[:12]} then, {digest[:12]} now): "
            "put them back as they were."
        )


@contextmanager
def open_question_run(*, study: str, kind: str, parent_run_id: str, name: str | None = None) -> Iterator[str]:
    """Give the id of a new run below a study's, for what is asked of it; it ends as FINISHED, KILLED or FAILED.

    Args:
        study: The study asked.
        kind: What is asked: `audit`, `comparison`, `learning-curve`, `morphology`.
        parent_run_id: The study's run.
        name: Of the new run; by default what is asked, and of which study.
    """
    name = name or f"{kind.replace('-', ' ')} of {study}"
    tags = describe_kind(kind, study=study, process=describe_process())
    run_id = open_child_run(parent_run_id=parent_run_id, name=name, tags=tags)
    with keep_outcome(run_id, end=lambda status: end_run(run_id, status=status)):
        yield run_id


def check_study_run(study: optuna.Study) -> None:
    """Refuse, before anything is computed, a tracking store that does not hold the study's run.

    Raises:
        SettingsError: Names the store, and says what to do.
        StoreError: It does not answer.
    """
    run_id = str(study.user_attrs[STUDY_RUN_ID])
    check_store_answers(lambda: check_run_is_known(run_id))
    check_files_are_there(run_id)


def check_study_folder(settings: SearchSettings, *, name: str) -> None:
    """Raise StudyMismatchError if the study's finished folds are not here."""
    if not (get_study_folder(settings, name=name) / STATEMENT).exists():
        raise StudyMismatchError(
            f"Study {name!r} has no folder below {settings.study_folder!r} here: its finished folds are needed. Start "
            "this in the folder of the search, or give its study folder."
        )


def read_settings(study: optuna.Study, *, storage: str, changes: Mapping[str, Any]) -> SearchSettings:
    """Return the settings that a study was begun with, but for what is other on this machine.

    Args:
        study: Signed by its search.
        storage: Its database, as this machine reaches it.
        changes: Settings by name; None stands for the search's own.
    """
    settings = read_stored_settings(study.user_attrs[SETTINGS])
    given = {name: value for name, value in changes.items() if value is not None}
    return settings.model_copy(update={"study": study.study_name, "storage": storage, "cluster": None, **given})
