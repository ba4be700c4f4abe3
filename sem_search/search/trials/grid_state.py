"""How far a study is, cell by cell, read from its database alone: for pages that show a search while it runs."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from sem_search.errors import StudyMismatchError
from sem_search.records import Cell
from sem_search.search.trials.attributes import PRUNE_REASON, REASON, SETTINGS, STUDY_RUN_ID
from sem_search.search.trials.ranks import count_ranks, holds_rank
from sem_search.search.trials.results import OUTCOME_STATES, list_results
from sem_search.search.trials.space import find_cell, order_cells
from sem_search.search.trials.storage import open_storage, read_study_names
from sem_search.search.trials.study import has_file
from sem_search.settings import SearchSettings, read_stored_settings

CellState = Literal["waiting", "running", "complete", "pruned", "failed"]

STATES: Mapping[TrialState, CellState] = {TrialState.RUNNING: "running", **OUTCOME_STATES}


@dataclass(frozen=True, kw_only=True)
class CellView:
    """One cell of the grid."""

    cell: Cell
    state: CellState
    folds: tuple[float, ...]
    """F-measure over validation tiles of each finished fold, or over what the study chooses on, in order."""
    value: float | None
    """Their mean, of a cell that is complete: the objective."""
    reason: str
    """Why it was pruned or failed; else empty."""


@dataclass(frozen=True, kw_only=True)
class GridState:
    """A study that has begun."""

    name: str
    settings: SearchSettings
    run_id: str
    """MLflow's run of the study."""
    n_cells: int
    """That will have a result: more than `cells` has, where a sampler has not drawn all yet."""
    cells: tuple[CellView, ...]
    """Of a grid all, in the order in which they are tried; else those that were drawn."""
    n_folds: int

    @property
    def best(self) -> CellView | None:
        """The complete cell with the highest objective, the earliest of equal ones; None where none is complete."""
        complete = [view for view in self.cells if view.value is not None]
        return max(complete, key=lambda view: view.value or 0.0) if complete else None

    @property
    def is_trained(self) -> bool:
        """Whether every cell has a result; the search may still draw its conclusion."""
        return sum(view.state in ("complete", "pruned", "failed") for view in self.cells) >= self.n_cells


def list_grid_states(storage: str) -> tuple[GridState, ...]:
    """Return every study of a storage that has begun, the latest first; none where there is no storage yet.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
    """
    if not has_file(storage):
        return ()
    names = read_study_names(storage)
    opened = open_storage(storage)
    studies = [optuna.load_study(study_name=name, storage=opened) for name in names]
    begun = [study for study in studies if {SETTINGS, STUDY_RUN_ID} <= set(study.user_attrs)]
    states = []
    for study in sorted(begun, key=_get_last_use, reverse=True):
        with suppress(StudyMismatchError):  # of another version; the others can be read
            states.append(_read_state(study))
    return tuple(states)


def read_grid_state(name: str, *, storage: str) -> GridState | None:
    """Return how far a study is; None where there is no such study, or it has not begun.

    Args:
        name: The study's name.
        storage: Its Optuna storage.

    Raises:
        SettingsError: The storage cannot be opened.
        StoreError: It does not answer.
        StudyMismatchError: A later version has made the study.
    """
    if not has_file(storage) or name not in read_study_names(storage):
        return None
    study = optuna.load_study(study_name=name, storage=open_storage(storage))
    return _read_state(study) if {SETTINGS, STUDY_RUN_ID} <= set(study.user_attrs) else None


def _read_state(study: optuna.Study) -> GridState:
    attributes = study.user_attrs
    try:
        settings = read_stored_settings(attributes[SETTINGS])
    except ValueError as error:
        raise StudyMismatchError(
            f"Study {study.study_name!r} was made by another version of this program: read it with that."
        ) from error
    trials = {find_cell(trial): trial for trial in study.get_trials(deepcopy=False) if holds_rank(trial)}
    trials |= {find_cell(trial): trial for trial in list_results(study)}
    drawn = tuple(cell for cell in trials if cell is not None)
    cells = order_cells(settings) if settings.sampler == "grid" and settings.trials is None else drawn
    return GridState(
        name=study.study_name,
        settings=settings.model_copy(update={"study": study.study_name}),
        run_id=str(attributes[STUDY_RUN_ID]),
        n_cells=count_ranks(settings),
        cells=tuple(_describe_cell(cell, trial=trials.get(cell)) for cell in cells),
        n_folds=settings.folds,
    )


def _describe_cell(cell: Cell, *, trial: FrozenTrial | None) -> CellView:
    if trial is None:
        return CellView(cell=cell, state="waiting", folds=(), value=None, reason="")
    state, attributes = STATES.get(trial.state, "waiting"), trial.user_attrs
    reason = attributes.get(PRUNE_REASON) or attributes.get(REASON) or ""
    return CellView(
        cell=cell,
        state=state,
        folds=tuple(value for _, value in sorted(trial.intermediate_values.items())),
        value=trial.value if state == "complete" else None,
        reason=str(reason) if state in ("pruned", "failed") else "",
    )


def _get_last_use(study: optuna.Study) -> float:
    """Return when a study was last worked on."""
    moments = [
        moment.timestamp()
        for trial in study.get_trials(deepcopy=False)
        for moment in (trial.datetime_start, trial.datetime_complete)
        if moment is not None
    ]
    return max(moments, default=0.0)
