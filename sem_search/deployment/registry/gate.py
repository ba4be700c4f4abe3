"""The gate: two versions compared on the images that both were measured on, and the rule by which one beats the other.

A difference of scores means something only where everything else is equal: the same images with the same labels and
groups, cut into the same tiles, in the same folds, and each version's settings chosen on the same split. Where
something differs, the message names it, and nothing is compared. Each image is answered by heads that never saw it.

What decides is the macro F-measure on the split that chose neither version's settings (`get_judging_split`): on the one
that chose them the winner of a large search is flattered more than that of a small one. Both splits are shown.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.package.record import OutOfFold, read_out_of_fold
from sem_search.deployment.registry.contents import RECORD_PATH, fetch_files
from sem_search.deployment.registry.versions import (
    TAG_DATA,
    TAG_FOLDS,
    TAG_PIXEL_SIZE,
    TAG_SELECT_ON,
    find_version,
    open_client,
)
from sem_search.errors import DataError, NotComparableError, SettingsError, StoreError
from sem_search.evaluation.comparison import Comparison, check_same_folds, compare_trials
from sem_search.records import Split
from sem_search.settings import DEFAULT_PROMOTE_CONFIDENCE, DEFAULT_PROMOTE_MARGIN
from sem_search.tracking.entries.tables import SPLITS
from sem_search.words import join_words

NAMES_LENGTH = 300
"""Characters of class names that a message gives: it must fit into an entry of the history."""

JSON_FIGURES = ("f_measure", "image_f_measure", "image_accuracy", "f_measure_of_class")


@dataclass(frozen=True, kw_only=True)
class GateRule:
    """How far and how surely a version must beat another."""

    margin: float = DEFAULT_PROMOTE_MARGIN
    """F-measure, in [0, 1)."""
    confidence: float = DEFAULT_PROMOTE_CONFIDENCE
    """One-sided, over the images, in (0.5, 1)."""

    def __post_init__(self) -> None:
        if not (0 <= self.margin < 1 and 0.5 < self.confidence < 1):
            raise SettingsError(
                f"margin={self.margin} must be at least 0 and below 1, and confidence={self.confidence} above 0.5 and "
                "below 1."
            )

    @property
    def level(self) -> float:
        """Of the two-sided interval whose lower end is the one-sided bound."""
        return round(2 * self.confidence - 1, 12)


@dataclass(frozen=True, kw_only=True)
class VersionComparison:
    """Version `first` against version `second`, on the same images."""

    model: str
    first: str
    second: str
    n_images: int
    select_on: Split
    """The split that chose both versions' settings."""
    rule: GateRule
    splits: Mapping[Split, Comparison]
    """A positive difference is in favour of the first."""

    @property
    def judged_on(self) -> Split:
        """The split that decides."""
        return get_judging_split(self.select_on)

    @property
    def deciding(self) -> Comparison:
        """The comparison in the split that decides."""
        return self.splits[self.judged_on]

    @property
    def is_better(self) -> bool:
        """Whether the first beats the second by more than the margin, this surely."""
        return self.deciding.f_measure.low > self.rule.margin

    @property
    def verdict(self) -> str:
        """The finding as a sentence: both figures, their difference, its bound, and what was asked for."""
        found, rule = self.deciding.f_measure, self.rule
        needed = f"more than {rule.margin:g}" if rule.margin else "above 0"
        chosen = " (the test tiles chose the settings of both)" if self.select_on == "test" else ""
        return (
            f"version {self.first} {'beats' if self.is_better else 'does not beat'} version {self.second}: F-measure "
            f"{found.first:.4f} against {found.second:.4f} on the same {self.judged_on} tiles{chosen}; "
            f"the difference of {found.value:+.4f} is at least {found.low:+.4f} with {100 * rule.confidence:g} % "
            f"confidence over the images, where {needed} was needed."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        names = {"model": self.model, "first": self.first, "second": self.second}
        splits = []
        for split, found in self.splits.items():
            figures = {name: value for name, value in asdict(found).items() if name in JSON_FIGURES}
            tests = {"p_over_folds": get_p_over_folds(found), "p_over_images": found.image_test.p_value}
            splits.append({"split": split, **figures, **tests})
        rest = {"class_names": self.deciding.class_names, "splits": splits, "verdict": self.verdict}
        return names | self._list_facts() | rest

    def summarise(self) -> dict[str, Any]:
        """Return the figures of both splits, and which of them decided, as the history holds them."""
        figures: dict[str, Any] = {
            split: {
                "difference": found.f_measure.value,
                "low": found.f_measure.low,
                "high": found.f_measure.high,
                "p_over_folds": get_p_over_folds(found),
            }
            for split, found in self.splits.items()
        }
        return {"with": self.second, **self._list_facts(), **figures}

    def _list_facts(self) -> dict[str, Any]:
        names = ("select_on", "judged_on", "n_images", "is_better")
        return {name: getattr(self, name) for name in names} | asdict(self.rule)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate finds of a newcomer."""

    is_better: bool
    reason: str
    comparison: Mapping[str, Any] | None = None
    """The figures behind it, as the history holds them; None where nothing was compared."""


def get_judging_split(select_on: Split) -> Split:
    """Return the split that decides between two versions whose settings were chosen on another.

    The test tiles chose nothing. Where they chose the settings, as in the paper, no tiles chose nothing: then the
    validation tiles decide, which chose only at which epoch each head was kept, by the same rule for both versions.
    """
    return "validation" if select_on == "test" else "test"


def get_p_over_folds(comparison: Comparison) -> float | None:
    """Return the p-value of the test over folds; None with fewer than two folds, or where all folds differ alike."""
    return None if comparison.fold_test is None else comparison.fold_test.p_value


def compare_versions(name: str, first: str, second: str, *, rule: GateRule | None = None) -> VersionComparison:
    """Compare two versions of a registered model.

    Args:
        name: Registered model.
        first: Number, alias or `latest`.
        second: What the first is compared with.
        rule: How far and how surely the first must be better; None: the defaults.

    Raises:
        ModelNotFoundError: There is no such model or version.
        NotComparableError: They were not measured alike; the message names every difference.
        StoreError: The record of a version is damaged.
    """
    client = open_client()
    one, two = (find_version(client, name=name, version=version) for version in (first, second))
    return _compare(one, two, rule=rule or GateRule())


def judge(newcomer: ModelVersion, *, champion: ModelVersion, rule: GateRule) -> Verdict:
    """Return whether a version beats the champion on the same images; what cannot be compared does not.

    A champion whose record is damaged is not beaten by that: the reason names the damage.
    """
    try:
        found = _compare(newcomer, champion, rule=rule)
    except (NotComparableError, StoreError) as error:
        reason = f"{str(error).rstrip('.')} (version {champion.version} is champion)."
        return Verdict(is_better=False, reason=reason)
    return Verdict(is_better=found.is_better, reason=found.verdict, comparison=found.summarise())


def _compare(first: ModelVersion, second: ModelVersion, *, rule: GateRule) -> VersionComparison:
    """Compare two versions that were looked up already; errors as `compare_versions`."""
    if first.version == second.version:
        raise NotComparableError(f"version {first.version} was to be compared with itself.")
    answers = [_read_answers(version) for version in (first, second)]
    missing = [str(version.version) for version, found in zip((first, second), answers, strict=True) if found is None]
    if missing:
        which = f"versions {' and '.join(missing)} carry" if len(missing) > 1 else f"version {missing[0]} carries"
        raise NotComparableError(f"{which} no out-of-fold answers, so nothing could be paired by image.")
    one, two = filter(None, answers)
    pair = f"versions {first.version} and {second.version}"
    if different := _list_differences(first, second, one=one, two=two):
        raise NotComparableError(
            f"{pair} were not measured on the same {join_words(different)}, so they were not "
            f"compared{_describe_classes(one, two)}."
        )
    try:
        splits = {
            split: compare_trials(one.trial, two.trial, tiles=one.tiles, split=split, level=rule.level)
            for split in SPLITS
        }
    except ValueError as error:
        raise NotComparableError(f"{pair} could not be compared image by image: {error}") from error
    return VersionComparison(
        model=first.name,
        first=str(first.version),
        second=str(second.version),
        n_images=len(one.tiles.image_ids),
        select_on="test" if first.tags.get(TAG_SELECT_ON) == "test" else "validation",
        rule=rule,
        splits=splits,
    )


def _read_answers(version: ModelVersion) -> OutOfFold | None:
    with fetch_files(version, path=RECORD_PATH) as folder:
        return None if folder is None else read_out_of_fold(folder)


def _list_differences(first: ModelVersion, second: ModelVersion, *, one: OutOfFold, two: OutOfFold) -> list[str]:
    """Return what differs, by the tags and in the answers themselves; other data bring other tiles and folds along."""
    decisive = (TAG_DATA, TAG_FOLDS, TAG_SELECT_ON, TAG_PIXEL_SIZE)
    by_tag = {tag for tag in decisive if first.tags.get(tag) != second.tags.get(tag)}
    differences = {
        "data": TAG_DATA in by_tag or one.tiles.image_ids != two.tiles.image_ids,
        "classes": one.tiles.class_names != two.tiles.class_names,
        "split": TAG_SELECT_ON in by_tag,
        "tiles": TAG_PIXEL_SIZE in by_tag or not np.array_equal(one.tiles.image_of_tile, two.tiles.image_of_tile),
        "folds": TAG_FOLDS in by_tag or not _have_same_folds(one, two),
    }
    followers = {"tiles", "folds"} if differences["data"] or differences["classes"] else set()
    if differences["tiles"] and TAG_FOLDS not in by_tag:
        followers.add("folds")  # the images are divided alike: only their tiles are others
    return [word for word, is_different in differences.items() if is_different and word not in followers]


def _have_same_folds(one: OutOfFold, two: OutOfFold) -> bool:
    with suppress(DataError):
        for split in SPLITS:
            check_same_folds(one.trial, two.trial, split=split)
        return True
    return False


def _describe_classes(one: OutOfFold, two: OutOfFold) -> str:
    """Return which classes only one of the two knows, to be added to a sentence."""
    classes, others = set(one.tiles.class_names), set(two.tiles.class_names)
    only = [
        f"only the {which} knows {shorten(', '.join(sorted(names)), NAMES_LENGTH, placeholder=' and more')}"
        for which, names in (("first", classes - others), ("second", others - classes))
        if names
    ]
    return f": {join_words(only)}" if only else ""
