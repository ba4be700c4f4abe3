"""The study's database: opened with its driver, and waited for while it is away.

Optuna gives up at the first call that a database does not answer; a restart of two seconds then costs a trial. Here
each call is made again, with growing pauses, until the database is back or the patience is over. A call may have
succeeded although its answer was lost, so doing it twice must be the same as doing it once: attributes, parameters and
intermediate values are written over with the same; a trial's end, and a claim, are recognised as our own.
"""

import logging
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import optuna
from optuna.storages._rdb.models import StudyModel
from optuna.trial import TrialState
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from sem_search.errors import SettingsError, StoreError
from sem_search.places import find_sqlite_file
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.stale_trials import PROCESS
from sem_search.search.trials.storage_outages import find_refusal, persist
from sem_search.secrets import mask_url

HEARTBEAT_S = 10
GRACE_S = 120
"""What Optuna is told; who is dead is decided in `stale_trials`."""

SQLITE_WAIT_S = 60
"""SQLite has one writer at a time; workers wait for their turn."""

POSTGRESQL = "postgresql"

MLFLOW_TABLE = "registered_models"
"""Of MLflow's tables the one whose name is nobody else's."""

CONNECTION = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""A server that fell silent without a word is noticed within about a minute, not after the system's two hours."""

START_S = 30.0
"""How long a database or a tracking server that does not answer is waited for at the start: it may be mistyped."""

LATER = "Nothing was begun: correct the address, or give the same command again when it is back."

Result = TypeVar("Result")


