"""Two studies over the same images in the same folds: which winner is better, for which classes, and how clearly."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sem_search.audits.answer import ShownAsAnswer, iter_answer, list_class_differences, list_difference
from sem_search.errors import DataError, NotComparableError
from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.comparison import Comparison, Difference, compare_trials
from sem_search.evaluation.metrics import predict_classes
from sem_search.evaluation.statistics import LEVEL, MAX_P_VALUE
from sem_search.records import StudyOutcome
from sem_search.settings import write_value
from sem_search.tracking.entries.types import (
    Entry,
    FigureArtifact,
    TableArtifact,
    iter_finite_metrics,
)
from sem_search.tracking.figures.audit import BarRow, draw_rows
from sem_search.tracking.report.answer_page import Answer, CaptionedFigure, Light, Row, Section, Table
from sem_search.words import count

FIGURE_WORDS = {
    "f_measure": "F-measure, tiles",
    "tile_accuracy": "accuracy, tiles",
    "image_f_measure": "F-measure, images",
    "image_accuracy": "accuracy, images",
}

COMMON = ("class_names", "image_ids", "group_of_image")
"""Of their tiles, what two studies must share."""

SMALLEST_P_VALUE = 0.001
"""Of those that are printed as a number."""

OTHER_TILES = "The two cut other tiles from the same images: what compares them is the figures of whole images."

FIGURE_CAPTION = (
    "The first study's figures less the second's, on the same test images: right of the dashed line the first is "
    "better. Orange: other images would hardly have turned it round."
)


@dataclass(frozen=True, kw_only=True)
class SettingDifference:
    """A setting that two searches do not share."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class StudyComparison(ShownAsAnswer):
    """The winner of the first study against that of the second, in the test split."""

    first: str
    second: str
    comparison: Comparison
    n_tiles: int
    """Test tiles of the first."""
    n_tiles_alike: int | None
    """Of them, those that both predict as the same class; None where the two have other tiles of the same images."""
    n_images_alike: int
    """Whole test images that both predict as the same class."""
    settings: tuple[SettingDifference, ...] = ()
    """What differs in the settings of the searches, and in the combinations that won."""

    @property
    def rows(self) -> list[tuple[str, Difference]]:
        """Every figure compared: those of all classes, then each class's F-measure, whose intervals hold together."""
        figures = [(words, getattr(self.comparison, name)) for name, words in FIGURE_WORDS.items()]
        return figures + list(zip(self.comparison.class_names, self.comparison.f_measure_of_class, strict=True))

    @property
    def table(self) -> pd.DataFrame:
        """One row for each figure compared: both values, their difference and its interval."""
        return pd.DataFrame([{"figure": name, **list_difference(entry)} for name, entry in self.rows])

    def to_answer(self) -> Answer:
        """Return which study is better, by how much, and what differs between the two."""
        comparison = self.comparison
        light, verdict, sentence = self._conclude()
        n_headline = len(FIGURE_WORDS)
        return Answer(
            question=f"{self.first} or {self.second}: which is better?",
            subject=f"First: {self.first}; second: {self.second}; {comparison.n_images} test images, "
            f"{comparison.n_folds} folds.",
            light=light,
            verdict=verdict,
            sentence=sentence,
            overview=(_tabulate(self.rows[:n_headline], note=OTHER_TILES if self.n_tiles_alike is None else ""),),
            sections=(
                Section(heading="What differs in the settings?", parts=tuple(self._iter_settings())),
                Section(
                    heading="Class by class: F-measure, tiles",
                    parts=(
                        _tabulate(
                            self.rows[n_headline:],
                            note=f"The intervals of the {len(comparison.class_names)} classes hold for all of them "
                            "together (Bonferroni).",
                        ),
                    ),
                ),
                Section(heading="Other images, other training images", parts=(self._tabulate_tests(),)),
            ),
        )

    def _iter_settings(self) -> Iterator[str | Table]:
        if not self.settings:
            yield "Nothing: both searches had the same settings, and the same combination won."
            return
        yield Table(
            columns=("Setting", "First", "Second"),
            rows=tuple(Row(cells=(entry.name, entry.first, entry.second)) for entry in self.settings),
        )

    def _tabulate_tests(self) -> Table:
        images, folds = self.comparison.image_test, self.comparison.fold_test
        better = f"{images.n_first_better} better by the first, {images.n_second_better} by the second"
        rows = [Row(cells=("other images", "McNemar, whole images", better, _format_p_value(images.p_value)))]
        if folds is not None:
            found = "none: all folds differ alike" if folds.p_value is None else _format_p_value(folds.p_value)
            cells = (
                "other training images",
                "corrected resampled t-test, folds",
                f"{folds.mean:+.3f} on average",
                found,
            )
            rows.append(Row(cells=cells))
        return Table(columns=("Could it be turned round by", "Test", "Found", "p"), rows=tuple(rows))

    def _conclude(self) -> tuple[Light, str, str]:
        """Return which study is better, if that is clear: light, a few words, and why."""
        entry, folds = self.comparison.f_measure, self.comparison.fold_test
        images = f"{self.n_images_alike} of {count(self.comparison.n_images, 'test image')}"
        if self.n_tiles_alike == self.n_tiles and self.n_images_alike == self.comparison.n_images:
            tiles = count(self.n_tiles, "test tile")
            sentence = f"Both predict the same class for each of {tiles}, and for each image: no figure differs."
            return "plain", "The two answer alike", sentence
        sentence = (
            f"The F-measure on test tiles is {entry.first:.3f} against {entry.second:.3f}: {entry.to_text()}. Both "
            f"predict the same class for {images}."
        )
        if not entry.is_clear:
            return "unclear", "Neither is clearly better", f"{sentence} Other images could have turned it round."
        verdict = f"{self.first if entry.value > 0 else self.second} is better"
        if folds is None or folds.p_value is None:
            return "plain", verdict, f"{sentence} Of other training images the folds say nothing."
        if folds.p_value > MAX_P_VALUE:
            return "plain", verdict, f"{sentence} With other training images it might not be."
        return (
            "plain",
            verdict,
            f"{sentence} Neither other images nor other training images would be likely to change it.",
        )


