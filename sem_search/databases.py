"""Databases behind a server: connected to within seconds, and what an error of theirs means.

Optuna's storage and MLflow's tracking store may both be one. An error is an outage, which may pass, or a refusal, which
stays however long it is waited for.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from sem_search.errors import iter_causes

POSTGRESQL = "postgresql"

SQLITE_WAIT_S = 60
"""SQLite has one writer at a time; workers wait for their turn."""

CONNECTION = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""A server that stops answering is noticed within about a minute, not after the system's two hours."""

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


def connect(url: str, look: Callable[[Connection], Result]) -> Result:
    """Look into a database by a connection of its own, which is closed again."""
    engine = create_engine(url, **choose_arguments(url))
    try:
        with engine.connect() as connection:
            return look(connection)
    finally:
        engine.dispose()


def choose_arguments(url: str) -> dict[str, Any]:
    """Return the arguments with which SQLAlchemy is to connect to a database."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": SQLITE_WAIT_S}}
    is_libpq = url.startswith((f"{POSTGRESQL}:", f"{POSTGRESQL}+psycopg"))
    return {"pool_pre_ping": True, "connect_args": CONNECTION if is_libpq else {}}


def is_database_outage(error: BaseException) -> bool:
    """Tell whether an error, or one that it came from, means that a database is away, not that it refuses.

    psycopg has a class of its own for that, which also covers a shutdown, a deadlock and too many connections; pg8000
    has another, for connections alone. SQLite has only one class for everything; there it is the lock that passes.
    """
    causes = [one for one in iter_causes(error) if isinstance(one, SQLAlchemyError)]
    return any(map(_is_away, causes)) and find_refusal(error) is None


def find_refusal(error: BaseException) -> str | None:
    """Return PostgreSQL's own message if it refuses the connection, else None."""
    found = (REFUSAL.search(str(one.orig)) for one in iter_causes(error) if isinstance(one, DBAPIError))
    return next((words[0] for words in found if words is not None), None)


def advise_on_refusal(refusal: str) -> str:
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


def _is_away(error: SQLAlchemyError) -> bool:
    if isinstance(error, PendingRollbackError):
        return error.code == CONNECTION_LOST
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated:
        return True
    is_sqlite = type(error.orig).__module__.startswith("sqlite3")
    return isinstance(error, OperationalError | InterfaceError) and (not is_sqlite or "locked" in str(error.orig))
