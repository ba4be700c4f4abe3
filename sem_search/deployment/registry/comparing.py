"""Two versions compared on the images that both were measured on, each answered by heads that never saw it.

A difference of scores means something only where everything else is equal: the same images with the same labels and
groups, cut into the same tiles, dealt to the same folds, and each version's settings chosen on the same split. Where
something differs it is said, and nothing is compared.

What decides is the macro F-measure on the split that chose neither version's settings (`get_judging_split`): on the one
that chose them the winner of a large search is flattered more than that of a small one. Both splits are shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mlflow.entities.model_registry import ModelVersion

from sem_search.deployment.package.record import OutOfFold, read_out_of_fold
from sem_search.deployment.registry.contents import RECORD_PATH, fetch_files
from sem_search.deployment.registry.stores import open_client
from sem_search.deployment.registry.tags import TAG_DATA, TAG_FOLDS, TAG_SELECT_ON
from sem_search.deployment.registry.versions import find_version
from sem_search.errors import NotComparableError, SettingsError
from sem_search.evaluation.comparing import Comparison, Difference, compare_trials
from sem_search.records import Split
from sem_search.settings import DEFAULT_PROMOTE_CONFIDENCE, DEFAULT_PROMOTE_MARGIN
from sem_search.tracking.entries.tables import SPLITS
from sem_search.words import join_words

COMPARABLE = {TAG_DATA: "data", TAG_FOLDS: "folds", TAG_SELECT_ON: "split"}
"""Tags that must agree before two versions may be compared, and what a reason calls them."""

NAMED = 4
"""Classes that a message names."""
NAME_LENGTH = 60
"""Characters of a class that a message gives: it must fit into an entry of the history."""


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
class SplitComparison:
    """Both versions in one split; a positive difference is in favour of the first."""

    split: Split
    f_measure: Difference
    """Mean over the folds of the macro F-measure over tiles: the objective."""
    image_f_measure: Difference
    image_accuracy: Difference
    f_measure_of_class: tuple[Difference, ...]
    p_over_folds: float | None
    """Two-sided, of the corrected resampled t-test; None with fewer than two folds, or where all folds differ alike."""
    p_over_images: float
    """Two-sided, of McNemar's exact test over whole images."""


@dataclass(frozen=True, kw_only=True)
class VersionComparison:
    """Version `first` against version `second`, on the same images."""

    model: str
    first: str
    second: str
    class_names: tuple[str, ...]
    n_images: int
    select_on: Split
    """The split that chose both versions' settings."""
    judged_on: Split
    """The split that decides; see `get_judging_split`."""
    margin: float
    confidence: float
    splits: tuple[SplitComparison, ...]
    is_better: bool
    """Whether the first beats the second by more than the margin, this surely."""
    verdict: str

    @property
    def deciding(self) -> SplitComparison:
        """The split that decides."""
        return next(split for split in self.splits if split.split == self.judged_on)


def get_judging_split(select_on: Split) -> Split:
    """Return the split that decides between two versions whose settings were chosen on another.

    The test tiles chose nothing. Where they chose the settings, as in the paper, no tiles chose nothing: then the
    validation tiles decide, which chose only at which epoch each head was kept, by the same rule for both versions.
    """
    return "validation" if select_on == "test" else "test"


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
    return compare_measured(one, two, rule=rule or GateRule())


def compare_measured(first: ModelVersion, second: ModelVersion, *, rule: GateRule) -> VersionComparison:
    """Compare two versions that were looked up already; errors as `compare_versions`."""
    if first.version == second.version:
        raise NotComparableError(f"version {first.version} was to be compared with itself.")
    answers = {str(version.version): _read_answers(version) for version in (first, second)}
    one, two = answers[str(first.version)], answers[str(second.version)]
    if one is None or two is None:
        missing = [number for number, found in answers.items() if found is None]
        who = f"versions {' and '.join(missing)} carry" if len(missing) > 1 else f"version {missing[0]} carries"
        raise NotComparableError(f"{who} no out-of-fold answers, so nothing could be paired by image.")
    different = _list_differences(first, second, one=one, two=two)
    if different:
        raise NotComparableError(
            f"versions {first.version} and {second.version} were not measured on the same "
            f"{join_words(different)}, so they were not compared{_describe_classes(one, two)}."
        )
    split: Split = "test" if first.tags.get(TAG_SELECT_ON) == "test" else "validation"
    return _compare(first, second, one=one, two=two, select_on=split, rule=rule)


def _read_answers(version: ModelVersion) -> OutOfFold | None:
    with fetch_files(version, path=RECORD_PATH) as folder:
        return None if folder is None else read_out_of_fold(folder)


