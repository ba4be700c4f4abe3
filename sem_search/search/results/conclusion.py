"""The end of a search: the winner chosen, drawn, reported and registered."""

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna

from sem_search.deployment.registry import (
    TAG_AT_CHANCE,
    TAG_HEADLINE,
    TAG_PIXEL_SIZE,
    GateRule,
    RegisteredVersion,
    register_winner,
)
from sem_search.errors import StoreError
from sem_search.evaluation.baselines import compare_baselines
from sem_search.evaluation.metrics import SplitScores, compute_split_scores
from sem_search.micrographs.inspection.inspect import Finding
from sem_search.micrographs.one_pixel_size import has_common_size
from sem_search.places import REPORT
from sem_search.programs import find_command
from sem_search.records import FinishedFold, StudyOutcome
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import write_report
from sem_search.search.results.baselines import get_baselines
from sem_search.search.results.descriptions import describe_study_runs
from sem_search.search.results.grad_cam_sheet import choose_sheet_tiles, explain_sheet, read_sheet_pixels
from sem_search.search.results.mistakes import show_mistakes
from sem_search.search.results.model import log_refit
from sem_search.search.results.optuna_page import build_optuna_page
from sem_search.search.results.outcome import list_runs, read_finished_folds, read_study_outcome
from sem_search.search.results.run_description import (
    describe_hashes,
    describe_machine,
    describe_params,
    describe_versions,
)
from sem_search.search.trials.attributes import MACHINE, VERSIONS
from sem_search.search.trials.space import order_cells
from sem_search.settings import list_arguments, write_value
from sem_search.tracking.entries.context import ExampleImage, HeatMapSheet, StudyContext, TilingExample
from sem_search.tracking.entries.run_contents import iter_study_entries
from sem_search.tracking.entries.trust import compute_trust
from sem_search.tracking.entries.types import FigureArtifact, TextArtifact
from sem_search.tracking.mlflow.availability import get_tracking_uri
from sem_search.tracking.mlflow.links import format_links, link_run, link_version
from sem_search.tracking.mlflow.log import get_time_ms, log_entries
from sem_search.tracking.mlflow.runs import read_audit_light, read_learning_curve
from sem_search.tracking.report.verdict import Score, Verdict, compute_score, compute_verdict

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
    verdict: Verdict
    report_file: Path
    """The report, beside the study's finished folds."""
    links: Mapping[str, str]
    """Addresses of MLflow's pages by what they show."""
    figures: tuple[FigureArtifact, ...]
    """The study's figures, drawn already: those of the report."""
    was_finished: bool = False
    """Whether all was there before this search, so that nothing was trained."""

    def to_text(self) -> str:
        """Return the last lines that a search prints."""
        name, cell, version, command = self.outcome.name, self.outcome.winner.cell, self.registered, find_command()
        model = shlex.quote(version.uri)
        lines = [f"Study {name} was finished: nothing was trained.", ""] if self.was_finished else []
        lines += [
            *wrap(f"{self.verdict.headline}."),
            *wrap(self.verdict.sentence),
            *(wrap(self.verdict.fine_tuning.sentence) if self.verdict.fine_tuning else []),
            "",
            f"Winner of study {name}: {cell.to_text()}",
            *wrap(f"  {self._describe_scores()}"),
            *wrap(f"  Registered as {version.name} version {version.version}, {version.reason}"),
            "",
            f"Read the report:  {show_path(self.report_file)}",
            format_links(self.links),
            "",
            f"Classify images:  {command} predict IMAGES... --model {model}",
            f"A page for it:    {command} app --model {model}",
            f"Serve it:         {command} serve --model {model}",
        ]
        return "\n".join(["", *lines])

    def _describe_scores(self) -> str:
        """Return both scores, and of which heads they are."""
        validation, test = f"{self.validation.f_measure:.4f}", f"{self.test.f_measure:.4f}"
        if not self.outcome.winner.is_refit:
            return f"F-measure on tiles: validation {validation}, test {test}; chosen on {self.outcome.select_on}"
        return (
            f"F-measure on tiles: validation {validation}, of the heads of the search, which chose; test {test}, of "
            "the heads that are served, trained again on training and validation images"
        )


def show_path(path: Path) -> str:
    """Return a path as it is from where the user stands, in quotation marks where a shell needs them."""
    is_here = path.is_relative_to(Path.cwd())
    return shlex.quote(str(path.relative_to(Path.cwd()) if is_here else path))


