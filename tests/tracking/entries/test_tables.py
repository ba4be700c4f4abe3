"""The numbers behind the figures."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import Cell, StudyOutcome, TileTable, TrialOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import (
    ConfusionTable,
    build_fold_table,
    build_index_table,
    build_trial_table,
    compute_class_rows,
    compute_confused_pairs,
    compute_confusion_table,
    compute_fold_rows,
    compute_grid_tables,
    compute_index_table,
    compute_selection,
    compute_trial_rows,
)

MakeTrial = Callable[..., TrialOutcome]


def test_the_grid_holds_every_cell_that_was_asked_for(study: StudyOutcome, context: StudyContext) -> None:
    _, table = compute_grid_tables(study, cells=context.cells)
    assert table.learning_rates == (1e-2, 1e-3)
    assert table.batch_sizes == (16, 48)
    assert [cell.state for cell in table.cells] == ["complete", "complete", "pruned", "missing"]
    assert [cell.n_folds for cell in table.cells] == [3, 3, 1, 0]
    assert table.cells[3].f_measure is None
    expected = compute_split_scores(study.trials[1], tiles=study.tiles, split="test").f_measure
    assert table.cells[1].f_measure == expected
    assert table.winner == table.cells[1].cell


def test_the_grid_holds_cells_that_were_tried_but_not_asked_for(study: StudyOutcome) -> None:
    table, _ = compute_grid_tables(study, cells=())
    assert {cell.cell for cell in table.cells if cell.state != "missing"} == {trial.cell for trial in study.trials}


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_trials_of_a_cell_the_complete_one_counts(
    study: StudyOutcome, make_trial: MakeTrial, order: int
) -> None:
    cell = Cell(learning_rate=0.5, batch_size=8)
    pruned = make_trial(study.tiles, number=8, cell=cell, state="pruned", n_finished=2)
    complete = make_trial(study.tiles, number=9, cell=cell)
    both = replace(study, trials=(*study.trials, *(pruned, complete)[::order]))
    _, table = compute_grid_tables(both, cells=())
    assert [found.state for found in table.cells if found.cell == cell] == ["complete"]


def test_each_head_has_a_grid_and_the_linear_one_a_field(linear_study: StudyOutcome, context: StudyContext) -> None:
    cells = (Cell(head="linear_init", learning_rate=1.0, batch_size=4), *context.cells)
    tables = compute_grid_tables(linear_study, cells=cells)
    assert [(table.head, table.split) for table in tables] == [
        (head, split) for head in ("finetune", "linear_init", "linear") for split in ("validation", "test")
    ]
    assert [(table.learning_rates, table.batch_sizes) for table in tables[::2]] == [
        ((1e-2, 1e-3), (16, 48)),
        ((1.0,), (4,)),
        ((), ()),
    ]
    (field,) = tables[-1].cells
    assert field.cell == tables[0].winner == Cell(head="linear")
    assert (field.state, field.n_folds) == ("complete", 3)


def test_the_row_of_a_linear_head_has_no_learning_rate(linear_study: StudyOutcome) -> None:
    row = compute_trial_rows(linear_study)[-1]
    assert (row.head, row.learning_rate, row.batch_size, row.is_winner) == ("linear", None, None, True)


def test_a_trial_row_scores_the_finished_folds(study: StudyOutcome) -> None:
    rows = compute_trial_rows(study)
    assert [(row.trial, row.state, row.n_folds, row.is_winner) for row in rows] == [
        (0, "complete", 3, False),
        (1, "complete", 3, True),
        (2, "pruned", 1, False),
    ]
    scores = compute_split_scores(study.trials[1], tiles=study.tiles, split="validation")
    assert rows[1].validation_f_measure == scores.f_measure
    assert rows[1].validation_image_f_measure == scores.image_f_measure
    assert rows[1].n_epochs == 3 * 6
    assert rows[1].training_s == pytest.approx(4.5)
    assert rows[2].message == "pruned for a reason"


def test_a_trial_without_folds_has_no_scores(study: StudyOutcome, make_trial: MakeTrial) -> None:
    failed = make_trial(study.tiles, number=3, state="failed", n_finished=0)
    row = compute_trial_rows(replace(study, trials=(*study.trials, failed)))[3]
    assert (row.validation_f_measure, row.test_f_measure, row.test_image_accuracy) == (None, None, None)


def test_the_trial_table_has_a_column_for_every_field(study: StudyOutcome) -> None:
    table = build_trial_table(compute_trial_rows(study), path="trials.csv")
    assert table.columns[:5] == ("trial", "head", "learning_rate", "batch_size", "state")
    assert [row[0] for row in table.rows] == [0, 1, 2]


def test_selection_shows_what_a_choice_on_the_test_tiles_adds(study: StudyOutcome, make_trial: MakeTrial) -> None:
    """Trial 5 answers its test tiles perfectly and its validation tiles wrongly."""
    base = make_trial(study.tiles, number=5, cell=Cell(learning_rate=0.5, batch_size=8))
    n_classes = len(study.tiles.class_names)
    folds = tuple(
        replace(
            fold,
            test_probabilities=np.eye(n_classes)[study.tiles.label_of_tile[fold.test_tiles]],
            validation_probabilities=np.eye(n_classes)[1 - study.tiles.label_of_tile[fold.validation_tiles]],
        )
        for fold in base.folds
    )
    selection = compute_selection(replace(study, trials=(*study.trials, replace(base, folds=folds))))
    assert selection.chosen_on_validation.trial == 1
    assert selection.chosen_on_test.trial == 5
    assert selection.optimism == pytest.approx(1.0 - selection.chosen_on_validation.test_f_measure)


def test_pruned_trials_are_never_chosen(study: StudyOutcome, make_trial: MakeTrial) -> None:
    lucky = make_trial(study.tiles, number=6, state="pruned", n_finished=1, skill=50.0)
    selection = compute_selection(replace(study, trials=(*study.trials, lucky)))
    assert selection.chosen_on_validation.trial == selection.chosen_on_test.trial == 1
    assert selection.optimism == 0


@pytest.mark.parametrize(("winner", "expected"), [(1, 1), (7, 7)])
def test_of_equals_the_winner_counts(study: StudyOutcome, winner: int, expected: int) -> None:
    twin = replace(study.trials[1], number=7)
    selection = compute_selection(replace(study, trials=(*study.trials, twin), winner_number=winner))
    assert selection.chosen_on_validation.trial == expected


@pytest.mark.parametrize(("unit", "n_cases"), [("tiles", 24), ("images", 6)])
def test_the_confusion_table_counts_tiles_or_images(study: StudyOutcome, unit: str, n_cases: int) -> None:
    table = compute_confusion_table(study.winner, tiles=study.tiles, unit=unit)
    assert table.counts.sum() == n_cases
    np.testing.assert_allclose(table.shares.sum(axis=1), 1)


def test_confused_pairs_come_by_share_of_the_true_class() -> None:
    counts = np.array([[5, 5, 0], [3, 97, 0], [0, 0, 0]])
    table = ConfusionTable(class_names=("a", "b", "c"), counts=counts, unit="tiles")
    pairs = compute_confused_pairs(table, n_most=5)
    assert [(pair.true, pair.predicted, pair.count, pair.n_true) for pair in pairs] == [
        ("a", "b", 5, 10),
        ("b", "a", 3, 100),
    ]
    assert len(compute_confused_pairs(table, n_most=1)) == 1
    assert table.shares[2].tolist() == [0, 0, 0]


def test_the_index_table_ends_with_the_mean_of_the_classes(study: StudyOutcome) -> None:
    indices = compute_index_table(study.winner, tiles=study.tiles)
    table = build_index_table(indices, path="indices.csv")
    assert table.columns == ("class", "one_vs_rest_accuracy", "precision", "recall", "f_measure")
    assert [row[0] for row in table.rows] == ["fine", "rough", "mean of the classes"]
    assert table.rows[2][4] == pytest.approx((table.rows[0][4] + table.rows[1][4]) / 2)


def test_fold_rows_tell_the_split_of_each_image(tiles: TileTable, context: StudyContext) -> None:
    rows = compute_fold_rows(context.folds, tiles=tiles)
    assert [row.image_id for row in rows] == list(tiles.image_ids)
    assert rows[0].splits == ("test", "training", "validation")
    assert all(sorted(row.splits) == ["test", "training", "validation"] for row in rows)
    table = build_fold_table(rows, path="folds.csv")
    assert table.columns == ("image_id", "class", "group", "n_tiles", "fold_1", "fold_2", "fold_3")
    assert table.rows[0] == ("fine/00.png", "fine", "fine/00.png", 4, "test", "training", "validation")


def test_an_image_that_no_fold_names_is_left_out(tiles: TileTable, context: StudyContext) -> None:
    fewer = {**context.folds[0], "training": ()}
    assert compute_fold_rows([fewer], tiles=tiles)[2].splits == ("left out",)


def test_class_rows_count_images_groups_and_tiles(tiles: TileTable) -> None:
    together = replace(tiles, group_of_image=("g", "g", *tiles.group_of_image[2:]))
    first, second = compute_class_rows(together)
    assert (first.label, first.n_images, first.n_groups, first.n_tiles) == ("fine", 3, 2, 12)
    assert (second.n_images, second.n_groups) == (3, 3)
