"""Whether how an image was taken gives its class away: then a network may learn that instead of the material.

For each attribute, every image is given the commonest class among the images of its value. How often that is right,
against how often it is when the classes are dealt out at random, is a pair of numbers that needs no statistics to be
read. The p-value, by permutation, is of the mutual information, which also sees one small class set apart. Images of
one group (overlapping fields, say) share class and settings, so that classes are dealt out to groups, not to images.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.findings import Finding
from sem_search.seeds import derive_seed
from sem_search.words import MAX_JOINED, count, join_some, join_values, name_some

UNTOLD = "not told"
N_PERMUTATIONS = 999  # p-values down to 0.001, in milliseconds
MAX_P_VALUE = 0.01  # eight attributes are tried: a false alarm in less than one data set out of ten
MIN_GAIN = 0.1  # of the images: less is no worry, whatever its p-value, unless a class is given away
ROUNDING = 1e-9  # sums of equal terms in another order
GIVEN_AWAY = 0.8  # of a class, by values of which it has as much

Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Confound:
    """How well one attribute alone tells the class."""

    attribute: str
    """In words: `pixel size`, `session`."""
    n_images: int
    n_right: int
    """Images whose class is guessed right from the attribute."""
    n_right_by_chance: float
    """The same for classes dealt out at random, on average."""
    p_value: float
    """How often classes dealt out at random go as closely with the attribute."""
    table: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    """Per class, in sorted order, the values and how many of its images have them, the commonest first."""

    @property
    def given_away(self) -> tuple[str, ...]:
        """Classes that the attribute all but names: most of their images have values that are mostly theirs."""
        total: Counter[str] = Counter()
        for _, values in self.table:
            total.update(dict(values))
        return tuple(
            name
            for name, values in self.table
            if sum(n for value, n in values if n >= GIVEN_AWAY * total[value])
            >= GIVEN_AWAY * sum(dict(values).values())
        )

    @property
    def is_warning(self) -> bool:
        """Whether the attribute tells more than chance, and enough to matter."""
        gain = (self.n_right - self.n_right_by_chance) / self.n_images
        return self.p_value <= MAX_P_VALUE and (gain >= MIN_GAIN or bool(self.given_away))


def describe_pixel_size(record: ImageRecord) -> str:
    """Return the pixel size to four digits: instruments write 1e-5 of rounding into it."""
    return UNTOLD if record.pixel_size_nm is None else f"{record.pixel_size_nm:.4g} nm"


GREY_MODES = ("1", "L", "I;16")  # they differ in bit depth alone, which is an attribute of its own

ATTRIBUTES: dict[str, Callable[[ImageRecord], str]] = {
    "pixel size": describe_pixel_size,
    "session": lambda record: record.session or UNTOLD,
    "detector": lambda record: record.detector or UNTOLD,
    "voltage": lambda record: UNTOLD if record.voltage_kv is None else f"{record.voltage_kv:g} kV",
    "bit depth": lambda record: f"{record.bit_depth} bits",
    "image size": lambda record: f"{record.width_px} x {record.height_px} px",
    "colour mode": lambda record: "grey" if record.mode in GREY_MODES else record.mode.removesuffix(";16"),
}

ADVICE = {
    "pixel size": "Image every class at the same magnification, or keep the images of one pixel size.",
    "session": "Image every class in every session, or test with whole sessions left out.",
    "detector": "Image every class with the same detector, or keep the images of one.",
    "voltage": "Image every class at the same voltage, or keep the images of one.",
    "bit depth": "Save all images with the same bit depth.",
    "image size": "Scan all images in the same size, or cut them alike.",
    "colour mode": "Save all images in the same way, grey rather than colour.",
}

LEVELS: dict[str, Callable[[ImageRecord], float]] = {
    "brightness": lambda record: record.mean_grey,
    "contrast": lambda record: record.contrast,
    "noise": lambda record: record.noise,
}
"""May belong to the material or to the instrument's settings: only a note."""