def wrap(text: str) -> list[str]:
    """Return a sentence as lines of a terminal; what follows the first line is indented."""
    return textwrap.wrap(text, COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def conclude_study(study: optuna.Study, *, prepared: PreparedSearch, run_id: str) -> Conclusion:
    """Choose the winner, log the study's figures and report, and register the winner's model.

    Args:
        study: With at least one complete trial.
        prepared: Data, settings and the store of finished folds.
        run_id: Of the study's run.
    """
    outcome = read_study_outcome(study, prepared=prepared)
    log_refit(prepared, winner=outcome.winner)
    trust = compute_trust(outcome)
    validation = compute_split_scores(outcome.winner, tiles=outcome.tiles, split="validation")
    test = compute_split_scores(outcome.winner, tiles=outcome.tiles, split="test")
    registered = _register(
        outcome,
        prepared=prepared,
        score=compute_score(outcome, trust=trust),
        validation=validation,
        test=test,
        earlier_run_ids=list_winner_runs(study, outcome=outcome),
    )
    if MACHINE not in study.user_attrs:
        study.set_user_attr(MACHINE, describe_machine())
    context = describe_study(study, outcome=outcome, prepared=prepared, model_uri=registered.uri, run_id=run_id)
    entries = list(iter_study_entries(outcome, context=context, trust=trust))
    (report,) = (entry for entry in entries if isinstance(entry, TextArtifact) and entry.path == REPORT)
    # Beside the folds, before it is logged: it can be read though a tracking server is away.
    report_file = write_report(report.text, settings=prepared.settings, name=prepared.name)
    # The same time whenever this is done again, so that the numbers count once.
    log_entries(entries, run_id=run_id, time_ms=get_time_ms(context.ended))
    log_entries([build_optuna_page(study)], run_id=run_id)
    verdict = compute_verdict(outcome, trust=trust, context=context)
    describe_study_runs(outcome, verdict=verdict, registered=registered, run_id=run_id)
    return Conclusion(
        outcome=outcome,
        validation=validation,
        test=test,
        registered=registered,
        run_id=run_id,
        verdict=verdict,
        report_file=report_file,
        links={
            "study": link_run(run_id),
            "report": link_run(run_id, artifact=REPORT),
            "model": link_version(registered.name, registered.version),
        },
        figures=tuple(entry for entry in entries if isinstance(entry, FigureArtifact)),
    )


def list_winner_runs(study: optuna.Study, *, outcome: StudyOutcome) -> list[str]:
    """Return the runs that the winning trial was logged to, the newest one first."""
    return list_runs(study.get_trials(deepcopy=False)[outcome.winner.number], study=study)[::-1]


def _register(
    outcome: StudyOutcome,
    *,
    prepared: PreparedSearch,
    score: Score,
    validation: SplitScores,
    test: SplitScores,
    earlier_run_ids: Sequence[str],
) -> RegisteredVersion:
    winner = outcome.winner
    if winner.run_id is None:
        raise StoreError(f"The winning trial {winner.number} of study {outcome.name!r} has no MLflow run.")
    chosen = validation if outcome.select_on == "validation" else test
    pixel_size_nm = prepared.data.catalogue.reading.pixel_size_nm
    return register_winner(
        run_id=winner.run_id,
        model_name=prepared.settings.resolved_model_name,
        score=chosen.f_measure,
        tags={
            **describe_hashes(prepared),
            "sem_search.study": outcome.name,
            "sem_search.backbone": outcome.backbone,
            "sem_search.weights_used": prepared.network.weights.used,
            "sem_search.select_on": outcome.select_on,
            "sem_search.validation_f_measure": f"{validation.f_measure:.6f}",
            "sem_search.test_f_measure": f"{test.f_measure:.6f}",
            **{f"sem_search.{name}": write_value(value) for name, value in winner.cell.params.items()},
            TAG_HEADLINE: score.to_text(),
            **({} if pixel_size_nm is None else {TAG_PIXEL_SIZE: f"{pixel_size_nm:g}"}),
            **({} if score.is_above_chance else {TAG_AT_CHANCE: score.to_text()}),
        },
        earlier_run_ids=earlier_run_ids,
        rule=GateRule(margin=prepared.settings.promote_margin, confidence=prepared.settings.promote_confidence),
    )


def describe_study(
    study: optuna.Study, *, outcome: StudyOutcome, prepared: PreparedSearch, model_uri: str | None, run_id: str
) -> StudyContext:
    """Gather what the figures and the report need beside the predictions.

    Args:
        study: With at least one complete trial.
        outcome: Its trials.
        prepared: Data, settings and the store of finished folds.
        model_uri: The winner's model; None where it was not registered.
        run_id: Of the study's run.
    """
    examples, trials = read_examples(prepared, side_px=SHOWN_SIDE_PX), study.get_trials(deepcopy=False)
    finished_folds = read_finished_folds(prepared, trial=outcome.winner)
    baselines = get_baselines(prepared)
    return StudyContext(
        data=prepared.settings.data,
        cells=order_cells(prepared.settings) if prepared.settings.sampler == "grid" else (),
        examples=examples,
        tiling=describe_tiling(prepared, example=examples[0]),
        folds=tuple(fold.splits for fold in prepared.data.folds.folds),
        heat_maps=_explain_winner(prepared, finished_folds=finished_folds),
        mistakes=show_mistakes(outcome, prepared=prepared, finished_folds=finished_folds),
        baselines=compare_baselines(baselines, winner=outcome.winner, tiles=outcome.tiles),
        findings=tuple(finding.message for finding in prepared.data.findings),
        faults=_list_faults(prepared.data.findings),
        confounds=tuple(finding.kind for finding in prepared.data.findings if finding.is_confound),
        warnings=prepared.warnings,
        settings=describe_params(prepared),
        versions=study.user_attrs.get(VERSIONS, describe_versions()),
        hashes=describe_hashes(prepared),
        unstated=tuple(finding.unstated for finding in prepared.data.findings if finding.unstated),
        audit_light=read_audit_light(study=prepared.name, near_run_id=run_id),
        has_common_pixel_size=has_common_size(prepared.data.catalogue.records, tile_px=prepared.data.grid.size_px),
        learning_curve=read_learning_curve(study=prepared.name, near_run_id=run_id),
        began=min((one.datetime_start for one in trials if one.datetime_start is not None), default=None),
        ended=max((one.datetime_complete for one in trials if one.datetime_complete is not None), default=None),
        machine=study.user_attrs.get(MACHINE),
        model_uri=model_uri,
        run_id=run_id,
        command=find_command(),
        arguments=list_arguments(prepared.settings),
        tracking_uri=get_tracking_uri(),
    )


def _list_faults(findings: Sequence[Finding]) -> dict[str, tuple[str, ...]]:
    """Return the kinds of what inspection found in single images, by image id."""
    faults: dict[str, tuple[str, ...]] = {}
    for finding in findings:
        for image_id in () if finding.unstated else finding.images:
            faults[image_id] = (*faults.get(image_id, ()), finding.kind.replace("_", " "))
    return faults


def _explain_winner(prepared: PreparedSearch, *, finished_folds: tuple[FinishedFold, ...]) -> HeatMapSheet:
    sheet = choose_sheet_tiles(prepared.data.tiles, folds=prepared.data.folds)
    pixels = read_sheet_pixels(prepared.data, sheet=sheet)
    return explain_sheet(prepared, finished_folds=finished_folds, sheet=sheet, pixels=pixels)


def read_examples(prepared: PreparedSearch, *, side_px: int) -> tuple[ExampleImage, ...]:
    """Return the first original of each class, reduced by leaving out rows and columns.

    Args:
        prepared: With its images.
        side_px: About the width to which originals are reduced.
    """
    examples = []
    for label in prepared.data.tiles.class_names:
        record = next(record for record in prepared.data.catalogue.records if record.label == label)
        pixels = prepared.data.catalogue.read_image(record)
        height_px, width_px = pixels.shape
        step = max(1, round(width_px / side_px))
        examples.append(
            ExampleImage(
                image_id=record.image_id,
                label=label,
                pixels=np.ascontiguousarray(pixels[::step, ::step]),
                width_px=width_px,
                height_px=height_px,
                pixel_size_nm=prepared.data.catalogue.get_pixel_size(record),
            )
        )
    return tuple(examples)


def describe_tiling(prepared: PreparedSearch, *, example: ExampleImage) -> TilingExample:
    """Return how an original is cut."""
    grid = prepared.data.grid
    return TilingExample(
        image=example,
        tile_px=grid.size_px,
        corners_px=tuple(grid.iter_corners(example.height_px, example.width_px)),
    )
