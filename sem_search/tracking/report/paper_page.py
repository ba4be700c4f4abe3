"""The page of `sem-search paper`: what the paper found beside what was found here, and its figures for every backbone.

The paper is Iwata, Hayashi et al., "Classification of scanning electron microscope images of pharmaceutical excipients
using deep convolutional neural networks with transfer learning", Int. J. Pharm. X 4 (2022) 100135.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from sem_search.evaluation.metrics import SplitScores, compute_split_scores
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.tables import (
    INDEX_NAMES,
    compute_class_rows,
    compute_confused_pairs,
    compute_confusion_table,
    compute_selection,
)
from sem_search.tracking.entries.types import FigureArtifact
from sem_search.tracking.figures.catalogue import CAPTIONS, PATHS
from sem_search.tracking.report.answer_page import Answer, CaptionedFigure, Part, Row, Section, SideBySide, Table
from sem_search.words import count, join_words

HEADINGS = {
    "2": "Figure 2: original images",
    "3": "Figure 3: learning rates and batch sizes",
    "4a": "Figure 4: confusion matrices, tiles",
    "4b": "Figure 4 for whole images",
    "5": "Figure 5: indices of each class",
    "6": "Figure 6: Grad-CAM",
    "S1": "Figure S1: tiles",
    "S2": "Figure S2: folds",
    "S3": "Figure S3: training",
}
"""By the number of a figure in the paper; where its figure is two of ours, a letter follows."""

OF_THE_DATA = ("2", "S1", "S2")
"""Figures that are the same whatever the backbone."""

SHARED = "the same for each backbone"

N_PAIRS = 3
"""Of classes that are named as confused; the matrix shows all."""


@dataclass(frozen=True, kw_only=True)
class PaperStudy:
    """The study of one backbone."""

    outcome: StudyOutcome
    weights_used: str
    figures: Mapping[str, FigureArtifact]
    """By their paths."""

    @property
    def test(self) -> SplitScores:
        """What the winner scored on the test tiles."""
        return compute_split_scores(self.outcome.winner, tiles=self.outcome.tiles, split="test")


def build_paper_answer(
    studies: Sequence[PaperStudy], *, comparisons: Sequence[Answer], facts: Mapping[str, Mapping[str, str]]
) -> Answer:
    """Return the page of several studies over the same images and folds, that differ in their backbones.

    Args:
        studies: One for each backbone, with all figures of the paper.
        comparisons: The first study against each other one.
        facts: Class -> column of Table 1 -> value; the same columns for each class.
    """
    tiles, n_folds = studies[0].outcome.tiles, len(studies[0].outcome.winner.folds)
    scores = [f"{study.outcome.backbone} {study.test.f_measure:.3f}" for study in studies]
    return Answer(
        question="Does the paper's result hold for these images?",
        subject=f"Studies: {', '.join(study.outcome.name for study in studies)}; "
        f"{count(len(tiles.image_ids), 'image')} of {count(len(tiles.class_names), 'class')}, "
        f"{count(tiles.n_tiles, 'tile')}, {count(n_folds, 'fold')}.",
        light="plain",
        verdict=f"Mean F-measure on test tiles: {join_words(scores)}; in the paper 0.970 with VGG16 and with ResNet50",
        sentence=" ".join(f"{one.verdict}. {one.sentence}" for one in comparisons)
        or "One backbone was searched: there is no other to compare it with.",
        sections=(
            Section(heading="What the paper found, and what was found here", parts=(_tabulate_findings(studies),)),
            *(Section(heading=one.question, parts=tuple(_list_parts(one))) for one in comparisons),
            Section(heading="Table 1: classes", parts=(_tabulate_classes(studies[0].outcome, facts=facts),)),
            *(
                _show_figure(number, studies=studies)
                for number in HEADINGS
                if _list_with_figure(number, studies=studies)
            ),
        ),
    )


def _list_parts(comparison: Answer) -> list[Part]:
    sections = chain.from_iterable(section.parts for section in comparison.sections)
    return [f"{comparison.subject} {comparison.verdict}. {comparison.sentence}", *comparison.overview, *sections]


def _tabulate_findings(studies: Sequence[PaperStudy]) -> Table:
    return Table(
        columns=("Question", "The paper", *(f"Here: {study.outcome.backbone}" for study in studies)),
        rows=tuple(
            Row(cells=(question, paper, *(find(study) for study in studies))) for question, paper, find in FINDINGS
        ),
        note="The paper: ten pharmaceutical excipients, ten original images of each, five folds. Indices are means "
        "over the folds, each class against all others, on test tiles. A choice on test tiles flatters the score: what "
        "it adds is the test score of the combination that is best on test tiles, less that of the one that is best on "
        "validation tiles.",
    )


def _tabulate_classes(study: StudyOutcome, *, facts: Mapping[str, Mapping[str, str]]) -> Table:
    rows = compute_class_rows(study.tiles)
    return Table(
        columns=("Class", "Images", "Groups", "Tiles", *facts[rows[0].label]),
        rows=tuple(
            Row(cells=(row.label, str(row.n_images), str(row.n_groups), str(row.n_tiles), *facts[row.label].values()))
            for row in rows
        ),
    )


def _list_with_figure(number: str, *, studies: Sequence[PaperStudy]) -> list[PaperStudy]:
    """Return the studies that have a figure: S3 is missing where the linear head has won, 6 without heat maps."""
    return [study for study in studies if PATHS[number] in study.figures]


def _show_figure(number: str, *, studies: Sequence[PaperStudy]) -> Section:
    """Return one figure of the paper, of all backbones side by side; once, where it does not depend on them."""
    is_shared = number in OF_THE_DATA
    figures = tuple(
        CaptionedFigure(
            artifact=study.figures[PATHS[number]],
            caption=SHARED if is_shared else study.outcome.backbone,
        )
        for study in _list_with_figure(number, studies=studies)[: 1 if is_shared else None]
    )
    note = CAPTIONS[number].format(select_on=studies[0].outcome.select_on)
    return Section(heading=HEADINGS[number], parts=(SideBySide(figures=figures, note=note),))


def _describe_lowest_index(study: PaperStudy) -> str:
    values = np.array([getattr(study.test.mean, name) for name in INDEX_NAMES])
    row, column = np.unravel_index(values.argmin(), values.shape)
    words = INDEX_NAMES[row].replace("_", " ").replace("f measure", "F-measure")
    return f"{values[row, column]:.3f}: {words} of {study.outcome.tiles.class_names[column]}"


def _describe_confusions(study: PaperStudy) -> str:
    outcome = study.outcome
    table = compute_confusion_table(outcome.winner, tiles=outcome.tiles, unit="tiles")
    pairs = compute_confused_pairs(table, n_most=N_PAIRS)
    return "; ".join(f"{one.true} as {one.predicted} ({one.count} of {one.n_true})" for one in pairs) or "none"


def _count_correct_images(study: PaperStudy) -> str:
    confusion = study.test.image_confusion
    return f"{confusion.trace()} of {confusion.sum()}"


FINDINGS: tuple[tuple[str, str, Callable[[PaperStudy], str]], ...] = (
    ("Weights", "ImageNet", lambda study: study.weights_used),
    (
        "Best combination, and the tiles that chose it",
        "VGG16: learning rate 0.001, batch size 48; ResNet50: 0.01, 16; test tiles",
        lambda study: f"{study.outcome.winner.cell.to_text()}; {study.outcome.select_on} tiles",
    ),
    ("Mean F-measure", "0.970 with either backbone", lambda study: f"{study.test.f_measure:.3f}"),
    (
        "What a choice on test tiles adds to it",
        "not given",
        lambda study: f"{compute_selection(study.outcome).optimism:.3f}",
    ),
    ("Lowest of the four indices of any class", "above 0.860 with either backbone", _describe_lowest_index),
    (
        "Tiles most often wrong",
        "the four cellulose grades, predicted as one another; hardly any other",
        _describe_confusions,
    ),
    ("Whole images correctly classified", "not given", _count_correct_images),
)
"""What is asked, what the paper found, and what finds it here."""
