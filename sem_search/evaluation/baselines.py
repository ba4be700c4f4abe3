"""What classifiers that are much simpler than a search reach in its folds, and how far its winner is ahead of them.

A winner that is no better than they are has gained nothing from all its training. Differences are paired over the test
images, with their intervals (`comparison`); each baseline learns from images of its fold that are not test images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sem_search.evaluation.answers import AnswerTable, tabulate_answers
from sem_search.evaluation.comparison import Comparison, compare_answers
from sem_search.records import TileTable, TrialOutcome

BaselineName = Literal["largest_class", "metadata", "logistic_training", "logistic_all"]
"""Always the largest class of the training images; a random forest on metadata alone; logistic regression on the pooled
features of each tile as it is, trained on the training images, or on training and validation images."""

NAMES: tuple[BaselineName, ...] = get_args(BaselineName)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a simple classifier answered to the test images of every fold."""

    name: BaselineName
    answers: AnswerTable | None = None
    """Of the folds, images and order of `tabulate_answers`; None where it cannot be fitted."""
    reason: str | None = None
    """Why it cannot, as the end of a sentence."""


@dataclass(frozen=True, kw_only=True)
class ComparedBaseline:
    """A simple classifier beside the winner."""

    name: BaselineName
    comparison: Comparison | None = None
    """First: the winner; second: the baseline. None where that cannot be fitted."""
    reason: str | None = None


def compare_baselines(
    baselines: Sequence[Baseline], *, winner: TrialOutcome, tiles: TileTable
) -> tuple[ComparedBaseline, ...]:
    """Return each baseline beside the winner, over the test images.

    Args:
        baselines: Over the winner's own folds.
        winner: All folds finished.
        tiles: The study's tiles.

    Raises:
        ValueError: A class has fewer than two groups of images, or the folds are not the same.
    """
    table = tabulate_answers(winner, tiles=tiles, split="test")
    return tuple(
        ComparedBaseline(
            name=baseline.name,
            comparison=None
            if baseline.answers is None
            else compare_answers(table, baseline.answers, class_names=tiles.class_names),
            reason=baseline.reason,
        )
        for baseline in baselines
    )
