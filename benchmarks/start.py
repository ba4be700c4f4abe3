"""How long a user waits before anything happens."""

import subprocess
import sys

from benchmarks.timing import measure_side_by_side

N_REPEATS = 7


def measure_start() -> dict[str, float]:
    """Return seconds until the help is printed, and of a bare interpreter beside it."""
    times_s = measure_side_by_side(
        {
            "help": lambda: _run("-m", "sem_search", "search", "--help"),
            "python": lambda: _run("-c", "pass"),
        },
        n_repeats=N_REPEATS,
    )
    return {"start.help_s": times_s["help"], "start.python_s": times_s["python"]}


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
