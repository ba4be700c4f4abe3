"""The verdict on a study, with which its report begins: is the winner better than chance, and for which classes?

Numbers and states are computed here; the sentences about them stand in `templates/verdict.html`. The rules of the
lights are listed in `docs/trust.md`.

A class *holds* if the 95 % interval of its recall over images lies above `USABLE`, and at least `CORRECT` of the images
that are predicted as it belong to it. It *does not hold* if fewer than `CORRECT` of its images are correctly
classified, or fewer than `CORRECT` of the images predicted as it belong to it: who wants to use it has to show more.
It is *not known* if there are too few images to tell: the interval reaches down to `USABLE`, as that of fewer than four
images always does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

from sem_search.evaluation.comparison import Difference
from sem_search.evaluation.intervals import compute_share_interval
from sem_search.evaluation.statistics import Interval
from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.tables import compute_class_rows, compute_confusion_table
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.report.convergence import Convergence, compute_convergence
from sem_search.tracking.report.fine_tuning import FineTuning, judge_fine_tuning
from sem_search.tracking.report.next_steps import Step, list_steps
from sem_search.words import MAX_JOINED, name_some

Colour = Literal["green", "amber", "red", "grey"]
"""Grey: not looked at."""

ClassState = Literal["holds", "does not hold", "not known"]

USABLE = 0.5
"""Recall that a usable class surely exceeds: more of its images are correctly classified than not. Four images without
an error can show this, and no fewer."""

CORRECT = 2 / 3
"""Share of correct answers below which a class is not used: more than one answer in three would be wrong."""

ENOUGH_GROUPS = 10
"""Independent images of a class, as in Iwata, Hayashi et al.: without an error among them, its recall is above 0.7."""

MAX_WIDTH = 0.4
"""Of the interval of a recall that says something: 20 points to either side."""

ASSUMED_RECALL = 0.8
"""Of a class that needs images, at most: that few images went all right says little, and is not planned with."""

WEIGHTS_COLOURS: dict[str, Colour] = {"random": "red", "particles": "amber"}
"""All others are ImageNet's, or the user's own file."""

AUDIT_COLOURS: dict[str | None, Colour] = {"good": "green", "unclear": "amber", "bad": "red"}
"""By what an audit came to."""

SEPARABLE_BY_NO_TEST = "single_session"
"""The kind of finding that no audit can dispel: a class of which all images come from one session."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """How many whole test images the winner classified correctly, each by a network that was not trained on it."""

    n_correct: int
    n_images: int
    accuracy: Interval
    chance: float
    """Share of the largest class: what always naming it would score."""

    @property
    def is_above_chance(self) -> bool:
        """Whether the whole interval lies above chance."""
        return self.accuracy.low > self.chance

    def to_text(self) -> str:
        """Return `44 of 50 unseen images correctly classified: 88 % (77 to 95 %), chance 10 %`."""
        low, high = (format_share(end).removesuffix(" %") for end in (self.accuracy.low, self.accuracy.high))
        noun = "image" if self.n_images == 1 else "images"
        return (
            f"{self.n_correct} of {self.n_images} unseen {noun} correctly classified: "
            f"{format_share(self.accuracy.value)} ({low} to {high} %), chance {format_share(self.chance)}"
        )


@dataclass(frozen=True, kw_only=True)
class ClassVerdict:
    """What is known of one class, over whole test images."""

    label: str
    state: ClassState
    n_correct: int
    n_images: int
    n_groups: int
    n_predicted: int
    """Images predicted as it."""
    recall: Interval
    n_more: int
    """Images to add until the interval of its recall is no wider than `MAX_WIDTH` and, where it can be, above `USABLE`:
    a rough count."""


@dataclass(frozen=True, kw_only=True)
class Light:
    """One question to a study, and how the answer is to be taken."""

    kind: Literal["chance", "images", "confounds", "calibration", "weights", "simpler", "training"]
    colour: Colour


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the first screen of a report shows."""

    score: Score
    classes: tuple[ClassVerdict, ...]
    """In the order of the classes."""
    convergence: Convergence
    fine_tuning: FineTuning | None
    """None where the study has no logistic regression to compare with."""
    metadata: Difference | None
    """The winner's share of test images correctly classified less that of metadata alone; None where there are none."""
    lights: tuple[Light, ...]
    steps: tuple[Step, ...]
    """The most useful first."""

    @property
    def headline(self) -> str:
        """The images correctly classified, with their 95 % interval, against chance."""
        return self.score.to_text()

    @property
    def sentence(self) -> str:
        """The classes that the winner can be used for, and those that it cannot."""
        if not self.score.is_above_chance:
            return "Not usable: these images do not show that the winner is better than chance."
        if self._confounds == "red":
            return (
                "Cannot be judged: the network may have learnt how the images were taken "
                "(see “No confound” in the report)."
            )
        if all(one.state == "holds" for one in self.classes):
            return f"Usable for all {len(self.classes)} classes."
        if all(one.state == "does not hold" for one in self.classes):
            return f"Better than chance, but not usable for any of the {len(self.classes)} classes."
        holding, failing, unknown = (self._name(state) for state in ("holds", "does not hold", "not known"))
        parts = [
            f"Usable for {holding}" if holding else "Not yet shown to be usable for any class",
            *([f"not for {failing}"] if failing else []),
            *([f"not known for {unknown}: too few images"] if unknown else []),
        ]
        return f"{'; '.join(parts)}."

    @property
    def needy(self) -> tuple[ClassVerdict, ...]:
        """The classes that need images, that of which most are wrong first."""
        needy = (one for one in self.classes if one.state != "holds" and one.n_more)
        return tuple(sorted(needy, key=lambda one: one.recall.value))

    @property
    def colour(self) -> Colour:
        """Of the whole: red at chance, green where every class holds."""
        if not self.score.is_above_chance or self._confounds == "red":
            return "red"
        return "green" if all(one.state == "holds" for one in self.classes) else "amber"

    @property
    def _confounds(self) -> Colour:
        return next(light.colour for light in self.lights if light.kind == "confounds")

    def _name(self, state: ClassState) -> str:
        labels = [one.label for one in self.classes if one.state == state]
        return name_some(labels, most=MAX_JOINED) if labels else ""


