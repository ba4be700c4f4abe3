"""What counts as a database that is away; how it is waited for is held in `test_storage` with a real one."""

import optuna
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError

from sem_search.search.patience import CONNECTION_LOST, is_outage


def wrap(cause: Exception) -> optuna.exceptions.StorageInternalError:
    """Return the error that Optuna makes of SQLAlchemy's."""
    error = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (OperationalError("SELECT", {}, Exception("server closed the connection")), True),
        # The next call within the transaction whose connection broke off.
        (PendingRollbackError("Can't reconnect", code=CONNECTION_LOST), True),
        (PendingRollbackError("rolled back due to a previous exception during flush", code="7s2a"), False),
        (IntegrityError("INSERT", {}, Exception("duplicate key")), False),
        (ValueError("no database"), False),
    ],
)
def test_only_what_may_pass_is_an_outage(cause: Exception, expected: bool) -> None:
    assert is_outage(wrap(cause)) is expected
