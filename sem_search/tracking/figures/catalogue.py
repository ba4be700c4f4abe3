"""The figures of a study: what each shows, and the numbers behind it.

The first nine stand for those of the paper, under its numbers; T1 to T4 are about trust.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from sem_search.records import Cell, StudyOutcome
from sem_search.tracking.entries import json_values as plain
from sem_search.tracking.entries import trust as trust_numbers
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import (
    UNITS,
    compute_confusion_table,
    compute_fold_rows,
    compute_grid_tables,
    compute_index_table,
)
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, pair_figure
from sem_search.tracking.figures.study import draw_examples, draw_folds, draw_grid_heat_map, draw_tiling
from sem_search.tracking.figures.trial import (
    draw_confusion_matrix,
    draw_grad_cam_sheet,
    draw_indices,
    draw_training_curves,
)
from sem_search.tracking.figures.trust import draw_intervals, draw_reliability, draw_risk, draw_selection

PATHS = {
    "2": "figures/figure_2_originals.jpg",
    "3": "figures/figure_3_grid.png",
    "4a": "figures/figure_4a_confusion_tiles.png",
    "4b": "figures/figure_4b_confusion_images.png",
    "5": "figures/figure_5_indices.png",
    "6": "figures/figure_6_grad_cam.jpg",
    "S1": "figures/figure_s1_tiling.jpg",
    "S2": "figures/figure_s2_folds.png",
    "S3": "figures/figure_s3_training.png",
    "T1": "trust/t1_intervals.png",
    "T2": "trust/t2_selection.png",
    "T3": "trust/t3_reliability.png",
    "T4": "trust/t4_risk_coverage.png",
}

CAPTIONS = {
    "2": "One original image of each class. A scale bar is drawn where the file states the pixel size.",
    "3": (
        "Mean F-measure over the folds for every combination of learning rate and batch size, and for the linear head, "
        "which has neither, if asked for. The frame marks the winner, which was chosen on the {select_on} tiles. "
        "Hatched fields have no colour: these trials were pruned (stopped early) or failed, and a mean over fewer "
        "folds, in brackets, cannot be compared. The colours end near the lowest and the highest score, at most 0.3 "
        "apart."
    ),
    "4a": (
        "Confusion matrix of the winner on the test tiles, all folds together, each tile classified by itself: true "
        "class (row) and predicted class (column), as a count and as a percentage of the row. Empty fields are zero."
    ),
    "4b": (
        "Confusion matrix of the winner on the test images, all folds together, each image classified by all its "
        "tiles together: true class (row) and predicted class (column), as a count and as a percentage of the row. "
        "Empty fields are zero."
    ),
    "5": (
        "Accuracy, precision, recall and F-measure of the winner for each class against all others, on the test "
        "tiles: each fold (dots) and the mean of the folds (mark, and the number at the right)."
    ),
    "6": (
        "Grad-CAM of the winner: test tiles, each beside the same tile under its heat map. Bright places raise the "
        "score of the class above the map. Brightness is relative to the brightest place in the same tile: do not "
        "compare it between tiles."
    ),
    "S1": "How an original image is cut into tiles, in the order of the numbers. The darkened parts are not used.",
    "S2": (
        "Which images are used for training, validation and test in each fold. Every image is tested exactly once. All "
        "tiles of an image, and all images of a group, are in the same split."
    ),
    "S3": (
        "Training of the winner: cross-entropy (loss) and accuracy after each epoch, one line per fold. The ring marks "
        "the epoch whose weights answered the validation tiles. With refit, a head trained again for as many steps is "
        "tested and served; its training is not drawn. A training loss below the validation loss, or a training "
        "accuracy above the validation accuracy, shows overfitting."
    ),
    "T1": (
        "F-measure of the winner on test data, for each class, with 95 % intervals from a bootstrap over images. A "
        "long interval means that few images support the value."
    ),
    "T2": (
        "What the choice of the best trial adds to the score: the score on the tiles that were used for the choice, "
        "the score on the test tiles, and the score to be expected on images that were not used for the choice "
        "(BBC-CV, with its 95 % interval). All are of the heads of the search."
    ),
    "T3": (
        "Reliability diagram: confidence and accuracy on whole test images, in bins of at least 10 images, with 95 % "
        "intervals of the accuracy. On the dashed line, answers with a confidence of 0.9 are correct in 90 % of cases. "
        "Below it, the network is overconfident. Where an interval reaches the line, it may be chance."
    ),
    "T4": (
        "Share of wrong answers if only the most confident images are answered and the others are left to a person."
    ),
}

Figures = Mapping[str, Figure]
"""Figures by name."""


@dataclass(frozen=True, kw_only=True)
class StudyFigure:
    """One numbered figure."""

    number: str
    """As in the paper: `2` ... `6`, `S1` ... `S3`, with letters where the paper's figure is two of ours; `T1` ... `T4`
    about trust."""
    caption: str
    artifact: FigureArtifact
    numbers: JsonArtifact


def list_study_figures(study: StudyOutcome, *, context: StudyContext) -> tuple[StudyFigure, ...]:
    """Return the paper's figures for a study; 6 only where heat maps were computed, S3 where the winner had epochs."""
    tiles, winner, sheet = study.tiles, study.winner, context.heat_maps
    grid = compute_grid_tables(study, cells=context.cells)
    by_tile = compute_confusion_table(winner, tiles=tiles, unit="tiles")
    by_image = compute_confusion_table(winner, tiles=tiles, unit="images")
    indices = compute_index_table(winner, tiles=tiles)
    folds = compute_fold_rows(context.folds, tiles=tiles)
    figures = [
        _build("2", partial(draw_examples, context.examples), plain.list_examples(context.examples)),
        _build("3", partial(draw_grid_heat_map, grid), plain.list_grid(grid), select_on=study.select_on),
        _build("4a", partial(draw_confusion_matrix, by_tile), plain.list_confusion(by_tile)),
        _build("4b", partial(draw_confusion_matrix, by_image), plain.list_confusion(by_image)),
        _build("5", partial(draw_indices, indices), plain.list_indices(indices)),
    ]
    if sheet is not None:
        figures.append(_build("6", partial(draw_grad_cam_sheet, sheet), plain.list_heat_maps(sheet)))
    figures.append(_build("S1", partial(draw_tiling, context.tiling), plain.list_tiling(context.tiling)))
    figures.append(_build("S2", partial(draw_folds, folds), plain.list_folds(folds)))
    if any(len(fold.curves.training_loss) for fold in winner.folds):  # the linear head has none
        figures.append(_build("S3", partial(draw_training_curves, winner.folds), plain.list_curves(winner.folds)))
    return tuple(figures)


