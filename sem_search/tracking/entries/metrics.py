"""Scores under the names that MLflow's charts show: metric name, value and step of each number.

The names must not change: `deployment` and users' own queries read them. `fold/...` has the fold as step, `curves/...`
the epoch counted from 1, all others are single numbers.
"""

from collections.abc import Iterator

import numpy as np

from sem_search.evaluation.metrics import compute_fold_f_measure, compute_fold_loss, compute_split_scores
from sem_search.records import FoldOutcome, Split, StudyOutcome, TileTable, TrainingCurves, TrialOutcome
from sem_search.tracking.entries.tables import SPLITS, compute_selection
from sem_search.tracking.mlflow.names import OBJECTIVE, make_metric_names

NumberRow = tuple[str, float, int]
"""Metric name, value and step."""

CURVE_NAMES = ("training_loss", "training_accuracy", "validation_loss", "validation_accuracy")
STATES = ("complete", "pruned", "failed")


def iter_fold_numbers(fold: FoldOutcome, *, tiles: TileTable) -> Iterator[NumberRow]:
    """Yield the scores and the curves of one finished fold."""
    for split in SPLITS:
        yield f"fold/{split}_f_measure", compute_fold_f_measure(fold, tiles=tiles, split=split), fold.fold
        yield f"fold/{split}_loss", compute_fold_loss(fold, tiles=tiles, split=split), fold.fold
    yield "fold/epochs", float(_count_epochs(fold)), fold.fold
    yield "fold/best_epoch", float(fold.best_epoch + 1), fold.fold
    yield "fold/training_s", fold.training_s, fold.fold
    yield from iter_curve_numbers(fold.curves, fold=fold.fold)


def iter_curve_numbers(curves: TrainingCurves, *, fold: int) -> Iterator[NumberRow]:
    """Yield the curves of a fold, finished or not."""
    for name in CURVE_NAMES:
        for epoch, value in enumerate(getattr(curves, name), start=1):
            yield f"curves/fold_{fold}/{name}", float(value), epoch


def iter_course_numbers(trial: TrialOutcome, *, tiles: TileTable, select_on: Split) -> Iterator[NumberRow]:
    """Yield what any trial with finished folds has, pruned or not.

    `objective` is the mean over the folds up to each one, so its last value is what Optuna compares; a pruned trial has
    it over the folds that it finished. `curves/training_loss` and its like are means over the folds, up to the last
    epoch that all of them reached.

    Args:
        trial: One or more folds finished.
        tiles: The study's tiles.
        select_on: The split that the study chooses on.
    """
    values = [compute_fold_f_measure(fold, tiles=tiles, split=select_on) for fold in trial.folds]
    for n_folds, fold in enumerate(trial.folds, start=1):
        yield OBJECTIVE, float(np.mean(values[:n_folds])), fold.fold
    n_epochs = min(map(_count_epochs, trial.folds))
    for name in CURVE_NAMES:
        curves = np.mean([getattr(fold.curves, name)[:n_epochs] for fold in trial.folds], axis=0)
        for epoch, value in enumerate(curves, start=1):
            yield f"curves/{name}", float(value), epoch
    yield from _iter_lengths(trial)


def iter_trial_numbers(trial: TrialOutcome, *, tiles: TileTable) -> Iterator[NumberRow]:
    """Yield the scores of a complete trial: both splits, tiles and images, and the test F-measure of each class."""
    for split in SPLITS:
        yield from _iter_split_numbers(trial, tiles=tiles, split=split)
    test = compute_split_scores(trial, tiles=tiles, split="test")
    names = make_metric_names(tiles.class_names)
    for name, f_measure in zip(tiles.class_names, test.mean.f_measure, strict=True):
        yield f"test/f_measure/{names[name]}", float(f_measure), 0


def iter_refit_numbers(winner: TrialOutcome, *, tiles: TileTable) -> Iterator[NumberRow]:
    """Yield the test scores of heads that were trained again, as `refit/test/...`."""
    for key, value, step in iter_trial_numbers(winner, tiles=tiles):
        if key.startswith("test/"):
            yield f"refit/{key}", value, step


def iter_study_numbers(study: StudyOutcome) -> Iterator[NumberRow]:
    """Yield the winner's scores as `winner/...`, what the choice did to them, and how the trials ended."""
    winner, selection = study.winner, compute_selection(study)
    for key, value, step in (*iter_trial_numbers(winner, tiles=study.tiles), *_iter_lengths(winner)):
        yield f"winner/{key}", value, step
    for name, param in winner.cell.params.items():
        if not isinstance(param, str):
            yield f"winner/{name}", float(param), 0
    yield "selection/test_f_measure_chosen_on_validation", selection.chosen_on_validation.test_f_measure, 0
    if sum(trial.state == "complete" for trial in study.trials) > 1 or len(study.trials) == 1:  # otherwise unknown
        yield "selection/test_f_measure_chosen_on_test", selection.chosen_on_test.test_f_measure, 0
        yield "selection_optimism", selection.optimism, 0
    for state in STATES:
        yield f"trials/{state}", float(sum(trial.state == state for trial in study.trials)), 0


def _iter_split_numbers(trial: TrialOutcome, *, tiles: TileTable, split: Split) -> Iterator[NumberRow]:
    """Yield the scores of one split; the indices are means over classes and folds, as the paper prints them."""
    scores = compute_split_scores(trial, tiles=tiles, split=split)
    yield f"{split}/f_measure", scores.f_measure, 0
    yield f"{split}/f_measure_lowest_fold", float(scores.f_measure_of_fold.min()), 0
    for index in ("one_vs_rest_accuracy", "precision", "recall"):
        yield f"{split}/{index}", float(getattr(scores.mean, index).mean()), 0
    yield f"{split}/accuracy", scores.tile_accuracy, 0
    for name in ("loss", "image_f_measure", "image_accuracy"):
        yield f"{split}/{name}", getattr(scores, name), 0


def _iter_lengths(trial: TrialOutcome) -> Iterator[NumberRow]:
    """Yield what a trial cost, over its finished folds."""
    yield "folds", float(len(trial.folds)), 0
    yield "epochs", float(sum(_count_epochs(fold) for fold in trial.folds)), 0
    yield "training_s", sum(fold.training_s for fold in trial.folds), 0


def _count_epochs(fold: FoldOutcome) -> int:
    return len(fold.curves.training_loss)
