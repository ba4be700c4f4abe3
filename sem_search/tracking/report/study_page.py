"""The report of a study: one HTML file that needs nothing else, for a scientist who was not there.

Words and numbers are made ready here, the template only places them; it escapes all that it is given. Figures stand in
the file itself, there is no script and no link, so it can be mailed, printed and kept.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sem_search.evaluation.metrics import SideScores, compute_split_scores
from sem_search.records import Split, StudyOutcome
from sem_search.secrets import mask_secrets, mask_url
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import (
    SPLITS,
    UNITS,
    ClassRow,
    ConfusedPair,
    Unit,
    compute_class_rows,
    compute_confused_pairs,
    compute_confusion_table,
    compute_selection,
    compute_trial_rows,
)
from sem_search.tracking.entries.types import Scalar
from sem_search.tracking.figures.catalogue import StudyFigure, list_study_figures
from sem_search.tracking.figures.study import format_rate
from sem_search.tracking.report.trust import StudyTrust, compute_trust
from sem_search.tracking.report.trust_text import list_trust_figures, write_trust_words

N_CONFUSED_PAIRS = 8
"""Pairs of classes that the text names; the matrix shows all."""

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}

SERVING_PORT = 5001
"""Beside MLflow's own page, which takes 5000."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One line of the headline table."""

    split: Split
    unit: Unit
    f_measure: float
    lowest_fold: float | None
    """None by image: single folds hold too few images."""
    highest_fold: float | None
    share_right: float
    n_right: int
    n_all: int


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One line of the table of classes."""

    number: int
    row: ClassRow
    accuracy: float
    precision: float
    recall: float
    f_measure: float
    image_recall: float
    """Share of the class's images that are correctly classified."""


@dataclass(frozen=True, kw_only=True)
class ReportFigure:
    """One figure as it stands in the page."""

    number: str
    caption: str
    width_in: float
    media_type: str
    content_base64: str


def render_report(
    study: StudyOutcome,
    *,
    context: StudyContext,
    trust: StudyTrust | None = None,
    figures: Sequence[StudyFigure] | None = None,
) -> str:
    """Return the report as one HTML page.

    Args:
        study: All trials, at least the winner complete.
        context: What the report tells beyond the predictions.
        trust: What `compute_trust` found in this study; computed where it is not at hand.
        figures: Those of the study and of its trust; listed where they are not at hand.
    """
    trust = trust or compute_trust(study)
    figures = figures or (*list_study_figures(study, context=context), *list_trust_figures(trust))
    return _get_template().render(
        study=study,
        context=context,
        winner_cell=_describe_cell(study),
        selection=compute_selection(study),
        scores=_build_score_rows(study),
        classes=_build_class_scores(study),
        largest_share=_compute_largest_share(compute_class_rows(study.tiles)),
        trials=compute_trial_rows(study),
        n_missing=_count_missing(study, context=context),
        pairs=_list_pairs(study),
        figures={figure.number: _embed(figure) for figure in figures},
        trust=write_trust_words(trust),
        records={
            "Settings": _mask_all(context.settings),
            "Hashes": _mask_all(context.hashes),
            "Versions": _mask_all(context.versions),
        },
        warnings=[mask_secrets(warning) for warning in context.warnings],
        findings=[mask_secrets(finding) for finding in context.findings],
        data=mask_secrets(context.data),
        tracking_uri=context.tracking_uri and mask_url(context.tracking_uri),
        serving_port=SERVING_PORT,
    )


@cache
def _get_template() -> Template:
    """Return the template; a name that it misses is an error, not a gap."""
    loader = PackageLoader("sem_search.tracking.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["score"] = _format_score
    environment.filters["percent"] = _format_percent
    environment.filters["rate"] = format_rate
    return environment.get_template("report.html")


def _format_score(value: float | None) -> str:
    """Return a score with the three decimals that the paper prints."""
    return "–" if value is None else f"{value:.3f}"


def _format_percent(value: float) -> str:
    """Return a share as a percentage, 100 only where it is all."""
    return ">99.9 %" if 0.9995 <= value < 1 else f"{100 * value:.1f} %"


def _describe_cell(study: StudyOutcome) -> str:
    """Return the winner's cell in words."""
    cell = study.winner.cell
    return f"learning rate {format_rate(cell.learning_rate)}, batch size {cell.batch_size}"


def _build_score_rows(study: StudyOutcome) -> list[ScoreRow]:
    """Return the winner's headline scores, test before validation."""
    return [
        _build_score_row(compute_split_scores(study.winner, tiles=study.tiles, split=split), split=split, unit=unit)
        for split in reversed(SPLITS)
        for unit in UNITS
    ]


def _build_score_row(scores: SideScores, *, split: Split, unit: Unit) -> ScoreRow:
    """Return one line of the headline table."""
    is_tiles = unit == "tiles"
    confusion = scores.confusion if is_tiles else scores.image_confusion
    return ScoreRow(
        split=split,
        unit=unit,
        f_measure=scores.f_measure if is_tiles else scores.image_f_measure,
        lowest_fold=float(scores.f_measure_of_fold.min()) if is_tiles else None,
        highest_fold=float(scores.f_measure_of_fold.max()) if is_tiles else None,
        share_right=scores.tile_accuracy if is_tiles else scores.image_accuracy,
        n_right=int(confusion.trace()),
        n_all=int(confusion.sum()),
    )


def _build_class_scores(study: StudyOutcome) -> list[ClassScores]:
    """Return the winner's scores for each class in the test split."""
    scores = compute_split_scores(study.winner, tiles=study.tiles, split="test")
    images = compute_confusion_table(study.winner, tiles=study.tiles, split="test", unit="images").shares
    return [
        ClassScores(
            number=place + 1,
            row=row,
            accuracy=float(scores.mean.accuracy[place]),
            precision=float(scores.mean.precision[place]),
            recall=float(scores.mean.recall[place]),
            f_measure=float(scores.mean.f_measure[place]),
            image_recall=float(images[place, place]),
        )
        for place, row in enumerate(compute_class_rows(study.tiles))
    ]


def _compute_largest_share(rows: tuple[ClassRow, ...]) -> float:
    """Return the share of tiles in the largest class: what always naming that class would get right."""
    return max(row.n_tiles for row in rows) / sum(row.n_tiles for row in rows)


def _count_missing(study: StudyOutcome, *, context: StudyContext) -> int:
    """Return how many cells were asked for and never tried."""
    return len(set(context.cells) - {trial.cell for trial in study.trials})


def _list_pairs(study: StudyOutcome) -> dict[Unit, tuple[ConfusedPair, ...]]:
    """Return the classes that were confused most, by tile and by image."""
    return {
        unit: compute_confused_pairs(
            compute_confusion_table(study.winner, tiles=study.tiles, split="test", unit=unit), n_most=N_CONFUSED_PAIRS
        )
        for unit in UNITS
    }


def _embed(figure: StudyFigure) -> ReportFigure:
    """Return a figure as the page holds it."""
    picture = figure.artifact.picture
    return ReportFigure(
        number=figure.number,
        caption=figure.caption,
        width_in=picture.width_in,
        media_type=MEDIA_TYPES[Path(figure.artifact.path).suffix],
        content_base64=base64.b64encode(picture.content).decode("ascii"),
    )


def _mask_all(values: Mapping[str, Scalar]) -> dict[str, str]:
    """Return values as text without secrets."""
    return {key: "not set" if value is None else mask_secrets(str(value)) for key, value in values.items()}
