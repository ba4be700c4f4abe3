"""Stale trials: their process is gone. They are failed without a reason, so that their rank is free for a worker.

Whether a process of this machine still runs is known at once. For another machine, only Optuna's heartbeat shows it.
"""

import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.search.trials.attributes import PROCESS
from sem_search.search.trials.process_id import describe_process, is_known_gone

UNSIGNED_S = 60.0
"""A running trial that has had no process name for this many seconds is stale: its worker was killed just after it took
the trial."""


@dataclass(kw_only=True)
class StaleTrials:
    """Finds stale trials; remembers since when, by this process's own clock, a trial has been without a process."""

    unsigned_s: float = UNSIGNED_S
    _since: dict[int, float] = field(default_factory=dict)

    def release(self, study: optuna.Study, *, own: int | None = None) -> None:
        """Fail every stale trial of a study.

        Args:
            study: The study.
            own: Number of the trial that this process trains. Other running trials of this process are stale: the
                database was away when they should have ended.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        now_s = time.monotonic()
        self._since = {trial.number: self._since.get(trial.number, now_s) for trial in running}
        for trial in running:
            if trial.number != own and self._is_stale(trial, now_s=now_s):
                with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process has just failed it
                    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _is_stale(self, trial: FrozenTrial, *, now_s: float) -> bool:
        process = trial.user_attrs.get(PROCESS)
        if process is None:
            return now_s - self._since[trial.number] >= self.unsigned_s
        return process == describe_process() or is_known_gone(process)