def compute_confounds(catalogue: Catalogue) -> tuple[Confound, ...]:
    """Return how well each attribute that takes more than one value tells the class, the best first."""
    records = catalogue.records
    labels = np.array([catalogue.class_names.index(record.label) for record in records], dtype=np.int64)
    groups = _number_groups(records)
    confounds = []
    for attribute, describe in ATTRIBUTES.items():
        values = [describe(record) for record in records]
        if len(set(values)) > 1:
            confounds.append(
                _compute_confound(attribute, values=values, labels=labels, groups=groups, names=catalogue.class_names)
            )
    return tuple(sorted(confounds, key=lambda confound: -confound.n_right))


def find_confounds(catalogue: Catalogue, confounds: Sequence[Confound]) -> list[Finding]:
    """Return findings on attributes that tell the class, on single sessions, and on grey levels."""
    findings = [_describe_confound(confound) for confound in confounds if confound.is_warning]
    return findings + _find_single_sessions(catalogue) + _find_telling_levels(catalogue)


def find_mixtures(catalogue: Catalogue) -> list[Finding]:
    """Return a note for each attribute that differs within a class: differences that the network must overlook."""
    findings = []
    for attribute, describe in ATTRIBUTES.items():
        if attribute == "session":  # several sessions of a class are what one wants
            continue
        parts, classes = [], []
        for name in catalogue.class_names:
            values = Counter(describe(record) for record in catalogue.records if record.label == name)
            if len(values) > 1:
                classes.append(name)
                parts.append(f"{name} {join_values(values.most_common())}")
        if classes:
            message = (
                f"The {attribute} differs within {count(len(classes), 'class')}: {join_some(parts, noun='class')}."
            )
            if attribute == "pixel size":
                message += " The same texture has another size in pixels there: best keep to one magnification."
            findings.append(
                Finding(
                    kind=f"mixed_{attribute.replace(' ', '_')}",
                    severity="note",
                    message=message,
                    classes=tuple(classes),
                    details=tuple(parts) if len(parts) > MAX_JOINED else (),
                )
            )
    return findings


def compute_counts(values: Sequence[str], labels: Labels, *, n_classes: int) -> NDArray[np.int64]:
    """Return how many images there are of each value and class, shape (n_values, n_classes).

    Args:
        values: One per image.
        labels: Shape (n_images,), in [0, n_classes).
        n_classes: Number of classes.
    """
    _, rows = np.unique(np.asarray(values), return_inverse=True)
    n_values = int(rows.max()) + 1
    return np.bincount(rows * n_classes + labels, minlength=n_values * n_classes).reshape(n_values, n_classes)


def _compute_confound(
    attribute: str, *, values: list[str], labels: Labels, groups: Labels, names: tuple[str, ...]
) -> Confound:
    """Return one attribute's guesses, with the permutation test."""
    counts = compute_counts(values, labels, n_classes=len(names))
    shuffles = _iter_shuffled(labels, groups=groups, name=attribute)
    dealt = [compute_counts(values, shuffled, n_classes=len(names)) for shuffled in shuffles]
    return Confound(
        attribute=attribute,
        n_images=len(labels),
        n_right=_count_right(counts),
        n_right_by_chance=float(np.mean([_count_right(other) for other in dealt])),
        p_value=_compute_p_value(_compute_closeness(counts), [_compute_closeness(other) for other in dealt]),
        table=tuple(
            (name, tuple(Counter(v for v, label in zip(values, labels, strict=True) if label == i).most_common()))
            for i, name in enumerate(names)
        ),
    )


def _number_groups(records: Sequence[ImageRecord]) -> Labels:
    """Return a number for the group of each image, in the order in which they come, shape (n_images,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(record.group, len(numbers)) for record in records], dtype=np.int64)


def _iter_shuffled(labels: Labels, *, groups: Labels, name: str) -> Iterator[Labels]:
    """Yield the labels dealt out to the groups at random, always the same way for one name."""
    rng = np.random.default_rng(derive_seed(0, "inspection", name))
    of_group = labels[np.unique(groups, return_index=True)[1]]
    return (rng.permutation(of_group)[groups] for _ in range(N_PERMUTATIONS))


def _count_right(counts: NDArray[np.int64]) -> int:
    """Return how many images are right when each is guessed as the commonest class of its value."""
    return int(counts.max(axis=1).sum())


def _compute_closeness(counts: NDArray[np.int64]) -> float:
    """Return the mutual information of value and class, but for a factor and a term that shuffling leaves alone."""
    of_class = counts.sum(axis=0)
    return float(xlogy(counts, counts).sum() - xlogy(of_class, of_class).sum())


def _compute_p_value(observed: float, shuffled: Sequence[float]) -> float:
    """Return how often chance does as well, the observed case being one of chance's."""
    as_well = sum(value >= observed - ROUNDING for value in shuffled)
    return (1 + as_well) / (1 + len(shuffled))


