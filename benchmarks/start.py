"""How long a user waits before anything happens."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.searching import run_search
from benchmarks.timing import measure_side_by_side

N_REPEATS = 7
N_SEARCHES = 3


def measure_start(*, threads: int) -> dict[str, float]:
    """Return seconds until the help is printed, of a bare interpreter, and of a finished search that is asked again."""
    times_s = measure_side_by_side(
        {
            "help": lambda: _run("-m", "sem_search", "search", "--help"),
            "python": lambda: _run("-c", "pass"),
        },
        n_repeats=N_REPEATS,
    )
    with tempfile.TemporaryDirectory() as name:
        parameters = {"backbone": "mobilenet_v2", "weights": "random", "preset": "quick", "epochs": "1", "trials": "1"}
        parameters["threads"] = str(threads)
        warm_s = measure_side_by_side({"warm": lambda: run_search(Path(name), parameters)}, n_repeats=N_SEARCHES)
    return {
        "start.help_s": times_s["help"],
        "start.python_s": times_s["python"],
        "start.warm_search_s": warm_s["warm"],
    }


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
