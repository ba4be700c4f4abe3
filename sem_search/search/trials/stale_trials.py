"""Trials whose process has died, put back into the queue under their own number.

Its own number keeps the order of trials, and with it every decision of a judge, that of an undisturbed study. Whether
a process of this machine lives is known at once. Of another machine's only the heartbeat tells: if it has stood still
for `GRACE_S`, by the clock of whoever watches, the trial is given up. No two clocks are ever compared, so that neither
a jump nor a skew of any of them makes a living worker pass for dead.

Optuna's own retry gives the cell a new number at the end of the queue, and takes the database's time for everyone's.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import optuna
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages._rdb.models import TrialHeartbeatModel, TrialModel, TrialUserAttributeModel
from optuna.trial import TrialState
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from sem_search.errors import StoreError
from sem_search.search.trials.process_id import describe_process, is_known_dead
from sem_search.search.trials.queue import read_running, run_in_transaction
from sem_search.search.trials.storage_outages import Patient

PROCESS = "process"
"""Where a trial says who is at work on it."""

GRACE_S = 120.0
"""A worker whose heartbeat stood still for so long is given up: well over a database's restart."""

LAST_BEAT_S = 5.0
"""A trial that has ended waits no longer for a beat that hangs."""

UNSIGNED_S = 60.0
"""A running trial that nobody has signed for so long was claimed by a process that died in the act."""

logger = logging.getLogger(__name__)

TRIALS = TrialModel.__table__.c
"""The columns as they are stored; Optuna's own attributes turn times into those of this machine's time zone."""


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """What changes about a running trial while its process lives."""

    claimed: datetime | None
    signed: str | None
    heartbeat: datetime | None


@dataclass(kw_only=True)
class TrialWatch:
    """Watches running trials: since when, by this process's own clock, has each been silent?"""

    grace_s: float = GRACE_S
    unsigned_s: float = UNSIGNED_S
    _since: dict[int, tuple[Pulse, float]] = field(default_factory=dict)

    def take_back_dead(self, study: optuna.Study) -> int:
        """Put trials of dead processes back into the queue; return how many."""
        pulses = _read_pulses(study)
        now_s = time.monotonic()
        known = self._since
        self._since = {
            trial_id: known[trial_id] if trial_id in known and known[trial_id][0] == pulse else (pulse, now_s)
            for trial_id, pulse in pulses.items()
        }
        dead = [trial_id for trial_id, (pulse, since_s) in self._since.items() if self._is_dead(pulse, now_s - since_s)]
        return sum(put_back(study, trial_id, claimed=pulses[trial_id].claimed) for trial_id in dead)

    def _is_dead(self, pulse: Pulse, silent_s: float) -> bool:
        if pulse.signed is None:
            return silent_s >= self.unsigned_s
        return is_known_dead(pulse.signed) or (pulse.signed != describe_process() and silent_s >= self.grace_s)


