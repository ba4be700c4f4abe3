"""The numbers of a fold, a trial and a study under the names that charts, `deployment` and users' queries read."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from sem_search.evaluation.metrics import compute_fold_f_measure, compute_fold_loss, compute_split_scores
from sem_search.records import Cell, Split, StudyOutcome, TileTable, TrialOutcome
from sem_search.tracking.entries.metrics import (
    NumberRow,
    iter_course_numbers,
    iter_fold_numbers,
    iter_study_numbers,
    iter_trial_numbers,
)

MakeTrial = Callable[..., TrialOutcome]
MakeTiles = Callable[..., TileTable]
FOLD_NAMES = {
    "fold/validation_f_measure",
    "fold/validation_loss",
    "fold/test_f_measure",
    "fold/test_loss",
    "fold/epochs",
    "fold/best_epoch",
    "fold/training_s",
}
SPLIT_NAMES = (
    "f_measure",
    "f_measure_lowest_fold",
    "one_vs_rest_accuracy",
    "precision",
    "recall",
    "loss",
    "accuracy",
    "image_f_measure",
    "image_accuracy",
)
TRIAL_NAMES = {f"{split}/{name}" for split in ("validation", "test") for name in SPLIT_NAMES}


def collect(rows: Iterable[NumberRow]) -> dict[tuple[str, int], float]:
    """Return the numbers by name and step; none comes twice, and all are plain floats."""
    rows = list(rows)
    assert max(Counter((name, step) for name, _, step in rows).values()) == 1
    assert {type(value) for _, value, _ in rows} == {float}
    return {(name, step): value for name, value, step in rows}


def test_a_fold_has_its_scores_at_its_own_step(study: StudyOutcome) -> None:
    fold = study.winner.folds[2]
    numbers = collect(iter_fold_numbers(fold, tiles=study.tiles))
    assert {name for name, step in numbers if step == 2} >= FOLD_NAMES
    for split in ("validation", "test"):
        assert numbers[f"fold/{split}_f_measure", 2] == compute_fold_f_measure(fold, tiles=study.tiles, split=split)
        assert numbers[f"fold/{split}_loss", 2] == compute_fold_loss(fold, tiles=study.tiles, split=split)
    assert numbers["fold/epochs", 2] == 6
    assert numbers["fold/best_epoch", 2] == fold.best_epoch + 1, "counted from 1, as the curves are"
    assert numbers["fold/training_s", 2] == 1.5


@pytest.mark.parametrize("name", ["training_loss", "training_accuracy", "validation_loss", "validation_accuracy"])
def test_curves_have_the_epoch_as_step_counted_from_one(study: StudyOutcome, name: str) -> None:
    fold = study.winner.folds[1]
    numbers = collect(iter_fold_numbers(fold, tiles=study.tiles))
    curve = {step: value for (key, step), value in numbers.items() if key == f"curves/fold_1/{name}"}
    assert curve == dict(enumerate(getattr(fold.curves, name).tolist(), start=1))


def test_a_diverged_fold_keeps_its_last_values(study: StudyOutcome) -> None:
    """What a chart cannot take is dropped, and said, where entries are made; here nothing is hidden."""
    fold = study.winner.folds[0]
    curves = replace(fold.curves, training_loss=np.array([1.0, np.nan]))
    rows = list(iter_fold_numbers(replace(fold, curves=curves), tiles=study.tiles))
    assert [value for name, value, _ in rows if name == "curves/fold_0/training_loss"] == pytest.approx(
        [1.0, np.nan], nan_ok=True
    )
    assert ("fold/epochs", 2.0, 0) in rows


def test_a_trial_has_both_splits_tiles_and_images(study: StudyOutcome) -> None:
    numbers = collect(iter_trial_numbers(study.winner, tiles=study.tiles))
    classes = {f"test/f_measure/{name}" for name in study.tiles.class_names}
    assert {name for name, _ in numbers} == TRIAL_NAMES | classes
    assert {step for _, step in numbers} == {0}
    for split in ("validation", "test"):
        scores = compute_split_scores(study.winner, tiles=study.tiles, split=split)
        expected = {
            "f_measure": scores.f_measure,
            "f_measure_lowest_fold": scores.f_measure_of_fold.min(),
            "one_vs_rest_accuracy": scores.mean.one_vs_rest_accuracy.mean(),
            "precision": scores.mean.precision.mean(),
            "recall": scores.mean.recall.mean(),
            "loss": scores.loss,
            "accuracy": scores.tile_accuracy,
            "image_f_measure": scores.image_f_measure,
            "image_accuracy": scores.image_accuracy,
        }
        assert {name: numbers[f"{split}/{name}", 0] for name in SPLIT_NAMES} == pytest.approx(expected)


def test_each_class_has_its_own_f_measure(make_tiles: MakeTiles, make_trial: MakeTrial) -> None:
    tiles = make_tiles(["a b", "a/b", "c"])
    trial = make_trial(tiles, skill=1.0)
    numbers = collect(iter_trial_numbers(trial, tiles=tiles))
    expected = compute_split_scores(trial, tiles=tiles, split="test").mean.f_measure
    names = ("a_b", "a_b_2", "c")
    assert [numbers[f"test/f_measure/{name}", 0] for name in names] == expected.tolist()
    assert len(set(expected.tolist())) == 3


@pytest.mark.parametrize("select_on", ["validation", "test"])
@pytest.mark.parametrize("n_finished", [1, 2, 3])
def test_the_objective_is_the_mean_over_the_folds_so_far(
    tiles: TileTable, make_trial: MakeTrial, select_on: Split, n_finished: int
) -> None:
    trial = make_trial(tiles, n_finished=n_finished, skill=0.5)
    numbers = collect(iter_course_numbers(trial, tiles=tiles, select_on=select_on))
    values = [compute_fold_f_measure(fold, tiles=tiles, split=select_on) for fold in trial.folds]
    means = {("objective", fold): float(np.mean(values[: fold + 1])) for fold in range(n_finished)}
    assert {key: value for key, value in numbers.items() if key[0] == "objective"} == means
    for name in ("training_loss", "training_accuracy", "validation_loss", "validation_accuracy"):
        curves = np.mean([getattr(fold.curves, name) for fold in trial.folds], axis=0)
        assert [numbers[f"curves/{name}", epoch] for epoch in range(1, 7)] == pytest.approx(curves)
    assert numbers["objective", n_finished - 1] == compute_split_scores(trial, tiles=tiles, split=select_on).f_measure


def test_mean_curves_end_where_the_first_fold_did(study: StudyOutcome) -> None:
    first, *others = study.winner.folds
    curves = {name: values[:2] for name, values in vars(first.curves).items()}
    trial = replace(study.winner, folds=(replace(first, curves=replace(first.curves, **curves)), *others))
    numbers = collect(iter_course_numbers(trial, tiles=study.tiles, select_on="validation"))
    assert [step for name, step in numbers if name == "curves/training_loss"] == [1, 2]


def test_lengths_are_sums_over_the_folds(study: StudyOutcome) -> None:
    folds = tuple(replace(fold, training_s=float(place)) for place, fold in enumerate(study.winner.folds))
    winner = replace(study.winner, folds=folds)
    numbers = collect(iter_course_numbers(winner, tiles=study.tiles, select_on="validation"))
    assert (numbers["folds", 0], numbers["epochs", 0], numbers["training_s", 0]) == (3, 18, 3.0)


def test_a_study_has_the_winner_s_numbers_under_its_own_name(study: StudyOutcome) -> None:
    numbers = collect(iter_study_numbers(study))
    winner = collect(iter_trial_numbers(study.winner, tiles=study.tiles))
    for (name, step), value in winner.items():
        assert numbers[f"winner/{name}", step] == value
    assert numbers["winner/epochs", 0] == 18
    assert numbers["winner/learning_rate", 0] == study.winner.cell.learning_rate
    assert numbers["winner/batch_size", 0] == study.winner.cell.batch_size
    others = {name for name, _ in numbers if not name.startswith("winner/")}
    assert others == {
        "selection/test_f_measure_chosen_on_validation",
        "selection/test_f_measure_chosen_on_test",
        "selection_optimism",
        "trials/complete",
        "trials/pruned",
        "trials/failed",
    }


def test_a_linear_winner_has_no_learning_rate(linear_study: StudyOutcome) -> None:
    names = {name for name, _ in collect(iter_study_numbers(linear_study))}
    assert "winner/test/f_measure" in names
    assert not names & {"winner/learning_rate", "winner/batch_size"}


def test_what_pruning_left_unknown_has_no_number(study: StudyOutcome) -> None:
    trials = tuple(trial for trial in study.trials if trial.state != "complete" or trial == study.winner)
    assert len(trials) > 1
    names = {name for name, _ in collect(iter_study_numbers(replace(study, trials=trials)))}
    assert not names & {"selection_optimism", "selection/test_f_measure_chosen_on_test"}
    alone = collect(iter_study_numbers(replace(study, trials=(study.winner,))))
    assert alone["selection_optimism", 0] == 0


def test_the_optimism_is_what_choosing_on_test_tiles_would_have_added(
    study: StudyOutcome, make_trial: MakeTrial
) -> None:
    lucky = make_trial(study.tiles, number=8, cell=Cell(learning_rate=0.5, batch_size=8), skill=0.5)
    folds = tuple(
        replace(fold, test_probabilities=np.eye(2)[study.tiles.label_of_tile[fold.test_tiles]]) for fold in lucky.folds
    )
    both = replace(study, trials=(*study.trials, replace(lucky, folds=folds)))
    numbers = collect(iter_study_numbers(both))
    chosen = numbers["selection/test_f_measure_chosen_on_validation", 0]
    assert numbers["selection/test_f_measure_chosen_on_test", 0] == 1.0
    assert numbers["selection_optimism", 0] == pytest.approx(1.0 - chosen)
    assert chosen == compute_split_scores(study.winner, tiles=study.tiles, split="test").f_measure < 1


def test_trials_are_counted_by_how_they_ended(study: StudyOutcome, make_trial: MakeTrial) -> None:
    failed = [make_trial(study.tiles, number=n, state="failed", n_finished=0) for n in (7, 8, 9)]
    numbers = collect(iter_study_numbers(replace(study, trials=(*study.trials, *failed))))
    assert [numbers[f"trials/{state}", 0] for state in ("complete", "pruned", "failed")] == [2, 1, 3]
