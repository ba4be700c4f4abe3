"""The whole way, once: prepare, work, conclude. `mlflow run .` and `sem-search search` and `worker` end here."""

import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

import click
import optuna

from sem_search.disk_errors import explain_disk_errors
from sem_search.errors import InputError, SettingsError, StudyMismatchError
from sem_search.records import Cell
from sem_search.search.cluster.remote_folds import Share
from sem_search.search.cluster.tasks import Hands
from sem_search.search.folds.repair import repair_folds
from sem_search.search.prepare.data import PreparedData, check_findings, prepare_data
from sem_search.search.prepare.network import build_trainer, compute_features, prepare_network
from sem_search.search.prepare.prepared_search import (
    PreparedSearch,
    check_study_name,
    claim_study_folder,
    compute_fingerprint,
    find_begun_precision,
    get_study_folder,
    lock_stores,
    name_study,
)
from sem_search.search.results.conclusion import Conclusion, conclude_study
from sem_search.search.results.grad_cam_sheet import choose_sheet_tiles, read_sheet_pixels
from sem_search.search.results.outcome import get_cell
from sem_search.search.results.relogging import log_missing_trials
from sem_search.search.results.run_description import describe_params, describe_settings, log_study_start
from sem_search.search.trials.objective import CellObjective
from sem_search.search.trials.outages import (
    find_trial_run,
    open_study_outbox,
    tell_outage,
    wait_for_logging,
)
from sem_search.search.trials.process_id import describe_process, is_known_dead
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.search.trials.storage import START_S, check_storage
from sem_search.search.trials.study import (
    FINGERPRINT,
    RUN_ID,
    SETTINGS,
    STUDY_RUN_ID,
    check_fingerprint,
    enqueue_cells,
    find_dead_study_runs,
    has_file,
    keep_precision,
    load_study,
    open_study,
)
from sem_search.search.trials.worker_loop import work
from sem_search.secrets import MASK
from sem_search.settings import SearchSettings
from sem_search.terminal import echo
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.availability import persist
from sem_search.tracking.mlflow.heartbeat import watch_runs
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.runs import (
    RUN_ID_VARIABLE,
    adopt_trial_runs,
    check_run_is_known,
    create_store,
    explain_artifact_store,
    find_unfinished_study_runs,
    open_study_run,
    supersede_run,
)
from sem_search.transfer.heads.training import HeadTrainer
from sem_search.transfer.runtime import configure_tensorflow
from sem_search.transfer.weights.choice import check_weights

SAME_IMAGES = "A worker needs the search's own images and versions: give --data as this machine reaches them."

PASSWORD_ADVICE = {
    "storage": "as PGPASSWORD or in ~/.pgpass",
    "shared": "to fsspec, in its configuration files or variables (https://filesystem-spec.readthedocs.io)",
}

WAIT_S = 2.0
"""Between two looks whether a search has begun."""


def run_search(settings: SearchSettings) -> Conclusion:
    """Search, track, register: the program's main act. Prints what it does and ends with the winner.

    Raises:
        InputError: Data, weights or settings cannot be used; nothing was trained.
        StoreError: A database, the tracking server or the disk does not answer, or did not stay.
    """
    with explain_disk_errors():
        return _search(settings)


