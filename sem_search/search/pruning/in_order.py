"""In-order pruning: a cell is pruned by the cells of lower rank alone, once all of these have their results.

Several workers finish cells in an order that cannot be foreseen. Were each cell compared with whatever happens to be
finished at that moment, then other cells would be pruned on every run, and now and then another cell would win. So a
cell is compared as one process alone would compare it, which finishes each rank before it begins the next.

A worker whose cell is not decidable yet trains on. Its folds wait, and are accepted in order once the cell is
decidable: each after its curve was extrapolated and before the pruner is asked. Nothing of a fold is reported before it
is accepted, so that a cell which was trained too far leaves no trace of it. Folds are pure functions of cell and data:
nothing but time depends on the workers (docs/decisions/019-cluster.md).
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.heads import Head
from sem_search.records import EpochFigures, FinishedFold, FoldOutcome, TrainingCurves
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, Incumbent, find_incumbent
from sem_search.search.pruning.pruners import EXTRAPOLATION
from sem_search.search.trials.ranks import get_rank, holds_rank, list_idle_ranks
from sem_search.settings import SearchSettings

ASK_EVERY_S = 2.0
"""Between two looks at the earlier ranks: a fold's epochs may take milliseconds, the database is shared."""


class EarlierTrials:
    """What one cell is compared with: the trials of lower rank."""

    def __init__(self, study: optuna.Study, *, rank: int, head: Head, settings: SearchSettings) -> None:
        """Begin with the rank and the head of a cell; the study holds the pruner that is asked between folds."""
        self._study = study
        self._rank = rank
        self._head = head
        self._is_extrapolating = settings.pruner == EXTRAPOLATION
        self._prunes = self._is_extrapolating or not isinstance(study.pruner, optuna.pruners.NopPruner)
        self._asked_at_s = -ASK_EVERY_S
        self._earlier: tuple[FrozenTrial, ...] | None = None if self._prunes else ()
        self._view: optuna.Study | None = None

    @property
    def is_decidable(self) -> bool:
        """Whether every earlier rank has its result, so that the cell can be compared."""
        if self._earlier is None and time.monotonic() - self._asked_at_s >= ASK_EVERY_S:
            self._asked_at_s = time.monotonic()
            trials = self._study.get_trials(deepcopy=False)
            earlier = tuple(trial for trial in trials if get_rank(trial) < self._rank and holds_rank(trial))
            is_begun = not list_idle_ranks(trials, n_ranks=self._rank)
            if is_begun and all(trial.state.is_finished() for trial in earlier):
                self._earlier = tuple(sorted(earlier, key=get_rank))
        return self._earlier is not None

    @property
    def is_held_up(self) -> bool:
        """Whether an earlier rank has not begun: no worker trains it, so this process should."""
        trials = self._study.get_trials(deepcopy=False)
        return self._prunes and bool(list_idle_ranks(trials, n_ranks=self._rank))

    def find_incumbent(self, *, fold: int, finished: Sequence[FoldOutcome] = ()) -> Incumbent | None:
        """Return what a fold is compared with within its epochs, if anything; for a cell that is decidable.

        Args:
            fold: Its number.
            finished: The folds of the cell before it.
        """
        if not self._is_extrapolating:
            return None
        return find_incumbent(self._earlier or (), fold=fold, head=self._head, finished=finished)

    def should_prune(self, values: Sequence[float]) -> bool:
        """Tell whether the pruner ends the cell after these folds; for a cell that is decidable.

        Args:
            values: The objective of each fold so far, in order.
        """
        if not self._prunes:
            return False
        if self._view is None:  # a study of the earlier trials alone: later ones, though finished, are not known to it
            self._view = optuna.create_study(direction="maximize", pruner=self._study.pruner)
            complete = [trial for trial in self._earlier or () if trial.state == TrialState.COMPLETE]
            self._view.add_trials([trial for trial in complete if trial.intermediate_values])
        trial = optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(values)))
        return self._view.pruner.prune(self._view, trial)


class CellCourse:
    """The folds of one cell, from finished to accepted."""

    def __init__(self, *, earlier: EarlierTrials, n_folds: int, accept: Callable[[FinishedFold], float]) -> None:
        """Begin a cell of `n_folds` folds; `accept` reports one and returns the objective on it."""
        self.earlier = earlier
        self.accepted: list[FinishedFold] = []
        self.values: list[float] = []
        self.n_finished = 0
        self.pruned: FoldExtrapolation | None = None
        """The fold within which the cell was pruned, if it was pruned within one."""
        self._n_folds = n_folds
        self._accept = accept
        self._waiting: deque[tuple[FinishedFold, FoldExtrapolation]] = deque()
        self._fold: FoldExtrapolation

    def begin_fold(self, fold: FoldExtrapolation) -> None:
        """Begin the next fold."""
        self._fold = fold

    def watch(self, figures: EpochFigures) -> None:
        """Take in an epoch of the fold that is being trained.

        Raises:
            optuna.TrialPruned: The cell is pruned, in this fold or by one before it.
        """
        self._fold.add(figures)
        self._check_fold()

    def find_incumbent(self) -> Incumbent | None:
        """Return what the fold that was begun is compared with; None where nothing is, or is known yet."""
        return self._find_incumbent(self._fold) if self.earlier.is_decidable else None

    def stop_fold(self, curves: TrainingCurves) -> None:
        """Compare a fold by the epochs after which another process stopped it; where it may go on, nothing happens.

        Raises:
            optuna.TrialPruned: The cell is pruned, as this fold's own incumbent ends it.
        """
        self._fold.replace(curves)
        self._check_fold()

    def finish_fold(self, finished: FinishedFold) -> None:
        """Take in a finished fold, from disk or from any process.

        Raises:
            optuna.TrialPruned: The cell is pruned.
        """
        self._fold.replace(finished.outcome.curves)
        self.n_finished += 1
        self._waiting.append((finished, self._fold))
        if self.earlier.is_decidable:
            self.accept_waiting()

    def accept_waiting(self) -> None:
        """Compare and accept, in order, all folds that are finished.

        Raises:
            optuna.TrialPruned: The cell is pruned.
        """
        while self._waiting:
            finished, fold = self._waiting.popleft()
            self._check(fold)
            self.accepted.append(finished)
            self.values.append(self._accept(finished))
            if len(self.values) < self._n_folds and self.earlier.should_prune(self.values):
                raise optuna.TrialPruned(
                    f"after {len(self.values)} of {self._n_folds} folds: worse than the best cell on these folds"
                )

    def _check_fold(self) -> None:
        if self.earlier.is_decidable:
            self.accept_waiting()
            self._check(self._fold)

    def _check(self, fold: FoldExtrapolation) -> None:
        try:
            fold.check(self._find_incumbent(fold))
        except optuna.TrialPruned:
            self.pruned = fold
            raise

    def _find_incumbent(self, fold: FoldExtrapolation) -> Incumbent | None:
        return self.earlier.find_incumbent(fold=fold.fold, finished=[one.outcome for one in self.accepted])
