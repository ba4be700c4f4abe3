"""The model card: what a model is, what it was made from and how well it did, in one record that travels with it.

Everything here was known when the model was logged; what the registry adds since (version, alias, its moves) is
shown beside it. After Mitchell et al., Model cards for model reporting, FAT* 2019.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, with_config

from sem_search.deployment.package.description import EXACT, read_format
from sem_search.heads import Head
from sem_search.records import Cell, Split
from sem_search.tracking.entries.tables import Unit

FORMAT_VERSION = 2
"""Raised when a reader of before could misunderstand a card. The first had no `head`."""


@with_config(EXACT)
@dataclass(frozen=True, kw_only=True)
class CardClass:
    """One class of the training data."""

    name: str
    n_images: int
    n_groups: int
    n_tiles: int
    pixel_sizes_nm: tuple[float, ...] = ()
    """Distinct, ascending; none where the files do not state them."""


@with_config(EXACT)
@dataclass(frozen=True, kw_only=True)
class CardFold:
    """How many images stand in each split of a fold."""

    number: int
    n_training: int
    n_validation: int
    n_test: int


@with_config(EXACT)
@dataclass(frozen=True, kw_only=True)
class CardScore:
    """One score with its 95 % interval over the images."""

    split: Split
    unit: Unit
    name: str
    """For people: "macro F-measure, mean over the folds"."""
    value: float
    low: float | None
    high: float | None
    """None where the images do not determine the uncertainty; a warning gives the reason."""


@with_config(EXACT)
@dataclass(frozen=True, kw_only=True)
class CardConfusion:
    """How often each class (row) was predicted as each class (column), summed over the folds."""

    split: Split
    unit: Unit
    counts: tuple[tuple[int, ...], ...]


@with_config(EXACT)
@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model is, what it was made from and how well it did."""

    created_at: str
    """UTC, ISO 8601."""
    data: str
    """Name of the data's folder or file, without its place."""
    study: str
    run_id: str
    backbone: str
    weights_used: str
    select_on: Split
    """The split whose tiles chose this cell among those of its study."""
    learning_rate: float | None
    batch_size: int | None
    """Both None where the head is the linear one."""
    n_cells: int
    """How many cells the study could choose from."""
    classes: tuple[CardClass, ...]
    """In sorted order: that of the confusion matrices."""
    folds: tuple[CardFold, ...]
    scores: tuple[CardScore, ...]
    confusions: tuple[CardConfusion, ...]
    settings: Mapping[str, Any]
    hashes: Mapping[str, str]
    versions: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    """What was skipped, replaced or fell back."""
    head: Head = "finetune"
    """How the head came about: cards of the first format do not say."""
    findings: tuple[str, ...] = ()
    """What inspection found in the data."""

    def __post_init__(self) -> None:
        n_classes = len(self.classes)
        for confusion in self.confusions:
            if [len(row) for row in confusion.counts] != [n_classes] * n_classes:
                raise ValueError(f"A confusion matrix does not fit the {n_classes} classes of the card.")

    @property
    def cell(self) -> Cell:
        """What won among the cells of its study."""
        return Cell(head=self.head, learning_rate=self.learning_rate, batch_size=self.batch_size)

    @property
    def n_images(self) -> int:
        """Images of all classes."""
        return sum(each.n_images for each in self.classes)

    @property
    def n_tiles(self) -> int:
        """Tiles of all images."""
        return sum(each.n_tiles for each in self.classes)

    def to_json(self) -> str:
        """Return the content of `card.json`."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read the content of `card.json`.

        Raises:
            StoreError: It is no model card, or one of a later format.
        """
        build = TypeAdapter(cls).validate_python
        what = "card.json is damaged: it does not hold a model card."
        return read_format(text, name="card.json", last=FORMAT_VERSION, damage=what, build=build)