def list_trust_figures(trust: StudyTrust) -> tuple[StudyFigure, ...]:
    """Return the figures of how far a score can be trusted."""
    biases = (trust.chosen_on_validation, trust.chosen_on_test)
    scores = (trust.calibration, trust.scaled_calibration)
    return (
        _build("T1", partial(draw_intervals, trust), trust_numbers.list_intervals(trust)),
        _build("T2", partial(draw_selection, biases), trust_numbers.list_selection(trust)),
        _build("T3", partial(draw_reliability, *scores), trust_numbers.list_calibration(trust)),
        _build("T4", partial(draw_risk, trust.risk), plain.to_json(trust.risk)),
    )


def _build(number: str, draw: Callable[[], Figure], content: Any, *, select_on: str = "") -> StudyFigure:
    artifact, numbers = pair_figure(PATHS[number], draw=draw, content=content)
    caption = CAPTIONS[number].format(select_on=select_on)
    return StudyFigure(number=number, caption=caption, artifact=artifact, numbers=numbers)


def draw_study(study: StudyOutcome, *, cells: Sequence[Cell]) -> Figures:
    """Return the figures that need no image, by name; of the winner's test split where nothing else is said.

    Args:
        study: All trials.
        cells: Of the grid; those that were not tried stay empty.
    """
    winner, tiles = study.winner, study.tiles
    figures = {
        "grid": draw_grid_heat_map(compute_grid_tables(study, cells=cells)),
        "indices": draw_indices(compute_index_table(winner, tiles=tiles)),
        "training_curves": draw_training_curves(winner.folds),
    }
    for unit in UNITS:
        table = compute_confusion_table(winner, tiles=tiles, unit=unit)
        figures[f"confusion_{unit}"] = draw_confusion_matrix(table)
    return figures