def compute_verdict(study: StudyOutcome, *, trust: StudyTrust, context: StudyContext) -> Verdict:
    """Return the verdict on a study.

    Args:
        study: All trials, at least the winner complete.
        trust: What `compute_trust` found in this study.
        context: What inspection found, the settings, and the combinations asked for.
    """
    score, classes = compute_score(study, trust=trust), _judge_classes(study)
    if not score.is_above_chance:  # always naming one class classifies all of its images correctly
        classes = tuple(replace(one, state="not known") if one.state == "holds" else one for one in classes)
    convergence = compute_convergence(study, context=context)
    has_views = context.settings.get("augment", "none") != "none"
    fine_tuning = judge_fine_tuning(study, baselines=context.baselines, has_views=has_views)
    compared = {one.name: one.comparison for one in context.baselines}
    with_metadata = compared.get("metadata")
    metadata = None if with_metadata is None else with_metadata.image_accuracy
    lights = (
        Light(kind="chance", colour="green" if score.is_above_chance else "red"),
        Light(kind="images", colour=_judge_images(classes)),
        Light(kind="confounds", colour=_judge_confounds(context)),
        Light(kind="calibration", colour="green" if trust.scaled_calibration.is_within_chance else "amber"),
        Light(kind="weights", colour=_judge_weights(context)),
        Light(kind="simpler", colour=_judge_simpler(fine_tuning, metadata=metadata)),
        Light(kind="training", colour=_judge_convergence(convergence)),
    )
    colours = {light.kind: light.colour for light in lights}
    steps = list_steps(
        study,
        context=context,
        convergence=convergence,
        fine_tuning=fine_tuning,
        has_poor_weights=colours["weights"] in ("amber", "red"),
        needs_images=any(one.n_more for one in classes if one.state != "holds"),
    )
    return Verdict(
        score=score,
        classes=classes,
        convergence=convergence,
        fine_tuning=fine_tuning,
        metadata=metadata,
        lights=lights,
        steps=steps,
    )


