"""The paper's figures for any study: each under its number, with the numbers behind it."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import compute_confusion_table, compute_grid_tables
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.figures.catalogue import StudyFigure, list_study_figures, list_trust_figures

NUMBERS = ("2", "3", "4a", "4b", "5", "6", "S1", "S2", "S3")
OF_TRUST = ("T1", "T2", "T3", "T4")


@pytest.fixture(scope="module")
def figures(study: StudyOutcome, context: StudyContext, trust: StudyTrust) -> dict[str, StudyFigure]:
    listed = (*list_study_figures(study, context=context), *list_trust_figures(trust))
    return {figure.number: figure for figure in listed}


def test_every_figure_of_the_paper_in_its_order(figures: dict[str, StudyFigure]) -> None:
    assert tuple(figures) == NUMBERS + OF_TRUST


def test_without_heat_maps_there_is_no_figure_6_and_no_gap_elsewhere(
    study: StudyOutcome, context: StudyContext
) -> None:
    listed = list_study_figures(study, context=replace(context, heat_maps=None))
    assert tuple(figure.number for figure in listed) == tuple(number for number in NUMBERS if number != "6")


@pytest.mark.parametrize("number", NUMBERS + OF_TRUST)
def test_picture_and_numbers_stand_side_by_side_under_the_figure_s_number(
    figures: dict[str, StudyFigure], number: str
) -> None:
    figure = figures[number]
    stem = figure.artifact.path.rsplit(".", 1)[0]
    folder = "trust/" if number in OF_TRUST else "figures/figure_"
    assert stem.startswith(f"{folder}{number.lower()}_")
    assert figure.numbers.path == f"{stem}.json"
    assert figure.caption.endswith(".")
    assert json.loads(json.dumps(figure.numbers.content, allow_nan=False)) == figure.numbers.content


def test_pictures_are_drawn_only_when_they_are_asked_for(study: StudyOutcome, context: StudyContext) -> None:
    before = plt.get_fignums()
    figures = list_study_figures(study, context=context)
    assert plt.get_fignums() == before
    assert isinstance(figures[3].artifact.draw(), Figure)


def test_photographs_are_jpegs_and_drawings_are_not(figures: dict[str, StudyFigure]) -> None:
    kinds = {number: figure.artifact.path.rsplit(".", 1)[1] for number, figure in figures.items()}
    assert {number for number, kind in kinds.items() if kind == "jpg"} == {"2", "6", "S1"}


def test_the_grid_holds_both_splits_of_every_cell_asked_for(
    figures: dict[str, StudyFigure], study: StudyOutcome, context: StudyContext
) -> None:
    rows = figures["3"].numbers.content
    assert len(rows) == 2 * len(context.cells)
    for table in compute_grid_tables(study, cells=context.cells):
        assert [row["f_measure"] for row in rows if row["split"] == table.split] == [
            cell.f_measure for cell in table.cells
        ]
    assert [row["learning_rate"] for row in rows if row["is_winner"]] == [study.winner.cell.learning_rate] * 2


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_grid_s_caption_says_what_the_winner_was_chosen_on(
    study: StudyOutcome, context: StudyContext, split: str
) -> None:
    chosen = list_study_figures(replace(study, select_on=split), context=context)
    caption = next(figure.caption for figure in chosen if figure.number == "3")
    assert f"was chosen on the {split} tiles" in caption


@pytest.mark.parametrize(("number", "unit", "words"), [("4a", "tiles", "each tile"), ("4b", "images", "together")])
def test_confusions_are_the_winner_s_on_its_test_sets(
    figures: dict[str, StudyFigure], study: StudyOutcome, number: str, unit: str, words: str
) -> None:
    content = figures[number].numbers.content
    table = compute_confusion_table(study.winner, tiles=study.tiles, unit=unit)
    assert content["counts"] == table.counts.tolist()
    assert (content["split"], content["unit"]) == ("test", unit)
    assert words in figures[number].caption


def test_indices_and_curves_are_those_of_the_winner(figures: dict[str, StudyFigure], study: StudyOutcome) -> None:
    assert figures["5"].numbers.content["split"] == "test"
    assert len(figures["5"].numbers.content["per_fold"]) == 3
    losses = [fold["validation_loss"] for fold in figures["S3"].numbers.content]
    assert losses == [fold.curves.validation_loss.tolist() for fold in study.winner.folds]


def test_every_image_has_its_split_in_every_fold(figures: dict[str, StudyFigure], study: StudyOutcome) -> None:
    rows = figures["S2"].numbers.content
    assert [row["image_id"] for row in rows] == list(study.tiles.image_ids)
    assert all(sorted(row["splits"]) == ["test", "training", "validation"] for row in rows)
