"""Is the tracking store away, or does it refuse? A search waits for a store that is away; a refusal is raised at once.

MLflow asks seven times with pauses that double, so that a call to a server that is down returns after four minutes, and
training would stand still meanwhile. Within `ask_once` it gives up at once, and `wait_while_away` does the waiting.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sem_search.disk_errors import is_refusal_of_sqlite
from sem_search.errors import StoreError
from sem_search.secrets import mask_secrets, mask_url

AWAY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""MLflow's words for a database that is gone or locked, and for a server that is asked too much."""

NO_RETRY: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""One, at once: a server may close an idle connection at the moment in which it is used again."""

LOOK: Mapping[str, str] = {**NO_RETRY, "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""For a look whether the server is back: one that hangs may not hold up the training."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
"""Between two attempts; each pause is twice the one before."""

Result = TypeVar("Result")


def is_outage(error: BaseException) -> bool:
    """Tell whether an error of MLflow's means that the store is away, not that it refuses.

    MLflow wraps what happened, so the chain of causes is looked through: connections refused, broken or too slow, HTTP
    429 and 5xx, a database that does not answer or is locked. MLflow says the same of an SQLite file on a full disk, or
    that cannot be written: that is no outage.
    """
    chain = list(_iter_chain(error))
    return any(map(_is_away, chain)) and not any(map(is_refusal_of_sqlite, chain))


@contextmanager
def ask_once(variables: Mapping[str, str] = NO_RETRY) -> Iterator[None]:
    """Let MLflow give up at once; its environment variables are restored afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def look_at_store() -> None:
    """Ask the tracking store for one experiment, with a limit of seconds.

    Errors of MLflow are passed on unchanged.
    """
    with ask_once(LOOK):
        MlflowClient().search_experiments(max_results=1)


def check_store_answers(ask: Callable[[], object] = look_at_store) -> None:
    """Ask a store for one small answer, and raise in about ten seconds if it is away: a user waits for it.

    Args:
        ask: Asks; by default the tracking store for one experiment.

    Raises:
        StoreError: It does not answer. Errors of MLflow are passed on unchanged.
    """
    try:
        with ask_once(LOOK):
            ask()
    except Exception as error:
        if not is_outage(error):
            raise
        raise StoreError(
            f"The store {mask_url(mlflow.get_tracking_uri())} does not answer. Start it, or set "
            "MLFLOW_TRACKING_URI to the one that is meant, and give the same command again."
        ) from None  # its URL may hold a password


def wait_while_away(
    act: Callable[[], Result], *, wait_s: float, warn: Callable[[str], None], is_quick: bool = True
) -> Result:
    """Do something that may safely be done twice, again and again while the store is away.

    Args:
        act: What to do; done anew from its beginning after an outage.
        wait_s: For how long, in seconds.
        warn: Called once when the store is away, and once when it is back.
        is_quick: The act is a call or two, made once each. One that downloads and registers keeps MLflow's own
            retries: an error within a download does not show whether it was an outage or a refusal.

    Raises:
        StoreError: The store stayed away. Errors of MLflow are passed on unchanged.
    """
    ends_at, pause_s = time.monotonic() + wait_s, FIRST_PAUSE_S
    while True:
        try:
            with ask_once() if is_quick else nullcontext():
                result = act()
        except Exception as error:
            if not is_outage(error):
                raise
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise StoreError(describe_absence(error, wait_s=wait_s)) from None  # its URL may hold a password
            if pause_s == FIRST_PAUSE_S:
                warn(f"The tracking store does not answer; waiting for it, at most {wait_s:g} s.")
        else:
            if pause_s != FIRST_PAUSE_S:
                warn("The tracking store answers again.")
            return result
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def describe_absence(error: BaseException, *, wait_s: float) -> str:
    """Return the message about a store that stayed away, passwords masked."""
    return (
        f"The tracking store did not answer for {wait_s:g} s ({mask_secrets(str(error))}). Nothing is lost: give "
        "the same command again when it is back, or let it wait longer with outage_wait=SECONDS."
    )


def _is_away(error: BaseException) -> bool:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code == 429 or error.response.status_code >= 500
    if isinstance(error, MlflowException):
        return error.error_code in AWAY
    return isinstance(
        error,
        ConnectionError
        | requests.ConnectionError
        | requests.Timeout
        | requests.exceptions.RetryError
        | requests.exceptions.ChunkedEncodingError,
    )


def _iter_chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
