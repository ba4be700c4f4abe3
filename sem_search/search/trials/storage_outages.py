"""Is the study's database away, or does it refuse? What is away is waited for; a refusal is raised at once."""

import re
import time
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import optuna
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

from sem_search.errors import StoreError

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 15.0
"""Between two attempts; each pause is twice the one before."""

CONNECTION_LOST = "8s2b"
"""SQLAlchemy's code for a call that came after its connection had broken off, within the same transaction."""

REFUSAL = re.compile(
    r"\w+ authentication failed[^\n]*|no password supplied|no pg_hba\.conf entry[^\n]*|permission denied for [^\n]*"
    r"|(?:role|database) \"[^\"\n]*\" does not exist|role \"[^\"\n]*\" is not permitted to log in"
)
"""What PostgreSQL says to somebody whom it will not let in however long he waits; none of it holds a password.

English words alone: a server that speaks another language is waited for in vain.
"""

FINISHED_IS_KEPT = (
    "Finished folds are on disk: give the same command again when it is back, or let it wait longer with "
    "outage_wait=SECONDS."
)

Result = TypeVar("Result")


@runtime_checkable
class Patient(Protocol):
    """A storage that waits."""

    patience_s: float

    def _persist(self, act: Callable[[], Result]) -> Result: ...


def persist(
    act: Callable[[], Result], *, patience_s: float, tell: Callable[[str], None], advice: str = FINISHED_IS_KEPT
) -> Result:
    """Do something that may safely be done twice, again and again while the database is away.

    Args:
        act: What to do.
        patience_s: For how long, in seconds.
        tell: Is told once that the database is away, and once that it is back.
        advice: What to do if it stays away.

    Raises:
        StoreError: The database stayed away. What `act` raises else is not touched.
    """
    begun, pause_s, is_told = time.monotonic(), FIRST_PAUSE_S, False
    while True:
        try:
            result = act()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if not is_outage(error):
                raise
            silent_s = time.monotonic() - begun
            if silent_s >= patience_s:
                raise StoreError(
                    f"The study's database has not answered for {silent_s:.0f} s. {advice}"
                ) from None  # the driver's own message may hold the password
            if not is_told:
                tell(f"The study's database does not answer; waiting for it, at most {patience_s:g} s.")
                is_told = True
            time.sleep(min(pause_s, max(0.0, patience_s - silent_s)))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        else:
            if is_told:
                tell("The study's database answers again.")
            return result


def is_outage(error: BaseException) -> bool:
    """Tell whether an error means that the database is away, or for now too busy, not that it refuses.

    psycopg has a class of its own for that, which also covers a shutdown, a deadlock and too many connections; pg8000
    has another, for connections alone. SQLite has only one class for everything; there it is the lock that passes.
    """
    cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
    if find_refusal(error) is not None:
        return False
    if isinstance(cause, PendingRollbackError):
        return cause.code == CONNECTION_LOST
    if not isinstance(cause, DBAPIError):
        return False
    if cause.connection_invalidated:
        return True
    is_sqlite = type(cause.orig).__module__.startswith("sqlite3")
    return isinstance(cause, OperationalError | InterfaceError) and (not is_sqlite or "locked" in str(cause.orig))


def find_refusal(error: BaseException) -> str | None:
    """Return PostgreSQL's own words if it does not let us in, else None."""
    cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
    said = REFUSAL.search(str(cause.orig)) if isinstance(cause, DBAPIError) else None
    return None if said is None else said[0]
