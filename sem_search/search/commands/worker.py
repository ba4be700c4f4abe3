"""`sem-search worker`: train cells of a study that a search has begun."""

import time
from collections.abc import Mapping
from typing import Any

import optuna

from sem_search.disk_errors import explain_disk_errors
from sem_search.errors import DataError, SettingsError, StudyMismatchError
from sem_search.progress import Show, show_nothing
from sem_search.search.attempt import help_study
from sem_search.search.commands.finished_study import read_settings
from sem_search.search.prepare.prepared_search import PreparedSearch, prepare_search
from sem_search.search.prepare.study_folder import STATEMENT, get_study_folder
from sem_search.search.process import quieten_libraries
from sem_search.search.trials.attributes import STUDY_RUN_ID
from sem_search.search.trials.storage import START_S
from sem_search.search.trials.study import has_file, load_study, open_study
from sem_search.secrets import MASK
from sem_search.settings import SearchSettings
from sem_search.terminal import warn
from sem_search.tracking.mlflow.availability import wait_while_away
from sem_search.tracking.mlflow.own_runs import log_to_own_run
from sem_search.tracking.mlflow.runs import check_run_is_known

SAME_IMAGES = "A worker needs the search's own images and versions: give --data as this machine reaches them."

WAIT_S = 2.0
"""Between two looks whether a search has begun."""


def run_worker(
    study: str,
    *,
    storage: str,
    changes: Mapping[str, Any] | None = None,
    wait_s: float = 0.0,
    show: Show = show_nothing,
) -> None:
    """Train cells of a study that a search has begun, and those that stale workers hold, until all have ended.

    Settings, images and folds are those of the study, held to their hashes; features that shared storage or the cache
    here lack are computed.

    Args:
        study: Its name.
        storage: Its database.
        changes: Settings that are other on this machine: `data`, `study_folder`, `shared`, and `threads`, of which
            another number changes the last digits of results. None stands for the search's own.
        wait_s: How long to wait for a study that no search has begun yet.
        show: Shows what is waited for, and the end.

    Raises:
        StudyMismatchError: There is no such study, or the data, the weights or the settings here are not its own.
        StoreError: The study's database or the tracking server does not answer.
    """
    with explain_disk_errors():
        quieten_libraries()
        begun = _wait_for_study(study, storage=storage, wait_s=wait_s, show=show)
        settings = read_settings(begun, storage=storage, changes=changes or {})
        run_id = str(begun.user_attrs[STUDY_RUN_ID])
        wait_s = min(settings.outage_wait, START_S)
        wait_while_away(lambda: check_run_is_known(run_id), wait_s=wait_s, warn=warn)
        prepared = _prepare_worker(settings, begun=begun)
        opened = open_study(settings, name=study, fingerprint=prepared.fingerprint)
        log_to_own_run([], kind="worker", name=f"worker of {study}")
        help_study(opened, prepared=prepared, run_id=run_id)
    show(f"No cell of study {study!r} is left to claim.")


def _wait_for_study(name: str, *, storage: str, wait_s: float, show: Show) -> optuna.Study:
    """Return a study that a search has begun, or is about to begin."""
    ends_at, is_shown = time.monotonic() + wait_s, False
    while True:
        left_s = ends_at - time.monotonic()
        is_over = left_s <= 0
        try:
            if is_over or has_file(storage):
                return load_study(name=name, storage=storage, wait_s=START_S)
        except StudyMismatchError:
            if is_over:
                raise
        if not is_shown:
            show(f"Waiting for a search to begin study {name!r}, at most {wait_s:g} s ...")
            is_shown = True
        time.sleep(min(WAIT_S, left_s))


def _prepare_worker(settings: SearchSettings, *, begun: optuna.Study) -> PreparedSearch:
    """Prepare the study as this machine sees it; input that is wrong here was not wrong where the search runs."""
    if MASK in (settings.shared or ""):
        raise SettingsError(
            f"The search's shared={settings.shared} has a password, which is not stored: give --shared as this machine "
            "reaches it."
        )
    _warn_unless_shared(settings, name=begun.study_name)
    try:
        return prepare_search(settings, begun=begun, remedy=SAME_IMAGES)
    except DataError as error:
        raise StudyMismatchError(f"This machine does not see what the search saw: {error} {SAME_IMAGES}") from error


def _warn_unless_shared(settings: SearchSettings, *, name: str) -> None:
    """Warn of what follows if the search's finished folds and this worker's lie on different machines."""
    folder = get_study_folder(settings, name=name)
    if settings.shared is None and not (folder / STATEMENT).exists():
        warn(
            f"the search's finished folds are not to be seen here ({folder.absolute()}), and there is no shared "
            "storage. What this worker finishes is logged, but another worker begins its unfinished cell anew, "
            "and the search trains this worker's folds again before it reports them. Give --study-folder as this "
            "machine reaches it, or start the search with shared=FOLDER_OR_URL."
        )