def _search(settings: SearchSettings) -> Conclusion:
    _prepare_process()
    if settings.study is not None:
        check_study_name(settings.study)
    check_weights(settings.weights, backbone=settings.backbone)
    _announce(settings)
    _warn_of_logged_password(settings)
    check_storage(settings.storage, patience_s=settings.outage_wait, tell=tell_outage)
    data = prepare_data(settings)
    check_findings(data.findings, allowed=settings.allow_errors)
    _tell_data(data)
    configure_tensorflow(threads=settings.threads, seed=settings.seed)
    network = prepare_network(settings)
    click.echo(f"{settings.backbone} has the weights {network.weights.used!r}.")
    for warning in (*data.catalogue.warnings, *network.weights.warnings):
        echo(f"Warning: {warning}", err=True)
    fingerprint = compute_fingerprint(settings, data=data, network=network)
    precision = find_begun_precision(settings, fingerprint=fingerprint)
    if precision != network.precision:
        click.echo(f"The study was begun with precision={precision}; it goes on with that.", err=True)
        network = prepare_network(settings.model_copy(update={"precision": precision}))
        fingerprint = compute_fingerprint(settings, data=data, network=network)
    name = name_study(settings, fingerprint=fingerprint)
    mended = claim_study_folder(settings, name=name, fingerprint=fingerprint, folds=data.folds)
    for warning in mended:
        echo(f"Warning: {warning}", err=True)
    with (
        _open_hands(settings) as hands,  # before a study is made in the database that would have none
        nullcontext(_begin_study(settings, name=name, fingerprint=fingerprint)) as study,
        open_study_outbox(settings, name=name) as outbox,
        open_study_run(study=name, process=describe_process()) as run_id,
        watch_runs(run_id, study=name, is_known_dead=is_known_dead),
    ):
        persist(
            lambda: _take_over(study, settings=settings, run_id=run_id),
            patience_s=settings.outage_wait,
            tell=tell_outage,
        )
        with explain_artifact_store(run_id):
            log_entries([describe_settings(settings)], run_id=run_id)
        share = None
        if hands is not None:
            share = Share(hands=hands, settings=settings, study=name, data=data, network=network)
        features = compute_features(
            settings, data=data, network=network, elsewhere=share.compute_shards if share else None
        )
        prepared = PreparedSearch(
            settings=settings, name=name, fingerprint=fingerprint, data=data, network=network, features=features
        )
        log_study_start(prepared, run_id=run_id)
        trainer = build_trainer(settings, data=data, network=network, features=features)
        _work(study, prepared=prepared, trainer=trainer, run_id=run_id, share=share)
        mended += repair_folds(study, prepared=prepared, trainer=trainer)
        if mended:
            log_entries([Tags(values={"sem_search.mended": "\n".join(mended)})], run_id=run_id)
        wait_for_logging(outbox, patience_s=settings.outage_wait)
        with lock_stores(settings):
            if log_missing_trials(study, prepared=prepared, trainer=trainer, run_id=run_id):
                wait_for_logging(outbox, patience_s=settings.outage_wait)
            conclusion = persist(
                lambda: conclude_study(study, prepared=prepared, trainer=trainer, run_id=run_id),
                patience_s=settings.outage_wait,
                tell=tell_outage,
                is_quick=False,
            )
    echo(conclusion.to_text())
    return conclusion


def _begin_study(settings: SearchSettings, *, name: str, fingerprint: Mapping[str, Any]) -> optuna.Study:
    """Make the stores' tables where there are none, and the study with its cells, or take it up."""
    with lock_stores(settings):
        persist(create_store, patience_s=min(settings.outage_wait, START_S), tell=tell_outage)
        study = open_study(settings, name=name, fingerprint=fingerprint, tell=tell_outage)
        enqueue_cells(study, settings=settings)
    return study


def run_worker(
    *,
    study: str,
    storage: str,
    threads: int | None,
    data: str | None = None,
    study_folder: str | None = None,
    shared: str | None = None,
    wait_s: float = 0.0,
) -> None:
    """Help with a study that a search has begun: claim cells, and those of dead workers, until all have ended.

    Settings, images and folds are those of the study, held to their hashes; features that shared storage or the cache
    here lack are computed.

    Args:
        study: Its name.
        storage: Its database.
        threads: Processor threads; the search's by default, and another number changes the last digits of results.
        data: Where the images lie on this machine; by default where the search found them.
        study_folder: Where finished folds are kept on this machine; by default under the search's own path.
        shared: The name by which this machine reaches shared storage; by default the search's.
        wait_s: How long to wait for a study that no search has begun yet.

    Raises:
        StudyMismatchError: There is no such study, or the data, the weights or the settings here are not its own.
        StoreError: The study's database or the tracking server does not answer.
    """
    places = {"data": data, "study_folder": study_folder, "shared": shared, "threads": threads}
    given = {name: value for name, value in places.items() if value is not None}
    with explain_disk_errors():
        _help(study=study, storage=storage, given=given, wait_s=wait_s)


