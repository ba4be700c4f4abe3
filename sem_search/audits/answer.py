"""What every answer is written as, and the words and numbers that several share."""

from collections.abc import Iterator
from typing import Any

from sem_search.evaluation.comparison import Comparison, Difference
from sem_search.evaluation.statistics import Interval
from sem_search.records import ShownAsText
from sem_search.tracking.entries.types import Artifact, JsonArtifact, TextArtifact
from sem_search.tracking.report.answer_page import Answer, build_answer_page


class ShownAsAnswer(ShownAsText):
    """A record that is written and shown as an answer."""

    def to_answer(self) -> Answer:
        """Return the answer; each record has its own."""
        raise NotImplementedError

    def to_text(self) -> str:
        """Return the answer in plain words."""
        return self.to_answer().to_text()


def iter_answer(stem: str, *, answer: Answer, numbers: Any, command: str) -> Iterator[Artifact]:
    """Yield what is written of an answer: text, numbers, its figures, and a page.

    Args:
        stem: Path of the files without their ending.
        answer: With its figures.
        numbers: All numbers, fit for JSON.
        command: What gave the answer.
    """
    yield TextArtifact(path=f"{stem}.txt", text=answer.to_text() + "\n")
    yield JsonArtifact(path=f"{stem}.json", content=numbers)
    for figure in answer.figures:
        yield figure.artifact
    yield build_answer_page(answer, path=f"{stem}.html", command=command)


def format_share(interval: Interval) -> str:
    """Return `90.0 % (79.0 to 96.0 %)`."""
    return f"{100 * interval.value:.1f} % ({100 * interval.low:.1f} to {100 * interval.high:.1f} %)"


def list_difference(difference: Difference) -> dict[str, float | bool]:
    """Return both figures, their difference and its interval, fit for JSON."""
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "level": difference.level,
        "is_clear": difference.is_clear,
    }


def list_class_differences(comparison: Comparison) -> dict[str, dict[str, float | bool]]:
    """Return the difference in each class's F-measure, fit for JSON."""
    of_class = zip(comparison.class_names, comparison.f_measure_of_class, strict=True)
    return {name: list_difference(entry) for name, entry in of_class}