def _describe_confound(confound: Confound) -> Finding:
    """Return the warning about one attribute."""
    table = [f"{name}: {join_values(values)}" for name, values in confound.table]
    surest = f", surest for {name_some(confound.given_away)}" if confound.given_away else ""
    return Finding(
        kind=f"confounded_{confound.attribute.replace(' ', '_')}",
        severity="warning",
        message=(
            f"The {confound.attribute} alone tells the class of {confound.n_right} of {confound.n_images} images "
            f"({confound.n_right / confound.n_images:.0%}; by chance it would be {confound.n_right_by_chance:.0f})"
            f"{surest}: a network can learn it instead of the material. {join_some(table, noun='class')}. "
            f"{ADVICE[confound.attribute]}"
        ),
        classes=tuple(name for name, _ in confound.table),
        details=tuple(table) if len(table) > MAX_JOINED else (),
    )


def _find_single_sessions(catalogue: Catalogue) -> list[Finding]:
    """Return a warning for each class that was imaged in one session only, where there are several."""
    classes_of = {
        session: sorted({record.label for record in catalogue.records if record.session == session})
        for session in {record.session for record in catalogue.records}
    }
    if len(classes_of) < 2:
        return []
    findings = []
    for name in catalogue.class_names:
        records = [record for record in catalogue.records if record.label == name]
        session = records[0].session
        if session is None or len(records) < 2 or any(record.session != session for record in records):
            continue
        others = [other for other in classes_of[session] if other != name]
        company = f"together with {name_some(others)}" if others else "in which no other class was imaged"
        findings.append(
            Finding(
                kind="single_session",
                severity="warning",
                message=(
                    f"All {len(records)} images of {name} come from one session ({session}), {company}: whatever was "
                    f"special then counts as {name}, and no test can tell the two apart. Image {name} in another "
                    "session, too."
                ),
                advice="Image every class in more than one session.",
                classes=(name,),
            )
        )
    return findings


def _find_telling_levels(catalogue: Catalogue) -> list[Finding]:
    """Return a note for each of brightness, contrast and noise that tells the class."""
    names = catalogue.class_names
    labels = np.array([names.index(record.label) for record in catalogue.records], dtype=np.int64)
    groups = _number_groups(catalogue.records)
    findings = []
    for level, measure in LEVELS.items():
        values = np.array([measure(record) for record in catalogue.records])
        n_right = _count_nearest(values, labels, n_classes=len(names))
        shuffles = _iter_shuffled(labels, groups=groups, name=level)
        dealt = [_count_nearest(values, shuffled, n_classes=len(names)) for shuffled in shuffles]
        by_chance, p_value = float(np.mean(dealt)), _compute_p_value(n_right, dealt)
        if p_value <= MAX_P_VALUE and n_right - by_chance >= MIN_GAIN * len(labels):
            means = [f"{name} {values[labels == i].mean():.2g}" for i, name in enumerate(names)]
            findings.append(
                Finding(
                    kind=f"telling_{level}",
                    severity="note",
                    message=(
                        f"The {level} alone tells the class of {n_right} of {len(labels)} images "
                        f"({n_right / len(labels):.0%}; by chance it would be {by_chance:.0f}). "
                        f"Means: {join_some(means, noun='class')}. "
                        "This may be the material, or the instrument's settings: keep these alike for all classes."
                    ),
                    classes=names,
                )
            )
    return findings


def _count_nearest(values: NDArray[np.float64], labels: Labels, *, n_classes: int) -> int:
    """Return how many labels are right when each is guessed as the class of the nearest mean of the other images."""
    members = np.eye(n_classes)[labels]
    n_others = members.sum(axis=0) - members
    sums = members.T @ values - members * values[:, None]
    distance = np.abs(values[:, None] - sums / np.maximum(n_others, 1))
    distance[n_others == 0] = np.inf
    return int((distance.argmin(axis=1) == labels).sum())
