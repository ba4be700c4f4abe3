"""Confounds: whether an attribute of the imaging predicts the class, so that a network may learn it instead.

For each attribute, every image is predicted as the most frequent class among the images with its value. The number of
correct predictions is compared with that under random permutations of the classes. The p-value is that of the mutual
information, which also sees one small class set apart. Images of one group (overlapping fields, say) share class and
settings, so groups are permuted, not images.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.inspection.finding import Finding
from sem_search.seeds import derive_seed
from sem_search.words import MAX_JOINED, count, join_some, join_values, name_some

UNKNOWN = "not known"
N_PERMUTATIONS = 999  # p-values down to 0.001, in milliseconds
MAX_P_VALUE = 0.01  # seven attributes and three levels are tested: a false alarm in less than one data set out of ten
MIN_GAIN = 0.1  # of the images: less is no worry, whatever its p-value, unless a class is given away
ROUNDING = 1e-9  # sums of equal terms in another order
GIVEN_AWAY = 0.8  # of a class, by values of which it has as much

Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Confound:
    """How well one attribute alone predicts the class."""

    attribute: str
    """In words: `pixel size`, `session`."""
    n_images: int
    n_right: int
    """Images whose class is predicted correctly from the attribute."""
    n_right_by_chance: float
    """The same after a random permutation of the classes, on average."""
    p_value: float
    """How often permuted classes depend as closely on the attribute."""
    table: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    """Per class, in sorted order, the values and how many of its images have them, the most frequent first."""

    @property
    def given_away(self) -> tuple[str, ...]:
        """Classes that the attribute nearly identifies: most of their images have values that are mostly theirs."""
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
        """Whether the attribute predicts more than chance, and enough to matter."""
        gain = (self.n_right - self.n_right_by_chance) / self.n_images
        return self.p_value <= MAX_P_VALUE and (gain >= MIN_GAIN or bool(self.given_away))


def describe_pixel_size(record: ImageRecord) -> str:
    """Return the pixel size to four digits: instruments write 1e-5 of rounding into it."""
    return UNKNOWN if record.pixel_size_nm is None else f"{record.pixel_size_nm:.4g} nm"


GREY_MODES = ("1", "L", "I;16")  # they differ in bit depth alone, which is an attribute of its own

ATTRIBUTES: dict[str, Callable[[ImageRecord], str]] = {
    "pixel size": describe_pixel_size,
    "session": lambda record: record.session or UNKNOWN,
    "detector": lambda record: record.detector or UNKNOWN,
    "voltage": lambda record: UNKNOWN if record.voltage_kv is None else f"{record.voltage_kv:g} kV",
    "bit depth": lambda record: f"{record.bit_depth} bits",
    "image size": lambda record: f"{record.width_px} x {record.height_px} px",
    "colour mode": lambda record: "grey" if record.mode in GREY_MODES else record.mode.removesuffix(";16"),
}

ADVICE = {
    "pixel size": "",  # depends on the images, see `pixel_sizes`
    "session": "Image every class in every session, or test on sessions that are not in the training data.",
    "detector": "Image every class with the same detector, or keep the images of one.",
    "voltage": "Image every class at the same voltage, or keep the images of one.",
    "bit depth": "Save all images with the same bit depth.",
    "image size": "Record all images with the same size, or crop them alike.",
    "colour mode": "Save all images in the same way, as grey levels.",
}

ONE_MAGNIFICATION = "The same texture then has several sizes in pixels: use one magnification where possible."
ONE_VALUE = "A network must learn to ignore this difference: use the same for all images where possible."

LEVELS: dict[str, Callable[[ImageRecord], float]] = {
    "brightness": lambda record: record.mean_grey,
    "contrast": lambda record: record.contrast,
    "noise": lambda record: record.noise,
}
"""They may depend on the material or on the instrument's settings: only a note."""


def compute_confounds(catalogue: Catalogue) -> tuple[Confound, ...]:
    """Return how well each attribute with more than one value predicts the class, the best first."""
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


