"""The study's database: opened with its driver, looked at without a trace, and waited for while it is away.

Optuna gives up at the first call that a database does not answer. Resuming costs nothing here, so nothing is patched:
such an error ends the whole attempt, and when the database is back the attempt is made again (`repeat_after_outages`).
"""

import logging
import shlex
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import optuna
from sqlalchemy import Connection, Engine, event, inspect
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from sem_search.databases import (
    POSTGRESQL,
    advise_on_refusal,
    choose_arguments,
    connect,
    find_refusal,
    is_database_outage,
)
from sem_search.errors import SettingsError
from sem_search.places import find_sqlite_file
from sem_search.search.trials.attributes import LAST_OUTAGE
from sem_search.secrets import mask_url
from sem_search.terminal import warn
from sem_search.waiting import FIRST_PAUSE_S, repeat_while_away

HEARTBEAT_S = 10
GRACE_S = 120
"""A trial without a heartbeat for so long, by the database's clock, is stale: well over a database's restart."""

MLFLOW_TABLE = "registered_models"
"""Of MLflow's tables the one that no other program has."""

OPTUNA_TABLE = "studies"

START_S = 30.0
"""How long a database or a tracking server that does not answer is waited for at the start: it may be mistyped."""

NAME = "The study's database"

LATER = "Nothing was begun: correct the address, or give the same command again when it is back."

FINISHED_STAYS = (
    "Finished folds are on disk: give the same command again when it is back, or let it wait longer with "
    "outage_wait=SECONDS."
)

Result = TypeVar("Result")


class Storage(optuna.storages.RDBStorage):
    """Optuna's storage, whose heartbeat outlives an outage: Optuna ends its thread at the first error."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Record a heartbeat; one that the database does not take is left out, since the next one means the same."""
        try:
            super().record_heartbeat(trial_id)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            logging.getLogger(__name__).info("A heartbeat was not recorded (%s).", type(error).__name__)


def open_storage(url: str, *, wait_s: float = 0.0) -> Storage:
    """Return the study's database.

    Args:
        url: SQLAlchemy's URL of it.
        wait_s: How long it is waited for, `START_S` at most: a URL may be mistyped.

    Raises:
        SettingsError: It cannot be opened, refuses the connection, or its driver is missing.
        StoreError: It does not answer.
    """
    # SQLAlchemy announces each plugin at INFO where logging is set up; a search has one progress bar instead.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _check_is_not_mlflows(url, wait_s=wait_s)

    def open_once() -> Storage:
        """Open the storage; a stopped heartbeat gives a trial away as stale."""
        with warnings.catch_warnings():  # every command would print that the heartbeat is experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            arguments = choose_arguments(url)
            return Storage(url, engine_kwargs=arguments, heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S)

    try:
        storage = _explain_errors(open_once, url=url, wait_s=min(wait_s, START_S))
    except RuntimeError as error:  # how Optuna says that the tables are of another version
        shown = mask_url(url)
        said = str(error) if shown != url else str(error).replace("$STORAGE_URL", shlex.quote(url))
        raise SettingsError(f"storage={shown}: {said} Back it up before.") from None
    if storage.engine.dialect.name == "sqlite":
        _begin_as_writer(storage.engine)
    return storage


def check_storage(url: str, *, wait_s: float) -> None:
    """Connect to a database server before anything is computed; a file is left alone, for to open it would make it.

    Args:
        url: SQLAlchemy's URL of the storage.
        wait_s: How long it is waited for, `START_S` at most.

    Raises:
        SettingsError: It is no database, refuses the connection, or its driver is missing.
        StoreError: It does not answer.
    """
    if not url.startswith("sqlite"):
        _look(url, lambda connection: None, wait_s=wait_s)


