"""The end of a search: the winner chosen, drawn, reported and registered."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

import sem_search
from sem_search.deployment.registry import GateRule, RegisteredVersion, register_winner
from sem_search.errors import StoreError
from sem_search.evaluation.metrics import SplitScores, compute_split_scores
from sem_search.places import STORE_FILE, find_sqlite_file
from sem_search.records import FinishedFold, StudyOutcome
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.results.grad_cam_sheet import choose_sheet_tiles, explain_sheet, read_sheet_pixels
from sem_search.search.results.mistakes import show_mistakes
from sem_search.search.results.model import MODEL_PATH
from sem_search.search.results.optuna_page import build_optuna_page
from sem_search.search.results.outcome import list_runs, read_finished_folds, read_study_outcome
from sem_search.search.results.run_description import describe_hashes, describe_params, describe_versions
from sem_search.search.trials.space import order_cells
from sem_search.settings import list_arguments
from sem_search.tracking.entries.context import ExampleImage, HeatMapSheet, StudyContext, TilingExample
from sem_search.tracking.entries.run_contents import iter_study_entries
from sem_search.tracking.mlflow.log import get_time_ms, log_entries
from sem_search.tracking.mlflow.runs import get_tracking_uri
from sem_search.transfer.heads.training import HeadTrainer

SCRIPT = Path(sem_search.__file__).parents[1] / "scripts" / "sem-search"
"""What starts this program from a checkout, with its own environment; installed, it has a name of its own."""

SHOWN_SIDE_PX = 480
"""Originals are shown reduced to about this width: a report of ten classes stays a few MB."""


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What the search ends with."""

    outcome: StudyOutcome
    validation: SplitScores
    test: SplitScores
    registered: RegisteredVersion
    run_id: str

    def to_text(self) -> str:
        """Return the last lines that a search prints."""
        cell, version = self.outcome.winner.cell, self.registered
        command = find_command()
        model = (
            f"models:/{version.name}@{version.alias}" if version.alias else f"models:/{version.name}/{version.version}"
        )
        return "\n".join(
            [
                "",
                f"Winner of study {self.outcome.name}: learning rate {cell.learning_rate:g}, "
                f"batch size {cell.batch_size} (chosen on {self.outcome.select_on} tiles).",
                f"  F-measure, mean over {len(self.outcome.winner.folds)} folds: "
                f"validation {self.validation.f_measure:.4f}, test {self.test.f_measure:.4f}; "
                f"whole test images {self.test.image_f_measure:.4f}.",
                f"  Registered as {version.name} version {version.version}, {version.reason}",
                f"See every trial:  {_find_runs()}",
                f"Classify images:  {command} predict IMAGES... --model {model}",
                f"A page for it:    {command} app --model {model}",
                f"Serve it:         {command} serve --model {model}",
                f"  or, bare:       {find_mlflow()} models serve -m {model} --env-manager local -p 5001",
                f"Read the report:  artifacts of run {self.run_id}, report.html",
            ]
        )


def find_command() -> str:
    """Return what starts this program from the current folder, as a shell takes it."""
    return _show(SCRIPT) if SCRIPT.is_file() else "sem-search"


def find_mlflow() -> str:
    """Return what starts MLflow: in a checkout whose environment is not activated, no path leads to it."""
    own = Path(sys.executable).with_name("mlflow")
    is_on_path = "VIRTUAL_ENV" in os.environ or not SCRIPT.is_file() or not own.is_file()
    return "mlflow" if is_on_path else _show(own)


def _show(program: Path) -> str:
    is_here = program.is_relative_to(Path.cwd())
    return shlex.quote(str(program.relative_to(Path.cwd()) if is_here else program))


def _find_runs() -> str:
    """Return where the user sees the runs: on the tracking server, if there is one."""
    uri = get_tracking_uri()
    if uri.startswith("http"):
        return uri
    if find_sqlite_file(uri) == Path.cwd() / STORE_FILE:
        return f"{find_mlflow()} ui     (in this folder, then http://127.0.0.1:5000)"
    return f"{find_mlflow()} ui --backend-store-uri {shlex.quote(uri)}     (then http://127.0.0.1:5000)"


def conclude_study(study: optuna.Study, *, prepared: PreparedSearch, trainer: HeadTrainer, run_id: str) -> Conclusion:
    """Choose the winner, log the study's figures and report, and register the winner's model.

    Args:
        study: With at least one complete trial.
        prepared: Data, settings and the store of finished folds.
        trainer: Of the same data and settings.
        run_id: Of the study's run.
    """
    outcome = read_study_outcome(study, prepared=prepared)
    validation = compute_split_scores(outcome.winner, tiles=outcome.tiles, split="validation")
    test = compute_split_scores(outcome.winner, tiles=outcome.tiles, split="test")
    trial = study.get_trials(deepcopy=False)[outcome.winner.number]
    registered = _register(
        outcome,
        prepared=prepared,
        validation=validation,
        test=test,
        earlier_run_ids=list_runs(trial, study=study),
    )
    context = _describe_study(outcome, prepared=prepared, trainer=trainer, registered=registered, run_id=run_id)
    ended = [one.datetime_complete for one in study.get_trials(deepcopy=False) if one.datetime_complete is not None]
    # The same time whenever this is done again, so that the numbers count once.
    log_entries(iter_study_entries(outcome, context=context), run_id=run_id, time_ms=get_time_ms(max(ended)))
    log_entries([build_optuna_page(study)], run_id=run_id)
    return Conclusion(outcome=outcome, validation=validation, test=test, registered=registered, run_id=run_id)


