"""Out-of-fold answers as tables: enough to compute every score again."""

import pytest
from sklearn.metrics import f1_score

from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.predictions import build_image_predictions, build_tile_predictions


def test_scores_can_be_computed_again_from_the_tile_table(study: StudyOutcome) -> None:
    table = build_tile_predictions(study.winner, tiles=study.tiles, path="tiles.csv")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert len(rows) == 2 * study.tiles.n_tiles
    by_fold = [
        [row for row in rows if row["split"] == "test" and row["fold"] == fold.fold + 1] for fold in study.winner.folds
    ]
    scores = [f1_score([r["true"] for r in fold], [r["predicted"] for r in fold], average="macro") for fold in by_fold]
    expected = compute_split_scores(study.winner, tiles=study.tiles, split="test").f_measure_of_fold
    assert scores == pytest.approx(expected.tolist())


def test_a_tile_row_names_image_and_place(study: StudyOutcome) -> None:
    table = build_tile_predictions(study.winner, tiles=study.tiles, path="tiles.csv")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    fifth = next(row for row in rows if row["tile"] == 5)
    assert (fifth["image_id"], fifth["tile_of_image"], fifth["true"]) == ("fine/01.png", 1, "fine")
    assert {row["split"] for row in rows if row["tile"] == 5} == {"validation", "test"}
    assert fifth["probability of fine"] + fifth["probability of rough"] == pytest.approx(1, abs=1e-6)


def test_every_image_stands_once_on_each_split(study: StudyOutcome) -> None:
    table = build_image_predictions(study.winner, tiles=study.tiles, path="images.csv")
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    for split in ("validation", "test"):
        assert sorted(row["image_id"] for row in rows if row["split"] == split) == sorted(study.tiles.image_ids)
    right = [row["true"] == row["predicted"] for row in rows if row["split"] == "test"]
    expected = compute_split_scores(study.winner, tiles=study.tiles, split="test").image_accuracy
    assert sum(right) / len(right) == expected
    assert {row["n_tiles"] for row in rows} == {4}
