"""The study's database: opened with its driver, looked at without a trace, and waited for while it is away.

Optuna gives up at the first call that a database does not answer. Resuming costs nothing here, so nothing is patched:
such an error ends the whole attempt, and when the database is back the attempt is made again (`repeat_after_outages`).
"""

import logging
import re
import shlex
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import optuna
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
)

from sem_search.errors import SettingsError, StoreError
from sem_search.places import find_sqlite_file
from sem_search.search.trials.attributes import LAST_OUTAGE
from sem_search.secrets import mask_url

HEARTBEAT_S = 10
GRACE_S = 120
"""A trial without a heartbeat for so long, by the database's clock, is stale: well over a database's restart."""

SQLITE_WAIT_S = 60
"""SQLite has one writer at a time; workers wait for their turn."""

POSTGRESQL = "postgresql"

MLFLOW_TABLE = "registered_models"
"""Of MLflow's tables the one that no other program has."""

OPTUNA_TABLE = "studies"

CONNECTION = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""A server that stops answering is noticed within about a minute, not after the system's two hours."""

START_S = 30.0
"""How long a database or a tracking server that does not answer is waited for at the start: it may be mistyped."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 15.0
"""Between two attempts; each pause is twice the one before."""

LATER = "Nothing was begun: correct the address, or give the same command again when it is back."

FINISHED_STAYS = (
    "Finished folds are on disk: give the same command again when it is back, or let it wait longer with "
    "outage_wait=SECONDS."
)

CONNECTION_LOST = "8s2b"
"""SQLAlchemy's code for a call that came after its connection had broken off, within the same transaction."""

REFUSAL = re.compile(
    r"\w+ authentication failed[^\n]*|no password supplied|no pg_hba\.conf entry[^\n]*|permission denied for [^\n]*"
    r"|(?:role|database) \"[^\"\n]*\" does not exist|role \"[^\"\n]*\" is not permitted to log in"
)
"""Messages with which PostgreSQL refuses a client for good, however long it waits; none holds a password.

English words alone: a server that speaks another language is waited for in vain.
"""

Result = TypeVar("Result")


class Storage(optuna.storages.RDBStorage):
    """Optuna's storage, whose heartbeat outlives an outage: Optuna ends its thread at the first error."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Record a heartbeat; one that the database does not take is left out, since the next one means the same."""
        try:
            super().record_heartbeat(trial_id)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            logging.getLogger(__name__).info("A heartbeat was not recorded (%s).", type(error).__name__)


def open_storage(url: str, *, wait_s: float = 0.0, warn: Callable[[str], None] = lambda _: None) -> Storage:
    """Return the study's database.

    Args:
        url: SQLAlchemy's URL of it.
        wait_s: How long it is waited for, `START_S` at most: a URL may be mistyped.
        warn: Called when it is away.

    Raises:
        SettingsError: It cannot be opened, refuses the connection, or its driver is missing.
        StoreError: It does not answer.
    """
    # SQLAlchemy announces each plugin at INFO where logging is set up; a search has one progress bar instead.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _check_is_not_mlflows(url, wait_s=wait_s, warn=warn)

    def open_once() -> Storage:
        """Open the storage; a stopped heartbeat gives a trial away as stale."""
        return Storage(url, engine_kwargs=_choose_arguments(url), heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S)

    try:
        storage = _explain_errors(open_once, url=url, wait_s=min(wait_s, START_S), warn=warn)
    except RuntimeError as error:  # how Optuna says that the tables are of another version
        shown = mask_url(url)
        said = str(error) if shown != url else str(error).replace("$STORAGE_URL", shlex.quote(url))
        raise SettingsError(f"storage={shown}: {said} Back it up before.") from None
    if storage.engine.dialect.name == "sqlite":
        _begin_as_writer(storage.engine)
    return storage


def check_storage(url: str, *, wait_s: float, warn: Callable[[str], None]) -> None:
    """Connect to a database server before anything is computed; a file is left alone, for to open it would make it.

    Args:
        url: SQLAlchemy's URL of the storage.
        wait_s: How long it is waited for, `START_S` at most.
        warn: Called when it is away.

    Raises:
        SettingsError: It is no database, refuses the connection, or its driver is missing.
        StoreError: It does not answer.
    """
    if not url.startswith("sqlite"):
        _look(url, lambda connection: None, wait_s=wait_s, warn=warn)


def read_study_names(url: str, *, wait_s: float, warn: Callable[[str], None]) -> tuple[str, ...]:
    """Return the names of a database's studies, none where it has no tables yet.

    Nothing is written: Optuna makes its tables where it finds none, and cannot bear another process that does the same.

    Args:
        url: SQLAlchemy's URL of the storage.
        wait_s: How long it is waited for, `START_S` at most.
        warn: Called when it is away.

    Raises:
        SettingsError: It is no database, refuses the connection, or its driver is missing.
        StoreError: It does not answer.
    """
    if not _look(url, lambda connection: inspect(connection).has_table(OPTUNA_TABLE), wait_s=wait_s, warn=warn):
        return ()
    storage = open_storage(url, wait_s=wait_s, warn=warn)
    return tuple(optuna.get_all_study_names(storage=storage))