def read_study_names(url: str, *, wait_s: float = 0.0) -> tuple[str, ...]:
    """Return the names of a database's studies, none where it has no tables yet.

    Nothing is written: Optuna makes its tables where it finds none, and cannot bear another process that does the same.

    Args:
        url: SQLAlchemy's URL of the storage.
        wait_s: How long it is waited for, `START_S` at most.

    Raises:
        SettingsError: It is no database, refuses the connection, or its driver is missing.
        StoreError: It does not answer.
    """
    if not _look(url, lambda connection: inspect(connection).has_table(OPTUNA_TABLE), wait_s=wait_s):
        return ()
    return tuple(optuna.get_all_study_names(storage=open_storage(url, wait_s=wait_s)))


def repeat_after_outages(attempt: Callable[[], Result], *, study: optuna.Study, url: str, wait_s: float) -> Result:
    """Make an attempt, and make it again each time that the study's database was away meanwhile and is back.

    The user is warned once when it is away, and once when it is back.

    It is back when it takes what is written: one whose disk is full, or that is locked, can be connected to.

    Args:
        attempt: The whole of it; what it has finished is found on disk the next time.
        study: The study.
        url: The database.
        wait_s: How long the database is waited for, in seconds.

    Raises:
        StoreError: The database stayed away. What `attempt` raises else is not touched.
    """

    def write() -> None:
        connect(url, lambda connection: None)
        study.set_user_attr(LAST_OUTAGE, datetime.now(UTC).isoformat(timespec="seconds"))

    while True:
        try:
            return attempt()
        except Exception as error:
            if not is_outage(error):
                raise
            warn(f"{NAME} does not answer; waiting for it, at most {wait_s:g} s.")
        time.sleep(FIRST_PAUSE_S)
        _explain_errors(write, url=url, wait_s=wait_s, tell=lambda _: None, advice=FINISHED_STAYS)
        warn(f"{NAME} answers again.")


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that the database is away, or for now too busy, not that it refuses.

    Where Optuna cannot even record that a trial failed, it ends with an UnboundLocalError that has the true one behind.
    """
    if not isinstance(error, SQLAlchemyError | optuna.exceptions.StorageInternalError | UnboundLocalError):
        return False
    return is_database_outage(error)


def _explain_errors(
    act: Callable[[], Result],
    *,
    url: str,
    wait_s: float,
    tell: Callable[[str], None] | None = None,
    advice: str = LATER,
) -> Result:
    """Do something again and again while the database is away; what it refuses is a SettingsError."""
    try:
        return repeat_while_away(act, name=NAME, is_away=is_outage, wait_s=wait_s, warn=tell or warn, advice=advice)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, ValueError) as error:
        raise SettingsError(_explain(url, error=error)) from None  # URL and driver's message may hold the password


def _look(url: str, look: Callable[[Connection], Result], *, wait_s: float) -> Result:
    """Look into a database at the start."""
    return _explain_errors(lambda: connect(url, look), url=url, wait_s=min(wait_s, START_S))


def _check_is_not_mlflows(url: str, *, wait_s: float) -> None:
    """Refuse MLflow's own database: both keep their version in a table of the same name, and break each other."""
    file = find_sqlite_file(url)
    if file is not None and not file.exists():
        return
    if _look(url, lambda connection: inspect(connection).has_table(MLFLOW_TABLE), wait_s=wait_s):
        raise SettingsError(
            f"storage={mask_url(url)} is MLflow's database: the study needs one of its own, such as "
            "sqlite:///optuna.db, or a second one on the same server (createdb optuna)."
        )


def _explain(url: str, *, error: Exception) -> str:
    """Return why a database cannot be opened, and what to do, without the URL's password."""
    shown = f"storage={url.partition(':')[0]}:..."
    if isinstance(error, ImportError | NoSuchModuleError) and url.startswith(POSTGRESQL):
        return f"{shown} needs a driver that is not installed: pip install '.[postgresql]' in the project's folder."
    refusal = find_refusal(error)
    if refusal is not None:
        return f"{shown} refuses the connection; it says: {refusal}. {advise_on_refusal(refusal)}"
    return (
        f"{shown} cannot be opened ({type(error).__name__}). It must be a database URL such as sqlite:///optuna.db or "
        "postgresql://user@host/name, whose driver is installed."
    )


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
