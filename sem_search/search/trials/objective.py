"""One trial: a cell trained on every fold, each fold kept on disk before it is told of, the whole logged as one run."""

import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import optuna

from sem_search.errors import FailedTrialError, HeldUpError
from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.micrographs.folds import Fold
from sem_search.micrographs.tiles import FloatTiles
from sem_search.records import Cell, FinishedFold, TrialOutcome
from sem_search.search.folds.train import FoldSource, LocalFolds
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.pruning.course import CellCourse
from sem_search.search.pruning.curve_extrapolation import ACCURACIES, FoldRace, get_accuracy
from sem_search.search.pruning.in_order import CellJudge
from sem_search.search.results.grad_cam_sheet import SheetTile, explain_sheet
from sem_search.search.results.model import log_trial_model
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.search.trials.space import suggest_cell
from sem_search.search.trials.stale_trials import PROCESS, TrialWatch
from sem_search.search.trials.study import QUEUED, REASON, RUN_ID, find_earlier_trial
from sem_search.secrets import mask_secrets
from sem_search.tracking.entries.generate import (
    iter_cell_entries,
    iter_curve_entries,
    iter_fold_entries,
    iter_trial_entries,
)
from sem_search.tracking.entries.types import Scalar, Tags, TextArtifact
from sem_search.tracking.mlflow.log import RunStatus, end_run, log_entries, open_child_run
from sem_search.tracking.mlflow.runs import describe_trial, supersede_run
from sem_search.transfer.heads.training import HeadTrainer

SURPLUS = "no cell was left in the queue when this trial began"

WAIT_S = 1.0
"""Between two looks at the trials that this one waits for."""


