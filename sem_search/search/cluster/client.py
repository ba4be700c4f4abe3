"""A Dask cluster, whatever started it, as an executor (https://docs.dask.org, BSD).

Dask gives a lost worker's tasks to another one. It pickles what it sends, tasks of ours that are plain text included,
and its scheduler obeys whoever reaches it: it belongs in a closed network, or behind TLS (docs/cluster.md).
"""

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from sem_search.errors import ClusterError, SettingsError
from sem_search.search.cluster.tasks import IS_KEPT, Hands

CONNECT_S = 15.0
"""A scheduler that answers at all answers in a moment; one that is only just being started may take some seconds."""


@contextmanager
def open_cluster(address: str) -> Iterator[Hands]:
    """Give the workers of the cluster at this address; they may come and go.

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
    try:
        yield Hands(executor=client.get_executor(pure=False), count=lambda: _count_threads(client))
    finally:
        client.close()


def _count_threads(client: Any) -> int:
    """Return how many tasks the cluster can work on; raises ClusterError where the scheduler does not say."""
    try:
        return sum(client.nthreads().values())
    except (OSError, TimeoutError, CancelledError) as error:
        raise ClusterError(f"The cluster could not be reached any more ({type(error).__name__}). {IS_KEPT}") from error
