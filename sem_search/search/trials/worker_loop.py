"""The loop of a worker: take the lowest free rank, train its trial, take the next, until every rank has its result.

The search itself and every other worker run the same loop; they communicate only through its database. The states of
a rank, and what moves it from one to the next:

    free     -> waiting   a worker enqueues a trial of the rank
    waiting  -> running   a worker, the same or another, takes the trial
    running  -> done      the trial is complete, is pruned, or has failed with a reason
    running  -> released  the worker gives the trial up (ReleasedTrialError): another trial has the rank, or an
                          earlier rank has not begun; or the worker was killed, and another finds its trial stale
    released -> free      at once: the trial has failed without a reason, and so holds no rank; a later trial of the
                          rank reads the finished folds and goes on
"""

import math
import time

import optuna
from optuna.trial import TrialState

from sem_search.errors import FailedTrialError, ReleasedTrialError
from sem_search.search.trials.objective import CellObjective
from sem_search.search.trials.ranks import count_ranks, enqueue_rank, find_free_rank, get_rank

WAIT_S = 2.0
"""Between two looks at the trials of other workers."""


class Timeout:
    """When no further trial is begun. It counts from the first look, and an outage does not make it count anew.

    Args:
        seconds: The limit; None for none.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = math.inf if seconds is None else seconds
        self._begun_s: float | None = None

    def is_over(self) -> bool:
        """Tell whether the time is up; the first call is the beginning."""
        self._begun_s = time.monotonic() if self._begun_s is None else self._begun_s
        return time.monotonic() - self._begun_s >= self.seconds


def work(study: optuna.Study, *, objective: CellObjective, timeout: Timeout) -> None:
    """Run trials until every rank has its result, also the ranks of other workers.

    The rank of a worker that was killed becomes free, and this worker may take it.

    Args:
        study: The study.
        objective: Trains a trial.
        timeout: Ends the loop before every rank has its result.
    """
    settings = objective.prepared.settings
    n_ranks = count_ranks(settings)
    has_shown = False
    while True:
        objective.stale.release(study)
        if timeout.is_over():
            objective.progress.show(f"The timeout of {timeout.seconds:g} s is over; no further trial is begun.")
            return
        trials = study.get_trials(deepcopy=False)
        open_states = [trial.state for trial in trials if get_rank(trial) < n_ranks and not trial.state.is_finished()]
        rank = find_free_rank(trials, n_ranks=n_ranks)
        if rank is not None:
            enqueue_rank(study, rank=rank, settings=settings)
        if rank is not None or TrialState.WAITING in open_states:
            run_next(study, objective=objective)
        elif open_states:
            if not has_shown:
                objective.progress.show(f"Waiting for {len(open_states)} trial(s) of other workers ...")
                has_shown = True
            time.sleep(WAIT_S)
        else:
            return


def run_next(study: optuna.Study, *, objective: CellObjective) -> None:
    """Run the trial that waits at the head of Optuna's queue."""
    begun: list[int] = []
    raised: list[BaseException] = []

    def run(trial: optuna.Trial) -> float:
        """Run the objective, and remember which trial it was and what it raised."""
        begun.append(trial.number)
        try:
            return objective(trial)
        except BaseException as error:
            raised.append(error)
            raise

    try:
        study.optimize(run, n_trials=1, catch=(FailedTrialError, ReleasedTrialError))
    except Exception as error:
        if any(isinstance(one, KeyboardInterrupt) for one in raised):
            raise raised[-1] from None  # Optuna could not record the end of the trial
        if error in raised or not begun:
            raise
        if not study.get_trials(deepcopy=False)[begun[-1]].state.is_finished():
            raise
        # Another process found this trial stale and ended it; Optuna does not end a trial twice. Its rank is free.
