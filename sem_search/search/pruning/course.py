"""A cell on its way through the folds: trained as far as possible, judged as soon as possible.

Folds come in as they are finished. They are accepted in order, each after its race and each before the pruner is asked,
once the cell can be judged at all; with one process alone that is at once. Nothing of a fold is logged or told before
it is accepted, so that a cell which was trained farther than it should have been leaves no trace of it.
"""

from collections import deque
from collections.abc import Callable

import optuna

from sem_search.records import EpochFigures, FinishedFold, TrainingCurves
from sem_search.search.pruning.curve_extrapolation import FoldRace, Rival
from sem_search.search.pruning.in_order import CellJudge


class CellCourse:
    """The folds of one cell, from finished to accepted."""

    def __init__(self, *, judge: CellJudge, n_folds: int, accept: Callable[[FinishedFold], float]) -> None:
        """Begin a cell.

        Args:
            judge: Ends the cell.
            n_folds: Folds of a cell.
            accept: Logs a fold; returns the objective on it.
        """
        self.accepted: list[FinishedFold] = []
        self.values: list[float] = []
        self.n_finished = 0
        self.ended: FoldRace | None = None
        """The race that ended the cell within a fold, if one did."""
        self._judge = judge
        self._n_folds = n_folds
        self._accept = accept
        self._waiting: deque[tuple[FinishedFold, FoldRace]] = deque()
        self._race: FoldRace | None = None

    def begin_fold(self, race: FoldRace) -> None:
        """Begin the next fold."""
        self._race = race

    def watch(self, figures: EpochFigures) -> None:
        """Take in an epoch of the fold that is being trained.

        Raises:
            optuna.TrialPruned: The cell is ended, in this fold or by one before it.
        """
        self._get_race().add(figures)
        self.check()

    def check(self) -> None:
        """Judge the fold that is being trained, and those before it, if the cell can be judged.

        Raises:
            optuna.TrialPruned: The cell is ended.
        """
        if self._judge.is_settled:
            self.settle()
            self._check(self._get_race())

    def find_rival(self) -> Rival | None:
        """Return whom the fold that was begun races against; None where nobody, or where it is not known yet."""
        return self._find_rival(self._get_race()) if self._judge.is_settled else None

    def stop_fold(self, curves: TrainingCurves) -> None:
        """Judge a fold by the epochs after which another process stopped it; where it may go on, nothing happens.

        Raises:
            optuna.TrialPruned: The cell is ended, as this fold's own rival ends it.
        """
        self._get_race().replace(curves)
        self.check()

    def finish_fold(self, kept: FinishedFold) -> None:
        """Take in a finished fold, whoever trained it.

        Raises:
            optuna.TrialPruned: The cell is ended.
        """
        race = self._get_race()
        race.replace(kept.outcome.curves)
        self.n_finished += 1
        self._waiting.append((kept, race))
        if self._judge.is_settled:
            self.settle()

    def settle(self) -> None:
        """Judge and accept, in order, all folds that are finished.

        Raises:
            optuna.TrialPruned: The cell is ended.
        """
        while self._waiting:
            kept, race = self._waiting.popleft()
            self._check(race)
            self.accepted.append(kept)
            self.values.append(self._accept(kept))
            if len(self.values) < self._n_folds and self._judge.is_hopeless(self.values):
                raise optuna.TrialPruned(
                    f"after {len(self.values)} of {self._n_folds} folds: worse than the best cell on these folds"
                )

    def _check(self, race: FoldRace) -> None:
        try:
            race.check(self._find_rival(race))
        except optuna.TrialPruned:
            self.ended = race
            raise

    def _find_rival(self, race: FoldRace) -> Rival | None:
        return self._judge.find_rival(fold=race.fold, finished=[kept.outcome for kept in self.accepted])

    def _get_race(self) -> FoldRace:
        if self._race is None:
            raise ValueError("A fold is to be begun before its epochs come in.")
        return self._race
