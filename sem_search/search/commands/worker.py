"""`sem-search worker`: train cells of a study that a search has begun; and the part of it that a search shares."""

import time
from collections.abc import Mapping
from typing import Any

import optuna

from sem_search.disk_errors import explain_disk_errors
from sem_search.errors import DataError, SettingsError, StudyMismatchError
from sem_search.progress import Show, show_nothing
from sem_search.records import Cell
from sem_search.search.cluster.client import ClusterClient
from sem_search.search.cluster.remote_folds import RemoteFolds
from sem_search.search.commands.finished_study import read_settings
from sem_search.search.prepare.prepared_search import PreparedSearch, prepare_search
from sem_search.search.prepare.study_folder import STATEMENT, get_study_folder
from sem_search.search.process import quieten_libraries
from sem_search.search.results.grad_cam_sheet import choose_sheet_tiles, read_sheet_pixels
from sem_search.search.results.outcome import get_cell
from sem_search.search.results.run_description import describe_params
from sem_search.search.trials.objective import CellObjective
from sem_search.search.trials.outages import open_study_outbox, tell_outage
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.search.trials.storage import START_S
from sem_search.search.trials.study import STUDY_RUN_ID, has_file, load_study, open_study
from sem_search.search.trials.worker_loop import work
from sem_search.secrets import MASK
from sem_search.settings import SearchSettings
from sem_search.terminal import warn
from sem_search.tracking.mlflow.availability import persist
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
        persist(lambda: check_run_is_known(run_id), patience_s=min(settings.outage_wait, START_S), tell=tell_outage)
        prepared = _prepare_worker(settings, begun=begun)
        opened = open_study(settings, name=study, fingerprint=prepared.fingerprint, tell=tell_outage)
        with open_study_outbox(settings, name=study):
            train_cells(opened, prepared=prepared, run_id=run_id)
    show(f"No cell of study {study!r} is left to claim.")


def _wait_for_study(name: str, *, storage: str, wait_s: float, show: Show) -> optuna.Study:
    """Return a study that a search has begun, or is about to begin."""
    ends_at, is_shown = time.monotonic() + wait_s, False
    while True:
        left_s = ends_at - time.monotonic()
        is_over = left_s <= 0
        try:
            if is_over or has_file(storage):
                return load_study(name=name, storage=storage, patience_s=START_S, tell=tell_outage)
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
            "storage. What this worker finishes is logged, but a cell that it does not finish begins anew elsewhere, "
            "and the search trains this worker's folds again before it reports them. Give --study-folder as this "
            "machine reaches it, or start the search with shared=FOLDER_OR_URL."
        )


def train_cells(
    study: optuna.Study, *, prepared: PreparedSearch, run_id: str, client: ClusterClient | None = None
) -> None:
    """Claim and train cells until the study has all that was asked for.

    Args:
        study: Optuna's.
        prepared: The search.
        run_id: The study's run.
        client: Of a cluster that trains; by default this process does.
    """
    settings = prepared.settings
    sheet = choose_sheet_tiles(prepared.data.tiles, folds=prepared.data.folds)
    n_trials = settings.trials or settings.n_cells
    progress = SearchProgress(
        n_folds_total=n_trials * settings.folds,
        n_folds_done=_count_known_folds(study, settings=settings),
        best=_find_best(study),
    )
    source = None
    if client is not None:
        source = RemoteFolds(client=client, prepared=prepared, study=study, progress=progress)
    objective = CellObjective(
        prepared=prepared,
        trainer=prepared.trainer,
        study_run_id=run_id,
        progress=progress,
        sheet=sheet,
        sheet_pixels=read_sheet_pixels(prepared.data, sheet=sheet),
        params=describe_params(prepared),
        source=source,
    )
    try:
        work(study, objective=objective, watch=objective.watch)
    finally:
        progress.close()


def _find_best(study: optuna.Study) -> float | None:
    """Return the best value so far, None where no trial is complete."""
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return max((trial.value for trial in complete if trial.value is not None), default=None)


def _count_known_folds(study: optuna.Study, *, settings: SearchSettings) -> int:
    """Return the folds of trials that had finished before; a pruned one leaves none to do."""
    finished: list[Cell] = [get_cell(t) for t in study.get_trials(deepcopy=False) if t.state.is_finished() and t.params]
    return len(finished) * settings.folds