def repeat_after_outages(
    attempt: Callable[[], Result],
    *,
    study: optuna.Study,
    url: str,
    wait_s: float,
    warn: Callable[[str], None],
) -> Result:
    """Make an attempt, and make it again each time that the study's database was away meanwhile and is back.

    It is back when it takes what is written: one whose disk is full, or that is locked, can be connected to.

    Args:
        attempt: The whole of it; what it has finished is found on disk the next time.
        study: The study.
        url: The database.
        wait_s: How long the database is waited for, in seconds.
        warn: Called once when it is away, and once when it is back.

    Raises:
        StoreError: The database stayed away. What `attempt` raises else is not touched.
    """

    def write() -> None:
        _connect(url, lambda connection: None)
        study.set_user_attr(LAST_OUTAGE, datetime.now(UTC).isoformat(timespec="seconds"))

    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_outage(error):
                raise
            warn(f"The study's database does not answer; waiting for it, at most {wait_s:g} s.")
        time.sleep(FIRST_PAUSE_S)
        _explain_errors(write, url=url, wait_s=wait_s, advice=FINISHED_STAYS)
        warn("The study's database answers again.")


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that the database is away, or for now too busy, not that it refuses.

    psycopg has a class of its own for that, which also covers a shutdown, a deadlock and too many connections; pg8000
    has another, for connections alone. SQLite has only one class for everything; there it is the lock that passes.
    Where Optuna cannot even record that a trial failed, it ends with an UnboundLocalError that has the true one behind.
    """
    if not isinstance(error, SQLAlchemyError | optuna.exceptions.StorageInternalError | UnboundLocalError):
        return False
    causes = [one for one in _iter_chain(error) if isinstance(one, SQLAlchemyError)]
    return any(map(_is_away, causes)) and find_refusal(error) is None


def find_refusal(error: BaseException) -> str | None:
    """Return PostgreSQL's own message if it refuses the connection, else None."""
    found = (REFUSAL.search(str(one.orig)) for one in _iter_chain(error) if isinstance(one, DBAPIError))
    return next((words[0] for words in found if words is not None), None)


def _is_away(error: SQLAlchemyError) -> bool:
    if isinstance(error, PendingRollbackError):
        return error.code == CONNECTION_LOST
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    is_sqlite = type(error.orig).__module__.startswith("sqlite3")
    return isinstance(error, OperationalError | InterfaceError) and (not is_sqlite or "locked" in str(error.orig))


def _iter_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _explain_errors(
    act: Callable[[], Result],
    *,
    url: str,
    wait_s: float,
    warn: Callable[[str], None] = lambda _: None,
    advice: str = LATER,
) -> Result:
    """Do something again and again while the database is away; what it refuses is a sentence.

    Raises:
        SettingsError: It refuses.
        StoreError: It stayed away.
    """
    try:
        return _wait_for(act, wait_s=wait_s, warn=warn, advice=advice)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, ValueError) as error:
        raise SettingsError(_explain(url, error=error)) from None  # URL and driver's message may hold the password


def _wait_for(act: Callable[[], Result], *, wait_s: float, warn: Callable[[str], None], advice: str) -> Result:
    """Do something again and again, with growing pauses, while the database is away."""
    begun, pause_s = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            result = act()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not is_outage(error):
                raise
        else:
            if pause_s != FIRST_PAUSE_S:
                warn("The study's database answers again.")
            return result
        silent_s = time.monotonic() - begun
        if silent_s >= wait_s:
            # The driver's own message may hold the password.
            raise StoreError(f"The study's database has not answered for {silent_s:.0f} s. {advice}") from None
        if pause_s == FIRST_PAUSE_S:
            warn(f"The study's database does not answer; waiting for it, at most {wait_s:g} s.")
        time.sleep(min(pause_s, wait_s - silent_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _look(url: str, look: Callable[[Connection], Result], *, wait_s: float, warn: Callable[[str], None]) -> Result:
    """Look into a database at the start."""
    return _explain_errors(lambda: _connect(url, look), url=url, wait_s=min(wait_s, START_S), warn=warn)


def _connect(url: str, look: Callable[[Connection], Result]) -> Result:
    """Look into a database by a connection of its own, which is closed again."""
    engine = create_engine(url, **_choose_arguments(url))
    try:
        with engine.connect() as connection:
            return look(connection)
    finally:
        engine.dispose()


def _check_is_not_mlflows(url: str, *, wait_s: float, warn: Callable[[str], None]) -> None:
    """Refuse MLflow's own database: both keep their version in a table of the same name, and break each other.

    Raises:
        SettingsError: MLflow's tables are in it.
    """
    file = find_sqlite_file(url)
    if file is not None and not file.exists():
        return
    if _look(url, lambda connection: inspect(connection).has_table(MLFLOW_TABLE), wait_s=wait_s, warn=warn):
        raise SettingsError(
            f"storage={mask_url(url)} is MLflow's database: the study needs one of its own, such as "
            "sqlite:///optuna.db, or a second one on the same server (createdb optuna)."
        )


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
        return f"{shown} refuses the connection; it says: {refusal}. {_advise(refusal)}"
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
    return "The server's administrator must allow it."


def _begin_as_writer(engine: Engine) -> None:
    """Let every transaction on SQLite begin as a writer, so that two workers cannot both claim one waiting trial.

    Optuna reads a trial's state and then sets it, in one transaction. Python's driver begins that transaction at the
    write: on a busy machine two workers both read "waiting", and both were seen to train the cell. SQLite knows no
    lock on rows (`SELECT ... FOR UPDATE`), which does this in other databases.
    Source: SQLAlchemy's documentation of its SQLite dialect, on serializable isolation and the driver's transactions.
    """

    def leave_transactions_to_sqlalchemy(connection: Any, _record: Any) -> None:
        """Keep Python's driver from beginning transactions."""
        connection.isolation_level = None

    def begin(connection: Connection) -> None:
        """Begin a transaction as a writer."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", leave_transactions_to_sqlalchemy)
    event.listen(engine, "begin", begin)
    engine.dispose()  # connections of before know nothing of this