@dataclass(frozen=True, kw_only=True)
class CellObjective:
    """Optuna's objective: the mean F-measure of a cell over its folds.

    Cost: one head trained for each fold that is not on disk yet, and one logged model per finished cell.
    """

    prepared: PreparedSearch
    trainer: HeadTrainer
    study_run_id: str
    progress: SearchProgress
    sheet: tuple[SheetTile, ...]
    sheet_pixels: FloatTiles
    params: Mapping[str, Scalar]
    """What every trial's run repeats of the study's settings, so that the UI can compare runs of several studies."""
    source: FoldSource | None = None
    """Where finished folds come from; by default they are trained in this process."""
    watch: TrialWatch = field(default_factory=TrialWatch)
    """Tells dead workers from living ones while this one waits for another's trial."""

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
        known = self._find_known(trial, cell=cell)
        if known is not None:
            return self._repeat(known, trial=trial)
        value = self._run(trial, cell=cell)
        self.progress.show_trial(f"{cell.name}: F {value:.4f} ({settings.select_on} tiles)", value=value)
        return value

    def _find_known(self, trial: optuna.Trial, *, cell: Cell) -> optuna.trial.FrozenTrial | None:
        """Return the finished trial that has this cell already; one that another worker is training is waited for.

        Raises:
            HeldUpError: The earlier trial waits in the queue.
        """
        while True:
            earlier = find_earlier_trial(trial.study, cell=cell, before=trial.number)
            if earlier is None or earlier.state.is_finished():
                return earlier
            if earlier.user_attrs.get(PROCESS) == describe_process():
                return None  # nobody waits for himself
            if earlier.state == optuna.trial.TrialState.WAITING:
                raise HeldUpError("an earlier trial of the same cell is to be trained first")
            trial.set_user_attr(PROCESS, describe_process())  # unsigned, it would pass for dead
            self.watch.take_back_dead(trial.study)
            time.sleep(WAIT_S)

    def _repeat(self, known: optuna.trial.FrozenTrial, *, trial: optuna.Trial) -> float:
        """A cell that a sampler draws again takes its known result, and gets no run of its own."""
        trial.set_user_attr("repeats", known.number)
        self.progress.skip_folds(self.prepared.settings.folds)
        if known.value is None or known.state == optuna.trial.TrialState.PRUNED:
            raise optuna.TrialPruned(f"trial {known.number} of the same cell was pruned")
        return float(known.value)

    def _run(self, trial: optuna.Trial, *, cell: Cell) -> float:
        """Train the cell and log it: FINISHED, KILLED when pruned or interrupted, FAILED with its traceback."""
        settings = self.prepared.settings
        judge = CellJudge(trial.study, number=trial.number, settings=settings)
        with self._open_run(trial, cell=cell) as run_id:
            course = CellCourse(
                judge=judge, n_folds=settings.folds, accept=lambda kept: self._accept_fold(trial, kept, run_id=run_id)
            )
            try:
                value = self._run_folds(trial, cell=cell, run_id=run_id, course=course, judge=judge)
            except optuna.TrialPruned as error:
                trial.set_user_attr(REASON, str(error))
                self._log_end(
                    trial, cell=cell, run_id=run_id, finished_folds=course.accepted, pruned_because=str(error)
                )
                raise
            except FailedTrialError:
                self.progress.skip_folds(settings.folds - course.n_finished)
                raise
            self._log_end(trial, cell=cell, run_id=run_id, finished_folds=course.accepted)
        return value

    @contextmanager
    def _open_run(self, trial: optuna.Trial, *, cell: Cell) -> Iterator[str]:
        """Give the trial a run; one that a killed process left behind is superseded, its finished folds are used."""
        process = describe_process()
        trial.set_user_attr(PROCESS, process)
        run_id = open_child_run(
            parent_run_id=self.study_run_id,
            name=cell.name,
            tags=describe_trial(study=self.prepared.name, cell=cell.name, process=process),
        )
        left_behind = trial.user_attrs.get(RUN_ID)
        if left_behind is not None:
            supersede_run(left_behind, by=run_id)
        trial.set_user_attr(RUN_ID, run_id)
        status: RunStatus = "FAILED"
        try:
            yield run_id
            status = "FINISHED"
        except (optuna.TrialPruned, HeldUpError, KeyboardInterrupt, SystemExit):
            status = "KILLED"
            raise
        except Exception as error:
            trial.set_user_attr(REASON, mask_secrets(f"{type(error).__name__}: {error}"))
            log_entries([TextArtifact(path="traceback.txt", text=traceback.format_exc())], run_id=run_id)
            raise
        finally:
            end_run(run_id, status=status)

    def _run_folds(
        self, trial: optuna.Trial, *, cell: Cell, run_id: str, course: CellCourse, judge: CellJudge
    ) -> float:
        """Train fold after fold; return the mean F-measure."""
        n_folds = self.prepared.settings.folds
        log_entries(iter_cell_entries(cell, trial=trial.number, settings=self.params), run_id=run_id)
        try:
            for fold in self.prepared.data.folds.folds:
                self._warn_of_damage(cell=cell, fold=fold, run_id=run_id)
                self._run_fold(cell=cell, fold=fold, course=course)
            self._wait_for_judge(trial, judge=judge)
            course.settle()
        except optuna.TrialPruned:
            where = f"after {len(course.accepted)} folds"
            if course.ended is not None:
                where = f"in fold {course.ended.fold + 1}"
                log_entries(iter_curve_entries(course.ended.curves, fold=course.ended.fold), run_id=run_id)
            self.progress.skip_folds(n_folds - course.n_finished)
            self.progress.show_trial(f"{cell.name}: pruned {where}", value=None)
            raise
        trial.set_user_attr(ACCURACIES, [get_accuracy(kept.outcome) for kept in course.accepted])
        return float(np.mean(course.values))

    def _run_fold(self, *, cell: Cell, fold: Fold, course: CellCourse) -> None:
        """Bring one fold onto the course."""
        race = FoldRace(
            fold=fold.number,
            n_epochs=self.prepared.settings.epochs,
            n_tiles=len(self.prepared.data.tiles.get_tiles_of(fold.validation)),
        )
        course.begin_fold(race)
        course.finish_fold(self._get_source().obtain(cell=cell, fold=fold, course=course))

    def _warn_of_damage(self, *, cell: Cell, fold: Fold, run_id: str) -> None:
        """Say that a kept fold is not what was written, and will be trained again."""
        if self.prepared.store.is_damaged(cell=cell, fold=fold.number):
            warning = f"{cell.name}, fold {fold.number + 1}, was damaged on disk and is trained again"
            self.progress.show_trial(f"Warning: {warning}.", value=None)
            log_entries([Tags(values={f"sem_search.damaged_fold.{fold.number}": warning})], run_id=run_id)

    def _accept_fold(self, trial: optuna.Trial, kept: FinishedFold, *, run_id: str) -> float:
        """Log and report a fold; return its F-measure."""
        prepared = self.prepared
        log_entries(iter_fold_entries(kept.outcome, tiles=prepared.data.tiles), run_id=run_id)
        value = compute_fold_f_measure(kept.outcome, tiles=prepared.data.tiles, split=prepared.settings.select_on)
        told = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if kept.outcome.fold not in told:  # a trial that is taken up again has told its first folds already
            trial.report(value, step=kept.outcome.fold)
        return value

    def _wait_for_judge(self, trial: optuna.Trial, *, judge: CellJudge) -> None:
        """Wait until every earlier trial has ended.

        Raises:
            HeldUpError: One of them waits in the queue: this one gives way, and keeps its finished folds.
        """
        while not judge.is_settled:
            self.watch.take_back_dead(trial.study)
            if judge.is_held_up:
                raise HeldUpError("an earlier trial is to be trained first")
            time.sleep(WAIT_S)

    def _get_source(self) -> FoldSource:
        return self.source or LocalFolds(prepared=self.prepared, trainer=self.trainer, progress=self.progress)

    def _log_end(
        self,
        trial: optuna.Trial,
        *,
        cell: Cell,
        run_id: str,
        finished_folds: list[FinishedFold],
        pruned_because: str | None = None,
    ) -> None:
        """Log what a trial found out."""
        outcome = TrialOutcome(
            number=trial.number,
            cell=cell,
            state="complete" if pruned_because is None else "pruned",
            folds=tuple(kept.outcome for kept in finished_folds),
            run_id=run_id,
            message=pruned_because,
        )
        log_trial_end(
            outcome,
            prepared=self.prepared,
            trainer=self.trainer,
            finished_folds=tuple(finished_folds),
            sheet=self.sheet,
            sheet_pixels=self.sheet_pixels,
            run_id=run_id,
        )