@contextmanager
def keep_heartbeat(study: optuna.Study, trial_id: int) -> Iterator[None]:
    """Record a heartbeat of the trial again and again, in a thread of its own, until the `with` is left.

    A beat that the database did not take is left out: the next one tells the same. Optuna's own thread ends at the
    first, and the trial of a living worker is given up minutes later.
    """
    storage = study._storage
    interval_s = storage.get_heartbeat_interval() if isinstance(storage, BaseHeartbeat) else None
    if interval_s is None or not isinstance(storage, BaseHeartbeat):
        yield
        return
    is_over = threading.Event()
    thread = threading.Thread(target=_beat, args=(storage, trial_id, interval_s, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(timeout=LAST_BEAT_S)


def read_claim(study: optuna.Study, trial_id: int) -> datetime | None:
    """Return when a trial was claimed, as its storage has it: what tells this claim from any other."""
    storage = study._storage
    if not isinstance(storage, _CachedStorage):
        return storage.get_trial(trial_id).datetime_start

    def read(connection: Connection) -> datetime | None:
        claimed: datetime | None = connection.execute(
            select(TRIALS.datetime_start).where(TRIALS.trial_id == trial_id)
        ).scalar()
        return claimed

    return run_in_transaction(storage, read)


def put_back(study: optuna.Study, trial_id: int, *, claimed: datetime | None) -> bool:
    """Put a running trial back into the queue, if it is still the claim that was seen; tell whether it was.

    Two processes that find the same trial dead must not both put it back: between the two, a third may have claimed it.
    So the claim is named by the moment it was made, and its signature and heartbeat, which a new claim would inherit,
    go with it; all in one transaction.

    Args:
        study: Holds the trial.
        trial_id: Optuna's id.
        claimed: As `read_claim` returned it.
    """
    storage = study._storage
    if not isinstance(storage, _CachedStorage):  # a study in memory, which no other process sees
        storage.set_trial_state_values(trial_id, state=TrialState.WAITING)
        return True
    seen = (TRIALS.trial_id == trial_id, TRIALS.state == TrialState.RUNNING, TRIALS.datetime_start == claimed)
    signature = (TrialUserAttributeModel.trial_id == trial_id, TrialUserAttributeModel.key == PROCESS)

    def put(connection: Connection) -> bool:
        is_seen = connection.execute(update(TrialModel).where(*seen).values(state=TrialState.WAITING)).rowcount == 1
        if is_seen:
            connection.execute(delete(TrialHeartbeatModel).where(TrialHeartbeatModel.trial_id == trial_id))
            connection.execute(delete(TrialUserAttributeModel).where(*signature))
        return is_seen

    return run_in_transaction(storage, put)


def let_go(study: optuna.Study, trial_id: int, *, claimed: datetime | None) -> None:
    """Put a trial back into the queue because this process ends: tried once, for somebody waits for the end.

    Where the database is away, too, the trial stays signed by this process; the next one finds it dead, and puts the
    trial back.
    """
    backend = study._storage._backend if isinstance(study._storage, _CachedStorage) else None
    if isinstance(backend, Patient):
        backend.patience_s = 0.0
    try:
        put_back(study, trial_id, claimed=claimed)
    except StoreError as error:
        logger.info("Trial %d is left to the next process: %s", trial_id, error)


def _read_pulses(study: optuna.Study) -> Mapping[int, Pulse]:
    """Return the pulse of each running trial, by trial id."""
    running = read_running(study)
    beats = _read_heartbeats(study) if running else {}
    pulses = {}
    for trial in running:
        claimed, heartbeat = beats.get(trial._trial_id, (trial.datetime_start, None))
        signed = trial.user_attrs.get(PROCESS)
        pulses[trial._trial_id] = Pulse(claimed=claimed, signed=signed, heartbeat=heartbeat)
    return pulses


def _read_heartbeats(study: optuna.Study) -> Mapping[int, tuple[datetime | None, datetime | None]]:
    """Return when each running trial was claimed, and its latest heartbeat, by trial id, in the storage's own times."""
    storage = study._storage
    if not isinstance(storage, _CachedStorage):
        return {}
    beats = TrialHeartbeatModel.__table__.c
    rows = (
        select(TRIALS.trial_id, TRIALS.datetime_start, beats.heartbeat)
        .select_from(TrialModel.__table__.outerjoin(TrialHeartbeatModel.__table__, TRIALS.trial_id == beats.trial_id))
        .where(TRIALS.study_id == study._study_id, TRIALS.state == TrialState.RUNNING)
    )

    def read(connection: Connection) -> Mapping[int, tuple[datetime | None, datetime | None]]:
        return {trial_id: (claimed, heartbeat) for trial_id, claimed, heartbeat in connection.execute(rows)}

    return run_in_transaction(storage, read)


def _beat(storage: BaseHeartbeat, trial_id: int, interval_s: float, is_over: threading.Event) -> None:
    while True:
        try:
            storage.record_heartbeat(trial_id)
        except Exception as error:  # noqa: BLE001 - without a heartbeat, others would take this trial back
            is_away = isinstance(error, SQLAlchemyError | optuna.exceptions.StorageInternalError)
            level = logging.INFO if is_away else logging.WARNING
            logger.log(level, "A heartbeat was not taken (%s); the next one will be.", type(error).__name__)
        if is_over.wait(timeout=interval_s):
            return
