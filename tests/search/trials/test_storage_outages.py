"""What counts as a database that is away; how it is waited for is held in `test_storage` with a real one."""

import optuna
import pytest
from sem_search.search.trials.storage_outages import CONNECTION_LOST, find_refusal, is_outage
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError


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
        (OperationalError("", {}, Exception('FATAL:  password authentication failed for user "me"')), False),
        (OperationalError("", {}, Exception('FATAL:  database "x" does not exist')), False),
        (OperationalError("", {}, Exception("FATAL:  the database system is starting up")), True),
    ],
)
def test_only_what_may_pass_is_an_outage(cause: Exception, expected: bool) -> None:
    assert is_outage(wrap(cause)) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('connection to "h" failed: FATAL:  password authentication failed for user "me"\nmore', "password"),
        ('FATAL:  database "x" does not exist', 'database "x" does not exist'),
        ('FATAL:  role "me" does not exist', 'role "me" does not exist'),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "me"', "no pg_hba.conf entry for host"),
        ("fe_sendauth: no password supplied", "no password supplied"),
        ("connection refused", None),
    ],
)
def test_a_refusal_is_told_in_the_server_s_words(said: str, expected: str | None) -> None:
    found = find_refusal(wrap(OperationalError("", {}, Exception(said))))
    assert found is None if expected is None else (found or "").startswith(expected)
    assert "\n" not in (found or "")
