"""The door to Dask: what is said where it is closed. A real cluster is tried in `test_cluster_processes`."""

import sys
from concurrent.futures import CancelledError
from types import SimpleNamespace

import pytest

from sem_search.errors import ClusterError, SettingsError
from sem_search.search.cluster import client as cluster
from sem_search.search.cluster.client import open_cluster


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(SettingsError, match=r"cluster=tcp://h:1 needs Dask: pip install '\.\[cluster\]'"),
        open_cluster("tcp://h:1"),
    ):
        pytest.fail("opened")


@pytest.mark.parametrize("error", [OSError("Comm is closed"), TimeoutError(), CancelledError()])
def test_a_scheduler_that_goes_away_while_its_workers_are_counted_is_told(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(ClusterError, match="could not be reached any more"):
        cluster._count_threads(SimpleNamespace(nthreads=fail))
    assert cluster._count_threads(SimpleNamespace(nthreads=lambda: {"a": 2, "b": 1})) == 3


def test_where_no_scheduler_answers_it_says_so_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with (
        pytest.raises(
            SettingsError, match=r"cluster=tcp://127\.0\.0\.1:9: no Dask scheduler answers there within 0\.5 s"
        ),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        pytest.fail("opened")
