"""The queue of waiting trials, asked in the database's own words: how many there are, and which one is next.

Optuna reads every trial that has not ended, with all that belongs to it, to count them or to find the first that waits,
and does so several times a claim. In a study of two thousand cells that is two thousand rows each time, and grows with
the square of the study; 64 workers then spend minutes on what one row tells.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Select, func, select

AT_ONCE = 100
"""Waiting trials that are looked at together: as many workers may claim one of them before this one does."""

TRIALS = TrialModel.__table__.c

Result = TypeVar("Result")


def count_states(study: optuna.Study) -> Counter[TrialState]:
    """Return the number of trials in each state, at one moment."""
    storage = study._storage
    if not isinstance(storage, _CachedStorage):  # a study in memory
        return Counter(trial.state for trial in study.get_trials(deepcopy=False))
    query = select(TRIALS.state, func.count()).where(TRIALS.study_id == study._study_id).group_by(TRIALS.state)
    return Counter(dict(_fetch(storage, query)))


def read_running(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that some process is at work on, by their number; no other trial is read."""
    storage = study._storage
    if not isinstance(storage, _CachedStorage):
        return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return storage._backend._get_trials(study._study_id, (TrialState.RUNNING,), set(), -1)


def claim_next(study: optuna.Study) -> optuna.Trial | None:
    """Claim the first waiting trial that no other worker claims before; None where none is left.

    Optuna would make a new trial instead, of a cell that is nobody's.
    """
    storage = study._storage
    if not isinstance(storage, _CachedStorage):  # a study in memory, which no other worker sees
        return study.ask() if count_states(study)[TrialState.WAITING] else None
    while waiting := _list_waiting(study, storage):
        for trial_id in waiting:
            if _claim(storage, trial_id):
                return _take(study, storage, trial_id)
    return None


def _list_waiting(study: optuna.Study, storage: _CachedStorage) -> list[int]:
    query = (
        select(TRIALS.trial_id)
        .where(TRIALS.study_id == study._study_id, TRIALS.state == TrialState.WAITING)
        .order_by(TRIALS.number)
        .limit(AT_ONCE)
    )
    return [trial_id for (trial_id,) in _fetch(storage, query)]


def _claim(storage: _CachedStorage, trial_id: int) -> bool:
    try:
        return storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False


def _take(study: optuna.Study, storage: _CachedStorage, trial_id: int) -> optuna.Trial:
    """Return a claimed trial, as `ask` does."""
    study._thread_local.cached_all_trials = None
    if trial_id not in storage._trial_id_to_study_id_and_number:  # queued since this process last read the study
        storage._read_trials_from_remote_storage(study._study_id)
    return optuna.Trial(study, trial_id)


def _fetch(storage: _CachedStorage, query: Select[Any]) -> list[tuple[Any, ...]]:
    """Return the rows of a query, waiting for a database that is away as all other calls do."""
    backend = storage._backend

    def act() -> list[tuple[Any, ...]]:
        with backend.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(query)]

    persist: Callable[[Callable[[], Result]], Result] = getattr(backend, "_persist", _do)
    return persist(act)


def _do(act: Callable[[], Result]) -> Result:
    return act()