def _help(*, study: str, storage: str, given: Mapping[str, Any], wait_s: float) -> None:
    _prepare_process()
    loaded = _wait_for_study(study, storage=storage, wait_s=wait_s)
    settings = SearchSettings.model_validate_json(loaded.user_attrs[SETTINGS])
    settings = settings.model_copy(update={"study": study, "storage": storage, "cluster": None, **given})
    if MASK in (settings.shared or ""):
        raise SettingsError(
            f"The search's shared={settings.shared} has a password, which is not kept: give --shared as this machine "
            "reaches it."
        )
    run_id = str(loaded.user_attrs[STUDY_RUN_ID])
    persist(lambda: check_run_is_known(run_id), patience_s=min(settings.outage_wait, START_S), tell=tell_outage)
    check_weights(settings.weights, backbone=settings.backbone)
    data = _prepare_same_data(settings)
    configure_tensorflow(threads=settings.threads, seed=settings.seed)
    network = prepare_network(keep_precision(settings, study=loaded))
    _warn_unless_shared(settings, name=study)
    fingerprint = compute_fingerprint(settings, data=data, network=network)
    check_fingerprint(
        name=study, stored=json.loads(loaded.user_attrs[FINGERPRINT]), wanted=fingerprint, remedy=SAME_IMAGES
    )
    for warning in claim_study_folder(settings, name=study, fingerprint=fingerprint, folds=data.folds):
        echo(f"Warning: {warning}", err=True)
    opened = open_study(settings, name=study, fingerprint=fingerprint, tell=tell_outage)
    features = compute_features(settings, data=data, network=network)
    prepared = PreparedSearch(
        settings=settings, name=study, fingerprint=fingerprint, data=data, network=network, features=features
    )
    trainer = build_trainer(settings, data=data, network=network, features=features)
    with open_study_outbox(settings, name=study):
        _work(opened, prepared=prepared, trainer=trainer, run_id=run_id)
    click.echo(f"No cell of study {study!r} is left to claim.")


def _wait_for_study(name: str, *, storage: str, wait_s: float) -> optuna.Study:
    """Return a study that a search has begun, or is about to begin."""
    ends_at, is_told = time.monotonic() + wait_s, False
    while True:
        left_s = ends_at - time.monotonic()
        is_over = left_s <= 0
        try:
            if is_over or has_file(storage):
                return load_study(name=name, storage=storage, patience_s=START_S, tell=tell_outage)
        except StudyMismatchError:
            if is_over:
                raise
        if not is_told:
            click.echo(f"Waiting for a search to begin study {name!r}, at most {wait_s:g} s ...", err=True)
            is_told = True
        time.sleep(min(WAIT_S, left_s))


def _prepare_same_data(settings: SearchSettings) -> PreparedData:
    """Return the search's data as this machine sees them; what is wrong with them here was not wrong there."""
    try:
        return prepare_data(settings)
    except InputError as error:
        raise StudyMismatchError(f"This machine does not see what the search saw: {error} {SAME_IMAGES}") from error


def _warn_unless_shared(settings: SearchSettings, *, name: str) -> None:
    """Say what follows if the search's finished folds and this worker's lie on different machines."""
    folder = get_study_folder(settings, name=name)
    if settings.shared is None and not (folder / "study.json").exists():
        click.echo(
            f"Warning: the search's finished folds are not to be seen here ({folder.absolute()}), and there is no "
            "shared storage. What this worker finishes is logged, but a cell that it leaves behind begins anew "
            "elsewhere, and the search trains this worker's folds again before it reports them. Give --study-folder "
            "as this machine reaches it, or start the search with shared=FOLDER_OR_URL.",
            err=True,
        )


