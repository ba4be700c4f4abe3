"""One trial: a cell trained on every fold, each fold on disk before it is reported, the whole logged as one run."""

import time
import traceback
from dataclasses import dataclass, field

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from sem_search.errors import FailedTrialError, ReleasedTrialError, SemSearchError
from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.micrographs.folds import Fold
from sem_search.records import Cell, FinishedFold
from sem_search.search.folds.train import FoldSource
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, get_accuracy
from sem_search.search.pruning.in_order import CellCourse, EarlierTrials
from sem_search.search.results.trial_log import TrialLog, write_curves
from sem_search.search.trials.attributes import (
    ACCURACIES,
    CURVES,
    DAMAGED,
    PROCESS,
    PRUNE_REASON,
    REASON,
    REPEATS,
    TRACEBACK,
)
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.ranks import check_turn, count_ranks, get_rank
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.search.trials.space import find_cell, suggest_cell
from sem_search.search.trials.stale_trials import StaleTrials
from sem_search.secrets import mask_secrets
from sem_search.terminal import warn

WAIT_S = 1.0
"""Between two looks at the trials that this one waits for."""


@dataclass(frozen=True, kw_only=True)
class CellObjective:
    """Optuna's objective: the mean F-measure of a cell over its folds.

    Cost: one head trained for each fold that is not on disk yet, and one logged model per finished cell.
    """

    prepared: PreparedSearch
    source: FoldSource
    """Where finished folds come from."""
    log: TrialLog
    progress: SearchProgress
    stale: StaleTrials = field(default_factory=StaleTrials)
    """Frees the ranks of workers that were killed, while this one waits for them."""

    def __call__(self, trial: optuna.Trial) -> float:
        """Return the objective of the trial's cell, in [0, 1].

        Raises:
            optuna.TrialPruned: The cell was pruned, now or in an earlier trial.
            FailedTrialError: This cell cannot be trained here; the study goes on.
            ReleasedTrialError: Another trial is to take up this rank.
        """
        settings = self.prepared.settings
        trial.set_user_attr(PROCESS, describe_process())
        trials = trial.study.get_trials(deepcopy=False)
        check_turn(trials, number=trial.number, n_ranks=count_ranks(settings))
        cell = suggest_cell(trial, settings=settings)
        known = self._find_known(trial, cell=cell)
        if known is not None:
            return self._repeat(known, trial=trial)
        course = CellCourse(
            earlier=EarlierTrials(trial.study, rank=get_rank(trial), head=cell.head, settings=settings),
            n_folds=settings.folds,
            accept=lambda finished: self._accept_fold(trial, finished),
        )
        try:
            value = self._run_folds(trial, cell=cell, course=course)
        except optuna.TrialPruned as error:
            self._end_pruned(trial, cell=cell, course=course, reason=str(error))
            raise
        except Exception as error:
            self._end_failed(trial, course=course, error=error)
            raise
        self.log.log_now(trial, state="complete")
        self.progress.show_trial(f"{cell.name}: F {value:.4f} ({settings.select_on} tiles)", value=value)
        return value

    def _find_known(self, trial: optuna.Trial, *, cell: Cell) -> FrozenTrial | None:
        """Return a finished trial of this cell, if a sampler draws it again; an earlier one that runs is waited for."""
        while True:
            trials = trial.study.get_trials(deepcopy=False)
            others = [one for one in trials if one.number != trial.number and find_cell(one) == cell]
            finished = [one for one in others if one.state in (TrialState.COMPLETE, TrialState.PRUNED)]
            if finished:
                return min(finished, key=get_rank)
            if not any(one.state == TrialState.RUNNING and get_rank(one) < get_rank(trial) for one in others):
                return None
            self._wait(trial)

    def _repeat(self, known: FrozenTrial, *, trial: optuna.Trial) -> float:
        """A cell that a sampler draws again takes its known result, and gets no run of its own."""
        trial.set_user_attr(REPEATS, known.number)
        self.progress.skip_folds(self.prepared.settings.folds)
        if known.value is None or known.state == TrialState.PRUNED:
            raise optuna.TrialPruned(f"trial {known.number} of the same cell was pruned")
        return float(known.value)

    def _run_folds(self, trial: optuna.Trial, *, cell: Cell, course: CellCourse) -> float:
        """Train fold after fold; return the mean F-measure. Where an earlier rank has not begun, give way to it."""
        damaged: dict[str, str] = {}
        for fold in self.prepared.data.folds.folds:
            if self.prepared.store.is_damaged(cell=cell, fold=fold.number):
                warning = f"{cell.name}, fold {fold.number + 1}, was damaged on disk and is trained again"
                damaged[str(fold.number)] = warning
                trial.set_user_attr(DAMAGED, damaged)
                self.progress.show_trial(f"Warning: {warning}.", value=None)
            self._run_fold(cell=cell, fold=fold, course=course)
        while not course.earlier.is_decidable:
            if course.earlier.is_held_up:
                raise ReleasedTrialError("an earlier rank has not begun")
            self._wait(trial)
        course.accept_waiting()
        trial.set_user_attr(ACCURACIES, [get_accuracy(finished.outcome) for finished in course.accepted])
        return float(np.mean(course.values))

    def _run_fold(self, *, cell: Cell, fold: Fold, course: CellCourse) -> None:
        """Train one fold, or read it from disk, and add it to the cell's folds."""
        tiles = self.prepared.data.tiles.get_tiles_of(fold.validation)
        n_epochs = self.prepared.settings.epochs
        course.begin_fold(FoldExtrapolation(fold=fold.number, n_epochs=n_epochs, n_tiles=len(tiles)))
        course.finish_fold(self.source.obtain(cell=cell, fold=fold, course=course))

    def _accept_fold(self, trial: optuna.Trial, finished: FinishedFold) -> float:
        """Report a fold; return its F-measure."""
        prepared = self.prepared
        value = compute_fold_f_measure(finished.outcome, tiles=prepared.data.tiles, split=prepared.settings.select_on)
        trial.report(value, step=finished.outcome.fold)
        return value

    def _end_pruned(self, trial: optuna.Trial, *, cell: Cell, course: CellCourse, reason: str) -> None:
        where = f"after {len(course.accepted)} folds"
        trial.set_user_attr(PRUNE_REASON, reason)
        if course.pruned is not None:
            where = f"in fold {course.pruned.fold + 1}"
            trial.set_user_attr(CURVES, write_curves(course.pruned.curves, fold=course.pruned.fold))
        self.log.log_now(trial, state="pruned")
        self.progress.skip_folds(self.prepared.settings.folds - course.n_finished)
        self.progress.show_trial(f"{cell.name}: pruned {where}", value=None)

    def _end_failed(self, trial: optuna.Trial, *, course: CellCourse, error: Exception) -> None:
        """Log the trial if this cell cannot be trained or the program has a bug.

        Other errors (database, disk) are not logged. Only FailedTrialError lets the search go on.
        """
        is_final = isinstance(error, FailedTrialError)
        if isinstance(error, SemSearchError | optuna.exceptions.OptunaError | SQLAlchemyError) and not is_final:
            return
        trial.set_user_attr(TRACEBACK, mask_secrets(traceback.format_exc()))
        if is_final:
            trial.set_user_attr(REASON, mask_secrets(f"{type(error).__name__}: {error}"))
            self.progress.skip_folds(self.prepared.settings.folds - course.n_finished)
            warn(f"trial {trial.number} failed: {error}")
        self.log.log_now(trial, state="failed")

    def _wait(self, trial: optuna.Trial) -> None:
        """Give other workers time, and fail the trials of workers that were killed."""
        self.stale.release(trial.study, own=trial.number)
        time.sleep(WAIT_S)
