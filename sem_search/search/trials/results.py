"""Which trials of a study are its results: one of each cell that has ended, and the winner among them."""

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.errors import FailedTrialError
from sem_search.records import Cell
from sem_search.records import TrialState as OutcomeState
from sem_search.search.trials.attributes import REPEATS
from sem_search.search.trials.ranks import get_rank, holds_rank
from sem_search.search.trials.space import find_cell

OUTCOME_STATES: dict[TrialState, OutcomeState] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


def find_winner(study: optuna.Study) -> FrozenTrial:
    """Return the complete trial with the highest objective; of equal ones the earliest.

    Raises:
        FailedTrialError: No trial has finished.
    """
    complete = [trial for trial in list_results(study) if trial.state == TrialState.COMPLETE]
    if not complete:
        raise FailedTrialError(
            f"No trial of study {study.study_name!r} has finished, so there is no winner. The trials' runs in MLflow "
            "hold the reason (traceback.txt); a timeout may have been too short for a single cell."
        )
    return max(complete, key=lambda trial: trial.value if trial.value is not None else float("-inf"))


def list_results(study: optuna.Study) -> list[FrozenTrial]:
    """Return one finished trial of each cell, by rank: two workers that draw a cell at one moment both train it."""
    order = list(OUTCOME_STATES)
    results: dict[Cell, FrozenTrial] = {}
    trials = [trial for trial in study.get_trials(deepcopy=False) if _is_result(trial)]
    for trial in sorted(trials, key=lambda trial: (order.index(trial.state), get_rank(trial))):
        results.setdefault(get_cell(trial), trial)
    return sorted(results.values(), key=get_rank)


def _is_result(trial: FrozenTrial) -> bool:
    """A cell that a sampler drew again, or a trial that gave its rank back, is no result of its own."""
    is_own = REPEATS not in trial.user_attrs and find_cell(trial) is not None
    return trial.state in OUTCOME_STATES and is_own and holds_rank(trial)


def get_cell(trial: FrozenTrial) -> Cell:
    """Return the cell of a trial that is a result."""
    return Cell(**trial.params)
