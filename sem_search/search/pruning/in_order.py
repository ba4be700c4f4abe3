"""Whether a cell is ended early: by the trials queued before it, all of them finished, and by nothing else.

Several workers finish cells in an order that no one can foresee. Were each cell compared with whatever happens to be
finished at that moment, then other cells would be ended on every run, and now and then another cell would win. So a
cell is judged as one process alone would have judged it, which has finished every earlier trial before it begins the
next. A worker whose cell cannot be judged yet trains on, keeps what it has trained, and is judged afterwards: folds
are pure functions of cell and data, so nothing but time depends on it. docs/decisions/019-cluster.md tells more.
"""

import time
from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.records import FoldOutcome
from sem_search.search.pruning.curve_extrapolation import Rival, find_rival
from sem_search.settings import SearchSettings

ASK_EVERY_S = 2.0
"""Between two looks at the trials before this one: a fold's epochs may take milliseconds, the database is shared."""


class CellJudge:
    """Judges one cell by the trials before it."""

    def __init__(self, study: optuna.Study, *, number: int, settings: SearchSettings) -> None:
        """Begin with a cell.

        Args:
            study: Holds the trials, and the pruner that is asked between folds.
            number: Of the cell's trial.
            settings: Whether cells race within a fold.
        """
        self._study = study
        self._number = number
        self._is_racing = settings.pruner == "race"
        self._is_idle = not self._is_racing and isinstance(study.pruner, optuna.pruners.NopPruner)
        self._asked_at_s = -ASK_EVERY_S
        self._before: tuple[FrozenTrial, ...] | None = () if self._is_idle else None
        self._view: optuna.Study | None = None

    @property
    def is_settled(self) -> bool:
        """Whether every trial before this one has ended, so that the cell can be judged."""
        if self._before is None and time.monotonic() - self._asked_at_s >= ASK_EVERY_S:
            self._asked_at_s = time.monotonic()
            before = self._list_before()
            if all(trial.state.is_finished() for trial in before):
                self._before = before
        return self._before is not None

    @property
    def is_held_up(self) -> bool:
        """Whether a trial before this one waits in the queue: nobody may be at work on it, so this process should."""
        return not self._is_idle and any(trial.state == TrialState.WAITING for trial in self._list_before())

    def find_rival(self, *, fold: int, finished: Sequence[FoldOutcome] = ()) -> Rival | None:
        """Return whom a fold races against, if anyone; to be asked once the cell can be judged.

        Args:
            fold: Its number.
            finished: The folds of the cell before it.
        """
        return find_rival(self._before or (), fold=fold, finished=finished) if self._is_racing else None

    def is_hopeless(self, values: Sequence[float]) -> bool:
        """Tell whether the pruner ends the cell after these folds; to be asked once the cell can be judged.

        Args:
            values: The objective of each fold so far, in order.
        """
        if self._is_idle:
            return False
        view = self._get_view()
        trial = optuna.trial.create_trial(state=TrialState.RUNNING, intermediate_values=dict(enumerate(values)))
        return view.pruner.prune(view, trial)

    def _list_before(self) -> tuple[FrozenTrial, ...]:
        trials = self._study.get_trials(deepcopy=False)
        return tuple(trial for trial in trials if trial.number < self._number)

    def _get_view(self) -> optuna.Study:
        """Return a study of the trials before this one alone; later ones, though finished, are not known to it."""
        if self._view is None:
            self._view = optuna.create_study(direction="maximize", pruner=self._study.pruner)
            self._view.add_trials(
                [
                    trial
                    for trial in self._before or ()
                    if trial.state == TrialState.COMPLETE and trial.intermediate_values
                ]
            )
        return self._view
