"""Which images train, validate and test in each fold: drawn over groups, never over tiles.

The protocol of Iwata et al., Int. J. Pharm. X 4 (2022) 100135, Figure S2, for any number of folds and images: the
groups are assigned to k parts, evenly for every class; fold f tests on part f, validates on part f + 1 and trains on
the rest. With 10 images per class and 5 folds that is 2, 2 and 6, and every image is a test image exactly once.

How many groups of which kind go to which part is settled without chance (`balance`); chance decides only which ones,
by a hash of seed and group name. So the table depends on image ids, labels, groups and seed alone, and does not change
with the order of files, the machine, or the version of a random generator.
"""

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sem_search.errors import ClassTooSmallError, LeakError, SettingsError, StoreError
from sem_search.micrographs.balance import compute_shares
from sem_search.micrographs.catalogue import Catalogue
from sem_search.seeds import derive_seed
from sem_search.words import count, write_list

MIN_CLASSES = 2  # what a search needs
MAX_CLASSES_NAMED = 10
MIN_FOLDS = 3  # one part each for test, validation and training

Composition = tuple[int, ...]
"""How many images of each class a group holds, classes in sorted order."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One division of the images; ids in sorted order."""

    number: int
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Image ids by the name of the split."""
        return {"training": self.training, "validation": self.validation, "test": self.test}


@dataclass(frozen=True, kw_only=True)
class FoldTable:
    """All folds of a study."""

    folds: tuple[Fold, ...]
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 of the table."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the table as JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "FoldTable":
        """Return the table that `to_json` wrote.

        Raises:
            StoreError: The text is no fold table.
        """
        try:
            content = json.loads(text)
            return cls(folds=tuple(_decode_fold(row) for row in content["folds"]), seed=int(content["seed"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"a stored fold table is damaged ({error!r}): start a new study") from error


def draw_folds(catalogue: Catalogue, *, n_folds: int, seed: int) -> FoldTable:
    """Return the folds of a study: test = part f, validation = part f + 1, training = the rest.

    Every class is spread over the parts as evenly as its groups allow: with single images the parts differ by one
    image at most. A group may hold images of several classes.

    Args:
        catalogue: Labels and groups of all images.
        n_folds: At least 3.
        seed: The study's seed.

    Raises:
        SettingsError: Fewer than 3 folds.
        ClassTooSmallError: A class has fewer groups than there are folds, or its groups hold images of other
            classes as well, so that some part would have none; the message names the class and what can be done.
    """
    if n_folds < MIN_FOLDS:
        raise SettingsError(
            f"folds must be {MIN_FOLDS} or more, got {n_folds}: each needs a part for testing, one for validation and "
            "one for training"
        )
    compositions = _compute_compositions(catalogue)
    _check_class_sizes(catalogue, compositions=compositions, n_folds=n_folds)
    part_of_group = _assign_groups(compositions, n_parts=n_folds, seed=seed)
    _check_parts(catalogue, part_of_group=part_of_group, n_folds=n_folds)
    return FoldTable(folds=_build_folds(catalogue, part_of_group=part_of_group, n_folds=n_folds), seed=seed)


def check_folds(table: FoldTable, *, catalogue: Catalogue) -> None:
    """Raise unless the table divides these images without a leak.

    Raises:
        LeakError: An image or a group stands in two splits of a fold, an image is not tested exactly once, or the
            images are not those of the catalogue; the message names one.
    """
    group_of = {record.image_id: record.group for record in catalogue.records}
    for fold in table.folds:
        _check_fold(fold, group_of=group_of)
    times_tested = Counter(image_id for fold in table.folds for image_id in fold.test)
    for image_id in group_of:
        if times_tested[image_id] != 1:
            raise LeakError(
                f"image {image_id} is a test image {times_tested[image_id]} times, not once: draw new folds"
            )


def _decode_fold(row: Mapping[str, Any]) -> Fold:
    splits = {split: tuple(map(str, row[split])) for split in ("training", "validation", "test")}
    return Fold(number=int(row["number"]), **splits)


def _compute_compositions(catalogue: Catalogue) -> dict[str, Composition]:
    class_names = catalogue.class_names
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in catalogue.records:
        counts[record.group][record.label] += 1
    return {group: tuple(labels[name] for name in class_names) for group, labels in counts.items()}


def _check_class_sizes(catalogue: Catalogue, *, compositions: Mapping[str, Composition], n_folds: int) -> None:
    """Raise if a class has fewer groups than there are parts."""
    table = np.array(list(compositions.values()), dtype=np.int64).reshape(-1, len(catalogue.class_names))
    n_groups, n_images = (table > 0).sum(axis=0).tolist(), table.sum(axis=0).tolist()
    small = [index for index, number in enumerate(n_groups) if number < n_folds]
    if not small:
        return
    names = [catalogue.class_names[index] for index in small]
    found = [
        f"class {catalogue.class_names[index]!r} has {count(n_groups[index], 'group')} "
        f"({count(n_images[index], 'image')})"
        for index in small[:MAX_CLASSES_NAMED]
    ]
    if len(names) > MAX_CLASSES_NAMED:
        found.append(f"{len(names) - MAX_CLASSES_NAMED} more classes are as small")
    changes = _list_changes(dict(zip(catalogue.class_names, n_groups, strict=True)), n_folds=n_folds)
    ways = [f"set {' and '.join(f'{name}={value}' for name, value in each.items())}" for each in changes]
    ways.append(f"add at least {count(n_folds - min(n_groups), 'image')} of other fields of view")
    fewest = (
        f" No folds do with fewer than {MIN_FOLDS} groups of a class: one to train, one to validate and one to test."
        if min(n_groups) < MIN_FOLDS
        else ""
    )
    raise ClassTooSmallError(
        f"{'; '.join(found)}, but {n_folds} folds need at least {n_folds} groups of each class. "
        f"What you can do: {', or '.join(ways)}.{fewest}",
        changes=changes[0] if changes else {},
    )


def _list_changes(n_groups: Mapping[str, int], *, n_folds: int) -> list[dict[str, str]]:
    """Return the changes of settings with which these classes can be divided, those that keep most classes first."""
    changes = []
    for least in (1, MIN_FOLDS, n_folds):
        kept = [number for number in n_groups.values() if number >= least]
        if len(kept) >= MIN_CLASSES and min(kept) >= MIN_FOLDS:
            small = [name for name, number in n_groups.items() if number < least]
            change = {"exclude": write_list(small)} if small else {}
            changes.append(change | ({"folds": str(min(kept))} if min(kept) < n_folds else {}))
    return [change for place, change in enumerate(changes) if change not in changes[:place]]


def _assign_groups(compositions: Mapping[str, Composition], *, n_parts: int, seed: int) -> dict[str, int]:
    kinds = sorted(set(compositions.values()), key=lambda kind: (-sum(kind), kind))
    members: dict[Composition, list[str]] = {kind: [] for kind in kinds}
    for group in sorted(compositions, key=lambda group: (derive_seed(seed, "folds", group), group)):
        members[compositions[group]].append(group)
    shares = compute_shares(
        np.array(kinds, dtype=np.int64), n_groups=[len(members[kind]) for kind in kinds], n_parts=n_parts
    )
    part_of_group: dict[str, int] = {}
    for kind, share in zip(kinds, shares, strict=True):
        parts = np.repeat(np.arange(n_parts), share)
        part_of_group.update(zip(members[kind], parts.tolist(), strict=True))
    return part_of_group


def _check_parts(catalogue: Catalogue, *, part_of_group: Mapping[str, int], n_folds: int) -> None:
    """Raise if a part has no image of some class, which happens only where groups hold several classes."""
    parts_of = defaultdict(set)
    for record in catalogue.records:
        parts_of[record.label].add(part_of_group[record.group])
    for name in catalogue.class_names:
        if len(parts_of[name]) < n_folds:
            raise ClassTooSmallError(
                f"class {name!r} cannot be spread over {n_folds} folds: its groups also hold images of other classes, "
                f"and only {count(len(parts_of[name]), 'part')} of {n_folds} can have one. What you can do: set "
                f"exclude={write_list([name])}, set fewer folds, or check the labels of the images in its groups."
            )


def _build_folds(catalogue: Catalogue, *, part_of_group: Mapping[str, int], n_folds: int) -> tuple[Fold, ...]:
    images_of_part: list[list[str]] = [[] for _ in range(n_folds)]
    for record in catalogue.records:
        images_of_part[part_of_group[record.group]].append(record.image_id)
    return tuple(_build_fold(number, images_of_part=images_of_part) for number in range(n_folds))


def _build_fold(number: int, *, images_of_part: Sequence[Sequence[str]]) -> Fold:
    """Return the fold that tests on the part of its number."""
    validation = (number + 1) % len(images_of_part)
    training = [ids for part, ids in enumerate(images_of_part) if part not in (number, validation)]
    return Fold(
        number=number,
        training=tuple(sorted(image_id for ids in training for image_id in ids)),
        validation=tuple(sorted(images_of_part[validation])),
        test=tuple(sorted(images_of_part[number])),
    )


def _check_fold(fold: Fold, *, group_of: Mapping[str, str]) -> None:
    """Raise if one fold leaks, or is not a division of these images."""
    times = Counter(image_id for image_ids in fold.splits.values() for image_id in image_ids)
    for image_id in (*group_of, *times):
        if times[image_id] != (image_id in group_of):
            raise LeakError(
                f"fold {fold.number + 1} has image {image_id} {times[image_id]} times, not "
                f"{int(image_id in group_of)}: draw new folds"
            )
    split_of_group: dict[str, str] = {}
    for split, image_ids in fold.splits.items():
        for image_id in image_ids:
            first = split_of_group.setdefault(group_of[image_id], split)
            if first != split:
                raise LeakError(
                    f"fold {fold.number + 1} has group {group_of[image_id]} in two splits, {first} and {split} "
                    f"(image {image_id}): draw new folds"
                )