def _prepare_process() -> None:
    """Let SIGTERM end a search as Ctrl-C does, and keep libraries' chatter away from what a user must see."""
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    logging.getLogger("mlflow").setLevel(logging.WARNING)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _announce(settings: SearchSettings) -> None:
    click.echo(
        f"Preset {settings.preset}: {settings.n_cells} cells of {settings.backbone} (learning rate x batch size), "
        f"{settings.folds} folds, at most {settings.epochs} epochs; data={settings.data}."
    )
    if settings.preset == "quick":
        click.echo("  quick is for a first look; preset=standard searches the paper's whole grid.")
    sys.stdout.flush()


def _warn_of_logged_password(settings: SearchSettings) -> None:
    """Say what `mlflow run` does with its parameters before this program begins, and what to do instead."""
    if RUN_ID_VARIABLE not in os.environ:
        return
    for name, advice in PASSWORD_ADVICE.items():
        if getattr(settings, name) != getattr(settings.without_passwords, name):
            click.echo(
                f"Warning: mlflow run has logged {name}, with its password, as a parameter. Leave the password out of "
                f"the URL and give it {advice}; change the one that was logged.",
                err=True,
            )


def _tell_data(data: PreparedData) -> None:
    n_images, n_classes = len(data.catalogue.records), len(data.tiles.class_names)
    click.echo(f"{n_images} images of {n_classes} classes, {data.tiles.n_tiles} tiles.")
    for finding in data.findings:
        if finding.severity != "note":
            word = "Allowed error" if finding.severity == "error" else "Warning"  # others have ended the search
            echo(f"{word}: {finding.message}", err=True)


def _take_over(study: optuna.Study, *, settings: SearchSettings, run_id: str) -> None:
    """Sign the study, end what dead searches left running, and gather the finished trials below this run."""
    study.set_user_attr(SETTINGS, settings.without_passwords.model_dump_json())  # who comes here knows the URL
    study.set_user_attr(STUDY_RUN_ID, run_id)
    for dead in find_dead_study_runs(find_unfinished_study_runs(study=study.study_name, but=run_id)):
        supersede_run(dead, by=run_id)
    finished = {
        find_trial_run(trial, settings=settings, study=study.study_name)
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and RUN_ID in trial.user_attrs
    }
    adopt_trial_runs(finished, study=study.study_name, parent_run_id=run_id)


@contextmanager
def _open_hands(settings: SearchSettings) -> Iterator[Hands | None]:
    """Give the cluster's workers, if the search is to have any."""
    if settings.cluster is None:
        yield None
        return
    from sem_search.search.cluster.dask import open_cluster

    with open_cluster(settings.cluster) as hands:
        yield hands


def _work(
    study: optuna.Study, *, prepared: PreparedSearch, trainer: HeadTrainer, run_id: str, share: Share | None = None
) -> None:
    settings = prepared.settings
    sheet = choose_sheet_tiles(prepared.data.tiles, folds=prepared.data.folds)
    n_trials = settings.trials or settings.n_cells
    progress = SearchProgress(
        n_folds_total=n_trials * settings.folds,
        n_folds_done=_count_known_folds(study, settings=settings),
        best=_find_best(study),
    )
    objective = CellObjective(
        prepared=prepared,
        trainer=trainer,
        study_run_id=run_id,
        progress=progress,
        sheet=sheet,
        sheet_pixels=read_sheet_pixels(prepared.data, sheet=sheet, max_megapixels=settings.max_megapixels),
        params=describe_params(prepared),
        source=None if share is None else share.open_folds(study, store=prepared.store, progress=progress),
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
