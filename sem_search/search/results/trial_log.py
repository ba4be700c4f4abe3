"""The run of a trial in MLflow, made in one go when the trial ends, out of its finished folds.

Finished folds are on disk before they are reported or logged, so whatever was not logged can be logged later: there
is no second log. A search trains on while the tracking store is away. It logs the trials that were left out as soon as
the store answers again, and at its end it waits. The same holds for a store that was cleared, for another store or
experiment, and for runs that were deleted: a trial whose run is not there is logged again, and has one run that counts.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from sem_search.micrographs.tiles import FloatTiles
from sem_search.records import FinishedFold, TrainingCurves, TrialOutcome, TrialState
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import lock_stores
from sem_search.search.results.grad_cam_sheet import SheetTile, choose_sheet_tiles, explain_sheet, read_sheet_pixels
from sem_search.search.results.model import log_trial_model
from sem_search.search.results.outcome import list_runs, read_trial
from sem_search.search.results.run_description import describe_datasets, describe_trial_params
from sem_search.search.trials.attributes import CURVES, DAMAGED, RUN_ID, TRACEBACK, TRIAL_RUNS
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.ranks import get_rank
from sem_search.search.trials.results import OUTCOME_STATES, list_results
from sem_search.terminal import warn
from sem_search.tracking.entries.run_contents import (
    iter_curve_entries,
    iter_fold_entries,
    iter_trial_entries,
)
from sem_search.tracking.entries.types import Entry, Params, Tags, TextArtifact
from sem_search.tracking.mlflow.availability import ask_once, is_outage, look_at_store
from sem_search.tracking.mlflow.datasets import Datasets, log_datasets
from sem_search.tracking.mlflow.log import RunStatus, end_run, get_time_ms, log_entries, open_child_run
from sem_search.tracking.mlflow.models import ModelLink
from sem_search.tracking.mlflow.names import TAG_TRIAL
from sem_search.tracking.mlflow.runs import adopt_trial_runs, describe_trial, list_trial_runs, supersede_run

STATUSES: Mapping[TrialState, RunStatus] = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}
"""How the run of a trial ends: pruning is no failure, and MLflow would mark KILLED as one."""


@dataclass(kw_only=True)
class TrialLog:
    """Logs the trials of one study."""

    prepared: PreparedSearch
    study_run_id: str
    is_search: bool = True
    """Whether trials that were left out are logged here, too: a search does that, a helping worker does not."""
    is_away: bool = field(default=False, init=False)
    """Whether the tracking store was away the last time."""

    @cached_property
    def datasets(self) -> Datasets:
        """The study's data as MLflow names them."""
        return describe_datasets(self.prepared)

    @cached_property
    def sheet(self) -> tuple[tuple[SheetTile, ...], FloatTiles]:
        """The tiles that are explained in every trial, and their grey levels."""
        data = self.prepared.data
        sheet = choose_sheet_tiles(data.tiles, folds=data.folds)
        return sheet, read_sheet_pixels(data, sheet=sheet)

    def log_now(self, trial: optuna.Trial, *, state: TrialState) -> None:
        """Log a trial that is about to end; with the tracking store away, warn once and leave it out.

        Args:
            trial: Has reported its folds and has its attributes.
            state: How it ends.

        Raises:
            optuna.exceptions.UpdateFinishedTrialError: Another process has ended the trial meanwhile.
        """
        try:
            look_at_store()
            with ask_once():
                if self.is_away and self.is_search:
                    with lock_stores(self.prepared.settings):  # a second search of this study would log them, too
                        self.log_missing(trial.study)
                frozen = trial.study.get_trials(deepcopy=False)[trial.number]
                self._log(
                    frozen, study=trial.study, state=state, sign=lambda run_id: trial.set_user_attr(RUN_ID, run_id)
                )
        except Exception as error:
            if not is_outage(error):
                raise
            if not self.is_away:
                warn(
                    "The tracking store does not answer. Training goes on; finished trials are logged when it is back."
                )
            self.is_away = True
        else:
            self._warn_of_return()

    def adopt_runs(self, study: optuna.Study) -> None:
        """Put the runs of finished trials below the study's run."""
        runs = (list_runs(trial, study=study)[-1:] for trial in list_results(study))
        adopt_trial_runs(
            {run_id for one in runs for run_id in one}, study=self.prepared.name, parent_run_id=self.study_run_id
        )

    def log_missing(self, study: optuna.Study) -> int:
        """Let every result of a study have one run below the study's run; return how many had none.

        Cost: one search of MLflow where all are there; else the figures and the model of each trial, as at its end.
        Done again after an outage, it goes on where it was.
        """
        there: dict[tuple[str, str], list[str]] = {}
        for run_id, what in list_trial_runs(study=self.prepared.name, near_run_id=self.study_run_id).items():
            there.setdefault(what, []).append(run_id)
        found, missing = {}, []
        for trial in list_results(study):
            runs = there.get((str(trial.number), OUTCOME_STATES[trial.state]), [])
            known = list_runs(trial, study=study)
            if runs:
                # Prefer the latest run that the study has recorded; a database restored from a backup may not know it.
                found[trial.number] = next((run_id for run_id in reversed(known) if run_id in runs), runs[0])
            else:
                missing.append(trial)
        for number, run_id in found.items():
            _sign(study, run_id, number=number)
        adopt_trial_runs(set(found.values()), study=self.prepared.name, parent_run_id=self.study_run_id)
        if missing:
            warn(f"Finished trials without a run in this experiment: {len(missing)}; they are logged now.")
        for trial in missing:
            sign = partial(_sign, study, number=trial.number)
            self._log(trial, study=study, state=OUTCOME_STATES[trial.state], sign=sign)
        self._warn_of_return()
        return len(missing)

    def _warn_of_return(self) -> None:
        if self.is_away:
            warn("The tracking store answers again.")
        self.is_away = False

    def _log(self, trial: FrozenTrial, *, study: optuna.Study, state: TrialState, sign: Callable[[str], None]) -> None:
        """Make a trial's run, and `sign` its id as soon as it is open: it is remembered then as the trial's.

        One that an attempt before has begun is superseded, and so is this one if it is cut off.
        """
        attempts = [run_id for one in _list_attempts(trial, study=study) for run_id in list_runs(one, study=study)]
        earlier = list_runs(trial, study=study)
        outcome, folds = read_trial(trial, store=self.prepared.store, state=state)
        if len(folds) < len(trial.intermediate_values):
            return  # lost on disk since: a search trains them again at its end, and logs the trial then
        end_ms = get_time_ms(trial.datetime_complete)
        run_id = open_child_run(
            parent_run_id=self.study_run_id,
            name=outcome.cell.name if state == "complete" else f"{outcome.cell.name} ({state})",
            tags={
                **describe_trial(study=self.prepared.name, cell=outcome.cell.name, process=describe_process()),
                TAG_TRIAL: str(trial.number),
            },
            start_ms=get_time_ms(trial.datetime_start),
        )
        outcome = replace(outcome, run_id=run_id)
        try:
            sign(run_id)
            log_datasets(self.datasets, run_id=run_id)
            link = None  # the scores of a complete trial are linked with its model
            if state == "complete":
                model_id = log_trial_model(self.prepared, outcome=outcome, finished_folds=folds, run_id=run_id)
                link = ModelLink(model_id=model_id, datasets=self.datasets)
            entries = self._iter_entries(outcome, trial=trial, folds=folds)
            log_entries(entries, run_id=run_id, time_ms=end_ms, link=link)
            for other in attempts:
                supersede_run(other, by=run_id)
            for other in earlier:  # a complete run in another experiment stays valid there
                supersede_run(other, by=run_id, is_whole_spared=True)
            end_run(run_id, status=STATUSES[state], end_ms=end_ms)  # the last call: what is ended is done
        except BaseException:
            self._give_up(run_id)
            raise

    def _give_up(self, run_id: str) -> None:
        """End a run that was cut off; with the store away that is left to the next attempt."""
        try:
            supersede_run(run_id, by=self.study_run_id)
        except Exception as error:
            if not is_outage(error):
                raise

    def _iter_entries(
        self, outcome: TrialOutcome, *, trial: FrozenTrial, folds: tuple[FinishedFold, ...]
    ) -> Iterator[Entry]:
        """Yield all of a trial but its model."""
        tiles, attributes = self.prepared.data.tiles, trial.user_attrs
        yield Params(values=describe_trial_params(self.prepared, cell=outcome.cell))
        heat_maps = None
        if outcome.state == "complete":
            sheet, pixels = self.sheet
            heat_maps = explain_sheet(self.prepared, finished_folds=folds, sheet=sheet, pixels=pixels)
        # First: MLflow's parallel coordinates begin with the first metric that all runs have, the objective.
        yield from iter_trial_entries(
            outcome, tiles=tiles, select_on=self.prepared.settings.select_on, heat_maps=heat_maps
        )
        for fold in outcome.folds:
            yield from iter_fold_entries(fold, tiles=tiles)
        if CURVES in attributes:
            number, curves = read_curves(attributes[CURVES])
            yield from iter_curve_entries(curves, fold=number)
        for number, warning in attributes.get(DAMAGED, {}).items():
            yield Tags(values={f"sem_search.damaged_fold.{number}": warning})
        if TRACEBACK in attributes:
            yield TextArtifact(path="traceback.txt", text=attributes[TRACEBACK])


def write_curves(curves: TrainingCurves, *, fold: int) -> str:
    """Return the curves of a fold within which its cell was pruned, as JSON."""
    return json.dumps({"fold": fold, **{name: values.tolist() for name, values in vars(curves).items()}})


def read_curves(text: str) -> tuple[int, TrainingCurves]:
    """Return the number and the curves of a fold within which its cell was pruned."""
    content = json.loads(text)
    return content.pop("fold"), TrainingCurves(**{name: np.array(values) for name, values in content.items()})


def _list_attempts(trial: FrozenTrial, *, study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials of this rank before this one: they were given up."""
    trials = study.get_trials(deepcopy=False)[: trial.number]
    return [one for one in trials if get_rank(one) == get_rank(trial)]


def _sign(study: optuna.Study, run_id: str, *, number: int) -> None:
    """Remember which run counts for a trial that has ended: its own attributes cannot be changed any more."""
    runs = study.user_attrs.get(TRIAL_RUNS, {})
    known = list_runs(study.get_trials(deepcopy=False)[number], study=study)
    if known[-1:] != [run_id]:
        later = [one for one in runs.get(str(number), []) if one != run_id]
        study.set_user_attr(TRIAL_RUNS, {**runs, str(number): [*later, run_id]})