def _list_differences(first: ModelVersion, second: ModelVersion, *, one: OutOfFold, two: OutOfFold) -> list[str]:
    """Return what differs, by the tags and in the answers themselves; other data bring other tiles and folds along."""
    by_tags = {word for tag, word in COMPARABLE.items() if first.tags.get(tag) != second.tags.get(tag)}
    differences = {
        "data": "data" in by_tags or one.tiles.image_ids != two.tiles.image_ids,
        "classes": one.tiles.class_names != two.tiles.class_names,
        "split": "split" in by_tags,
        "tiles": not np.array_equal(one.tiles.image_of_tile, two.tiles.image_of_tile),
        "folds": "folds" in by_tags or not _have_same_folds(one, two),
    }
    followers = {"tiles", "folds"} if differences["data"] or differences["classes"] else set()
    return [word for word, is_different in differences.items() if is_different and word not in followers]


def _have_same_folds(one: OutOfFold, two: OutOfFold) -> bool:
    folds = [(fold, other) for fold, other in zip(one.trial.folds, two.trial.folds, strict=False)]
    return len(one.trial.folds) == len(two.trial.folds) and all(
        fold.fold == other.fold and np.array_equal(fold.get_split(split)[0], other.get_split(split)[0])
        for fold, other in folds
        for split in SPLITS
    )


def _describe_classes(one: OutOfFold, two: OutOfFold) -> str:
    """Return which classes only one of the two knows, to be added to a sentence."""
    mine, others = set(one.tiles.class_names), set(two.tiles.class_names)
    told = [
        f"only the {which} knows {_name_some(sorted(names))}"
        for which, names in (("first", mine - others), ("second", others - mine))
        if names
    ]
    return f": {join_words(told)}" if told else ""


def _compare(
    first: ModelVersion, second: ModelVersion, *, one: OutOfFold, two: OutOfFold, select_on: Split, rule: GateRule
) -> VersionComparison:
    try:
        compared = {
            split: compare_trials(one.trial, two.trial, tiles=one.tiles, split=split, level=rule.level)
            for split in SPLITS
        }
    except ValueError as error:
        raise NotComparableError(
            f"versions {first.version} and {second.version} could not be compared image by image: {error}"
        ) from error
    judged_on = get_judging_split(select_on)
    decisive = compared[judged_on].f_measure
    is_better = decisive.low > rule.margin
    return VersionComparison(
        model=first.name,
        first=str(first.version),
        second=str(second.version),
        class_names=one.tiles.class_names,
        n_images=compared[judged_on].n_images,
        select_on=select_on,
        judged_on=judged_on,
        margin=rule.margin,
        confidence=rule.confidence,
        splits=tuple(_describe_split(split, comparison) for split, comparison in compared.items()),
        is_better=is_better,
        verdict=_word_verdict(decisive, first=first, second=second, select_on=select_on, rule=rule),
    )


def _describe_split(split: Split, comparison: Comparison) -> SplitComparison:
    test = comparison.fold_test
    return SplitComparison(
        split=split,
        f_measure=comparison.f_measure,
        image_f_measure=comparison.image_f_measure,
        image_accuracy=comparison.image_accuracy,
        f_measure_of_class=comparison.f_measure_of_class,
        p_over_folds=None if test is None else test.p_value,
        p_over_images=comparison.image_test.p_value,
    )


def _word_verdict(
    decisive: Difference, *, first: ModelVersion, second: ModelVersion, select_on: Split, rule: GateRule
) -> str:
    """Return the finding as a sentence: both figures, their difference, its bound, and what was asked for."""
    beats = decisive.low > rule.margin
    needed = f"more than {rule.margin:g}" if rule.margin else "above 0"
    chosen = " (the test tiles chose the settings of both)" if select_on == "test" else ""
    return (
        f"version {first.version} {'beats' if beats else 'does not beat'} version {second.version}: F-measure "
        f"{decisive.first:.4f} against {decisive.second:.4f} on the same {get_judging_split(select_on)} tiles{chosen}; "
        f"the difference of {decisive.value:+.4f} is at least {decisive.low:+.4f} with {100 * rule.confidence:g} % "
        f"confidence over the images, where {needed} was needed."
    )


def _name_some(names: list[str]) -> str:
    more = len(names) - NAMED
    named = [name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}..." for name in names[:NAMED]]
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def iter_difference_rows(comparison: VersionComparison) -> Iterator[tuple[str, str, Difference]]:
    """Yield split, name and value of every difference, the objective first."""
    for split in comparison.splits:
        yield split.split, "macro F-measure of tiles, mean over the folds", split.f_measure
        yield split.split, "macro F-measure of images", split.image_f_measure
        yield split.split, "accuracy of images", split.image_accuracy
        for name, difference in zip(comparison.class_names, split.f_measure_of_class, strict=True):
            yield split.split, f"F-measure of tiles of {name}", difference
