"""Two studies over the same images in the same folds: which winner is better, for which classes, and how clearly."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from sem_search.audits.answer import build_row, iter_answer, list_class_differences, list_difference
from sem_search.errors import DataError, NotComparableError
from sem_search.evaluation.comparison import Comparison, Difference, compare_trials
from sem_search.evaluation.statistics import LEVEL, MAX_P_VALUE
from sem_search.records import ShownAsText, StudyOutcome
from sem_search.tracking.entries.types import (
    Entry,
    FigureArtifact,
    TableArtifact,
    iter_finite_metrics,
)
from sem_search.tracking.figures.audit import draw_rows
from sem_search.tracking.report.answer_page import CaptionedFigure

FIGURE_WORDS = {
    "f_measure": "F-measure, tiles",
    "tile_accuracy": "accuracy, tiles",
    "image_f_measure": "F-measure, images",
    "image_accuracy": "accuracy, images",
}

SMALLEST_P_VALUE = 0.001
"""Of those that are printed as a number."""

FIGURE_CAPTION = (
    "The first study's figures less the second's, on the same test images: right of the dashed line the first is "
    "better. Orange: other images would hardly have turned it round."
)


@dataclass(frozen=True, kw_only=True)
class StudyComparison(ShownAsText):
    """The winner of the first study against that of the second, in the test split."""

    first: str
    second: str
    comparison: Comparison

    @property
    def rows(self) -> list[tuple[str, Difference]]:
        """Every figure compared: those of all classes, then each class's F-measure, whose intervals hold together."""
        figures = [(words, getattr(self.comparison, name)) for name, words in FIGURE_WORDS.items()]
        return figures + list(zip(self.comparison.class_names, self.comparison.f_measure_of_class, strict=True))

    @property
    def table(self) -> pd.DataFrame:
        """One row for each figure compared: both values, their difference and its interval."""
        return pd.DataFrame([{"figure": name, **list_difference(entry)} for name, entry in self.rows])

    def to_text(self) -> str:
        """Return the table and what it means."""
        comparison = self.comparison
        width = max(len(name) for name, _ in self.rows)
        head = f"{'':{width}}   first  second  difference (95 % interval)"
        lines = [
            f"{name:{width}}   {entry.first:.3f}   {entry.second:.3f}  {entry.to_text()}{' *' * entry.is_clear}"
            for name, entry in self.rows
        ]
        return "\n".join(
            [
                f"First: {self.first}; second: {self.second}; {comparison.n_images} test images, "
                f"{comparison.n_folds} folds. *: the interval leaves out 0. The intervals of the "
                f"{len(comparison.class_names)} classes hold for all of them together (Bonferroni).",
                head,
                *lines,
                *self._describe_tests(),
                self._describe_verdict(),
            ]
        )

    def _describe_tests(self) -> list[str]:
        """Say what the two tests found."""
        images, folds = self.comparison.image_test, self.comparison.fold_test
        sentences = [
            f"Whole images (McNemar): {images.n_first_better} classified better by the first, "
            f"{images.n_second_better} by the second; {_format_p_value(images.p_value)}."
        ]
        if folds is not None:
            found = (
                "but all folds differ alike: no variance to test against, and no p-value."
                if folds.p_value is None
                else f"{_format_p_value(folds.p_value)}: whether other training images could turn it round."
            )
            sentences.append(f"Folds (corrected resampled t-test): mean difference {folds.mean:+.3f}, {found}")
        return sentences

    def _describe_verdict(self) -> str:
        """Return which study is better, if that is clear."""
        entry, folds = self.comparison.f_measure, self.comparison.fold_test
        if not entry.is_clear:
            return "Neither is clearly better: other images could have turned it round."
        better = self.first if entry.value > 0 else self.second
        if folds is None or folds.p_value is None:
            return f"{better} is better on such images; of other training images the folds say nothing."
        if folds.p_value > MAX_P_VALUE:
            return f"{better} is better on such images; with other training images it might not be."
        return f"{better} is better, and neither other images nor other training images would be likely to change it."


def compare_studies(first: StudyOutcome, second: StudyOutcome) -> StudyComparison:
    """Return how the winners of two studies differ in the test split.

    Raises:
        NotComparableError: The studies have other images, classes or folds; the message says which.
    """
    for name, one, two in (
        ("classes", first.tiles.class_names, second.tiles.class_names),
        ("images", first.tiles.image_ids, second.tiles.image_ids),
        ("groups", first.tiles.group_of_image, second.tiles.group_of_image),
    ):
        if one != two:
            raise NotComparableError(_describe_difference(first.name, second.name, name=name, one=one, two=two))
    try:
        comparison = compare_trials(first.winner, second.winner, tiles=first.tiles)
        level = 1 - (1 - LEVEL) / len(first.tiles.class_names)  # else one of twenty equal classes would be marked
        of_all_classes = compare_trials(first.winner, second.winner, tiles=first.tiles, level=level)
    except DataError as error:
        raise NotComparableError(f"Studies {first.name!r} and {second.name!r} cannot be compared: {error}.") from error
    return StudyComparison(
        first=first.name,
        second=second.name,
        comparison=replace(comparison, f_measure_of_class=of_all_classes.f_measure_of_class),
    )


def iter_comparison_entries(compared: StudyComparison) -> Iterator[Entry]:
    """Yield what is logged of a comparison: words, table, numbers, a figure, and a page of words and figure."""
    draw = partial(
        draw_rows,
        [build_row(name, entry, is_marked=entry.is_clear) for name, entry in compared.rows],
        axis_label=f"{compared.first} less {compared.second}, with 95 % interval (of classes: for all together)",
        reference=0.0,
        reference_name="no difference; orange: the interval leaves it out",
        limits=None,
    )
    figure = FigureArtifact(path="comparison/comparison.png", draw=draw)
    yield from iter_answer(
        "comparison/comparison",
        title=f"{compared.first} or {compared.second}: which is better?",
        text=compared.to_text(),
        numbers=list_comparison(compared),
        figures=[CaptionedFigure(artifact=figure, caption=FIGURE_CAPTION)],
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
    }


def _format_p_value(p_value: float) -> str:
    """Return `p = 0.123`, or that it is below what three decimals show."""
    return "p < 0.001" if p_value < SMALLEST_P_VALUE else f"p = {p_value:.3f}"


def _describe_difference(first: str, second: str, *, name: str, one: tuple[str, ...], two: tuple[str, ...]) -> str:
    """Say which classes, images or groups only one of two studies has."""
    only = [
        f"only {study!r} has {sorted(set(own) - set(other))[0]!r}"
        for study, own, other in ((first, one, two), (second, two, one))
        if set(own) - set(other)
    ]
    return (
        f"Studies {first!r} and {second!r} have other {name} ({'; '.join(only) or 'in another order'}): only answers "
        "to the same images in the same folds can be compared."
    )
