"""Whether memory stays flat over the trials of a search."""

import re
import tempfile
from pathlib import Path

import psutil

from benchmarks.searching import start_search

REPORTED_AFTER = (1, 3, 5, 10, 20)
TRIAL_ENDED = re.compile(r"^lr\S+: ")

MIB = 2**20


def measure_memory(*, backbone: str, threads: int) -> dict[str, float]:
    """Return the resident memory in MiB after some of 20 trials, each with everything that it logs.

    Cost: 20 cells x 3 folds x 1 epoch with random weights, about five minutes on two cores.
    """
    parameters = {
        "backbone": backbone,
        "weights": "random",
        "preset": "standard",
        "folds": "3",
        "epochs": "1",
        "pruner": "none",
        "threads": str(threads),
    }
    after_mib: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        process = start_search(Path(name), parameters)
        watched = psutil.Process(process.pid)
        lines = []
        for line in process.stdout or ():
            lines.append(line)
            if TRIAL_ENDED.match(line):
                after_mib[len(after_mib) + 1] = watched.memory_info().rss / MIB
        if process.wait():
            raise RuntimeError("".join(lines)[-3000:])
    figures = {f"memory.after_trial_{number}_mib": after_mib[number] for number in REPORTED_AFTER}
    later = [value for number, value in after_mib.items() if number > 3]
    figures["memory.growth_after_trial_3"] = max(later) / after_mib[3] - 1
    return figures
