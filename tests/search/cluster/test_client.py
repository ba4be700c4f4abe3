"""The client of Dask: what is said where the cluster is away. A real one is tried in `test_cluster_processes`."""

import sys
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from sem_search.errors import ClusterError, FailedTrialError, SettingsError, StoreError
from sem_search.search.cluster import client as cluster
from sem_search.search.cluster.client import ClusterClient, open_cluster

EXECUTOR = ThreadPoolExecutor(max_workers=1)
"""Does nothing: the tests answer in its place."""


def make_client(n_threads: int = 1) -> ClusterClient:
    return ClusterClient(executor=EXECUTOR, count_threads=lambda: n_threads)


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(SettingsError, match=r"cluster=tcp://h:1 needs Dask: pip install '\.\[cluster\]'"),
        open_cluster("tcp://h:1"),
    ):
        pytest.fail("opened")


def test_where_no_scheduler_answers_it_says_so_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with (
        pytest.raises(
            SettingsError, match=r"cluster=tcp://127\.0\.0\.1:9: no Dask scheduler answers there within 0\.5 s"
        ),
        open_cluster("tcp://127.0.0.1:9"),
    ):
        pytest.fail("opened")


@pytest.mark.parametrize("error", [OSError("Comm is closed"), TimeoutError(), CancelledError()])
def test_a_scheduler_that_goes_away_while_its_workers_are_counted_is_reported(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(ClusterError, match="could not be reached any more"):
        cluster._count_threads(SimpleNamespace(nthreads=fail))
    assert cluster._count_threads(SimpleNamespace(nthreads=lambda: {"a": 2, "b": 1})) == 3


class KilledWorker(Exception):
    """As Dask's."""


class CommClosedError(OSError):
    """As Dask's."""


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (CancelledError(), ClusterError, "scheduler went away, or took a task back. What is finished is not lost"),
        (CommClosedError("closed"), ClusterError, "could not be reached any more"),
        (PermissionError(13, "Permission denied", "/cache"), StoreError, r"PermissionError: .*denied: '/cache'\. Mend"),
        (TimeoutError("nfs"), StoreError, "could not do its task: TimeoutError: nfs"),
        (OSError("at postgresql://me:s3cret@host"), StoreError, r"at postgresql://me:\*\*\*@host"),
        (KilledWorker(), FailedTrialError, "every worker that was given this task died at it"),
        (SettingsError("not found"), SettingsError, "not found"),
        (FailedTrialError("memory"), FailedTrialError, "memory"),
        (KeyError("a bug"), KeyError, "a bug"),
    ],
)
def test_what_a_task_raises_says_what_to_do(error: Exception, expected: type[Exception], words: str) -> None:
    future: Future[str] = Future()
    future.set_exception(error)
    with pytest.raises(expected, match=words):
        make_client().await_answer(future)


def test_a_task_that_was_taken_back_is_reported_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOOK_EVERY_S", 0.01)
    future: Future[str] = Future()
    with pytest.raises(ClusterError, match="took a task back"):
        make_client().await_answer(future, while_waiting=future.cancel)


def test_a_cluster_without_workers_is_waited_for_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "LOOK_EVERY_S", 0.01)
    future: Future[str] = Future()
    n_looks = []

    def look() -> None:
        n_looks.append(1)
        if len(n_looks) == 3:
            threading.Thread(target=lambda: (time.sleep(0.02), future.set_result("done"))).start()

    client = make_client(n_threads=0)
    assert client.n_wanted == 1
    assert client.await_answer(future, while_waiting=look) == "done"
    assert capsys.readouterr().err.count("no worker at this moment") == 1
