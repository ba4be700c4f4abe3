"""Is the tracking store away, or does it refuse? A search waits for a store that is away; a refusal is raised at once.

MLflow asks seven times with pauses that double, so that a call to a server that is down returns after four minutes, and
training would stand still meanwhile. Within `ask_once` it gives up at once, and `wait_while_away` does the waiting.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import mlflow
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from sem_search.databases import POSTGRESQL, advise_on_refusal, connect, find_refusal, is_database_outage
from sem_search.disk_errors import is_refusal_of_sqlite
from sem_search.errors import SemSearchError, SettingsError, StoreError, iter_causes
from sem_search.secrets import mask_url
from sem_search.waiting import repeat_while_away

AWAY = ("TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
"""MLflow's words for a database that is gone or locked, and for a server that is asked too much."""

NO_RETRY: Mapping[str, str] = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""One, at once: a server may close an idle connection at the moment in which it is used again."""

LOOK: Mapping[str, str] = {**NO_RETRY, "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""For a look whether the server is back: one that hangs may not hold up the training."""

REFUSALS: Mapping[str, str] = {
    "UNAUTHENTICATED": (
        "it needs a user name and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    ),
    "PERMISSION_DENIED": (
        "the host and port of this URL must stand in the server's --allowed-hosts, "
        "or the user has no permission (docs/cluster.md)."
    ),
}
"""What to do, by MLflow's words for HTTP 401 and 403."""

DATABASES = (POSTGRESQL, "mysql", "mssql")
"""Behind a server, by the beginning of their URLs."""

ABSENT = "Nothing is lost: give the same command again when it is back, or let it wait longer with outage_wait=SECONDS."

Result = TypeVar("Result")


def is_outage(error: BaseException) -> bool:
    """Tell whether an error of MLflow's means that the store is away, not that it refuses.

    MLflow wraps what happened, so the chain of causes is looked through: connections refused, broken or too slow, HTTP
    429 and 5xx, a database that does not answer or is locked. MLflow says the same of an SQLite file on a full disk, or
    that cannot be written: that is no outage.
    """
    chain = list(iter_causes(error))
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
            reach_database()
            ask()
    except Exception as error:
        if not is_outage(error):
            raise
        raise StoreError(describe_silence()) from None  # its URL may hold a password


def reach_database() -> None:
    """Connect to the tracking store where it is a database behind a server: MLflow would try for minutes to.

    Raises:
        ConnectionError: It does not answer.
        SettingsError: It refuses.
    """
    url = mlflow.get_tracking_uri()
    if not url.startswith(DATABASES):
        return
    try:
        connect(url, lambda _: None)
    except (SQLAlchemyError, ImportError) as error:  # what is neither outage nor refusal, MLflow's own call reports
        refusal = find_refusal(error)
        if refusal is not None:
            raise SettingsError(
                f"MLFLOW_TRACKING_URI={mask_url(url)} refuses the connection; it says: {refusal}. "
                f"{advise_on_refusal(refusal)}"
            ) from None
        if is_database_outage(error):
            raise ConnectionError(describe_silence()) from None


def explain_store_error(error: Exception) -> StoreError | SettingsError | None:
    """Return what an error of MLflow's in the middle of a command means, as a sentence; None for any other error."""
    if isinstance(error, SemSearchError):
        return None  # it is a sentence
    codes = [one.error_code for one in iter_causes(error) if isinstance(one, MlflowException)]
    refused = next((code for code in codes if code in REFUSALS), None)
    if refused is not None:
        return SettingsError(describe_refused_request(refused))
    return StoreError(describe_silence()) if codes and is_outage(error) else None


def get_tracking_uri() -> str:
    """Return the store that holds the runs, passwords masked."""
    return mask_url(mlflow.get_tracking_uri())


def describe_refused_request(code: str) -> str:
    """Return the message about a server that answers 401 or 403, and what to do."""
    return f"MLFLOW_TRACKING_URI={get_tracking_uri()}: the server refused the request: {REFUSALS[code]}"


def describe_silence() -> str:
    """Return the message about a store that does not answer, passwords masked."""
    return (
        f"The store {get_tracking_uri()} does not answer. Start it, or set "
        "MLFLOW_TRACKING_URI to the one that is meant, and give the same command again."
    )


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

    def act_once() -> Result:
        """Act, and let MLflow give up at once."""
        with ask_once() if is_quick else nullcontext():
            return act()

    advice = f"It is {get_tracking_uri()}. {ABSENT}"
    return repeat_while_away(
        act_once, name="The tracking store", is_away=is_outage, wait_s=wait_s, warn=warn, advice=advice
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
