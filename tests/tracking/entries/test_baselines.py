"""Baselines as metrics and as rows: both values, and the winner's less the baseline's."""

from collections.abc import Callable

import pytest

from sem_search.evaluation.baselines import NAMES, ComparedBaseline
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.baselines import build_baseline_table, iter_baseline_numbers


@pytest.fixture
def baselines(
    study: StudyOutcome, make_baselines: Callable[..., tuple[ComparedBaseline, ...]]
) -> tuple[ComparedBaseline, ...]:
    return make_baselines(study)


def test_a_baseline_has_its_scores_and_how_far_the_winner_is_ahead(baselines: tuple[ComparedBaseline, ...]) -> None:
    numbers = {name: value for name, value, _ in iter_baseline_numbers(baselines)}
    compared = baselines[-1].comparison
    assert compared is not None
    assert {name: numbers[f"baseline/logistic_all/{name}"] for name in ("test_f_measure", "test_image_accuracy")} == {
        "test_f_measure": compared.f_measure.second,
        "test_image_accuracy": compared.image_accuracy.second,
    }
    ends = [numbers[f"baseline/logistic_all/winner_ahead{end}"] for end in ("", "_low", "_high")]
    assert ends == [compared.f_measure.value, compared.f_measure.low, compared.f_measure.high]
    assert len(numbers) == 3 * (4 + 3), "metadata were not fitted"


def test_the_table_has_a_row_for_each_figure_and_the_reason_of_what_is_missing(
    study: StudyOutcome, baselines: tuple[ComparedBaseline, ...]
) -> None:
    table = build_baseline_table(baselines)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    figures = ["f_measure", "accuracy", "image_f_measure", "image_accuracy"]
    assert [(row["baseline"], row["figure"]) for row in rows] == [
        (name, figure) for name in NAMES for figure in ([None] if name == "metadata" else figures)
    ]
    scores = compute_split_scores(study.winner, tiles=study.tiles, split="test")
    assert [row["winner"] for row in rows if row["figure"] == "f_measure"] == [pytest.approx(scores.f_measure)] * 3
    for row in rows:
        if row["reason"] is None:
            assert row["low"] <= row["difference"] == row["winner"] - row["value"] <= row["high"]
    (missing,) = (row for row in rows if row["reason"] is not None)
    assert (missing["value"], missing["reason"]) == (None, "no attribute differs between the images")


def test_a_study_without_baselines_has_neither() -> None:
    assert list(iter_baseline_numbers(())) == []
    assert build_baseline_table(()).rows == ()
