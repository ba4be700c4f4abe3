"""A full or unwritable disk is told in one sentence, however deep it stands among the causes."""

import errno
import itertools
import sqlite3
from pathlib import Path

import pytest

from sem_search.disk_errors import explain_disk_errors, find_disk_error
from sem_search.errors import FailedTrialError, SemSearchError, SettingsError, StoreError


def build_chain(*errors: BaseException) -> BaseException:
    """Return the first error, each caused by the next."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES])
def test_what_the_disk_says_is_found_among_the_causes(number: int) -> None:
    error = build_chain(RuntimeError("a library's"), ValueError("another's"), OSError(number, "no room", "f.db"))
    assert find_disk_error(error) == "no room (f.db)"


def test_the_context_of_an_error_counts_as_well() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise UnboundLocalError("misleading") from None
    except UnboundLocalError as error:
        assert find_disk_error(error) == "No space left on device"


def test_what_is_no_disk_stays_what_it_is() -> None:
    assert find_disk_error(OSError(errno.ECONNREFUSED, "refused")) is None
    assert find_disk_error(build_chain(ValueError("a"), KeyError("b"))) is None
    with pytest.raises(FailedTrialError, match="no memory"), explain_disk_errors():
        raise FailedTrialError("no memory")
    with pytest.raises(KeyboardInterrupt), explain_disk_errors():
        raise KeyboardInterrupt


def test_sqlite_on_a_full_file_is_a_full_disk(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("create table t (x)")
    database.execute("pragma max_page_count = 3")
    with (
        pytest.raises(StoreError, match=r"SQLite says database or disk is full\. Free it") as caught,
        explain_disk_errors(),
    ):
        database.execute("insert into t values (?)", ["x" * 100_000])
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    database.close()


def test_sqlite_s_other_errors_are_not(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db")
    with pytest.raises(sqlite3.OperationalError, match="no such table"), explain_disk_errors():
        database.execute("select * from t")
    database.close()


def test_our_own_word_is_not_wrapped_again() -> None:
    with pytest.raises(StoreError, match=r"^mine$"), explain_disk_errors():
        raise StoreError("mine") from OSError(errno.ENOSPC, "No space left on device")


def test_a_chain_that_runs_in_a_circle_ends() -> None:
    one, two = SemSearchError("one"), SemSearchError("two")
    one.__cause__, two.__cause__ = two, one
    assert find_disk_error(one) is None


def test_wrong_input_speaks_for_itself() -> None:
    with pytest.raises(SettingsError, match="storage"), explain_disk_errors():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise SettingsError("storage=x cannot be opened.") from None