def log_trial_end(
    outcome: TrialOutcome,
    *,
    prepared: PreparedSearch,
    trainer: HeadTrainer,
    finished_folds: tuple[FinishedFold, ...],
    sheet: tuple[SheetTile, ...],
    sheet_pixels: FloatTiles,
    run_id: str,
) -> None:
    """Log what a trial found out; a complete one with its Grad-CAM sheet and its servable model.

    Args:
        outcome: Of the trial.
        prepared: The search.
        trainer: Of its heads; nothing is trained.
        finished_folds: The finished folds of the trial's cell, all of them where it is complete.
        sheet: The tiles to be explained.
        sheet_pixels: Their grey levels, shape (n_tiles, tile_px, tile_px).
        run_id: The trial's run.
    """
    is_complete = outcome.state == "complete"
    outcome = replace(outcome, run_id=run_id)
    heat_maps = None
    if is_complete:
        heat_maps = explain_sheet(
            prepared, trainer=trainer, finished_folds=finished_folds, sheet=sheet, pixels=sheet_pixels
        )
    log_entries(iter_trial_entries(outcome, tiles=prepared.data.tiles, heat_maps=heat_maps), run_id=run_id)
    if is_complete:
        log_trial_model(prepared, outcome=outcome, trainer=trainer, finished_folds=finished_folds, run_id=run_id)
