"""Was fine-tuning worth it? The winner against logistic regression on the same features, in the same folds.

The rule: the 95 % interval of the difference of the F-measures over test tiles, paired over the images, lies above 0
(yes), below 0 (worse), or holds it (no difference is seen). What it is compared with is settled beforehand: logistic
regression that learnt from training and validation images, or where it could not be fitted, from training images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sem_search.evaluation.baselines import BaselineName, ComparedBaseline
from sem_search.evaluation.comparison import Difference
from sem_search.records import StudyOutcome

REFERENCES: tuple[BaselineName, ...] = ("logistic_all", "logistic_training")
"""The first that could be fitted is compared with."""

Gain = Literal["better", "no difference", "worse"]


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What the training of heads has brought over logistic regression."""

    difference: Difference
    """Of the F-measures over test tiles: the winner's less that of logistic regression."""
    is_linear: bool
    """Whether the winner is itself a linear head."""
    has_rivals: bool
    """Whether fine-tuned heads were tried."""

    @property
    def gain(self) -> Gain:
        """What the interval shows."""
        if not self.difference.is_clear:
            return "no difference"
        return "better" if self.difference.low > 0 else "worse"

    @property
    def sentence(self) -> str:
        """The question, and the answer with its numbers."""
        one = self.difference
        numbers = f"F-measure over test tiles {one.first:.3f} against {one.second:.3f}, difference {one.to_text()}"
        return f"Was fine-tuning worth it? {self._answer}: {numbers}."

    @property
    def _answer(self) -> str:
        if not self.is_linear:
            return {
                "better": "Yes, it beats logistic regression",
                "no difference": "No difference to logistic regression is seen",
                "worse": "No, logistic regression does better",
            }[self.gain]
        chosen = (
            "No: the winner is itself a linear head" if self.has_rivals else "Not tried: the winner is a linear head"
        )
        compared = {
            "better": "it beats plain logistic regression",
            "no difference": "no difference to plain logistic regression is seen",
            "worse": "plain logistic regression does better",
        }[self.gain]
        return f"{chosen}; {compared}"


def judge_fine_tuning(study: StudyOutcome, *, baselines: Sequence[ComparedBaseline]) -> FineTuning | None:
    """Return whether fine-tuning was worth it; None where there is no logistic regression to compare with.

    Args:
        study: All trials, at least the winner complete.
        baselines: Beside its winner.
    """
    compared = {one.name: one.comparison for one in baselines if one.comparison is not None}
    reference = next((compared[name] for name in REFERENCES if name in compared), None)
    if reference is None:
        return None
    return FineTuning(
        difference=reference.f_measure,
        is_linear=study.winner.cell.head == "linear",
        has_rivals=any(trial.cell.head != "linear" and trial.folds for trial in study.trials),
    )
