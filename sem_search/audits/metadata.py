"""Whether the network could have learnt how the images were taken, instead of what they show.

A classifier is given pixel size, session, detector, bit depth, brightness, contrast and noise, and no picture. If it
names images about as well as the network does, nothing in the score separates the two explanations.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sem_search.audits.answer import format_share
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.answers import tabulate_image_answers
from sem_search.evaluation.comparison import Comparison, compare_answers
from sem_search.evaluation.intervals import compute_intervals
from sem_search.evaluation.metadata_model import Value, predict_from_metadata
from sem_search.evaluation.statistics import Interval
from sem_search.micrographs.catalogue import ImageRecord
from sem_search.tracking.report.answer_page import Row
from sem_search.words import join_words

ATTRIBUTES: dict[str, Callable[[ImageRecord], Value]] = {
    "pixel size": lambda record: record.pixel_size_nm,
    "session": lambda record: record.session,
    "detector": lambda record: record.detector,
    "bit depth": lambda record: float(record.bit_depth),
    "brightness": lambda record: record.mean_grey,
    "contrast": lambda record: record.contrast,
    "noise": lambda record: record.noise,
}
"""What is known of an image without looking at it."""


def list_metadata(records: Sequence[ImageRecord]) -> dict[str, list[Value]]:
    """Return what is known of each image without looking at it, by attribute."""
    return {name: [describe(record) for record in records] for name, describe in ATTRIBUTES.items()}


@dataclass(frozen=True, kw_only=True)
class MetadataAudit:
    """The network against metadata alone."""

    attributes: tuple[str, ...]
    """Learnt from: all that take more than one value. With none, every image gets the commonest class."""
    accuracy: Interval
    """Share of images that metadata alone classify correctly."""
    comparison: Comparison
    """First: the network; second: metadata alone. Paired image by image."""

    @property
    def is_suspicious(self) -> bool:
        """Whether it is not clear that the network sees more than the metadata contain."""
        return self.comparison.image_accuracy.low <= 0

    @property
    def row(self) -> Row:
        """The comparison among the other checks of an audit."""
        network = f"the network: {100 * self.comparison.image_accuracy.first:.1f} %"
        result = "take care: not clearly worse" if self.is_suspicious else "clearly worse, as it should be"
        return Row(
            cells=("metadata alone, no picture", format_share(self.accuracy), network, result),
            light="unclear" if self.is_suspicious else "good",
        )

    def to_text(self) -> str:
        """Return the comparison in plain words."""
        accuracy = self.comparison.image_accuracy
        given = join_words(self.attributes) if self.attributes else "nothing that differs between images"
        verdict = (
            "It is not clear that the network sees more than this: it may have learnt how the images were taken."
            if self.is_suspicious
            else "The network sees more than this, although it may use it, too."
        )
        return (
            f"A classifier that sees no picture and is given only the {given} of each image classifies "
            f"{100 * accuracy.second:.1f} % of the images correctly. The network sees the pictures and classifies "
            f"{100 * accuracy.first:.1f} % correctly: {100 * accuracy.value:+.1f} percentage points "
            f"({100 * accuracy.low:+.1f} to {100 * accuracy.high:+.1f}). {verdict}"
        )


def audit_metadata(subject: AuditSubject) -> MetadataAudit:
    """Compare the network's answers to whole test images with those of a classifier on metadata alone."""
    tiles, records = subject.tiles, subject.catalogue.records
    labels, n_classes, seed = tiles.label_of_image, subject.n_classes, subject.seed
    predicted, attributes = predict_from_metadata(
        list_metadata(records), labels=labels, n_classes=n_classes, part_of_image=subject.fold_of_image, seed=seed
    )
    answers = tabulate_image_answers(predicted, labels=labels, n_classes=n_classes, group_of_row=tiles.group_of_image)
    network = subject.pool_winner()
    in_folds = dataclasses.replace(answers, fold_of_row=network.fold_of_row)
    return MetadataAudit(
        attributes=attributes,
        accuracy=compute_intervals(answers, seed=seed).image_accuracy,
        comparison=compare_answers(network, in_folds, class_names=tiles.class_names, seed=seed),
    )
