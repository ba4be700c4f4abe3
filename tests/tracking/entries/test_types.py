"""Artifacts that a store would refuse cannot be made; numbers that MLflow would change in silence are left out."""

import pytest
from matplotlib.figure import Figure

from sem_search.tracking.entries.types import (
    FigureArtifact,
    JsonArtifact,
    MetricPoint,
    Metrics,
    TableArtifact,
    Tags,
    TextArtifact,
    iter_finite_metrics,
)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "a/../b", "..", "lactose fine", "α", "a\\b", "a\n"])
def test_names_that_some_store_refuses_are_refused_here(name: str) -> None:
    with pytest.raises(ValueError, match="is no artifact path"):
        TextArtifact(path=name, text="")


@pytest.mark.parametrize("name", ["a", "a/b.c", "curves/fold_0/training_loss", "..a", "a-b_c"])
def test_plain_names_are_taken(name: str) -> None:
    assert JsonArtifact(path=name, content={}).path == name


def test_a_table_has_a_field_under_every_column() -> None:
    with pytest.raises(ValueError, match=r"t\.csv: a row of 1 fields under 2 columns"):
        TableArtifact(path="t.csv", columns=("a", "b"), rows=((1, 2), (3,)))


def test_a_table_path_is_checked_too() -> None:
    with pytest.raises(ValueError, match="is no artifact path"):
        TableArtifact(path="../t.csv", columns=("a",), rows=())


def test_numbers_that_are_not_finite_are_counted_in_a_tag() -> None:
    values = [("loss", 1.0, 1), ("loss", float("nan"), 2), ("loss", float("inf"), 3), ("f", float("nan"), 0)]
    metrics, tags = iter_finite_metrics(values, source="fold_2")
    assert metrics == Metrics(points=(MetricPoint(key="loss", value=1.0, step=1),))
    assert tags == Tags(values={"sem_search.not_finite.fold_2": "loss: 2, f: 1"})


@pytest.mark.parametrize(
    ("values", "kinds"),
    [([("a", 1.0, 0)], [Metrics]), ([("a", float("nan"), 0)], [Tags]), ([], [])],
)
def test_only_what_there_is_is_yielded(values: list[tuple[str, float, int]], kinds: list[type]) -> None:
    assert [type(entry) for entry in iter_finite_metrics(values, source="x")] == kinds


def test_a_figure_is_drawn_once_however_often_it_is_needed() -> None:
    drawn = []

    def draw() -> Figure:
        drawn.append(Figure(figsize=(2.5, 1)))
        return drawn[-1]

    artifact = FigureArtifact(path="a/b.png", draw=draw)
    assert drawn == []
    assert artifact.picture.content.startswith(b"\x89PNG")
    assert artifact.picture.width_in == 2.5
    assert len(drawn) == 1
