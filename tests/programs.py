"""`sem-search ...` as a process of its own, forked from one that has imported TensorFlow and MLflow already.

The suite starts some forty searches, and each import takes about seven seconds of processor. A process from here is as
real as any other: it has its own number, folder, environment and output, and dies of a signal. How a program starts
from nothing is tested elsewhere (tests/cli/test_main.py, `mlflow run` in tests/test_end_to_end.py).
"""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = (
    "sem_search.search.commands.search",
    "sem_search.cli.main",
    "matplotlib.backends.backend_agg",
    "tensorflow",
    "mlflow",
)
LIMIT_S = 30.0

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the program does before it imports TensorFlow
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(list(PRELOADED))


class Program:
    """One process, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, words: Sequence[str], *, folder: Path, environment: Mapping[str, str], merge: bool = False):
        """Start it.

        Args:
            words: Of the command line, after `sem-search`.
            folder: Where it works.
            environment: All of its variables.
            merge: Whether what it says of errors stands among what it prints.
        """
        self.args = ["sem-search", *words]
        self._folder = tempfile.TemporaryDirectory(prefix="sem_search_program_")
        self._output = Path(self._folder.name)
        self._merge = merge
        self._process: BaseProcess = FORKING.Process(
            target=_run, args=(list(words), str(folder), dict(environment), str(self._output), merge)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        return int(self._process.pid or 0)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code, or the negative number of the signal that it died of."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return what it printed, and what it said of errors."""
        self.wait(timeout)
        return self._read("stdout"), "" if self._merge else self._read("stderr")

    def _read(self, name: str) -> str:
        path = self._output / name
        ends_at = time.monotonic() + LIMIT_S
        while not path.exists() and self.returncode == 0 and time.monotonic() < ends_at:
            time.sleep(0.01)
        return path.read_text(errors="replace") if path.exists() else ""


def _run(words: list[str], folder: str, environment: dict[str, str], output: str, merge: bool) -> None:
    """Be the program: what a new interpreter finds is set, then `sem-search` begins."""
    for number, name in ((1, "stdout"), (2, "stdout" if merge else "stderr")):
        file = os.open(Path(output) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.setpgrp()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["sem-search", *words]
    from sem_search.cli.main import main

    try:
        main()
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001 - multiprocessing would print it itself, and not as the program does
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves without it, a program of its own would not
