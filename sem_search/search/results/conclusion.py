"""The end of a search: the winner chosen, drawn, reported and registered."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from sem_search.deployment.registry import GateRule, RegisteredVersion, register_winner
from sem_search.errors import StoreError
from sem_search.evaluation.metrics import SplitScores, compute_split_scores
from sem_search.programs import find_command
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
from sem_search.tracking.mlflow.links import format_links, link_run, link_version
from sem_search.tracking.mlflow.log import get_time_ms, log_entries
from sem_search.tracking.mlflow.runs import get_tracking_uri
from sem_search.transfer.heads.training import HeadTrainer

COLUMNS = 80
"""Of a terminal."""

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
    links: Mapping[str, str]
    """Addresses of MLflow's pages by what they show."""
    was_finished: bool = False
    """Whether all was there before this search, so that nothing was trained."""

    def to_text(self) -> str:
        """Return the last lines that a search prints."""
        name, cell, version, command = self.outcome.name, self.outcome.winner.cell, self.registered, find_command()
        lines = [f"Study {name} was finished: nothing was trained.", ""] if self.was_finished else []
        lines += [
            f"Winner of study {name}: learning rate {cell.learning_rate:g}, batch size {cell.batch_size}",
            f"  F-measure on tiles: validation {self.validation.f_measure:.4f}, test {self.test.f_measure:.4f}; "
            f"chosen on {self.outcome.select_on}",
            *_wrap(f"  Registered as {version.name} version {version.version}, {version.reason}"),
            "",
            format_links(self.links),
            "",
            f"Classify images:  {command} predict IMAGES... --model {version.uri}",
            f"A page for it:    {command} app --model {version.uri}",
            f"Serve it:         {command} serve --model {version.uri}",
        ]
        return "\n".join(["", *lines])


def _wrap(text: str) -> list[str]:
    """Return a sentence as lines of a terminal; what follows the first line is indented."""
    return textwrap.wrap(text, COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


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
    return Conclusion(
        outcome=outcome,
        validation=validation,
        test=test,
        registered=registered,
        run_id=run_id,
        links={
            "study": link_run(run_id),
            "report": link_run(run_id, artifact="report.html"),
            "model": link_version(registered.name, registered.version),
        },
    )


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
        model_uri=registered.uri,
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
