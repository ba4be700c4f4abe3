"""The loop of a worker: claim a cell, train it, claim the next, until none is left.

The searching process and every helping worker run the same loop; they meet only in the study's database.
"""

import time

import click
import optuna

from sem_search.errors import FailedTrialError
from sem_search.search.objective import CellObjective
from sem_search.search.study import (
    choose_sampler,
    count_finished,
    count_running,
    count_waiting,
    take_back_dead_trials,
)
from sem_search.settings import SearchSettings

WAIT_S = 2.0
"""Between two looks at the trials of other workers."""


def work(study: optuna.Study, *, objective: CellObjective, waits_for_others: bool) -> None:
    """Run trials until the study has all that was asked for.

    Args:
        study: The study.
        objective: What a trial does.
        waits_for_others: Stay until the trials of other workers have ended too, and take up those of dead ones.
    """
    settings = objective.prepared.settings
    ends_at = None if settings.timeout is None else time.monotonic() + settings.timeout
    has_told = False
    while True:
        take_back_dead_trials(study)
        if ends_at is not None and time.monotonic() >= ends_at:
            click.echo(f"The timeout of {settings.timeout:g} s is over; no further trial is begun.", err=True)
            return
        if _has_work(study, settings=settings):
            study.sampler = choose_sampler(study, settings=settings)
            study.optimize(objective, n_trials=1, catch=(FailedTrialError,))
        elif waits_for_others and count_running(study):
            if not has_told:
                click.echo(f"Waiting for {count_running(study)} trial(s) of other workers ...", err=True)
                has_told = True
            time.sleep(WAIT_S)
        else:
            return


def _has_work(study: optuna.Study, *, settings: SearchSettings) -> bool:
    """Tell whether a trial may be begun: as many as were asked for, and on a grid only queued cells."""
    n_begun = count_finished(study) + count_running(study)
    if settings.trials is not None and n_begun >= settings.trials:
        return False
    if count_waiting(study):
        return True
    return settings.sampler != "grid" and n_begun < (settings.trials or settings.n_cells)
