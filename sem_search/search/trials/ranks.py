"""The rank of a trial: its place in the order of the study, from 0, whatever its number in Optuna.

Each rank ends with one result. A worker takes the lowest rank that is free, enqueues a trial of it and trains it. A
trial whose process was killed is failed by Optuna without a reason, and so its rank is free again: the next trial of it
reads the finished folds and goes on. Pruning and the sampler's seeds go by rank, so that a study that was interrupted
ends with the same results as one that was not.
"""

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.errors import ReleasedTrialError
from sem_search.records import Cell
from sem_search.search.trials.attributes import RANK, REASON
from sem_search.search.trials.space import choose_params, order_cells
from sem_search.settings import SearchSettings


def get_rank(trial: FrozenTrial | optuna.Trial) -> int:
    """Return a trial's rank; in studies of older versions, which have none, it is the trial's number."""
    return int(trial.user_attrs.get(RANK, trial.number))


def holds_rank(trial: FrozenTrial) -> bool:
    """Tell whether a trial has, or will have, the result of its rank.

    Only a trial that Optuna has as FAIL without a `REASON` does not: its process was killed, or it gave its rank back
    (`ReleasedTrialError`), or its database or disk failed it. Its rank is free, and another trial takes it up.
    """
    return trial.state != TrialState.FAIL or REASON in trial.user_attrs


def count_ranks(settings: SearchSettings) -> int:
    """Return how many results a study has when it is done; a grid has no more than its cells."""
    n_trials = settings.n_cells if settings.trials is None else settings.trials
    return min(n_trials, settings.n_cells) if settings.sampler == "grid" else n_trials


def find_free_rank(trials: Sequence[FrozenTrial], *, n_ranks: int) -> int | None:
    """Return the lowest rank below `n_ranks` that no trial holds; None where there is none."""
    held = {get_rank(trial) for trial in trials if holds_rank(trial)}
    return next((rank for rank in range(n_ranks) if rank not in held), None)


def list_idle_ranks(trials: Sequence[FrozenTrial], *, n_ranks: int) -> list[int]:
    """Return the ranks below `n_ranks` that no worker has begun, ascending: free ones, and those whose trial waits."""
    begun = {get_rank(trial) for trial in trials if holds_rank(trial) and trial.state != TrialState.WAITING}
    return [rank for rank in range(n_ranks) if rank not in begun]


def list_next_cells(study: optuna.Study, *, settings: SearchSettings) -> list[Cell]:
    """Return the cells of a grid that no worker has begun, in the order of their ranks; of another sampler none."""
    if settings.sampler != "grid":
        return []
    cells = order_cells(settings)
    return [cells[rank] for rank in list_idle_ranks(study.get_trials(deepcopy=False), n_ranks=count_ranks(settings))]


def enqueue_rank(study: optuna.Study, *, rank: int, settings: SearchSettings) -> None:
    """Enqueue a trial of a rank: on a grid its cell is known, else the sampler draws all but the head."""
    study.enqueue_trial(choose_params(rank, settings=settings), user_attrs={RANK: rank})


def check_turn(trials: Sequence[FrozenTrial], *, number: int, n_ranks: int) -> None:
    """Refuse to begin a trial whose rank another trial has, or before whose rank one has not begun.

    Two workers may find the same rank free at once: of their two trials the one with the lower number goes on.

    Args:
        trials: All of the study, by their numbers.
        number: Of the trial that is to begin.
        n_ranks: How many trials were asked for.

    Raises:
        ReleasedTrialError: It is not this trial's turn.
    """
    own = get_rank(trials[number])
    earlier = (trial for trial in trials if trial.number < number and holds_rank(trial))
    if any(get_rank(trial) == own for trial in earlier):
        raise ReleasedTrialError("another worker has taken this rank")
    if own >= n_ranks:
        raise ReleasedTrialError("this rank was not asked for")
    if list_idle_ranks(trials, n_ranks=own):
        raise ReleasedTrialError("an earlier rank has not begun")