def find_confounds(catalogue: Catalogue, confounds: Sequence[Confound], *, pixel_advice: str = "") -> list[Finding]:
    """Return findings on attributes that predict the class, on single sessions, and on grey levels.

    Args:
        catalogue: The images.
        confounds: As `compute_confounds` returns them.
        pixel_advice: What to do about pixel sizes that differ by class.
    """
    advice = ADVICE | {"pixel size": pixel_advice}
    findings = [
        _describe_confound(confound, advice=advice[confound.attribute]) for confound in confounds if confound.is_warning
    ]
    return findings + _find_single_sessions(catalogue) + _find_predictive_levels(catalogue)


def find_mixtures(catalogue: Catalogue, *, is_brought_to_one: bool = False) -> list[Finding]:
    """Return a note for each attribute that differs within a class: differences that a network must ignore.

    Args:
        catalogue: The images.
        is_brought_to_one: Whether a search brings all images to one pixel size.
    """
    # Several sessions of a class are what one wants.
    wanted = {"session", "pixel size"} if is_brought_to_one else {"session"}
    findings = []
    for attribute, describe in ATTRIBUTES.items():
        if attribute in wanted:
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
            message += f" {ONE_MAGNIFICATION if attribute == 'pixel size' else ONE_VALUE}"
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


def compute_counts(values: Labels, labels: Labels, *, n_classes: int) -> NDArray[np.int64]:
    """Return how many images there are of each value and class, shape (n_values, n_classes).

    Args:
        values: Number of the value of each image, shape (n_images,), from 0 without gaps.
        labels: Shape (n_images,), in [0, n_classes).
        n_classes: Number of classes.
    """
    n_values = int(values.max()) + 1
    return np.bincount(values * n_classes + labels, minlength=n_values * n_classes).reshape(n_values, n_classes)


def _compute_confound(
    attribute: str, *, values: list[str], labels: Labels, groups: Labels, names: tuple[str, ...]
) -> Confound:
    _, rows = np.unique(np.asarray(values), return_inverse=True)
    n_right, closeness = _judge(compute_counts(rows, labels, n_classes=len(names)))
    permuted = [
        _judge(compute_counts(rows, other, n_classes=len(names)))
        for other in _iter_permuted(labels, groups=groups, name=attribute)
    ]
    return Confound(
        attribute=attribute,
        n_images=len(labels),
        n_right=n_right,
        n_right_by_chance=float(np.mean([n for n, _ in permuted])),
        p_value=_compute_p_value(closeness, [close for _, close in permuted]),
        table=tuple(
            (name, tuple(Counter(v for v, label in zip(values, labels, strict=True) if label == i).most_common()))
            for i, name in enumerate(names)
        ),
    )