def _register(
    outcome: StudyOutcome,
    *,
    prepared: PreparedSearch,
    validation: SplitScores,
    test: SplitScores,
    earlier_run_ids: Sequence[str],
) -> RegisteredVersion:
    winner = outcome.winner
    if winner.run_id is None:
        raise StoreError(f"The winning trial {winner.number} of study {outcome.name!r} has no MLflow run.")
    chosen = validation if outcome.select_on == "validation" else test
    return register_winner(
        model_uri=f"runs:/{winner.run_id}/{MODEL_PATH}",
        run_id=winner.run_id,
        model_name=prepared.settings.resolved_model_name,
        score=chosen.f_measure,
        data_digest=prepared.data.catalogue.digest,
        folds_digest=prepared.data.folds.digest,
        tags={
            **describe_hashes(prepared),
            "sem_search.study": outcome.name,
            "sem_search.backbone": outcome.backbone,
            "sem_search.weights_used": prepared.network.weights.used,
            "sem_search.select_on": outcome.select_on,
            "sem_search.validation_f_measure": f"{validation.f_measure:.6f}",
            "sem_search.test_f_measure": f"{test.f_measure:.6f}",
            "sem_search.learning_rate": f"{winner.cell.learning_rate:g}",
            "sem_search.batch_size": str(winner.cell.batch_size),
        },
        earlier_run_ids=earlier_run_ids,
        rule=GateRule(margin=prepared.settings.promote_margin, confidence=prepared.settings.promote_confidence),
    )


def _describe_study(
    outcome: StudyOutcome,
    *,
    prepared: PreparedSearch,
    trainer: HeadTrainer,
    registered: RegisteredVersion,
    run_id: str,
) -> StudyContext:
    """Gather what the figures and the report need beside the predictions."""
    examples = _read_examples(prepared)
    finished_folds = read_finished_folds(prepared, cell=outcome.winner.cell)
    alias = registered.alias
    return StudyContext(
        data=prepared.settings.data,
        cells=order_cells(prepared.settings) if prepared.settings.sampler == "grid" else (),
        examples=examples,
        tiling=_describe_tiling(prepared, example=examples[0]),
        folds=prepared.data.folds.folds,
        heat_maps=_explain_winner(prepared, trainer=trainer, finished_folds=finished_folds),
        mistakes=show_mistakes(outcome, prepared=prepared, trainer=trainer, finished_folds=finished_folds),
        findings=tuple(finding.message for finding in prepared.data.findings),
        confounds=tuple(finding.kind for finding in prepared.data.findings if finding.is_confound),
        warnings=prepared.warnings,
        settings=describe_params(prepared),
        versions=describe_versions(),
        hashes=describe_hashes(prepared),
        model_uri=f"models:/{registered.name}@{alias}" if alias else f"models:/{registered.name}/{registered.version}",
        run_id=run_id,
        command=find_command(),
        arguments=list_arguments(prepared.settings),
        tracking_uri=get_tracking_uri(),
    )


def _explain_winner(
    prepared: PreparedSearch, *, trainer: HeadTrainer, finished_folds: tuple[FinishedFold, ...]
) -> HeatMapSheet:
    sheet = choose_sheet_tiles(prepared.data.tiles, folds=prepared.data.folds)
    return explain_sheet(
        prepared,
        trainer=trainer,
        finished_folds=finished_folds,
        sheet=sheet,
        pixels=read_sheet_pixels(prepared.data, sheet=sheet),
    )


def _read_examples(prepared: PreparedSearch) -> tuple[ExampleImage, ...]:
    """Return the first original of each class, reduced by leaving out rows and columns."""
    examples = []
    for label in prepared.data.tiles.class_names:
        record = next(record for record in prepared.data.catalogue.records if record.label == label)
        pixels = prepared.data.catalogue.read_image(record)
        step = max(1, round(pixels.shape[1] / SHOWN_SIDE_PX))
        examples.append(
            ExampleImage(
                image_id=record.image_id,
                label=label,
                pixels=np.ascontiguousarray(pixels[::step, ::step]),
                width_px=record.width_px,
                height_px=record.height_px,
                pixel_size_nm=record.pixel_size_nm,
            )
        )
    return tuple(examples)


def _describe_tiling(prepared: PreparedSearch, *, example: ExampleImage) -> TilingExample:
    grid = prepared.data.grid
    return TilingExample(
        image=example,
        tile_px=grid.size_px,
        corners_px=tuple(grid.iter_corners(example.height_px, example.width_px)),
    )
