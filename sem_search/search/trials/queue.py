"""The queue of waiting trials, asked in the database's own words: how many there are, and which one is next.

Optuna reads every trial that has not ended, with all that belongs to it, to count them or to find the first that waits,
and does so several times a claim. In a study of two thousand cells that is two thousand rows each time, and grows with
the square of the study; 64 workers then spend minutes on what one row tells.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime

import optuna
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.storages._rdb.models import TrialModel
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, func, select, update

from sem_search.search.trials.storage_outages import Patient, Result

TRIALS = TrialModel.__table__.c


def count_states(study: optuna.Study) -> Counter[TrialState]:
    """Return the number of trials in each state, at one moment."""
    storage = study._storage
    if not isinstance(storage, _CachedStorage):  # a study in memory
        return Counter(trial.state for trial in study.get_trials(deepcopy=False))
    query = select(TRIALS.state, func.count()).where(TRIALS.study_id == study._study_id).group_by(TRIALS.state)
    return Counter(run_in_transaction(storage, lambda connection: dict(connection.execute(query).tuples().all())))


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
    trial_id = run_in_transaction(storage, lambda connection: _claim_first(connection, study_id=study._study_id))
    return None if trial_id is None else _take(study, storage, trial_id)


def _claim_first(connection: Connection, *, study_id: int) -> int | None:
    """Set the first waiting trial running; one that another worker is just claiming is passed over, not waited for.

    A claim whose answer is lost on the way is unsigned, and goes back into the queue after a while.
    """
    waiting = (
        select(TRIALS.trial_id)
        .where(TRIALS.study_id == study_id, TRIALS.state == TrialState.WAITING)
        .order_by(TRIALS.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    trial_id: int | None = connection.execute(waiting).scalar()
    if trial_id is not None:
        claim = update(TrialModel).where(TRIALS.trial_id == trial_id)
        connection.execute(claim.values(state=TrialState.RUNNING, datetime_start=datetime.now()))
    return trial_id


def _take(study: optuna.Study, storage: _CachedStorage, trial_id: int) -> optuna.Trial:
    """Return a claimed trial, as `ask` does."""
    study._thread_local.cached_all_trials = None
    if trial_id not in storage._trial_id_to_study_id_and_number:  # this process has not read the study since
        trial = storage._backend.get_trial(trial_id)  # this one alone: all of them are seconds in a large study
        with storage._lock:
            storage._studies.setdefault(study._study_id, _StudyInfo())
            storage._add_trials_to_cache(study._study_id, [trial])
    return optuna.Trial(study, trial_id)


def run_in_transaction(storage: _CachedStorage, act: Callable[[Connection], Result]) -> Result:
    """Do something in one transaction, waiting for a database that is away as all other calls do.

    Args:
        storage: Of a study in a database.
        act: What to do; where the database goes away meanwhile, it is done again.

    Raises:
        StoreError: The database stayed away.
    """
    backend = storage._backend

    def act_once() -> Result:
        with backend.engine.begin() as connection:
            return act(connection)

    return backend._persist(act_once) if isinstance(backend, Patient) else act_once()
