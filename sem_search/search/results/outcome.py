"""The results of a study, read from the finished folds: no reported number exists only in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from sem_search.errors import StoreError
from sem_search.records import Cell, FinishedFold, StudyOutcome, TrialOutcome
from sem_search.records import TrialState as OutcomeState
from sem_search.search.folds.store import FoldStore
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import open_fold_store
from sem_search.search.trials.attributes import PRUNE_REASON, REASON, RUN_ID, TRIAL_RUNS
from sem_search.search.trials.results import OUTCOME_STATES, find_winner, get_cell, list_results
from sem_search.settings import SearchSettings


def read_study_outcome(study: optuna.Study, *, prepared: PreparedSearch) -> StudyOutcome:
    """Return every cell's outcome, each once, in the order of their ranks; errors as `read_stored_outcome`."""
    return read_stored_outcome(study, name=prepared.name, settings=prepared.settings, data=prepared.data)


def read_stored_outcome(
    study: optuna.Study, *, name: str, settings: SearchSettings, data: PreparedData
) -> StudyOutcome:
    """Return the same for a study without its network: answers are read, nothing is computed.

    Args:
        study: From the storage.
        name: Its name, as the folder of its folds has it.
        settings: Of the search: where the folds lie, and on which split it selects.
        data: Images, tiles and folds.

    Raises:
        FailedTrialError: No trial has finished.
        StoreError: A fold that was reported to the study is lost or damaged on disk; or, with `refit`, the search has
            not come to train the winner again.
    """
    winner, store = find_winner(study), open_fold_store(settings, name=name)
    runs: Mapping[str, Sequence[str]] = study.user_attrs.get(TRIAL_RUNS, {})
    outcome = StudyOutcome(
        name=name,
        backbone=settings.backbone,
        select_on=settings.select_on,
        tiles=data.tiles,
        trials=tuple(
            _read_trial(trial, store=store, runs=runs.get(str(trial.number), ())) for trial in list_results(study)
        ),
        winner_number=winner.number,
    )
    if not settings.refit:
        return outcome
    again = tuple(store.refits.get(cell=outcome.chosen.cell, fold=fold.fold).outcome for fold in outcome.chosen.folds)
    return replace(outcome, refitted=replace(outcome.chosen, folds=again, is_refit=True))


def read_finished_folds(prepared: PreparedSearch, *, trial: TrialOutcome) -> tuple[FinishedFold, ...]:
    """Return the finished folds of a complete trial, in order, with the heads that its outcome is of."""
    store = prepared.store.refits if trial.is_refit else prepared.store
    return _read_folds(store, cell=trial.cell, numbers=[fold.number for fold in prepared.data.folds.folds])


def list_runs(trial: FrozenTrial, *, study: optuna.Study) -> list[str]:
    """Return the runs that a trial was logged to, or begun to be, the one that counts last."""
    later = study.user_attrs.get(TRIAL_RUNS, {}).get(str(trial.number), [])
    return [run_id for run_id in (trial.user_attrs.get(RUN_ID), *later) if run_id is not None]


def _read_folds(store: FoldStore, *, cell: Cell, numbers: Sequence[int]) -> tuple[FinishedFold, ...]:
    folds = (store.read(cell=cell, fold=number) for number in numbers)
    return tuple(fold for fold in folds if fold is not None)


def _read_trial(trial: FrozenTrial, *, store: FoldStore, runs: Sequence[str]) -> TrialOutcome:
    """Return a trial's outcome; `runs` are those that it was logged to after its end, the valid one last."""
    outcome, _ = read_trial(trial, store=store, state=OUTCOME_STATES[trial.state])
    n_lost = len(trial.intermediate_values) - len(outcome.folds)
    if n_lost:
        raise StoreError(
            f"{outcome.cell.name}: {n_lost} of {len(trial.intermediate_values)} finished folds are lost or damaged in "
            f"{store.folder}. Start the search's own command again: it trains them anew, to the same numbers."
        )
    return replace(outcome, run_id=runs[-1] if runs else outcome.run_id)


def read_trial(
    trial: FrozenTrial, *, store: FoldStore, state: OutcomeState
) -> tuple[TrialOutcome, tuple[FinishedFold, ...]]:
    """Return what a trial found, and its finished folds; those that cannot be read are left out.

    Args:
        trial: The trial, which may be just about to end.
        store: Of finished folds.
        state: How it ended, or is about to.
    """
    cell = get_cell(trial)
    folds = _read_folds(store, cell=cell, numbers=sorted(trial.intermediate_values))
    outcome = TrialOutcome(
        number=trial.number,
        cell=cell,
        state=state,
        folds=tuple(fold.outcome for fold in folds),
        run_id=trial.user_attrs.get(RUN_ID),
        message=_get_reason(trial, state=state),
    )
    return outcome, folds


def _get_reason(trial: FrozenTrial, *, state: OutcomeState) -> str | None:
    """Return why a trial was pruned or failed; older versions wrote both under one name."""
    reason: str | None = trial.user_attrs.get(REASON)
    return {"complete": None, "pruned": trial.user_attrs.get(PRUNE_REASON, reason), "failed": reason}[state]
