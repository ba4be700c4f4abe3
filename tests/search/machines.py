"""Real processes that stand for several machines: Dask schedulers, Dask workers, and workers of our own."""

import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ports import find_free_port
from tests.programs import Program
from tests.test_end_to_end import Place

LIMIT_S = 900
"""Each process loads TensorFlow; on two busy cores five of them take minutes to begin."""


def wait_until(is_so: Callable[[], bool], *, what: str, limit_s: float = LIMIT_S) -> None:
    ends_at = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < ends_at, f"{what} did not happen within {limit_s:g} s"
        time.sleep(0.05)


def hold(process: Program, *, databases: list[Path]) -> None:
    """Stop a process where it stands, but not within a transaction, for others would wait for its locks."""
    process.send_signal(signal.SIGSTOP)
    while not all(map(is_free, databases)):
        process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)


def is_free(database: Path) -> bool:
    with contextlib.closing(sqlite3.connect(database, timeout=0.0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return False
    return True


@dataclass(kw_only=True)
class DaskCluster:
    """A scheduler and its workers; each worker is one process without a nanny, so that a kill is a kill."""

    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=find_free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[subprocess.Popen[bytes]]:
        return self.processes[1:]

    def start(self, *, n_workers: int) -> None:
        self._run("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", "--no-jupyter")
        wait_until(self._is_listening, what="the scheduler's start", limit_s=60)
        for _ in range(n_workers):
            self.add_worker()

    def add_worker(self) -> None:
        words = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        self._run("worker", self.address, *words, "--local-directory", str(self.folder / f"dask_{len(self.processes)}"))

    def read_logs(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("dask_*.log")))

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait(timeout=30)

    def _run(self, *words: str) -> None:
        log = self.folder / f"dask_{len(self.processes)}_{words[0]}.log"
        with log.open("wb") as stream:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "dask", *words],
                    cwd=self.folder,
                    env=self.environment,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                )
            )

    def _is_listening(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


@contextlib.contextmanager
def run_cluster(folder: Path, *, n_workers: int) -> Iterator[DaskCluster]:
    """Give a cluster whose workers have a cache of their own, as on another machine."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = Place(folder=folder).make_environment() | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("MLFLOW_TRACKING_URI")
    cluster = DaskCluster(folder=folder, environment=environment)
    try:
        cluster.start(n_workers=n_workers)
        yield cluster
    finally:
        cluster.stop()


def start_worker(place: Place, *words: str, machine: str | None = None) -> Program:
    """Start `sem-search worker`; with `machine`, in a folder and with a cache of that machine's own."""
    environment = place.make_environment() | {"OMP_NUM_THREADS": "1"}
    folder = place.folder
    if machine is not None:
        folder = place.folder / machine
        folder.mkdir(exist_ok=True)
        environment["SEM_SEARCH_CACHE"] = str(folder / "cache")
    return Program(["worker", *words], folder=folder, environment=environment)