class PatientStorage(optuna.storages.RDBStorage):
    """Optuna's storage, which waits for a database that is away."""

    patience_s: float = 0.0
    tell: Callable[[str], None] = staticmethod(lambda _: None)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set a trial's state once, also where the answer to the first attempt was lost.

        Returns:
            False if another process has claimed the trial.
        """
        attempts = 0

        def act() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                is_set = super(PatientStorage, self).set_trial_state_values(trial_id, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                if attempts > 1 and self.get_trial(trial_id).state == state:
                    return True
                raise
            return is_set or (attempts > 1 and self._is_claimed_here(trial_id, state))

        return self._persist(act)

    def record_heartbeat(self, trial_id: int) -> None:
        """Try once: a beat that was not taken is followed by the next."""
        super().record_heartbeat(trial_id)

    def _is_claimed_here(self, trial_id: int, state: TrialState) -> bool:
        """Tell whether a claim, whose answer was lost, was ours: the trial runs, and nobody else has signed it."""
        trial = self.get_trial(trial_id)
        signed = trial.user_attrs.get(PROCESS)
        return state == trial.state == TrialState.RUNNING and signed in (None, describe_process())

    def _persist(self, act: Callable[[], Result]) -> Result:
        try:
            return persist(act, patience_s=self.patience_s, tell=self.tell)
        except StoreError:
            self.patience_s = 0.0  # whoever cleans up after this shall not wait as long again
            raise


def _make_patient(name: str) -> None:
    """Let a method of the storage wait; a call within another does not wait by itself, the outer one does."""
    method = getattr(optuna.storages.RDBStorage, name)

    def patient(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self._persist(lambda: method(self, *args, **kwargs))

    patient.__name__, patient.__doc__ = name, method.__doc__
    setattr(PatientStorage, name, patient)


for _name in (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "_create_new_trial",
    "_set_trial_param",
    "get_trial_id_from_study_id_trial_number",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    "_get_trials",
    "_get_best_trial_id",
):
    _make_patient(_name)


def open_storage(url: str, *, patience_s: float = 0.0, tell: Callable[[str], None] = lambda _: None) -> PatientStorage:
    """Return the study's database.

    Args:
        url: SQLAlchemy's URL of it.
        patience_s: How long later calls wait for it; opening it waits `START_S` at most, for a URL may be mistyped.
        tell: Is told when it is away.

    Raises:
        SettingsError: It cannot be opened, does not let us in, or its driver is missing.
        StoreError: It does not answer.
    """
    # SQLAlchemy announces each plugin at INFO where logging is set up; a search has one progress bar instead.
    logging.getLogger("alembic").setLevel(logging.WARNING)

    def open_once() -> PatientStorage:
        return PatientStorage(
            url, engine_kwargs=_choose_arguments(url), heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S
        )

    _check_is_not_mlflows(url, patience_s=patience_s, tell=tell)
    try:
        storage = persist(open_once, patience_s=min(patience_s, START_S), tell=tell, advice=LATER)
        if storage.engine.dialect.name == "sqlite":
            _take_turns(storage.engine)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise SettingsError(_explain(url, error=error)) from None  # URL and driver's message may hold the password
    except RuntimeError as error:  # how Optuna says that the tables are of another version
        shown = mask_url(url)
        said = str(error) if shown != url else str(error).replace("$STORAGE_URL", shlex.quote(url))
        raise SettingsError(f"storage={shown}: {said} Back it up before.") from None
    storage.patience_s, storage.tell = patience_s, tell
    return storage


def _check_is_not_mlflows(url: str, *, patience_s: float, tell: Callable[[str], None]) -> None:
    """Refuse MLflow's own database: both keep their version in a table of the same name, and break each other.

    Raises:
        SettingsError: MLflow's tables are in it.
    """
    file = find_sqlite_file(url)
    if file is not None and not file.exists():
        return

    def look(connection: Connection) -> bool:
        return inspect(connection).has_table(MLFLOW_TABLE)

    if _look(url, look, patience_s=patience_s, tell=tell):
        raise SettingsError(
            f"storage={mask_url(url)} is MLflow's database: the study needs one of its own, such as "
            "sqlite:///optuna.db, or a second one on the same server (createdb optuna)."
        )


def check_storage(url: str, *, patience_s: float, tell: Callable[[str], None]) -> None:
    """Knock at a database server before anything is computed; a file is left alone, for to open it would make it.

    Raises:
        SettingsError: It is no database, does not let us in, or its driver is missing.
        StoreError: It does not answer.
    """
    if url.startswith("sqlite"):
        return
    _look(url, lambda connection: None, patience_s=patience_s, tell=tell)


def read_study_names(url: str, *, patience_s: float, tell: Callable[[str], None]) -> tuple[str, ...]:
    """Return the names of a database's studies, none where it has no tables yet.

    Nothing is written: Optuna makes its tables where it finds none, and cannot bear another process that does the same.

    Raises:
        SettingsError: It is no database, does not let us in, or its driver is missing.
        StoreError: It does not answer.
    """

    def read(connection: Connection) -> tuple[str, ...]:
        if not inspect(connection).has_table(StudyModel.__tablename__):
            return ()
        return tuple(connection.execute(select(StudyModel.study_name)).scalars())

    return _look(url, read, patience_s=patience_s, tell=tell)


def _look(url: str, look: Callable[[Connection], Result], *, patience_s: float, tell: Callable[[str], None]) -> Result:
    """Look into a database by a connection of its own, which is closed again."""

    def look_once() -> Result:
        engine = create_engine(url, **_choose_arguments(url))
        try:
            with engine.connect() as connection:
                return look(connection)
        finally:
            engine.dispose()

    try:
        return persist(look_once, patience_s=min(patience_s, START_S), tell=tell, advice=LATER)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise SettingsError(_explain(url, error=error)) from None


def _choose_arguments(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": SQLITE_WAIT_S}}
    is_libpq = url.startswith((f"{POSTGRESQL}:", f"{POSTGRESQL}+psycopg"))
    return {"pool_pre_ping": True, "connect_args": CONNECTION if is_libpq else {}}


def _explain(url: str, *, error: Exception) -> str:
    """Return why a database cannot be opened, and what to do, without the URL's password."""
    shown = f"storage={url.partition(':')[0]}:..."
    if isinstance(error, ImportError | NoSuchModuleError) and url.startswith(POSTGRESQL):
        return f"{shown} needs a driver that is not installed: pip install '.[postgresql]' in the project's folder."
    refusal = find_refusal(error)
    if refusal is not None:
        return f"{shown} does not let us in; it says: {refusal}. {_advise(refusal)}"
    return (
        f"{shown} cannot be opened ({type(error).__name__}). It must be a database URL such as sqlite:///optuna.db or "
        "postgresql://user@host/name, whose driver is installed."
    )


def _advise(refusal: str) -> str:
    """Return what can be done about a refusal."""
    if re.search("password|authentication", refusal):
        return "Give the password as PGPASSWORD or in ~/.pgpass."
    if refusal.startswith("database"):
        return "Make it first (createdb), or correct the end of the URL."
    if refusal.startswith("role") and refusal.endswith("does not exist"):
        return "Make it first (createuser), or correct the user in the URL."
    if refusal.startswith("no pg_hba.conf"):
        return "The server's pg_hba.conf must let this machine in (docs/cluster.md)."
    return "Whoever keeps the server must allow it."


def _take_turns(engine: Engine) -> None:
    """Let every transaction on SQLite begin as a writer, so that two workers cannot both claim one waiting trial.

    Optuna reads a trial's state and then sets it, in one transaction. Python's driver begins that transaction at the
    write: on a busy machine two workers both read "waiting", and both were seen to train the cell. SQLite knows no
    lock on rows (`SELECT ... FOR UPDATE`), which does this in other databases.
    Source: SQLAlchemy's documentation of its SQLite dialect, on serializable isolation and the driver's transactions.
    """

    def leave_transactions_to_sqlalchemy(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    def begin_as_writer(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", leave_transactions_to_sqlalchemy)
    event.listen(engine, "begin", begin_as_writer)
    engine.dispose()  # connections of before know nothing of this
