"""Was fine-tuning worth it? The winner against what has all it has but fine-tuning, in the same folds.

The rule: the 95 % interval of the difference of the F-measures over test tiles, paired over the images, lies above 0
(yes), below 0 (worse), or holds it (no difference is seen). What it is compared with is settled beforehand: the study's
own linear head, which learnt from as many images in the same views; without a complete trial of it, logistic regression
on as many images, and the sentence says what else sets them apart.

Whether any simpler classifier is better is another question: there logistic regression on most images counts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sem_search.evaluation.baselines import BaselineName, ComparedBaseline
from sem_search.evaluation.comparison import Difference, compare_trials
from sem_search.records import StudyOutcome

MOST_IMAGES: tuple[BaselineName, ...] = ("logistic_all", "logistic_training")
"""Logistic regression on training and validation images, then on training images alone."""

Gain = Literal["better", "no difference", "worse"]


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What the training of heads has brought, and whether logistic regression does better."""

    difference: Difference
    """Of the F-measures over test tiles: the winner's less that of logistic regression on most images."""
    fair: Difference
    """The same, less that of what differs from the winner in least beside fine-tuning."""
    is_linear: bool
    """Whether the winner is itself a linear head."""
    has_rivals: bool
    """Whether fine-tuned heads were tried."""
    is_own: bool = False
    """Whether the fair difference is to the study's own linear head."""
    caveats: tuple[str, ...] = ()
    """What else the fair difference holds, one sentence each."""

    @property
    def gain(self) -> Gain:
        """Whether the winner is better than logistic regression on most images."""
        return _judge(self.difference)

    @property
    def sentence(self) -> str:
        """The question, and the answer with its numbers."""
        one = self.fair
        numbers = f"F-measure over test tiles {one.first:.3f} against {one.second:.3f}, difference {one.to_text()}"
        return " ".join((f"Was fine-tuning worth it? {self._answer}: {numbers}.", *self.caveats))

    @property
    def _answer(self) -> str:
        gain, name = _judge(self.fair), "the linear head" if self.is_own else "logistic regression"
        if not self.is_linear:
            return {
                "better": f"Yes, it beats {name}",
                "no difference": f"No difference to {name} is seen",
                "worse": f"No, {name} does better",
            }[gain]
        chosen = (
            "No: the winner is itself a linear head" if self.has_rivals else "Not tried: the winner is a linear head"
        )
        compared = {
            "better": "it beats plain logistic regression",
            "no difference": "no difference to plain logistic regression is seen",
            "worse": "plain logistic regression does better",
        }[gain]
        return f"{chosen}; {compared}"


def judge_fine_tuning(
    study: StudyOutcome, *, baselines: Sequence[ComparedBaseline], has_views: bool = False
) -> FineTuning | None:
    """Return whether fine-tuning was worth it; None where there is no logistic regression to compare with.

    Args:
        study: All trials, at least the winner complete.
        baselines: Beside its winner.
        has_views: Whether its heads learnt from turned and mirrored views of the tiles.
    """
    winner = study.winner
    compared = {one.name: one.comparison.f_measure for one in baselines if one.comparison is not None}
    fitted = [name for name in MOST_IMAGES if name in compared]
    if not fitted:
        return None
    is_linear = winner.cell.head == "linear"
    own = None if is_linear else _compare_with_linear_head(study)
    as_many = fitted[0] if winner.is_refit else fitted[-1]
    return FineTuning(
        difference=compared[fitted[0]],
        fair=compared[as_many] if own is None else own,
        is_linear=is_linear,
        has_rivals=any(trial.cell.head != "linear" and trial.folds for trial in study.trials),
        is_own=own is not None,
        caveats=tuple(_iter_caveats(study, baseline=None if own else as_many, has_views=has_views)),
    )


def _judge(difference: Difference) -> Gain:
    if not difference.is_clear:
        return "no difference"
    return "better" if difference.low > 0 else "worse"


def _compare_with_linear_head(study: StudyOutcome) -> Difference | None:
    """Return the winner's F-measure less that of the study's linear head; None where no trial of it is complete.

    Both are the heads of the search, which have learnt from as many images.
    """
    for trial in study.trials:
        if trial.cell.head == "linear" and trial.state == "complete":
            return compare_trials(study.chosen, trial, tiles=study.tiles, split="test").f_measure
    return None


def _iter_caveats(study: StudyOutcome, *, baseline: BaselineName | None, has_views: bool) -> Iterator[str]:
    """Yield what else sets the winner apart from a baseline; None is the study's own linear head."""
    if baseline is not None and has_views:
        yield "Logistic regression sees each tile as it is, the winner in eight views: they are part of the difference."
    is_refit = study.winner.is_refit
    if baseline is None and is_refit:
        yield "Both are heads of the search, which learnt from training images alone."
    if baseline is not None and is_refit != (baseline == "logistic_all"):
        yield f"Logistic regression learnt from {'fewer' if is_refit else 'more'} images than the winner."
    if study.select_on == "test":
        yield "The winner was chosen on these tiles, which favours it."
