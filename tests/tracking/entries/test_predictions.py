"""Out-of-fold answers as tables: enough to compute every score again."""

import pytest
from sklearn.metrics import f1_score

from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import StudyOutcome
from sem_search.tracking.entries import predictions as room
from sem_search.tracking.entries.predictions import (
    build_evaluation_table,
    tabulate_image_predictions,
    tabulate_tile_predictions,
)


def test_scores_can_be_computed_again_from_the_tile_table(study: StudyOutcome) -> None:
    rows = tabulate_tile_predictions(study.winner, tiles=study.tiles).to_dict("records")
    assert len(rows) == 2 * study.tiles.n_tiles
    by_fold = [
        [row for row in rows if row["split"] == "test" and row["fold"] == fold.fold + 1] for fold in study.winner.folds
    ]
    scores = [f1_score([r["true"] for r in fold], [r["predicted"] for r in fold], average="macro") for fold in by_fold]
    expected = compute_split_scores(study.winner, tiles=study.tiles, split="test").f_measure_of_fold
    assert scores == pytest.approx(expected.tolist())


def test_a_tile_row_names_image_and_place(study: StudyOutcome) -> None:
    rows = tabulate_tile_predictions(study.winner, tiles=study.tiles).to_dict("records")
    fifth = next(row for row in rows if row["tile"] == 5)
    assert (fifth["image_id"], fifth["tile_of_image"], fifth["true"]) == ("fine/01.png", 1, "fine")
    assert {row["split"] for row in rows if row["tile"] == 5} == {"validation", "test"}
    assert fifth["probability of fine"] + fifth["probability of rough"] == pytest.approx(1, abs=1e-6)


def test_every_image_stands_once_on_each_split(study: StudyOutcome) -> None:
    rows = tabulate_image_predictions(study.winner, tiles=study.tiles).to_dict("records")
    for split in ("validation", "test"):
        assert sorted(row["image_id"] for row in rows if row["split"] == split) == sorted(study.tiles.image_ids)
    right = [row["true"] == row["predicted"] for row in rows if row["split"] == "test"]
    expected = compute_split_scores(study.winner, tiles=study.tiles, split="test").image_accuracy
    assert sum(right) / len(right) == expected
    assert {row["n_tiles"] for row in rows} == {4}


@pytest.mark.parametrize(("most", "n_shown"), [(6, 6), (5, 3), (3, 3), (2, 2), (1, 1)])
def test_of_many_images_mlflow_compares_the_same_ones_in_every_trial(
    study: StudyOutcome, monkeypatch: pytest.MonkeyPatch, most: int, n_shown: int
) -> None:
    monkeypatch.setattr(room, "MAX_EVALUATED", most)
    shown = []
    for trial in study.trials[:2]:
        frame = tabulate_image_predictions(trial, tiles=study.tiles)
        table = build_evaluation_table(frame, path="images.json")
        assert table.columns[:3] == ("image_id", "predicted", "true")
        assert len(table.rows) == 2 * n_shown, "in both splits"
        shown.append({row[0] for row in table.rows})
    assert shown[0] == shown[1]
    assert {type(value) for value in table.rows[0]} == {str, int, float}, "as JSON has them"


def test_classes_may_be_called_as_the_columns_are(make_tiles, make_trial) -> None:
    tiles = make_tiles(("tile", "true"))
    frame = tabulate_tile_predictions(make_trial(tiles), tiles=tiles)
    assert list(frame)[-2:] == ["probability of tile", "probability of true"]
    assert frame["tile"].max() == tiles.n_tiles - 1
