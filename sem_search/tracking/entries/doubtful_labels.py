"""Images whose label the winner's networks doubt: as records, as a sentence about chance, and as a table.

Each image was answered by the network that was not trained on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sem_search.evaluation.label_errors import LabelDoubts, find_label_doubts
from sem_search.records import FloatMatrix, IntVector, TileTable
from sem_search.tracking.entries.types import TableArtifact
from sem_search.words import count

PROBABILITY_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class DoubtfulLabel:
    """One image that may belong to another class than it is said to."""

    image_id: str
    group: str
    label: str
    """As it was given."""
    other_label: str
    """As which the image counts."""
    label_probability: float
    other_probability: float
    n_by_chance: float
    """Images in as much doubt that chance alone would show: far below 1, and chance hardly explains this one."""


@dataclass(frozen=True, kw_only=True)
class DoubtfulLabels:
    """What is known of the labels of a study's images."""

    images: tuple[DoubtfulLabel, ...]
    """The most doubtful first."""
    n_images: int
    """Of the study, all tested."""
    is_grouped: bool
    """Whether some images share a group: then groups are counted."""
    doubts: LabelDoubts

    def to_text(self) -> str:
        """Return how many labels are doubtful, and how many would be by chance."""
        doubts, chance, unit = self.doubts, self.doubts.n_groups_by_chance, "group" if self.is_grouped else "image"
        where = f", in {count(doubts.n_groups, 'group')}" if self.is_grouped and self.images else ""
        return (
            f"{len(self.images)} of {count(self.n_images, 'label')} {'is' if len(self.images) == 1 else 'are'} "
            f"doubtful{where}. Were all labels right, the network would still doubt those of {chance.value:.1f} "
            f"{unit}s on average ({chance.low:.0f} to {chance.high:.0f} in 95 of 100 cases). {self._describe_share()}"
        )

    def _describe_share(self) -> str:
        """Return how many labels are wrong, as far as the answers show it."""
        noise = self.doubts.noise
        if not self.doubts.is_beyond_chance:
            return (
                f"This does not show that any label is wrong (p = {noise.p_value:.2g}), nor that none is: where "
                "similar classes were mixed up, the network only hesitates."
            )
        n_wrong, low, high = (self.n_images * end for end in (noise.share.value, noise.share.low, noise.share.high))
        return (
            f"But some answers are surer than mistakes would be (p = {noise.p_value:.2g}): about {n_wrong:.0f} labels "
            f"are wrong ({low:.0f} to {high:.0f}, or more where similar classes were mixed up), or the network is sure "
            "where it is wrong. Only the images tell."
        )


def list_doubtful_labels(
    probabilities: FloatMatrix, *, image_of_row: IntVector, group_of_row: Sequence[str], tiles: TileTable
) -> DoubtfulLabels:
    """Return the images whose label is doubtful.

    Args:
        probabilities: One row for each test image, shape (n_images, n_classes).
        image_of_row: Which image it is, shape (n_images,).
        group_of_row: Its group.
        tiles: The study's tiles.
    """
    labels = tiles.label_of_image[image_of_row]
    doubts = find_label_doubts(probabilities, labels=labels, group_of_row=group_of_row)
    images = tuple(
        DoubtfulLabel(
            image_id=tiles.image_ids[image_of_row[row]],
            group=group_of_row[row],
            label=tiles.class_names[labels[row]],
            other_label=tiles.class_names[doubts.others[row]],
            label_probability=float(doubts.self_confidence[row]),
            other_probability=float(probabilities[row, doubts.others[row]]),
            n_by_chance=float(n_by_chance),
        )
        for row, n_by_chance in zip(doubts.ranked, doubts.n_as_doubtful, strict=True)
    )
    is_grouped = len(set(group_of_row)) < len(labels)
    return DoubtfulLabels(images=images, n_images=len(labels), is_grouped=is_grouped, doubts=doubts)


def build_doubt_table(found: DoubtfulLabels, *, path: str, faults: Mapping[str, tuple[str, ...]]) -> TableArtifact:
    """Return the doubtful labels as a table, the most doubtful first.

    Args:
        found: In a study.
        path: Of the file.
        faults: What inspection found in single images, by image id.
    """
    columns = (
        *("number", "image_id", "group", "label", "other_class", "probability_of_label", "probability_of_other"),
        *("as_doubtful_by_chance", "inspection"),
    )
    rows = tuple(
        (
            number,
            one.image_id,
            one.group,
            one.label,
            one.other_label,
            round(one.label_probability, PROBABILITY_DIGITS),
            round(one.other_probability, PROBABILITY_DIGITS),
            round(one.n_by_chance, PROBABILITY_DIGITS),
            "; ".join(faults.get(one.image_id, ())),
        )
        for number, one in enumerate(found.images, start=1)
    )
    return TableArtifact(path=path, columns=columns, rows=rows)
