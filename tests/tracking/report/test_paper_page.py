"""The page of the paper's result: what was found here, computed from the predictions, beside what the paper found."""

from dataclasses import replace

import numpy as np
import pytest

from sem_search.evaluation.metrics import compute_split_scores
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.types import FigureArtifact
from sem_search.tracking.figures.catalogue import PATHS
from sem_search.tracking.figures.style import make_figure
from sem_search.tracking.report.answer_page import Answer, Row, SideBySide, Table, build_answer_page
from sem_search.tracking.report.paper_page import HEADINGS, OF_THE_DATA, SHARED, PaperStudy, build_paper_answer

FACTS = {"fine": {"Supplier": "A & B"}, "rough": {"Supplier": ""}}

COMPARISON = Answer(
    question="one or two: which is better?",
    subject="First: one.",
    light="unclear",
    verdict="Neither is clearly better",
    sentence="By a hair.",
    overview=(Table(columns=("Figure", "First"), rows=(Row(cells=("F-measure", "0.9")),)),),
)


def make_paper_study(outcome: StudyOutcome, *, backbone: str) -> PaperStudy:
    figures = {
        path: FigureArtifact(path=path, draw=lambda: make_figure(width_in=2.0, height_in=1.0))
        for path in PATHS.values()
    }
    return PaperStudy(outcome=replace(outcome, backbone=backbone), weights_used="imagenet", figures=figures)


def make_answers_wrong(study: StudyOutcome, *, n_wrong: int) -> StudyOutcome:
    """Return the study with its winner alone: right, but for the first test tiles of each fold, one class further."""
    n_classes = len(study.tiles.class_names)
    folds = []
    for fold in study.winner.folds:
        labels = study.tiles.label_of_tile[fold.test_tiles]
        predicted = (labels + (np.arange(len(labels)) < n_wrong)) % n_classes
        folds.append(replace(fold, test_probabilities=np.eye(n_classes)[predicted]))
    winner = replace(study.winner, folds=tuple(folds))
    return replace(study, trials=(winner,), winner_number=winner.number)


def read_findings(answer: Answer) -> dict[str, tuple[str, ...]]:
    (table,) = answer.sections[0].parts
    assert isinstance(table, Table)
    return {row.cells[0]: row.cells[1:] for row in table.rows}


@pytest.fixture
def answer(study: StudyOutcome) -> Answer:
    faultless, faulty = (make_answers_wrong(study, n_wrong=n) for n in (0, 2))
    studies = [make_paper_study(faultless, backbone="one"), make_paper_study(faulty, backbone="two")]
    return build_paper_answer(studies, comparisons=[COMPARISON], facts=FACTS)


def test_findings_stand_beside_those_of_the_paper(answer: Answer, study: StudyOutcome) -> None:
    """Of the four tiles of `fine` in each test fold, two are predicted as `rough`."""
    found = read_findings(answer)
    score = compute_split_scores(make_answers_wrong(study, n_wrong=2).winner, tiles=study.tiles, split="test").f_measure
    assert found["Mean F-measure"] == ("0.970 with either backbone", "1.000", f"{score:.3f}")
    assert found["Lowest of the four indices of any class"][1:] == (
        "1.000: one vs rest accuracy of fine",
        "0.500: recall of fine",
    )
    assert found["Tiles most often wrong"][1:] == ("none", "fine as rough (6 of 12)")
    assert found["Best combination, and the tiles that chose it"][2].endswith("batch size 48; validation tiles")
    assert found["Whole images correctly classified"][1] == "6 of 6"
    assert found["Weights"] == ("ImageNet", "imagenet", "imagenet")


def test_what_a_choice_on_test_tiles_adds_is_the_better_test_score_less_that_of_the_choice(study: StudyOutcome) -> None:
    poor, good = make_answers_wrong(study, n_wrong=2).trials[0], make_answers_wrong(study, n_wrong=0).trials[0]
    worse_on_validation = tuple(
        replace(fold, validation_probabilities=fold.validation_probabilities[:, ::-1]) for fold in good.folds
    )
    other = replace(good, number=7, folds=worse_on_validation)
    chosen = make_paper_study(replace(study, trials=(poor, other), winner_number=poor.number), backbone="one")
    answer = build_paper_answer([chosen], comparisons=[], facts=FACTS)
    assert "there is no other to compare it with" in answer.sentence
    found = read_findings(answer)
    added = 1 - chosen.test.f_measure
    assert added > 0.1
    assert found["What a choice on test tiles adds to it"] == ("not given", f"{added:.3f}")


def test_every_figure_of_the_paper_is_there_for_each_backbone_or_once(answer: Answer) -> None:
    sections = {section.heading: section.parts for section in answer.sections}
    assert list(sections)[-len(HEADINGS) :] == list(HEADINGS.values())
    for number, heading in HEADINGS.items():
        (shown,) = sections[heading]
        assert isinstance(shown, SideBySide)
        assert {figure.artifact.path for figure in shown.figures} == {PATHS[number]}
        names = [SHARED] if number in OF_THE_DATA else ["one", "two"]
        assert [figure.caption for figure in shown.figures] == names
        assert "{select_on}" not in shown.note


def test_the_page_shows_findings_comparison_classes_and_figures(answer: Answer) -> None:
    page = build_answer_page(answer, path="paper.html", command="sem-search paper").text
    n_beside = len(HEADINGS) - len(OF_THE_DATA)
    assert page.count('src="data:image/') == 2 * n_beside + len(OF_THE_DATA)
    assert "A &amp; B" in page
    assert "Neither is clearly better. By a hair." in page
    assert "http" not in page.replace("http-equiv", "")


def test_each_class_has_a_row_with_its_facts(answer: Answer) -> None:
    (section,) = [one for one in answer.sections if one.heading.startswith("Table 1")]
    (table,) = section.parts
    assert isinstance(table, Table)
    assert table.columns == ("Class", "Images", "Groups", "Tiles", "Supplier")
    assert table.rows[0].cells == ("fine", "3", "3", "12", "A & B")
