"""What the network is worth on a session, a detector or a pixel size that it has never seen.

All images of one value are left out, a head is trained on the others with the winner's settings, and names those left
out. An image can be tested only if its class was also imaged with another value; where a class was not, no experiment
on these data can separate the material from the value, and the text says so.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sem_search.audits.answer import format_share
from sem_search.audits.retraining import retrain_winner
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.intervals import compute_share_interval
from sem_search.evaluation.metrics import combine_tiles, predict_classes
from sem_search.evaluation.statistics import Interval
from sem_search.micrographs.catalogue import ImageRecord
from sem_search.micrographs.inspection.confounds import ATTRIBUTES as WAYS_OF_TAKING
from sem_search.micrographs.inspection.confounds import UNKNOWN
from sem_search.progress import Show
from sem_search.records import BoolVector, FoldOutcome, IntVector, TileSplits
from sem_search.tracking.report.answer_page import Light, Row
from sem_search.words import count

MIN_GROUPS = 2
"""Of a class among the images not left out: one to train on, one to validate."""

MIN_CLASSES = 2
"""To train on: a network that has seen one class alone always predicts it, and its score means nothing."""

MAX_VALUES = 8
"""Most values of one attribute that are left out, those with most images first: each costs the training of a fold."""

LEFT_OUT: dict[str, Callable[[ImageRecord], str]] = {
    name: WAYS_OF_TAKING[name] for name in ("session", "detector", "pixel size")
}


@dataclass(frozen=True, kw_only=True)
class LeftOutAttribute:
    """Every value of one attribute left out in turn."""

    attribute: str
    values: tuple[str, ...] = ()
    """Values that were left out and could be tested."""
    untested: tuple[str, ...]
    """Why other values, or some classes of theirs, could not be tested: one sentence each."""
    n_images: int = 0
    """Images named by a network that knew no other of their value."""
    accuracy: Interval | None = None
    """Share of them correctly classified; None where nothing could be tested."""
    usual_accuracy: Interval | None = None
    """The same images as the study measured them."""

    @property
    def is_lower(self) -> bool:
        """Whether fewer of these images are correctly classified than usual, beyond the interval."""
        return bool(self.accuracy and self.usual_accuracy and self.accuracy.high < self.usual_accuracy.value)

    @property
    def row(self) -> Row:
        """The attribute among the other checks of an audit."""
        name = f"each {self.attribute} left out in turn"
        if self.accuracy is None or self.usual_accuracy is None:
            return Row(cells=(name, "", "", "not possible on these data"))
        usual = (
            f"the same {count(self.n_images, 'image')}, {self.attribute} known: {100 * self.usual_accuracy.value:.1f} %"
        )
        result = "take care: clearly lower" if self.is_lower else "not clearly lower"
        light: Light = "unclear" if self.is_lower else "good"
        return Row(cells=(name, format_share(self.accuracy), usual, result), light=light)

    def to_text(self) -> str:
        """Return the result, and what could not be asked, in plain words."""
        why = " ".join(self.untested)
        if self.accuracy is None or self.usual_accuracy is None:
            return f"Leaving out a {self.attribute} cannot be tried on these data. {why}".strip()
        images = f"{count(self.n_images, 'image')} {'is' if self.n_images == 1 else 'are'}"
        return (
            f"With each {self.attribute} left out in turn, {format_share(self.accuracy)} of {images} correctly "
            f"classified; with the others of their {self.attribute} known it was {format_share(self.usual_accuracy)}. "
            f"{why}"
        ).strip()


def iter_left_out(subject: AuditSubject, *, show: Show) -> Iterator[LeftOutAttribute]:
    """Leave out every session, then every detector and pixel size in turn, as far as the catalogue allows."""
    for attribute, describe in LEFT_OUT.items():
        yield _audit_attribute(subject, attribute=attribute, describe=describe, show=show)


def _audit_attribute(
    subject: AuditSubject, *, attribute: str, describe: Callable[[ImageRecord], str], show: Show
) -> LeftOutAttribute:
    value_of_image = np.array([describe(record) for record in subject.catalogue.records])
    values, counts = np.unique(value_of_image, return_counts=True)
    if len(values) == 1:
        why = "No file states it." if values[0] == UNKNOWN else f"It is {values[0]} for all images."
        return LeftOutAttribute(attribute=attribute, untested=(why,))
    chosen = values[np.argsort(-counts, kind="stable")][:MAX_VALUES]
    plans = {
        str(value): _plan_value(
            subject, value=str(value), number=number, is_out=value_of_image == value, attribute=attribute
        )
        for number, value in enumerate(chosen)
    }
    untested = [why for _, why in plans.values() if why]
    if len(values) > len(chosen):
        untested.append(f"Of {len(values)} values the {len(chosen)} with most images were tried.")
    tested = {value: splits for value, (splits, _) in plans.items() if splits is not None}
    if not tested:
        return LeftOutAttribute(attribute=attribute, untested=tuple(untested))
    outcomes = retrain_winner(subject, splits=tuple(tested.values()), name=f"{attribute} left out", show=show)
    images, is_right = _judge(outcomes, subject=subject)
    usual = subject.pool_winner().is_right[images]
    n_groups = len({subject.tiles.group_of_image[image] for image in images})
    return LeftOutAttribute(
        attribute=attribute,
        values=tuple(tested),
        untested=tuple(untested),
        n_images=len(images),
        accuracy=compute_share_interval(float(is_right.mean()), n=n_groups),
        usual_accuracy=compute_share_interval(float(usual.mean()), n=n_groups),
    )


def _plan_value(
    subject: AuditSubject,
    *,
    value: str,
    number: int,
    is_out: BoolVector,
    attribute: str,
) -> tuple[TileSplits | None, str | None]:
    """Return which tiles train, stop and are tested without this value, and why others cannot be; None for nothing."""
    tiles = subject.tiles
    groups, labels = np.asarray(tiles.group_of_image), tiles.label_of_image
    is_left = ~np.isin(groups, groups[is_out])  # a group with an image of this value is out altogether
    n_left = np.array([len(np.unique(groups[is_left & (labels == label)])) for label in range(subject.n_classes)])
    missing = [tiles.class_names[label] for label in np.unique(labels[is_out]) if n_left[label] < MIN_GROUPS]
    is_tested = is_out & (n_left[labels] >= MIN_GROUPS)
    untested = _describe_missing(missing, value=value, attribute=attribute, n_classes=len(np.unique(labels[is_out])))
    if not is_tested.any():
        return None, untested
    is_validation = _choose_validation(groups, labels=labels, is_left=is_left, n_folds=len(subject.folds.folds))
    is_training = is_left & ~is_validation
    known = [tiles.class_names[label] for label in np.unique(labels[is_training])]
    if len(known) < MIN_CLASSES:
        only = known[0] if known else "no class"
        why = f"{value} cannot be left out: only {only} would be left to train on, and nothing to tell it from."
        return None, why
    splits = TileSplits(
        number=number,
        training=np.flatnonzero(is_training[tiles.image_of_tile]),
        validation=np.flatnonzero(is_validation[tiles.image_of_tile]),
        test=np.flatnonzero(is_tested[tiles.image_of_tile]),
    )
    return splits, untested


def _describe_missing(missing: list[str], *, value: str, attribute: str, n_classes: int) -> str | None:
    """Say for which classes a value cannot be left out, None where it can; `n_classes` have the value."""
    if not missing:
        return None
    are_one = f", so that here the material and its {attribute} are one" if n_classes == 1 else ""
    return (
        f"{value} cannot be left out for {', '.join(missing)}: too few images of the class have another {attribute} to "
        f"learn it from{are_one}."
    )


def _choose_validation(
    groups: NDArray[np.str_],
    *,
    labels: IntVector,
    is_left: BoolVector,
    n_folds: int,
) -> BoolVector:
    """Return which images decide when to stop: of each class as large a share of the groups left as in a fold."""
    chosen: list[str] = []
    for label in np.unique(labels[is_left]):
        of_class = np.unique(groups[is_left & (labels == label)])
        if len(of_class) >= MIN_GROUPS:
            chosen += of_class[:: max(n_folds, 2)].tolist()
    is_validation: BoolVector = is_left & np.isin(groups, chosen)
    return is_validation


def _judge(outcomes: tuple[FoldOutcome, ...], *, subject: AuditSubject) -> tuple[IntVector, IntVector]:
    """Return the images tested and whether each was correctly classified, both of shape (n_images,)."""
    tested = np.concatenate([outcome.test_tiles for outcome in outcomes])
    probabilities = np.concatenate([outcome.test_probabilities for outcome in outcomes])
    images, combined = combine_tiles(probabilities, image_of_tile=subject.tiles.image_of_tile[tested])
    return images, (predict_classes(combined) == subject.tiles.label_of_image[images]).astype(np.int64)
