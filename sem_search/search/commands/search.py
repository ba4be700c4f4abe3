"""`mlflow run .` and `sem-search search`: prepare, train, conclude."""

import dataclasses
import os
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import optuna

from sem_search.disk_errors import explain_disk_errors
from sem_search.progress import Show, show_nothing
from sem_search.search.cluster.client import ClusterClient, open_cluster
from sem_search.search.cluster.remote_folds import compute_shards
from sem_search.search.commands.worker import train_cells
from sem_search.search.folds.repair import repair_folds
from sem_search.search.prepare.prepared_search import PreparedSearch, prepare_search
from sem_search.search.prepare.study_folder import lock_stores
from sem_search.search.process import quieten_libraries
from sem_search.search.results.conclusion import Conclusion, conclude_study
from sem_search.search.results.relogging import log_missing_trials
from sem_search.search.results.run_description import describe_settings, log_study_start
from sem_search.search.trials.outages import find_trial_run, open_study_outbox, tell_outage, wait_for_logging
from sem_search.search.trials.process_id import describe_process, is_known_dead
from sem_search.search.trials.storage import START_S, check_storage
from sem_search.search.trials.study import (
    RUN_ID,
    SETTINGS,
    STUDY_RUN_ID,
    enqueue_cells,
    find_dead_study_runs,
    open_study,
)
from sem_search.settings import SearchSettings
from sem_search.terminal import warn
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.availability import persist
from sem_search.tracking.mlflow.heartbeat import watch_runs
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.runs import (
    RUN_ID_VARIABLE,
    adopt_trial_runs,
    create_store,
    explain_artifact_store,
    find_unfinished_study_runs,
    open_study_run,
    supersede_run,
)

PASSWORD_ADVICE = {
    "storage": "as PGPASSWORD or in ~/.pgpass",
    "shared": "to fsspec, in its configuration files or variables (https://filesystem-spec.readthedocs.io)",
}


def run_search(settings: SearchSettings, *, show: Show = show_nothing) -> Conclusion:
    """Search, track and register; the same settings again go on where the study stands.

    Args:
        settings: What to search.
        show: Shows what is searched, on what data, with which weights.

    Raises:
        InputError: Data, weights or settings cannot be used; nothing was trained.
        StoreError: A database, the tracking server or the disk does not answer, or did not stay.
    """
    with explain_disk_errors():
        quieten_libraries()
        show(_describe_request(settings))
        _warn_of_logged_password(settings)
        check_storage(settings.storage, patience_s=settings.outage_wait, tell=tell_outage)
        prepared = prepare_search(settings, show=show)
        with _open_client(settings) as client:  # a cluster that is away makes no study
            return _search(prepared, client=client)


def _search(prepared: PreparedSearch, *, client: ClusterClient | None) -> Conclusion:
    settings, name, mended = prepared.settings, prepared.name, prepared.mended
    study = _begin_study(prepared)
    with (
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
        if client is not None:
            prepared = dataclasses.replace(prepared, elsewhere=partial(compute_shards, client, prepared=prepared))
        trainer = prepared.trainer
        log_study_start(prepared, run_id=run_id)
        train_cells(study, prepared=prepared, run_id=run_id, client=client)
        mended += repair_folds(study, prepared=prepared, trainer=trainer)
        if mended:
            log_entries([Tags(values={"sem_search.mended": "\n".join(mended)})], run_id=run_id)
        wait_for_logging(outbox, patience_s=settings.outage_wait)
        with lock_stores(settings):
            if log_missing_trials(study, prepared=prepared, trainer=trainer, run_id=run_id):
                wait_for_logging(outbox, patience_s=settings.outage_wait)
            return persist(
                lambda: conclude_study(study, prepared=prepared, trainer=trainer, run_id=run_id),
                patience_s=settings.outage_wait,
                tell=tell_outage,
                is_quick=False,
            )


def _begin_study(prepared: PreparedSearch) -> optuna.Study:
    """Make the stores' tables where there are none, and the study with its cells, or take it up."""
    settings = prepared.settings
    with lock_stores(settings):
        persist(create_store, patience_s=min(settings.outage_wait, START_S), tell=tell_outage)
        study = open_study(settings, name=prepared.name, fingerprint=prepared.fingerprint, tell=tell_outage)
        enqueue_cells(study, settings=settings)
    return study


def _take_over(study: optuna.Study, *, settings: SearchSettings, run_id: str) -> None:
    """Sign the study, end what dead searches left running, and gather the finished trials below this run."""
    study.set_user_attr(SETTINGS, settings.without_passwords.model_dump_json())  # a worker is given the URL
    study.set_user_attr(STUDY_RUN_ID, run_id)
    for dead in find_dead_study_runs(find_unfinished_study_runs(study=study.study_name, but=run_id)):
        supersede_run(dead, by=run_id)
    finished = {
        find_trial_run(trial, settings=settings, study=study.study_name)
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and RUN_ID in trial.user_attrs
    }
    adopt_trial_runs(finished, study=study.study_name, parent_run_id=run_id)


def _open_client(settings: SearchSettings) -> AbstractContextManager[ClusterClient | None]:
    """Give the client of the cluster, if the search is to have one."""
    return nullcontext() if settings.cluster is None else open_cluster(settings.cluster)


def _describe_request(settings: SearchSettings) -> str:
    """Return what is searched, as the first lines that a search shows."""
    text = (
        f"Preset {settings.preset}: {settings.n_cells} cells of {settings.backbone} (learning rate x batch size), "
        f"{settings.folds} folds, at most {settings.epochs} epochs; data={settings.data}."
    )
    if settings.preset == "quick":
        text += "\n  quick is for a first look; preset=standard searches the paper's whole grid."
    return text


def _warn_of_logged_password(settings: SearchSettings) -> None:
    """Warn of passwords that `mlflow run` has logged with its parameters before this program began."""
    if RUN_ID_VARIABLE not in os.environ:
        return
    for name, advice in PASSWORD_ADVICE.items():
        if getattr(settings, name) != getattr(settings.without_passwords, name):
            warn(
                f"mlflow run has logged {name}, with its password, as a parameter. Leave the password out of the URL "
                f"and give it {advice}; change the one that was logged."
            )
