"""An attempt at a study, from the opened study to its conclusion; after an outage of its database it is made again."""

import dataclasses
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TypeVar

import optuna
from optuna.trial import TrialState

from sem_search.search.cluster.client import ClusterClient
from sem_search.search.cluster.remote_folds import RemoteFolds
from sem_search.search.folds.refit import OpenSource, find_missing_refits, refit_winner
from sem_search.search.folds.repair import repair_folds
from sem_search.search.folds.train import FoldSource, LocalFolds
from sem_search.search.prepare.duration import estimate_duration
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import lock_stores
from sem_search.search.results.conclusion import Conclusion, conclude_study
from sem_search.search.results.run_description import (
    describe_machine,
    describe_settings,
    describe_versions,
    log_study_start,
)
from sem_search.search.results.trial_log import TrialLog
from sem_search.search.trials.attributes import MACHINE, MLFLOW_PAGE, SETTINGS, STUDY_RUN_ID, VERSIONS
from sem_search.search.trials.objective import CellObjective
from sem_search.search.trials.process_id import describe_process, is_known_gone
from sem_search.search.trials.ranks import count_ranks
from sem_search.search.trials.results import list_results
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.search.trials.storage import START_S, repeat_after_outages
from sem_search.search.trials.study import open_study
from sem_search.search.trials.worker_loop import Timeout, work
from sem_search.settings import SearchSettings
from sem_search.terminal import echo, warn
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.availability import wait_while_away
from sem_search.tracking.mlflow.links import link_run
from sem_search.tracking.mlflow.log import log_entries
from sem_search.tracking.mlflow.runs import (
    create_store,
    explain_artifact_store,
    find_earlier_run,
    find_unfinished_runs,
    has_finished,
    open_study_run,
    supersede_run,
)

Result = TypeVar("Result")


def search_study(prepared: PreparedSearch, *, client: ClusterClient | None = None) -> Conclusion:
    """Begin the study or take it up, train what is left of it, and conclude it.

    Args:
        prepared: The search.
        client: Of a cluster that trains; by default this process does.

    Raises:
        StoreError: A database, the tracking server or the disk stayed away for `outage_wait` seconds.
    """
    settings = prepared.settings
    study = _begin_study(prepared)
    repeat = partial(repeat_after_outages, study=study, url=settings.storage, wait_s=settings.outage_wait)
    is_trained: bool = repeat(lambda: len(list_results(study)) >= count_ranks(settings))
    begun: str | None = repeat(lambda: study.user_attrs.get(STUDY_RUN_ID))
    earlier = _wait(lambda: find_earlier_run(begun, is_gone=is_known_gone), settings=settings)
    was_finished = is_trained and (earlier is None or _wait(lambda: has_finished(earlier), settings=settings))
    with open_study_run(
        study=prepared.name,
        process=describe_process(),
        earlier_run_id=earlier,
        is_finished=was_finished,
    ) as run_id:
        timeout = Timeout(settings.timeout)
        conclusion: Conclusion = repeat(
            lambda: _attempt(study, prepared=prepared, run_id=run_id, client=client, timeout=timeout)
        )
    return dataclasses.replace(conclusion, was_finished=was_finished)


def help_study(study: optuna.Study, *, prepared: PreparedSearch, run_id: str) -> None:
    """Train cells of a study that a search has begun, until every rank has its result.

    Args:
        study: The study.
        prepared: The search, as this machine sees it.
        run_id: The study's run.

    Raises:
        StoreError: The study's database or the disk stayed away for `outage_wait` seconds.
    """
    log, timeout = TrialLog(prepared=prepared, study_run_id=run_id, is_search=False), Timeout(prepared.settings.timeout)
    open_source = partial(_open_source, prepared=prepared, study=study)
    _ = prepared.trainer  # features are computed before a trial is begun: another worker may begin it meanwhile
    repeat_after_outages(
        lambda: _train_cells(study, prepared=prepared, log=log, open_source=open_source, timeout=timeout),
        study=study,
        url=prepared.settings.storage,
        wait_s=prepared.settings.outage_wait,
    )


def _begin_study(prepared: PreparedSearch) -> optuna.Study:
    """Make the stores' tables where there are none, and the study, or take it up."""
    settings = prepared.settings
    with lock_stores(settings):
        wait_while_away(create_store, wait_s=min(settings.outage_wait, START_S), warn=warn)
        return open_study(settings, name=prepared.name, fingerprint=prepared.fingerprint)


