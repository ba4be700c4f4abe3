"""The numbers behind the figures, fit for JSON."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sem_search.records import Cell, StudyOutcome, TileTable
from sem_search.tracking.entries import json_values as plain
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import compute_confusion_table, compute_grid_tables


@pytest.mark.parametrize(
    ("values", "digits", "expected"),
    [
        ([1.0, np.nan, np.inf], None, [1.0, None, None]),
        ([[0.123456, 0.5]], 4, [[0.1235, 0.5]]),
        (np.zeros((0, 3)), None, []),
        (np.array([1, 2]), None, [1.0, 2.0]),
        (
            Cell(learning_rate=np.float64(0.5), batch_size=16),
            None,
            {"learning_rate": 0.5, "batch_size": 16, "head": "finetune"},
        ),
        ({1: (True, "a", None, np.nan)}, 2, {"1": [True, "a", None, None]}),
    ],
)
def test_values_become_json_and_what_is_not_finite_none(values: Any, digits: int | None, expected: list[Any]) -> None:
    assert plain.to_json(values, digits=digits) == expected


def test_the_confusion_says_what_rows_are(study: StudyOutcome) -> None:
    table = compute_confusion_table(study.winner, tiles=study.tiles, unit="images")
    listed = plain.list_confusion(table)
    assert (listed["rows"], listed["columns"], listed["classes"]) == (
        "true class",
        "predicted class",
        ["fine", "rough"],
    )
    assert np.array(listed["counts"]).sum() == 6


def test_the_grid_marks_the_winner_and_what_is_missing(study: StudyOutcome, context: StudyContext) -> None:
    listed = plain.list_grid(compute_grid_tables(study, cells=context.cells)[1::2])
    assert [cell["is_winner"] for cell in listed] == [False, True, False, False]
    assert listed[3]["state"] == "missing"
    assert listed[3]["f_measure"] is None


def test_the_linear_head_s_field_has_no_learning_rate(linear_study: StudyOutcome) -> None:
    *others, field = plain.list_grid(compute_grid_tables(linear_study, cells=())[1::2])
    assert {one["head"] for one in others} == {"finetune"}
    assert (field["head"], field["learning_rate"], field["batch_size"]) == ("linear", None, None)
    assert field["is_winner"]
    json.dumps(field, allow_nan=False)


def test_curves_of_a_diverged_fold_are_still_json(study: StudyOutcome) -> None:
    fold = study.winner.folds[0]
    curves = replace(fold.curves, training_loss=np.array([1.0, np.nan]))
    listed = plain.list_curves([replace(fold, curves=curves)])
    assert listed[0]["training_loss"] == [1.0, None]
    assert listed[0]["best_epoch"] == fold.best_epoch + 1
    json.dumps(listed, allow_nan=False)


def test_heat_maps_are_listed_as_numbers(context: StudyContext) -> None:
    listed = plain.list_heat_maps(context.heat_maps)
    assert listed["convolution"] == "conv_last"
    assert [picture["is_zero"] for picture in listed["pictures"]] == [False, True]
    np.testing.assert_allclose(listed["pictures"][0]["heat_map"], context.heat_maps.pictures[0].heat_map, atol=1e-4)
    json.dumps(listed, allow_nan=False)


def test_examples_tiling_and_folds_name_their_images(tiles: TileTable, context: StudyContext) -> None:
    assert plain.list_examples(context.examples)[1] == {
        "image_id": "rough/00.png",
        "class": "rough",
        "width_px": 100,
        "height_px": 80,
        "pixel_size_nm": 12.5,
    }
    assert plain.list_tiling(context.tiling)["corners_px"][1] == {"top": 0, "left": 40}
    assert plain.list_class_names(tiles)[1] == {"index": 1, "class": "rough", "metric_name": "rough"}