def _tabulate(rows: Sequence[tuple[str, Difference]], *, note: str) -> Table:
    return Table(
        columns=("Figure", "First", "Second", "Difference (95 % interval)", "Result"),
        rows=tuple(
            Row(
                cells=(name, f"{entry.first:.3f}", f"{entry.second:.3f}", entry.to_text(), _name_better(entry)),
                light="plain" if entry.is_clear else None,
            )
            for name, entry in rows
        ),
        note=note,
    )


def _name_better(entry: Difference) -> str:
    if entry.first == entry.second:
        return "the same"
    if not entry.is_clear:
        return "not clear"
    return "first is better" if entry.value > 0 else "second is better"


def compare_studies(
    first: StudyOutcome,
    second: StudyOutcome,
    *,
    settings: tuple[SettingDifference, ...] = (),
    has_same_tiles: bool = True,
) -> StudyComparison:
    """Return how the winners of two studies differ in the test split.

    Args:
        first: A study.
        second: Another.
        settings: What differs in the settings of their searches; the combinations that won are added.
        has_same_tiles: False where the two cut other tiles from the same images, be their numbers equal or not.

    Raises:
        NotComparableError: The studies have other images, classes or folds.
    """
    if any(getattr(first.tiles, name) != getattr(second.tiles, name) for name in COMMON):
        raise NotComparableError(
            f"Studies {first.name!r} and {second.name!r} have other classes, images or groups, or in another order: "
            "only answers to the same images in the same folds can be compared."
        )
    other_tiles = None if has_same_tiles else second.tiles
    compare = partial(compare_trials, first.winner, second.winner, tiles=first.tiles, other_tiles=other_tiles)
    try:
        comparison = compare()
        level = 1 - (1 - LEVEL) / len(first.tiles.class_names)  # else one of twenty equal classes would be marked
        of_all_classes = compare(level=level)
    except DataError as error:
        raise NotComparableError(f"Studies {first.name!r} and {second.name!r} cannot be compared: {error}.") from error
    predicted = [
        np.concatenate([predict_classes(fold.test_probabilities) for fold in study.winner.folds])
        for study in (first, second)
    ]
    answers = [tabulate_answers(study.winner, tiles=study.tiles, split="test") for study in (first, second)]
    return StudyComparison(
        first=first.name,
        second=second.name,
        comparison=replace(comparison, f_measure_of_class=of_all_classes.f_measure_of_class),
        n_tiles=len(predicted[0]),
        n_tiles_alike=int((predicted[0] == predicted[1]).sum()) if has_same_tiles else None,
        n_images_alike=int((answers[0].answer_of_row == answers[1].answer_of_row).sum()),
        settings=(*settings, *_compare_winners(first, second)),
    )


