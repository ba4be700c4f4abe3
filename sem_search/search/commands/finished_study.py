"""A finished study taken up again: settings, data, folds, features and outcome, as its search left them."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import optuna

from sem_search.errors import StudyMismatchError
from sem_search.records import StudyOutcome
from sem_search.search.prepare.data import prepare_data
from sem_search.search.prepare.network import compute_features, prepare_network
from sem_search.search.prepare.prepared_search import (
    PreparedSearch,
    claim_study_folder,
    compute_fingerprint,
    get_study_folder,
)
from sem_search.search.results.outcome import read_study_outcome
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.study import SETTINGS, STUDY_RUN_ID, keep_precision, load_study
from sem_search.secrets import MASK
from sem_search.settings import SearchSettings
from sem_search.terminal import echo
from sem_search.tracking.mlflow.availability import check_store_answers
from sem_search.tracking.mlflow.log import RunStatus, end_run, open_child_run
from sem_search.tracking.mlflow.runs import check_run_is_known, describe_audit
from sem_search.transfer.runtime import configure_tensorflow
from sem_search.transfer.weights.choice import check_weights


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
    quieten()
    loaded = load_study(name=name, storage=storage)
    settings = read_settings(loaded, storage=storage, study_folder=study_folder, threads=threads)
    check_study_folder(settings, name=name)
    check_study_run(loaded)
    check_weights(settings.weights, backbone=settings.backbone)
    data = prepare_data(settings)
    configure_tensorflow(threads=settings.threads, seed=settings.seed)
    network = prepare_network(keep_precision(settings, study=loaded))
    fingerprint = compute_fingerprint(settings, data=data, network=network)
    for warning in claim_study_folder(settings, name=name, fingerprint=fingerprint, folds=data.folds):
        echo(f"Warning: {warning}", err=True)
    features = compute_features(settings, data=data, network=network)
    prepared = PreparedSearch(
        settings=settings, name=name, fingerprint=fingerprint, data=data, network=network, features=features
    )
    return FinishedStudy(
        prepared=prepared,
        outcome=read_study_outcome(loaded, prepared=prepared),
        run_id=str(loaded.user_attrs[STUDY_RUN_ID]),
    )


@contextmanager
def open_question_run(*, study: str, kind: str, parent_run_id: str, name: str) -> Iterator[str]:
    """Give the id of a new run below a study's, for what is asked of it; it ends as FINISHED, KILLED or FAILED.

    SIGTERM ends it as Ctrl-C does: a batch system that stops the process leaves no run that seems to go on.

    Args:
        study: The study asked.
        kind: What is asked: `audit`, `comparison`, `morphology`.
        parent_run_id: The study's run.
        name: Of the new run.
    """
    tags = describe_audit(study=study, kind=kind, process=describe_process())
    run_id = open_child_run(parent_run_id=parent_run_id, name=name, tags=tags)
    status: RunStatus = "FAILED"
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield run_id
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        end_run(run_id, status=status)


def tell_progress(text: str) -> None:
    """Say what is being trained, to who waits."""
    echo(f"  {text}", err=True)


def check_study_run(study: optuna.Study) -> None:
    """Refuse, before anything is computed, a tracking store that does not hold the study's run.

    Raises:
        SettingsError: Names the store, and says what to do.
        StoreError: It does not answer.
    """
    check_store_answers(lambda: check_run_is_known(str(study.user_attrs[STUDY_RUN_ID])))


def check_study_folder(settings: SearchSettings, *, name: str) -> None:
    """Raise StudyMismatchError if the study's finished folds are not here."""
    if not (get_study_folder(settings, name=name) / "study.json").exists():
        raise StudyMismatchError(
            f"Study {name!r} has no folder below {settings.study_folder!r} here: its finished folds are needed. Start "
            "this in the folder of the search, or give its study folder."
        )


def read_settings(
    study: optuna.Study, *, storage: str, study_folder: str | None, threads: int | None
) -> SearchSettings:
    """Return the settings that the study was made with, and where it lies now."""
    settings = SearchSettings.model_validate_json(study.user_attrs[SETTINGS])
    changes = {
        "study": study.study_name,
        "storage": storage,
        "study_folder": study_folder or settings.study_folder,
        "threads": threads or settings.threads,
    }
    if MASK in (settings.shared or ""):
        changes["shared"] = None  # its password is not kept; finished folds and features also lie here
    return settings.model_copy(update=changes)


def quieten() -> None:
    """Keep libraries' chatter away from what a user must see."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    # Each audit trains with a trainer of its own, and TensorFlow warns that it compiles the same thing again.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
