"""The loop of a worker: claim a cell, train it, claim the next, until none is left.

The searching process and every helping worker run the same loop; they meet only in the study's database. A trial ends
as complete, pruned or failed, or it goes back into the queue under its own number: whatever stops a process, its cell
is not lost. (Optuna's `optimize` would tell an interrupted trial as failed, and a resumed study would leave it out.)
"""

import time
import warnings
from collections import Counter

import click
import optuna
from optuna.trial import TrialState

from sem_search.errors import FailedTrialError, HeldUpError
from sem_search.search.trials.objective import CellObjective
from sem_search.search.trials.queue import claim_next, count_states
from sem_search.search.trials.stale_trials import TrialWatch, keep_heartbeat, let_go, put_back, read_claim
from sem_search.settings import SearchSettings
from sem_search.terminal import echo

WAIT_S = 2.0
"""Between two looks at the trials of other workers."""


def work(study: optuna.Study, *, objective: CellObjective, watch: TrialWatch | None = None) -> None:
    """Run trials until the study has all that was asked for, and those of other workers have ended, too.

    A trial that a dead worker leaves behind is taken up meanwhile.

    Args:
        study: The study.
        objective: What a trial does.
        watch: Tells dead workers from living ones; by default a new one.
    """
    watch = watch or TrialWatch()
    settings = objective.prepared.settings
    ends_at = None if settings.timeout is None else time.monotonic() + settings.timeout
    has_told = False
    while True:
        watch.take_back_dead(study)
        if ends_at is not None and time.monotonic() >= ends_at:
            click.echo(f"The timeout of {settings.timeout:g} s is over; no further trial is begun.", err=True)
            return
        counts = count_states(study)
        if _has_work(counts, settings=settings):
            _run_trial(study, objective=objective)
        elif counts[TrialState.RUNNING]:
            if not has_told:
                click.echo(f"Waiting for {counts[TrialState.RUNNING]} trial(s) of other workers ...", err=True)
                has_told = True
            time.sleep(WAIT_S)
        else:
            return


def _run_trial(study: optuna.Study, *, objective: CellObjective) -> None:
    """Claim the next trial, run it, and tell how it ended."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # it is kept here, as `optimize` would
        trial = claim_next(study)
        if trial is None and objective.prepared.settings.sampler == "grid":
            return  # other workers were quicker
        trial = trial or study.ask()
    claimed = read_claim(study, trial._trial_id)
    try:
        with keep_heartbeat(study, trial._trial_id):
            value = objective(trial)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    except FailedTrialError as error:
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        if trial.params:  # not one that found the queue empty
            echo(f"Trial {trial.number} failed: {error}", err=True)
    except HeldUpError:
        put_back(study, trial._trial_id, claimed=claimed)
    except BaseException:
        let_go(study, trial._trial_id, claimed=claimed)
        raise
    else:
        study.tell(trial, value, skip_if_finished=True)


def _has_work(counts: Counter[TrialState], *, settings: SearchSettings) -> bool:
    """Tell whether a trial may be begun: as many as were asked for, and on a grid only queued cells."""
    n_begun = counts.total() - counts[TrialState.WAITING]
    if settings.trials is not None and n_begun >= settings.trials:
        return False
    if counts[TrialState.WAITING]:
        return True
    return settings.sampler != "grid" and n_begun < (settings.trials or settings.n_cells)
