"""What goes into MLflow for a fold, a trial and a study: pure generators of entries; none of them calls a server.

Runs have two levels: the study, and below it one run per trial. Folds are metrics with `step=fold`, epoch curves are
metrics with `step=epoch`, counted from 1. The numbers behind each picture stand beside it.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

from sem_search.records import FoldOutcome, Split, StudyOutcome, TileTable, TrainingCurves, TrialOutcome
from sem_search.tracking.entries import json_values as plain
from sem_search.tracking.entries.baselines import build_baseline_table, iter_baseline_numbers
from sem_search.tracking.entries.context import HeatMapSheet, MistakeGallery, StudyContext
from sem_search.tracking.entries.doubtful_labels import build_doubt_table
from sem_search.tracking.entries.metrics import (
    iter_course_numbers,
    iter_curve_numbers,
    iter_fold_numbers,
    iter_refit_numbers,
    iter_study_numbers,
    iter_trial_numbers,
)
from sem_search.tracking.entries.mistakes import build_mistake_table
from sem_search.tracking.entries.predictions import (
    build_evaluation_table,
    tabulate_image_predictions,
    tabulate_tile_predictions,
)
from sem_search.tracking.entries.tables import (
    UNITS,
    build_fold_table,
    build_index_table,
    build_trial_table,
    compute_confusion_table,
    compute_fold_rows,
    compute_index_table,
    compute_trial_rows,
)
from sem_search.tracking.entries.trust import (
    StudyTrust,
    build_interval_table,
    compute_trust,
    iter_trust_numbers,
    list_sets,
)
from sem_search.tracking.entries.types import (
    ChartImage,
    Entry,
    FrameArtifact,
    JsonArtifact,
    PictureArtifact,
    Tags,
    TextArtifact,
    iter_finite_metrics,
    pair_figure,
)
from sem_search.tracking.figures.catalogue import list_study_figures, list_trust_figures
from sem_search.tracking.figures.trial import (
    draw_confusion_matrix,
    draw_grad_cam_sheet,
    draw_indices,
    draw_training_curves,
)
from sem_search.tracking.mlflow.names import TAG_REFIT, TAG_TRIAL_STATE
from sem_search.tracking.report.study_page import render_report


def iter_fold_entries(fold: FoldOutcome, *, tiles: TileTable) -> Iterator[Entry]:
    """Yield the scores of one finished fold and its curves, as one `Metrics`: one call to MLflow.

    Names: `fold/validation_f_measure`, `fold/test_loss` ... with the fold as step; `curves/fold_0/training_loss` ...
    with the epoch as step.
    """
    numbers = iter_fold_numbers(fold, tiles=tiles)
    yield from iter_finite_metrics(numbers, source=f"fold_{fold.fold}")
    if fold.is_diverged:
        yield Tags(values={f"sem_search.diverged.fold_{fold.fold}": "true"})


def iter_curve_entries(curves: TrainingCurves, *, fold: int) -> Iterator[Entry]:
    """Yield the curves of a fold that was stopped unfinished, as metrics; it has no scores."""
    yield from iter_finite_metrics(iter_curve_numbers(curves, fold=fold), source=f"fold_{fold}")


def iter_trial_entries(
    trial: TrialOutcome, *, tiles: TileTable, select_on: Split, heat_maps: HeatMapSheet | None = None
) -> Iterator[Entry]:
    """Yield what a trial found: scores, figures with their numbers, and every out-of-fold prediction.

    A pruned or failed trial yields its state, its reason, the curves of its finished folds and its objective over them,
    but no other scores: these would be over fewer folds than the scores of other trials.

    Args:
        trial: The trial with its finished folds.
        tiles: The tiles that it answered.
        select_on: The split that the study chooses on.
        heat_maps: Grad-CAM of test tiles; None where none were computed.
    """
    yield Tags(values={TAG_TRIAL_STATE: trial.state})
    if trial.message:
        yield TextArtifact(path=f"{trial.state}.txt", text=trial.message)
    if trial.folds:
        yield from iter_finite_metrics(iter_course_numbers(trial, tiles=tiles, select_on=select_on), source="course")
        draw = partial(draw_training_curves, trial.folds)
        yield from pair_figure("training/curves.png", draw=draw, content=plain.list_curves(trial.folds))
    if trial.state == "complete":
        yield from iter_finite_metrics(iter_trial_numbers(trial, tiles=tiles), source="trial")
        yield JsonArtifact(path="classes.json", content=plain.list_class_names(tiles))
        yield from _iter_test_figures(trial, tiles=tiles)
        of_images = tabulate_image_predictions(trial, tiles=tiles)
        yield FrameArtifact(path="predictions/tiles.parquet", frame=tabulate_tile_predictions(trial, tiles=tiles))
        yield FrameArtifact(path="predictions/images.parquet", frame=of_images)
        yield build_evaluation_table(of_images, path="predictions/images.json")
    if heat_maps is not None:
        yield ChartImage(key="grad_cam", draw=partial(draw_grad_cam_sheet, heat_maps))
        yield JsonArtifact(path="grad_cam.json", content=plain.list_heat_maps(heat_maps))


def iter_refit_entries(winner: TrialOutcome, *, tiles: TileTable) -> Iterator[Entry]:
    """Yield what the winner's run gets when its heads have been trained again: their test scores and answers.

    Args:
        winner: With these heads.
        tiles: The tiles that it answered.
    """
    yield from iter_finite_metrics(iter_refit_numbers(winner, tiles=tiles), source="refit")
    for unit, tabulate in (("images", tabulate_image_predictions), ("tiles", tabulate_tile_predictions)):
        yield FrameArtifact(path=f"refit/predictions/{unit}.parquet", frame=tabulate(winner, tiles=tiles))
    yield Tags(values={TAG_REFIT: "true"})
    for fold in winner.folds:
        if fold.is_diverged:
            yield Tags(values={f"sem_search.refit_diverged.fold_{fold.fold}": "the head of the search is served"})


def iter_study_entries(
    study: StudyOutcome, *, context: StudyContext, trust: StudyTrust | None = None
) -> Iterator[Entry]:
    """Yield what a study found: the winner's scores and how far to trust them, the paper's figures, tables, the report.

    Parameters of the winner are metrics and tags, not MLflow parameters: a study that goes on may find a better one.

    Args:
        study: All trials, at least the winner complete.
        context: What the figures and the report show beyond the predictions.
        trust: What `compute_trust` found in this study; computed if it is not given.
    """
    trust = trust or compute_trust(study)
    yield from iter_finite_metrics(iter_study_numbers(study), source="study")
    yield from iter_finite_metrics(iter_trust_numbers(trust), source="trust")
    yield from iter_finite_metrics(iter_baseline_numbers(context.baselines), source="baseline")
    yield Tags(values={"sem_search.winner": study.winner.cell.name, "sem_search.winner_run": study.winner.run_id or ""})
    figures = (*list_study_figures(study, context=context), *list_trust_figures(trust))
    for figure in figures:
        yield figure.artifact
        yield figure.numbers
    yield build_interval_table(trust)
    if context.baselines:
        yield build_baseline_table(context.baselines)
    yield JsonArtifact(path="trust/prediction_sets.json", content=list_sets(trust))
    rows = compute_trial_rows(study)
    yield build_trial_table(rows, path="trials.csv")
    yield JsonArtifact(path="trials.json", content=[asdict(row) for row in rows])
    yield build_fold_table(compute_fold_rows(context.folds, tiles=study.tiles), path="folds.csv")
    yield from _iter_mistake_entries(study, gallery=context.mistakes)
    yield build_doubt_table(trust.doubtful_labels, path="mistakes/doubtful_labels.csv", faults=context.faults)
    yield TextArtifact(path="report.html", text=render_report(study, context=context, trust=trust, figures=figures))


def _iter_mistake_entries(study: StudyOutcome, *, gallery: MistakeGallery | None) -> Iterator[Entry]:
    """Yield the list of the winner's mistakes, and the pictures that the report shows of them."""
    yield build_mistake_table(study.winner, tiles=study.tiles, path="mistakes/images.csv")
    for number, image in enumerate(gallery.images if gallery is not None and gallery.n_wrong else (), start=1):
        name = f"mistakes/{number:03d}"
        yield PictureArtifact(path=f"{name}_image.jpg", picture=image.picture)
        yield PictureArtifact(path=f"{name}_heat_of_true.jpg", picture=image.true_heat)
        yield PictureArtifact(path=f"{name}_heat_of_predicted.jpg", picture=image.other_heat)


def _iter_test_figures(trial: TrialOutcome, *, tiles: TileTable) -> Iterator[Entry]:
    """Yield confusion matrices and indices per class in the test split, drawn and as numbers."""
    for unit in UNITS:
        confusion = compute_confusion_table(trial, tiles=tiles, unit=unit)
        yield ChartImage(key=f"confusion_test_{unit}", draw=partial(draw_confusion_matrix, confusion))
        yield JsonArtifact(path=f"confusion_test_{unit}.json", content=plain.list_confusion(confusion))
    indices = compute_index_table(trial, tiles=tiles)
    draw = partial(draw_indices, indices)
    yield from pair_figure("indices/test.png", draw=draw, content=plain.list_indices(indices))
    yield build_index_table(indices, path="indices/test.csv")
