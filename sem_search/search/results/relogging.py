"""Finished trials without a run where the study's run is, logged there anew from what is on disk.

The tracking store was cleared, or is another one, the search names another experiment, or somebody deleted the runs:
Optuna and the finished folds know of the trials all the same, and everything that is logged can be made from them. A
finished trial keeps its attributes in Optuna, so its new run stands in the study's.
"""

from collections.abc import Iterator, Mapping
from itertools import chain

import click
import optuna

from sem_search.records import TrialOutcome, TrialState
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.results.grad_cam_sheet import choose_sheet_tiles, read_sheet_pixels
from sem_search.search.results.outcome import read_finished_folds, read_study_outcome
from sem_search.search.results.run_description import describe_params
from sem_search.search.trials.objective import log_trial_end
from sem_search.search.trials.outages import locate_outbox, tell_outage
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.study import RUN_ID, TRIAL_RUNS
from sem_search.tracking.entries.generate import iter_cell_entries, iter_fold_entries
from sem_search.tracking.mlflow.availability import persist
from sem_search.tracking.mlflow.log import RunStatus, end_run, log_entries, open_child_run
from sem_search.tracking.mlflow.names import TAG_TRIAL_STATE
from sem_search.tracking.mlflow.posting import resolve_run
from sem_search.tracking.mlflow.runs import (
    UNFINISHED,
    FoundRun,
    adopt_trial_runs,
    describe_trial,
    list_trial_runs,
    supersede_run,
)
from sem_search.transfer.heads.training import HeadTrainer

STATUSES: Mapping[TrialState, RunStatus] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
"""How the run of a trial ends."""


def log_missing_trials(study: optuna.Study, *, prepared: PreparedSearch, trainer: HeadTrainer, run_id: str) -> int:
    """Let every finished trial that had a run have one below the study's run; return how many were logged anew.

    Cost: one search of MLflow where all are there; else the figures and the model of each trial, as at its end.

    Args:
        study: Optuna's.
        prepared: The search.
        trainer: Of its heads; nothing is trained.
        run_id: The study's run.
    """
    here = persist(
        lambda: list_trial_runs(study=prepared.name, near_run_id=run_id),
        patience_s=prepared.settings.outage_wait,
        tell=tell_outage,
    )
    known: Mapping[str, list[str]] = study.user_attrs.get(TRIAL_RUNS, {})
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False) if RUN_ID in trial.user_attrs}
    found: dict[int, str] = {}
    missing: list[TrialOutcome] = []
    for outcome in read_study_outcome(study, prepared=prepared).trials:
        if outcome.number in trials:
            own = str(trials[outcome.number].user_attrs[RUN_ID])
            named = (*known.get(str(outcome.number), ()), own)
            run = _find_run(outcome, named=named, here=here, prepared=prepared)
            if run is None:
                missing.append(outcome)
            else:
                found[outcome.number] = run
    persist(
        lambda: adopt_trial_runs(set(found.values()), study=prepared.name, parent_run_id=run_id),
        patience_s=prepared.settings.outage_wait,
        tell=tell_outage,
    )
    if missing:
        click.echo(f"Finished trials without a run in this experiment: {len(missing)}; they are logged anew.", err=True)
    for number, run in _log_anew(missing, prepared=prepared, trainer=trainer, run_id=run_id, here=here):
        found[number] = run
    runs = {
        str(number): [*(one for one in known.get(str(number), ()) if one != run), run]
        for number, run in found.items()
        if str(number) in known or run != _resolve(trials[number].user_attrs[RUN_ID], prepared)
    }
    if runs != known:
        study.set_user_attr(TRIAL_RUNS, runs)
    return len(missing)


def _find_run(
    outcome: TrialOutcome, *, named: tuple[str, ...], here: Mapping[str, FoundRun], prepared: PreparedSearch
) -> str | None:
    """Return the run that a trial has here: one that the study names, else one that was logged anew before."""
    named_here = (run_id for run_id in (_resolve(name, prepared) for name in named) if run_id in here)
    again = (run_id for run_id, run in here.items() if _is_whole(run, outcome=outcome))
    return next(chain(named_here, again), None)


def _resolve(name: str, prepared: PreparedSearch) -> str:
    return resolve_run(name, root=locate_outbox(prepared.settings, name=prepared.name))


def _is_whole(run: FoundRun, *, outcome: TrialOutcome) -> bool:
    """Tell whether a run holds all of this trial: its end is the last that is logged."""
    is_same = run.tags.get(TAG_TRIAL_STATE) == outcome.state and run.status == STATUSES[outcome.state]
    return is_same and run.params.get("trial") == str(outcome.number)


def _log_anew(
    missing: list[TrialOutcome],
    *,
    prepared: PreparedSearch,
    trainer: HeadTrainer,
    run_id: str,
    here: Mapping[str, FoundRun],
) -> Iterator[tuple[int, str]]:
    """Log trials as at their end; yield the number and the new run of each."""
    if not missing:
        return
    sheet = choose_sheet_tiles(prepared.data.tiles, folds=prepared.data.folds)
    pixels = read_sheet_pixels(prepared.data, sheet=sheet)
    for outcome in missing:
        cell = outcome.cell
        tags = describe_trial(study=prepared.name, cell=cell.name, process=describe_process())
        own = open_child_run(parent_run_id=run_id, name=cell.name, tags=tags)
        for before, run in here.items():  # begun by a process that did not come to its end
            if run.status in UNFINISHED and run.params.get("trial") == str(outcome.number):
                supersede_run(before, by=own)
        log_entries(iter_cell_entries(cell, trial=outcome.number, settings=describe_params(prepared)), run_id=own)
        for fold in outcome.folds:
            log_entries(iter_fold_entries(fold, tiles=prepared.data.tiles), run_id=own)
        log_trial_end(
            outcome,
            prepared=prepared,
            trainer=trainer,
            finished_folds=read_finished_folds(prepared, cell=cell),
            sheet=sheet,
            sheet_pixels=pixels,
            run_id=own,
        )
        end_run(own, status=STATUSES[outcome.state])
        yield outcome.number, own