def compute_score(study: StudyOutcome, *, trust: StudyTrust) -> Score:
    """Return the winner's score over whole test images against chance.

    Args:
        study: All trials, at least the winner complete.
        trust: What `compute_trust` found in this study.
    """
    counts = compute_confusion_table(study.winner, tiles=study.tiles, unit="images").counts
    return Score(
        n_correct=int(counts.trace()),
        n_images=int(counts.sum()),
        accuracy=trust.test.image_accuracy,
        chance=float(counts.sum(axis=1).max() / counts.sum()),
    )


def format_share(share: float) -> str:
    """Return a share in whole per cent; 0 and 100 stand for none and all, and for nothing else."""
    if 0 < share <= 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def _judge_classes(study: StudyOutcome) -> tuple[ClassVerdict, ...]:
    counts = compute_confusion_table(study.winner, tiles=study.tiles, unit="images").counts
    rows = zip(compute_class_rows(study.tiles), counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0), strict=True)
    return tuple(
        _judge_class(
            row.label,
            n_groups=row.n_groups,
            n_correct=int(n_correct),
            n_images=int(n_images),
            n_predicted=int(n_predicted),
        )
        for row, n_correct, n_images, n_predicted in rows
    )


def _judge_class(label: str, *, n_groups: int, n_correct: int, n_images: int, n_predicted: int) -> ClassVerdict:
    """Return what is known of one class; the module's docstring has the rule."""
    recall = compute_share_interval(n_correct / n_images, n=n_groups)
    faultless = compute_share_interval(1.0, n=n_groups)
    state: ClassState = "not known"
    if faultless.low > USABLE:
        if n_correct < CORRECT * max(n_images, n_predicted):
            state = "does not hold"
        elif recall.low > USABLE:
            state = "holds"
    return ClassVerdict(
        label=label,
        state=state,
        n_correct=n_correct,
        n_images=n_images,
        n_groups=n_groups,
        n_predicted=n_predicted,
        recall=recall,
        n_more=max(_count_groups_needed(recall.value) - n_groups, 0),
    )


def _count_groups_needed(recall: float) -> int:
    """Return how many independent images give an interval that says enough."""
    planned = min(max(recall, 1 - ASSUMED_RECALL), ASSUMED_RECALL)
    return next(n for n in count(1) if _says_enough(compute_share_interval(planned, n=n)))


def _says_enough(interval: Interval) -> bool:
    """Return whether it is narrow, and above `USABLE` for a class that may come to hold."""
    is_above = interval.low > USABLE or interval.value < CORRECT
    return is_above and interval.high - interval.low <= MAX_WIDTH


def _judge_images(classes: Sequence[ClassVerdict]) -> Colour:
    """Green: every class has enough and is known; red: so few that no error-free result could show one to be usable."""
    fewest = min(one.n_groups for one in classes)
    if compute_share_interval(1.0, n=fewest).low <= USABLE:
        return "red"
    is_known = all(one.state != "not known" for one in classes)
    return "green" if fewest >= ENOUGH_GROUPS and is_known else "amber"


def _judge_confounds(context: StudyContext) -> Colour:
    if SEPARABLE_BY_NO_TEST in context.confounds:
        return "red"
    if context.confounds:
        return "amber"
    return AUDIT_COLOURS.get(context.audit_light, "grey")


def _judge_weights(context: StudyContext) -> Colour:
    used = context.settings.get("weights_used")
    return "grey" if used is None else WEIGHTS_COLOURS.get(str(used), "green")


def _judge_simpler(fine_tuning: FineTuning | None, *, metadata: Difference | None) -> Colour:
    """Amber: logistic regression does better than the winner, or metadata alone does as well."""
    if (metadata and metadata.value <= 0) or (fine_tuning and fine_tuning.gain == "worse"):
        return "amber"
    return "green" if fine_tuning else "grey"


def _judge_convergence(convergence: Convergence) -> Colour:
    """Red: a fold of the winner diverged; amber: the best settings may lie beyond what was tried."""
    if convergence.n_diverged:
        return "red"
    return "amber" if convergence.edges or convergence.is_cut else "green"
