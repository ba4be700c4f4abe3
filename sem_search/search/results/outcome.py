"""What a study found out, read back from the finished folds: nothing that is reported exists only in memory."""

from collections.abc import Iterator, Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.errors import FailedTrialError, StoreError
from sem_search.records import Cell, FinishedFold, StudyOutcome, TrialOutcome
from sem_search.records import TrialState as OutcomeState
from sem_search.search.folds.store import FoldStore
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import open_fold_store
from sem_search.search.trials.outages import OUTBOX
from sem_search.search.trials.study import REASON, RUN_ID, TRIAL_RUNS
from sem_search.settings import SearchSettings
from sem_search.tracking.mlflow.posting import resolve_run

OUTCOME_STATES: dict[TrialState, OutcomeState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def read_study_outcome(study: optuna.Study, *, prepared: PreparedSearch) -> StudyOutcome:
    """Return every cell's outcome, each once, in the order of the trials; errors as `read_stored_outcome`."""
    return read_stored_outcome(study, name=prepared.name, settings=prepared.settings, data=prepared.data)


def read_stored_outcome(
    study: optuna.Study, *, name: str, settings: SearchSettings, data: PreparedData
) -> StudyOutcome:
    """Return the same of a study whose network is not at hand: answers are read, nothing is computed.

    Raises:
        FailedTrialError: No trial has finished.
        StoreError: A fold that the study was told of is lost or damaged on disk.
    """
    finished = _list_reported(study)
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    if not complete:
        raise FailedTrialError(
            f"No trial of study {name!r} has finished, so there is no winner. The trials' runs in MLflow "
            "hold the reason (traceback.txt); a timeout may have been too short for a single cell."
        )
    store = open_fold_store(settings, name=name)
    # Of equal cells the earliest wins: max keeps the first.
    winner = max(complete, key=lambda trial: trial.value if trial.value is not None else float("-inf"))
    runs: Mapping[str, Sequence[str]] = study.user_attrs.get(TRIAL_RUNS, {})
    return StudyOutcome(
        name=name,
        backbone=settings.backbone,
        select_on=settings.select_on,
        tiles=data.tiles,
        trials=tuple(_read_trial(trial, store=store, runs=runs.get(str(trial.number), ())) for trial in finished),
        winner_number=winner.number,
    )


def read_finished_folds(prepared: PreparedSearch, *, cell: Cell) -> tuple[FinishedFold, ...]:
    """Return the finished folds of a cell, in order."""
    return _read_folds(prepared.store, cell=cell, numbers=[fold.number for fold in prepared.data.folds.folds])


def iter_told_folds(study: optuna.Study) -> Iterator[tuple[FrozenTrial, int]]:
    """Yield each finished trial that is reported with the number of each fold that it told of, in order."""
    for trial in _list_reported(study):
        for number in sorted(trial.intermediate_values):
            yield trial, number


def get_cell(trial: FrozenTrial) -> Cell:
    """Return the cell of a trial that has begun."""
    return Cell(learning_rate=float(trial.params["learning_rate"]), batch_size=int(trial.params["batch_size"]))


def _list_reported(study: optuna.Study) -> list[FrozenTrial]:
    """Return one trial of each cell, by number: two workers that draw a cell at one moment both train it."""
    order = list(OUTCOME_STATES)
    reported: dict[Cell, FrozenTrial] = {}
    trials = [trial for trial in study.get_trials(deepcopy=False) if _is_reported(trial)]
    for trial in sorted(trials, key=lambda trial: (order.index(trial.state), trial.number)):
        reported.setdefault(get_cell(trial), trial)
    return sorted(reported.values(), key=lambda trial: trial.number)


def _is_reported(trial: FrozenTrial) -> bool:
    """A repeated cell, or a trial that found the queue empty, is no result of its own."""
    return trial.state in OUTCOME_STATES and "repeats" not in trial.user_attrs and len(trial.params) == 2


def _read_folds(store: FoldStore, *, cell: Cell, numbers: Sequence[int]) -> tuple[FinishedFold, ...]:
    kept = (store.read(cell=cell, fold=number) for number in numbers)
    return tuple(fold for fold in kept if fold is not None)


def _read_trial(trial: FrozenTrial, *, store: FoldStore, runs: Sequence[str]) -> TrialOutcome:
    """Return a trial's outcome; `runs` are those that it was logged to anew, the valid one last."""
    cell = get_cell(trial)
    told = trial.intermediate_values
    run_id = runs[-1] if runs else trial.user_attrs.get(RUN_ID)
    finished_folds = _read_folds(store, cell=cell, numbers=sorted(told))
    if len(finished_folds) < len(told):
        raise StoreError(
            f"{cell.name}: {len(told) - len(finished_folds)} of {len(told)} finished folds are lost or damaged in "
            f"{store.folder}. Start the search's own command again: it trains them anew, to the same numbers."
        )
    return TrialOutcome(
        number=trial.number,
        cell=cell,
        state=OUTCOME_STATES[trial.state],
        folds=tuple(kept.outcome for kept in finished_folds),
        run_id=None if run_id is None else resolve_run(run_id, root=store.folder / OUTBOX),
        message=None if trial.state == TrialState.COMPLETE else trial.user_attrs.get(REASON),
    )