def _number_groups(records: Sequence[ImageRecord]) -> Labels:
    """Return a number for the group of each image, in the order in which they come, shape (n_images,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(record.group, len(numbers)) for record in records], dtype=np.int64)


def _iter_permuted(labels: Labels, *, groups: Labels, name: str) -> Iterator[Labels]:
    """Yield labels permuted among the groups, always the same way for one name."""
    rng = np.random.default_rng(derive_seed(0, "inspection", name))
    of_group = labels[np.unique(groups, return_index=True)[1]]
    return (rng.permutation(of_group)[groups] for _ in range(N_PERMUTATIONS))


def _judge(counts: NDArray[np.int64]) -> tuple[int, float]:
    """Return how many images are predicted correctly as the most frequent class of their value, and the mutual
    information of value and class, but for a factor and a term that permuting does not change."""
    of_class = counts.sum(axis=0)
    return int(counts.max(axis=1).sum()), float(xlogy(counts, counts).sum() - xlogy(of_class, of_class).sum())


def _compute_p_value(observed: float, permuted: Sequence[float]) -> float:
    """Return the share of permutations that reach the observed value, which counts as one of them."""
    n_as_close = sum(value >= observed - ROUNDING for value in permuted)
    return (1 + n_as_close) / (1 + len(permuted))


def _describe_confound(confound: Confound, *, advice: str) -> Finding:
    table = [f"{name}: {join_values(values)}" for name, values in confound.table]
    surest = f", best for {name_some(confound.given_away)}" if confound.given_away else ""
    return Finding(
        kind=f"confounded_{confound.attribute.replace(' ', '_')}",
        severity="warning",
        message=(
            f"The {confound.attribute} alone predicts the class of {confound.n_right} of {confound.n_images} images "
            f"correctly ({confound.n_right / confound.n_images:.0%}; {confound.n_right_by_chance:.0f} are expected by "
            f"chance){surest}: a network can learn it instead of the material. {join_some(table, noun='class')}. "
            f"{advice}"
        ),
        classes=tuple(name for name, _ in confound.table),
        details=tuple(table) if len(table) > MAX_JOINED else (),
    )


def _find_single_sessions(catalogue: Catalogue) -> list[Finding]:
    """Return a warning for each class that was imaged in one session only, where there are several."""
    classes_of: dict[str | None, set[str]] = defaultdict(set)
    for record in catalogue.records:
        classes_of[record.session].add(record.label)
    if len(classes_of) < 2:
        return []
    findings = []
    for name in catalogue.class_names:
        records = [record for record in catalogue.records if record.label == name]
        session = records[0].session
        if session is None or len(records) < 2 or any(record.session != session for record in records):
            continue
        others = classes_of[session] - {name}
        company = f"together with {name_some(others)}" if others else "in which no other class was imaged"
        findings.append(
            Finding(
                kind="single_session",
                severity="warning",
                message=(
                    f"All {len(records)} images of {name} come from one session ({session}), {company}: a network can "
                    f"learn what was special in that session, and no test can separate that from {name}. Image {name} "
                    "in another session, too."
                ),
                advice="Image every class in more than one session.",
                classes=(name,),
            )
        )
    return findings


def _find_predictive_levels(catalogue: Catalogue) -> list[Finding]:
    names = catalogue.class_names
    labels = np.array([names.index(record.label) for record in catalogue.records], dtype=np.int64)
    groups = _number_groups(catalogue.records)
    findings = []
    for level, measure in LEVELS.items():
        values = np.array([measure(record) for record in catalogue.records])
        n_right = _count_nearest(values, labels, n_classes=len(names))
        permuted = [
            _count_nearest(values, other, n_classes=len(names))
            for other in _iter_permuted(labels, groups=groups, name=level)
        ]
        by_chance, p_value = float(np.mean(permuted)), _compute_p_value(n_right, permuted)
        if p_value <= MAX_P_VALUE and n_right - by_chance >= MIN_GAIN * len(labels):
            means = [f"{name} {values[labels == i].mean():.2g}" for i, name in enumerate(names)]
            findings.append(
                Finding(
                    kind=f"telling_{level}",
                    severity="note",
                    message=(
                        f"The {level} alone predicts the class of {n_right} of {len(labels)} images correctly "
                        f"({n_right / len(labels):.0%}; {by_chance:.0f} are expected by chance). Means: "
                        f"{join_some(means, noun='class')}. The material or the instrument's settings may be the "
                        "reason: use the same settings for all classes."
                    ),
                    classes=names,
                )
            )
    return findings


def _count_nearest(values: NDArray[np.float64], labels: Labels, *, n_classes: int) -> int:
    """Return how many images are predicted correctly as the class with the nearest mean of the other images."""
    sizes, sums = (np.bincount(labels, weights=weights, minlength=n_classes) for weights in (None, values))
    distance = np.abs(values[:, None] - sums / np.maximum(sizes, 1))
    distance[:, sizes == 0] = np.inf
    n_others = sizes[labels] - 1
    own = np.abs(values - (sums[labels] - values) / np.maximum(n_others, 1))
    distance[np.arange(len(labels)), labels] = np.where(n_others > 0, own, np.inf)
    return int((distance.argmin(axis=1) == labels).sum())