def _attempt(
    study: optuna.Study, *, prepared: PreparedSearch, run_id: str, client: ClusterClient | None, timeout: Timeout
) -> Conclusion:
    settings = prepared.settings
    log = TrialLog(prepared=prepared, study_run_id=run_id)
    _wait(lambda: _take_over(study, log=log), settings=settings)
    with explain_artifact_store(run_id):
        _wait(lambda: log_entries([describe_settings(settings)], run_id=run_id), settings=settings)
    if client is None and not list_results(study):
        duration = estimate_duration(prepared)
        if duration is not None:
            echo(duration.to_text(), err=True)
    _ = prepared.trainer  # features are computed now: the study's run says meanwhile that a search is at work
    if len(list_results(study)) < count_ranks(settings):
        study.set_user_attr(MACHINE, describe_machine())
        study.set_user_attr(VERSIONS, dict(describe_versions()))
    versions = study.user_attrs.get(VERSIONS, describe_versions())  # of a finished study: those that trained it
    _wait(lambda: log_study_start(prepared, versions=versions, run_id=run_id), settings=settings)
    open_source = partial(_open_source, prepared=prepared, study=study, client=client)
    _train_cells(study, prepared=prepared, log=log, open_source=open_source, timeout=timeout)
    repaired = [*prepared.repaired, *repair_folds(study, prepared=prepared)]
    with lock_stores(settings):
        _wait(lambda: log.log_missing(study), settings=settings)
        if repaired:
            tags = Tags(values={"sem_search.repaired": "\n".join(repaired)})
            _wait(lambda: log_entries([tags], run_id=run_id), settings=settings)
    while True:
        # It takes long: others may use the stores meanwhile.
        refit_winner(study, prepared=prepared, open_source=open_source)
        with lock_stores(settings):
            if find_missing_refits(study, prepared=prepared) is None:  # else a worker has finished a better cell since
                return _wait(
                    lambda: conclude_study(study, prepared=prepared, run_id=run_id),
                    settings=settings,
                    is_quick=False,
                )


def _wait(act: Callable[[], Result], *, settings: SearchSettings, is_quick: bool = True) -> Result:
    """Log something; a tracking store that is away is waited for."""
    return wait_while_away(act, wait_s=settings.outage_wait, warn=warn, is_quick=is_quick)


def _take_over(study: optuna.Study, *, log: TrialLog) -> None:
    """Write the settings into the study, end the runs of searches that were killed, and gather the trials' runs."""
    settings, run_id = log.prepared.settings, log.study_run_id
    study.set_user_attr(SETTINGS, settings.without_passwords.model_dump_json())  # a worker is given the URL
    study.set_user_attr(STUDY_RUN_ID, run_id)
    study.set_user_attr(MLFLOW_PAGE, link_run(run_id))
    for other, process in find_unfinished_runs(study=study.study_name, but=run_id).items():
        if is_known_gone(process):
            supersede_run(other, by=run_id)
    log.adopt_runs(study)


def _train_cells(
    study: optuna.Study,
    *,
    prepared: PreparedSearch,
    log: TrialLog,
    open_source: OpenSource,
    timeout: Timeout,
) -> None:
    """Train cells until every rank has its result."""
    settings = prepared.settings
    results = list_results(study)
    values = [trial.value for trial in results if trial.state == TrialState.COMPLETE and trial.value is not None]
    progress = SearchProgress(
        n_folds_total=count_ranks(settings) * settings.folds,
        n_folds_done=len(results) * settings.folds,  # a pruned trial leaves no fold to do
        best=max(values, default=None),
    )
    with closing(progress):
        objective = CellObjective(prepared=prepared, source=open_source(progress), log=log, progress=progress)
        work(study, objective=objective, timeout=timeout)


def _open_source(
    progress: SearchProgress, *, prepared: PreparedSearch, study: optuna.Study, client: ClusterClient | None = None
) -> FoldSource:
    """Return where folds come from: the workers of a cluster, else this process."""
    if client is None:
        return LocalFolds(prepared=prepared, progress=progress)
    return RemoteFolds(client=client, prepared=prepared, study=study, progress=progress)
