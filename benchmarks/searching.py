"""Searches run as a user runs them, in a folder of their own, and what they left behind."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from sem_search.places import CACHE_VARIABLE, STORE_FILE, STORE_VARIABLE
from sem_search.records import Cell, FoldOutcome
from sem_search.search.folds.store import FoldStore
from sem_search.search.trials.attributes import PRUNE_REASON, REASON
from sem_search.settings import PAPER_BATCH_SIZES, PAPER_LEARNING_RATES
from sem_search.tracking.mlflow.own_runs import RUN_ID_VARIABLE

ENDED_AFTER = re.compile(r"in fold \d+, after epoch (?P<epochs>\d+) of")
"""How the reason of a trial that was pruned within a fold begins."""


def start_search(folder: Path, parameters: Mapping[str, str], *, cache: Path | None = None) -> subprocess.Popen[str]:
    """Start a search whose stores all lie in `folder`; features come from the user's own cache, or from `cache`."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [word for name, value in parameters.items() for word in (f"--{name.replace('_', '-')}", value)]
    environment = {name: value for name, value in os.environ.items() if name != RUN_ID_VARIABLE} | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        **build_environment(folder),
        **({} if cache is None else {CACHE_VARIABLE: str(cache)}),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "sem_search", "search", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def build_environment(folder: Path) -> dict[str, str]:
    """Return the variables that let a search in this folder log nowhere else."""
    return {STORE_VARIABLE: f"sqlite:///{folder}/{STORE_FILE}", "MLFLOW_DISABLE_TELEMETRY": "true"}


def run_search(folder: Path, parameters: Mapping[str, str], *, cache: Path | None = None) -> str:
    """Run a search to its end, as `start_search`, and return what it printed.

    Raises:
        RuntimeError: It failed; the message is its output's end.
    """
    process = start_search(folder, parameters, cache=cache)
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(printed[-3000:])
    return printed


@dataclass(frozen=True, kw_only=True)
class TrainedGrid:
    """The finished folds of a study over the paper's grid."""

    folds_of: Mapping[Cell, tuple[FoldOutcome, ...]]

    @property
    def n_folds(self) -> int:
        """Folds that were trained."""
        return sum(len(folds) for folds in self.folds_of.values())

    @property
    def n_epochs(self) -> int:
        """Epochs that were trained, over all folds."""
        return sum(len(fold.curves.training_loss) for folds in self.folds_of.values() for fold in folds)

    @property
    def training_s(self) -> float:
        """Seconds spent in training."""
        return float(np.sum([fold.training_s for folds in self.folds_of.values() for fold in folds]))


def count_ended_epochs(folder: Path, *, study: str) -> int:
    """Return the epochs of the folds within which a trial was pruned: they were trained, and are not in the fold store.

    Args:
        folder: Where the search ran.
        study: Its study.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = optuna.load_study(study_name=study, storage=f"sqlite:///{folder}/optuna.db").get_trials(deepcopy=False)
    reasons = (str(trial.user_attrs.get(PRUNE_REASON, trial.user_attrs.get(REASON, ""))) for trial in trials)
    ends = map(ENDED_AFTER.match, reasons)
    return sum(int(end["epochs"]) for end in ends if end is not None)


def read_grid(study_folder: Path, *, n_folds: int = 5) -> TrainedGrid:
    """Return the finished folds of a study over the paper's grid; cells without any are left out."""
    store = FoldStore(folder=study_folder)
    folds_of = {}
    for rate in PAPER_LEARNING_RATES:
        for size in PAPER_BATCH_SIZES:
            cell = Cell(learning_rate=rate, batch_size=size)
            finished = [store.read(cell=cell, fold=fold) for fold in range(n_folds)]
            outcomes = tuple(one.outcome for one in finished if one is not None)
            if outcomes:
                folds_of[cell] = outcomes
    return TrainedGrid(folds_of=folds_of)