def _compare_winners(first: StudyOutcome, second: StudyOutcome) -> Iterator[SettingDifference]:
    one, two = first.winner.cell.params, second.winner.cell.params
    for name in {**one, **two}:
        if one.get(name) != two.get(name):
            mine, other = (write_value(params[name]) if name in params else "none" for params in (one, two))
            yield SettingDifference(name=f"{name.replace('_', ' ')} of the winner", first=mine, second=other)


def iter_comparison_entries(compared: StudyComparison, *, command: str) -> Iterator[Entry]:
    """Yield what is logged of a comparison: words, table, numbers, a figure, and a page of words and figure.

    Args:
        compared: The comparison.
        command: What asked for it.
    """
    draw = partial(
        draw_rows,
        [BarRow(name=name, interval=entry, is_marked=entry.is_clear) for name, entry in compared.rows],
        axis_label=f"{compared.first} less {compared.second}, with 95 % interval (of classes: for all together)",
        reference=0.0,
        reference_name="no difference; orange: the interval leaves it out",
        limits=None,
    )
    figure = FigureArtifact(path="comparison/comparison.png", draw=draw)
    answer = compared.to_answer()
    yield from iter_answer(
        "comparison/comparison",
        answer=replace(answer, overview=(*answer.overview, CaptionedFigure(artifact=figure, caption=FIGURE_CAPTION))),
        numbers=list_comparison(compared),
        command=command,
    )
    yield TableArtifact(
        path="comparison/comparison.csv",
        columns=("figure", "first", "second", "difference", "low", "high", "is_clear"),
        rows=tuple(
            (name, entry.first, entry.second, entry.value, entry.low, entry.high, entry.is_clear)
            for name, entry in compared.rows
        ),
    )
    numbers = [(f"comparison/{name}", getattr(compared.comparison, name).value, 0) for name in FIGURE_WORDS]
    yield from iter_finite_metrics(numbers, source="comparison")


def list_comparison(compared: StudyComparison) -> dict[str, Any]:
    """Return all numbers, fit for JSON."""
    comparison = compared.comparison
    folds = comparison.fold_test
    return {
        "first": compared.first,
        "second": compared.second,
        "split": "test",
        "n_images": comparison.n_images,
        "n_groups": comparison.n_groups,
        "figures": {name: list_difference(getattr(comparison, name)) for name in FIGURE_WORDS},
        "f_measure_of_class": list_class_differences(comparison),
        "corrected_resampled_t_test": None
        if folds is None
        else {"differences": folds.differences.tolist(), "mean": folds.mean, "p_value": folds.p_value},
        "mcnemar": asdict(comparison.image_test),
        "n_tiles": compared.n_tiles,
        "n_tiles_alike": compared.n_tiles_alike,
        "n_images_alike": compared.n_images_alike,
        "settings": [asdict(entry) for entry in compared.settings],
    }


def _format_p_value(p_value: float) -> str:
    """Return `0.123`, or that it is below what three decimals show."""
    return "< 0.001" if p_value < SMALLEST_P_VALUE else f"{p_value:.3f}"
