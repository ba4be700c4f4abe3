"""The client of a Dask cluster; how the cluster was started does not matter (https://docs.dask.org, BSD).

Dask gives a lost worker's tasks to another one. It pickles what it sends, and its scheduler runs any code that it is
sent: it belongs in a closed network, or behind TLS (docs/cluster.md).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from sem_search.errors import ClusterError, FailedTrialError, SettingsError, StoreError
from sem_search.secrets import mask_secrets

CONNECT_S = 15.0
"""A scheduler that answers at all answers in a moment; one that is only just being started may take some seconds."""

LOOK_EVERY_S = 0.5
"""Between two looks at how many workers there are while a result is awaited."""

RESUME_HINT = "What is finished is not lost: give the same command again when it is back."

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class ClusterClient:
    """Tasks on the workers of a cluster; workers may come and go."""

    executor: Executor
    count_threads: Callable[[], int]
    """Returns how many tasks the workers can do at this moment, a task per thread; there may be none for a while."""

    @property
    def n_wanted(self) -> int:
        """How many tasks should be under way: one for each thread, and one for the thread that is free next."""
        return self.count_threads() + 1

    def submit(self, task: Callable[..., Answer], *values: Any, **named: Any) -> "Future[Answer]":
        """Send a task with what it is given; all of it is pickled."""
        return self.executor.submit(task, *values, **named)

    def await_answer(self, future: "Future[Answer]", *, while_waiting: Callable[[], None] = lambda: None) -> Answer:
        """Return what a task answered.

        Args:
            future: Of the task.
            while_waiting: Called again and again.

        Raises:
            ClusterError: The cluster went away.
            StoreError: The worker could not read or write something, or waited for it too long.
            FailedTrialError: Several workers died at the task.
            SettingsError: The worker cannot work as it is set up; its message says why.
        """
        has_warned = False
        while not future.done():
            while_waiting()
            if not has_warned and not self.count_threads():
                click.echo("The cluster has no worker at this moment; waiting for one ...", err=True)
                has_warned = True
            wait([future], timeout=LOOK_EVERY_S)
        try:
            return future.result()
        except (CancelledError, OSError) as error:
            raise _explain(error) from error
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # Dask's, which need not be installed here
                raise
            raise FailedTrialError(
                "every worker that was given this task died at it: is their memory large enough for it?"
            ) from error


def _explain(error: BaseException) -> StoreError:
    if isinstance(error, CancelledError):
        return ClusterError(f"The cluster's scheduler went away, or took a task back. {RESUME_HINT}")
    if type(error).__name__ == "CommClosedError":  # Dask's
        return ClusterError(f"The cluster could not be reached any more. {RESUME_HINT}")
    return StoreError(
        f"A worker of the cluster could not do its task: {mask_secrets(f'{type(error).__name__}: {error}')}. Mend that "
        "on the worker's machine, and give the same command again: what is finished is not lost."
    )


@contextmanager
def open_cluster(address: str) -> Iterator[ClusterClient]:
    """Give a client of the cluster at this address; what it has sent and not been answered is taken back at its end.

    Args:
        address: Of its scheduler, such as `tcp://host:8786`; Dask's own settings name certificates for `tls://`.

    Raises:
        SettingsError: Dask is not installed, or no scheduler answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError(
            f"cluster={address} needs Dask: pip install '.[cluster]' in the project's folder."
        ) from error
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise SettingsError(
            f"cluster={address}: no Dask scheduler answers there within {CONNECT_S:g} s ({type(error).__name__}). "
            "Start one (dask scheduler), or leave cluster out to work on this machine alone."
        ) from error
    with client:
        yield ClusterClient(executor=client.get_executor(pure=False), count_threads=lambda: _count_threads(client))


def _count_threads(client: Any) -> int:
    """Return how many tasks the cluster can work on; raises ClusterError where the scheduler does not answer."""
    try:
        return sum(client.nthreads().values())
    except (OSError, TimeoutError, CancelledError) as error:
        raise ClusterError(
            f"The cluster could not be reached any more ({type(error).__name__}). {RESUME_HINT}"
        ) from error
