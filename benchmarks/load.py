"""Many workers on one database: claims of a trivial objective through the program's own loop, counted and timed.

Started as a program it is one process of workers: `python -m benchmarks.load URL N_CELLS N_THREADS`, each of its
threads a worker with connections of its own. It prints, as JSON, the cells that its workers were given, and how long
each claim took: from the end of one objective to the begin of the next, the record of the one's end included.
"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import optuna
import sqlalchemy.orm  # noqa: F401 - before the threads: two that import it at once get half of it
from optuna.trial import TrialState

from sem_search.search.trials.ranks import check_turn, count_ranks, holds_rank
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.search.trials.space import suggest_cell
from sem_search.search.trials.stale_trials import PROCESS, StaleTrials
from sem_search.search.trials.study import open_study
from sem_search.search.trials.worker_loop import Timeout, work
from sem_search.settings import SearchSettings, build_settings
from tests.servers.postgres import run_postgres

NAME = "load"
DRIVER = "postgresql+psycopg" if find_spec("psycopg") else "postgresql+pg8000"
N_BATCH_SIZES = 40
LIMIT_S = 3600


@dataclass
class TrivialObjective:
    """Signs its trial and gives it a value; remembers which cells it was given, and when."""

    settings: SearchSettings
    process: str
    """Each worker has a name of its own, as a process on another machine has."""
    stale: StaleTrials = field(default_factory=StaleTrials)
    progress: SearchProgress = field(default_factory=lambda: SearchProgress(n_folds_total=1, n_folds_done=0))
    cells: list[str] = field(default_factory=list)
    claims_s: list[float] = field(default_factory=list)
    ended_s: float | None = None

    @property
    def prepared(self) -> SimpleNamespace:
        """What the workers' loop asks for."""
        return SimpleNamespace(settings=self.settings)

    def __call__(self, trial: optuna.Trial) -> float:
        """Return a value for the trial's cell."""
        trial.set_user_attr(PROCESS, self.process)
        check_turn(trial.study.get_trials(deepcopy=False), number=trial.number, n_ranks=count_ranks(self.settings))
        if self.ended_s is not None:
            self.claims_s.append(time.perf_counter() - self.ended_s)
        cell = suggest_cell(trial, settings=self.settings)
        self.cells.append(cell.name)
        self.ended_s = time.perf_counter()
        return cell.learning_rate


def measure_load(*, n_workers: int, n_cells: int, n_processes: int) -> Mapping[str, float]:
    """Return how many cells were lost and doubled, and how long claims took, on a PostgreSQL server of one's own."""
    with run_postgres(max_connections=4 * n_workers + 20) as server:
        url = server.get_url().replace("postgresql", DRIVER, 1)
        settings = build_load_settings(url, n_cells=n_cells)
        study = open_study(settings, name=NAME, fingerprint={})
        begun_s = time.perf_counter()
        answers = run_processes(url, n_cells=n_cells, n_workers=n_workers, n_processes=n_processes)
        took_s = time.perf_counter() - begun_s
        trials = study.get_trials(deepcopy=False)
        results = [trial for trial in trials if holds_rank(trial)]
    counts = Counter(cell for answer in answers for cell in answer["cells"])
    claims_s = sorted(claim for answer in answers for claim in answer["claims_s"])
    return {
        "workers": n_workers,
        "cells": n_cells,
        "lost": n_cells - len(counts),
        "doubled": sum(count - 1 for count in counts.values()),
        "results": len(results),
        "complete": sum(trial.state == TrialState.COMPLETE for trial in results),
        "released": len(trials) - len(results),
        "whole_s": took_s,
        "cells_per_s": n_cells / took_s,
        "claim_median_s": statistics.median(claims_s),
        "claim_p95_s": claims_s[int(0.95 * len(claims_s))],
        "claim_longest_s": claims_s[-1],
    }


def build_load_settings(url: str, *, n_cells: int) -> SearchSettings:
    """Return a grid of so many cells."""
    sizes = list(range(1, min(N_BATCH_SIZES, n_cells) + 1))
    rates = [f"{1e-5 * (k + 1):.5g}" for k in range(n_cells // len(sizes))]
    return build_settings(
        {
            "storage": url,
            "heads": "finetune",
            "learning_rates": ",".join(rates),
            "batch_sizes": ",".join(map(str, sizes)),
            "pruner": "none",
            "study": NAME,
        }
    )


def run_processes(url: str, *, n_cells: int, n_workers: int, n_processes: int) -> list[dict[str, Any]]:
    """Run the workers in so many processes, and return what each process printed."""
    words = [sys.executable, "-m", "benchmarks.load", url, str(n_cells), str(n_workers // n_processes)]
    processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(n_processes)]
    answers = [process.communicate(timeout=LIMIT_S)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a process of workers failed; it has said why")
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def run_threads(url: str, *, n_cells: int, n_threads: int) -> list[TrivialObjective]:
    """Run so many workers in this process until no cell is left."""
    settings = build_load_settings(url, n_cells=n_cells)
    objectives = [TrivialObjective(settings, process=f"worker:{os.getpid()}:{n}") for n in range(n_threads)]

    def run(objective: TrivialObjective) -> None:
        try:
            study = open_study(settings, name=NAME, fingerprint={})
            work(study, objective=objective, timeout=Timeout(None))  # type: ignore[arg-type]
        except BaseException:  # noqa: BLE001 - printed, and the process ends
            traceback.print_exc()
            os._exit(1)  # a worker is a process of its own in earnest: its trial must not pass for one that runs

    threads = [threading.Thread(target=run, args=(objective,)) for objective in objectives]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return objectives


if __name__ == "__main__":
    done = run_threads(sys.argv[1], n_cells=int(sys.argv[2]), n_threads=int(sys.argv[3]))
    cells = [cell for objective in done for cell in objective.cells]
    print(json.dumps({"cells": cells, "claims_s": [s for objective in done for s in objective.claims_s]}))
