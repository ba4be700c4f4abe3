"""One trial: a cell trained on every fold, each fold kept on disk before it is told of, the whole logged as one run."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import optuna

from sem_search.deployment.packaging import log_classifier
from sem_search.errors import FailedTrialError
from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.evaluation.outcomes import Cell, FoldOutcome, TrainingCurves, TrialOutcome, TrialState
from sem_search.micrographs.folds import Fold
from sem_search.search.explaining import draw_heat_map_sheet
from sem_search.search.fold_store import FoldStore, KeptFold
from sem_search.search.prepared import PreparedSearch
from sem_search.search.processes import describe_process
from sem_search.search.progress import SearchProgress
from sem_search.search.space import suggest_cell
from sem_search.search.study import PROCESS, QUEUED, RUN_ID, find_known_result
from sem_search.tracking.entries import iter_fold_entries, iter_trial_entries
from sem_search.tracking.mlflow_log import end_run, log_entries
from sem_search.tracking.runs import open_trial_run, supersede_run
from sem_search.transfer.training import FoldTraining, HeadTrainer

SURPLUS = "no cell was left in the queue when this trial began"


@dataclass(kw_only=True)
class CellObjective:
    """Optuna's objective: the mean F-measure of a cell over its folds.

    Cost: one head trained per fold that is not on disk yet, and one logged model per finished cell.
    """

    prepared: PreparedSearch
    trainer: HeadTrainer
    store: FoldStore
    study_run_id: str
    progress: SearchProgress
    params: Mapping[str, str] = field(default_factory=dict)
    """Settings to repeat in every trial's run, so that the UI can compare runs of several studies."""

    def __call__(self, trial: optuna.Trial) -> float:
        """Return the objective of the trial's cell, in [0, 1].

        Raises:
            optuna.TrialPruned: The pruner ended the cell, now or in an earlier trial.
            FailedTrialError: This cell cannot be trained here; the study goes on.
        """
        settings = self.prepared.settings
        if settings.sampler == "grid" and QUEUED not in trial.user_attrs:
            raise FailedTrialError(SURPLUS)
        cell = suggest_cell(trial, settings=settings)
        known = find_known_result(trial.study, cell=cell, before=trial.number)
        if known is not None:
            return self._repeat(known, trial=trial)
        return _LoggedTrial(objective=self, trial=trial, cell=cell).run()

    def _repeat(self, known: optuna.trial.FrozenTrial, *, trial: optuna.Trial) -> float:
        """A cell that a sampler draws again takes its known result, and no run of its own."""
        trial.set_user_attr("repeats", known.number)
        self.progress.skip_folds(self.prepared.settings.folds)
        if known.value is None or known.state == optuna.trial.TrialState.PRUNED:
            raise optuna.TrialPruned(f"trial {known.number} of the same cell was pruned")
        return float(known.value)


@dataclass(kw_only=True)
class _LoggedTrial:
    """The way of one trial through its folds, with its MLflow run."""

    objective: CellObjective
    trial: optuna.Trial
    cell: Cell
    outcomes: list[FoldOutcome] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def run(self) -> float:
        run_id = self._open_run()
        status: str = "FAILED"
        try:
            self._run_folds(run_id)
            self._log_end(run_id, state="complete", message=None)
            status = "FINISHED"
        except optuna.TrialPruned as error:
            self._log_end(run_id, state="pruned", message=str(error))
            status = "KILLED"
            raise
        except FailedTrialError:
            self._log_end(run_id, state="failed", message=traceback.format_exc())
            raise
        except (KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        finally:
            end_run(run_id, status=status)
        return float(np.mean(self.values))

    def _open_run(self) -> str:
        """Open a run for the trial; one that a killed process left behind is superseded, its folds are kept."""
        left_behind = self.trial.user_attrs.get(RUN_ID)
        process = describe_process()
        self.trial.set_user_attr(PROCESS, process)
        run_id = open_trial_run(
            parent_run_id=self.objective.study_run_id,
            study=self.objective.prepared.name,
            name=self.cell.name,
            process=process,
        )
        if left_behind is not None:
            supersede_run(left_behind, by=run_id)
        self.trial.set_user_attr(RUN_ID, run_id)
        return run_id

    def _run_folds(self, run_id: str) -> None:
        prepared = self.objective.prepared
        known_steps = {}
        for fold in prepared.data.folds.folds:
            kept = self._obtain_fold(fold)
            self.outcomes.append(kept.outcome)
            log_entries(iter_fold_entries(kept.outcome, tiles=prepared.data.tiles), run_id=run_id)
            value = compute_fold_f_measure(
                kept.outcome, tiles=prepared.data.tiles, side=prepared.settings.select_on
            )
            self.values.append(value)
            self._report(value, fold=fold.number)

    def _report(self, value: float, *, fold: int) -> None:
        """Tell Optuna; a trial that was taken up again has told its first folds already."""
        n_folds = self.objective.prepared.settings.folds
        frozen = self.trial.study.get_trials(deepcopy=False)[self.trial.number]
        if fold not in frozen.intermediate_values:
            self.trial.report(value, step=fold)
        if fold + 1 < n_folds and self.trial.should_prune():
            self.objective.progress.skip_folds(n_folds - fold - 1)
            raise optuna.TrialPruned(f"after fold {fold + 1} of {n_folds}: worse than the best cell on the same folds")
