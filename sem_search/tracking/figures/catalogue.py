"""The figures of a study, in the paper's order and under its numbers: what each shows, and the numbers behind it.

Logged one by one, and put together in the report.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from sem_search.records import StudyOutcome
from sem_search.tracking.entries import json_values as plain
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import (
    SPLITS,
    Unit,
    compute_confusion_table,
    compute_fold_rows,
    compute_grid_table,
    compute_index_table,
)
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact
from sem_search.tracking.figures.study import draw_examples, draw_folds, draw_grid_heat_map, draw_tiling
from sem_search.tracking.figures.trial import (
    draw_confusion_matrix,
    draw_grad_cam_sheet,
    draw_indices,
    draw_training_curves,
)


@dataclass(frozen=True, kw_only=True)
class StudyFigure:
    """One numbered figure."""

    number: str
    """As in the paper: `2` ... `6`, `S1` ... `S3`; letters where the paper's figure is two of ours."""
    caption: str
    artifact: FigureArtifact
    numbers: JsonArtifact


def list_study_figures(study: StudyOutcome, *, context: StudyContext) -> tuple[StudyFigure, ...]:
    """Return all figures of a study; Figure 6 only where heat maps were computed."""
    return (
        _build_examples(context),
        _build_grid(study, context=context),
        _build_confusion(study, number="4a", unit="tiles"),
        _build_confusion(study, number="4b", unit="images"),
        _build_indices(study),
        *_iter_grad_cam(context),
        _build_tiling(context),
        _build_folds(study, context=context),
        _build_curves(study),
    )


def _build_examples(context: StudyContext) -> StudyFigure:
    """Figure 2."""
    path = "figures/figure_2_originals"
    return StudyFigure(
        number="2",
        caption="One original micrograph of each class. A scale bar is drawn where the file tells its pixel size.",
        artifact=FigureArtifact(path=f"{path}.jpg", draw=partial(draw_examples, context.examples)),
        numbers=JsonArtifact(path=f"{path}.json", content=plain.list_examples(context.examples)),
    )


def _build_grid(study: StudyOutcome, *, context: StudyContext) -> StudyFigure:
    """Figure 3."""
    path = "figures/figure_3_grid"
    tables = [compute_grid_table(study, cells=context.cells, split=split) for split in SPLITS]
    return StudyFigure(
        number="3",
        caption=(
            "Mean F-measure of every combination of learning rate and batch size, over the folds. "
            f"The winner (frame) was chosen on the {study.select_on} tiles. Hatched fields are not full results: "
            "their trials were ended early or failed."
        ),
        artifact=FigureArtifact(path=f"{path}.png", draw=partial(draw_grid_heat_map, tables)),
        numbers=JsonArtifact(path=f"{path}.json", content=plain.list_grid(tables)),
    )


def _build_confusion(study: StudyOutcome, *, number: str, unit: Unit) -> StudyFigure:
    """Figure 4, by tile or by image."""
    path = f"figures/figure_{number}_confusion_{unit}"
    table = compute_confusion_table(study.winner, tiles=study.tiles, split="test", unit=unit)
    how = "each tile by itself" if unit == "tiles" else "all tiles of an image together"
    return StudyFigure(
        number=number,
        caption=(
            f"The winner’s answers on the test {unit}, {how}, all folds added up: the true class (row) and the class "
            "that it was predicted as (column), as a count and as the percentage of the row. Empty fields "
            "never occurred."
        ),
        artifact=FigureArtifact(path=f"{path}.png", draw=partial(draw_confusion_matrix, table)),
        numbers=JsonArtifact(path=f"{path}.json", content=plain.list_confusion(table)),
    )


def _build_indices(study: StudyOutcome) -> StudyFigure:
    """Figure 5."""
    path = "figures/figure_5_indices"
    table = compute_index_table(study.winner, tiles=study.tiles, split="test")
    return StudyFigure(
        number="5",
        caption=(
            "How well the winner recognises each class on the test tiles: the class against all others, each fold "
            "(dots) and the mean of the folds (mark, and the figure at the right)."
        ),
        artifact=FigureArtifact(path=f"{path}.png", draw=partial(draw_indices, table)),
        numbers=JsonArtifact(path=f"{path}.json", content=plain.list_indices(table)),
    )


def _iter_grad_cam(context: StudyContext) -> Iterator[StudyFigure]:
    """Figure 6, if there are heat maps."""
    sheet = context.heat_maps
    if sheet is not None:
        path = "figures/figure_6_grad_cam"
        yield StudyFigure(
            number="6",
            caption=(
                "Where the winner looked (Grad-CAM): test tiles beside the same tiles with the places marked that "
                "spoke for the class named above them. Brightness is relative to the brightest place of the same "
                "tile, so it cannot be compared between tiles."
            ),
            artifact=FigureArtifact(path=f"{path}.jpg", draw=partial(draw_grad_cam_sheet, sheet)),
            numbers=JsonArtifact(path=f"{path}.json", content=plain.list_heat_maps(sheet)),
        )


def _build_tiling(context: StudyContext) -> StudyFigure:
    """Figure S1."""
    path = "figures/figure_s1_tiling"
    return StudyFigure(
        number="S1",
        caption="How an original is cut into tiles, in the order of the numbers. Darkened edges are not used.",
        artifact=FigureArtifact(path=f"{path}.jpg", draw=partial(draw_tiling, context.tiling)),
        numbers=JsonArtifact(path=f"{path}.json", content=plain.list_tiling(context.tiling)),
    )


def _build_folds(study: StudyOutcome, *, context: StudyContext) -> StudyFigure:
    """Figure S2."""
    path = "figures/figure_s2_folds"
    rows = compute_fold_rows(context.folds, tiles=study.tiles)
    return StudyFigure(
        number="S2",
        caption=(
            "Which images train, validate and test in each fold. Every image is tested exactly once, and all tiles "
            "of an image, and all images of a group, stand in the same split."
        ),
        artifact=FigureArtifact(path=f"{path}.png", draw=partial(draw_folds, rows)),
        numbers=JsonArtifact(path=f"{path}.json", content=plain.list_folds(rows)),
    )


def _build_curves(study: StudyOutcome) -> StudyFigure:
    """Figure S3."""
    path = "figures/figure_s3_training"
    folds = study.winner.folds
    return StudyFigure(
        number="S3",
        caption=(
            "Training of the winner: loss and accuracy after each epoch, one line per fold. The ring marks the epoch "
            "whose weights were kept. Training lines below validation lines in loss, and above in accuracy, show how "
            "much the network learnt by heart."
        ),
        artifact=FigureArtifact(path=f"{path}.png", draw=partial(draw_training_curves, folds)),
        numbers=JsonArtifact(path=f"{path}.json", content=plain.list_curves(folds)),
    )
