"""What a search found out, as plain records: the common language of search, tracking, audits and deployment.

A record holds predictions, not scores: every figure that is reported is computed from these, in `metrics`.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from sem_search.heads import Head

FloatVector = NDArray[np.float64]
FloatMatrix = NDArray[np.float64]
IntVector = NDArray[np.int64]
BoolVector = NDArray[np.bool_]
IntMatrix = NDArray[np.int64]

DOUBLE_DIGITS = 17
"""Decimal digits that distinguish any two doubles."""

TrialState = Literal["complete", "pruned", "failed"]
Split = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One combination of learning rate and batch size; or the linear head, which has neither."""

    learning_rate: float | None = None
    batch_size: int | None = None
    head: Head = "finetune"

    def __post_init__(self) -> None:
        """Refuse a head that is trained in steps of unknown length, and an exact one that has steps."""
        if {self.learning_rate is None, self.batch_size is None} != {self.head == "linear"}:
            raise ValueError(f"{self}: a linear head has no learning rate and no batch size, every other has both.")

    @property
    def name(self) -> str:
        """Short, fit for file names, and different for different cells: `lr1e-03_bs48`, `linear`."""
        if self.learning_rate is None:
            return self.head
        steps = f"lr{_write_shortest(self.learning_rate)}_bs{self.batch_size}"
        return steps if self.head == "finetune" else f"{self.head}_{steps}"

    @property
    def params(self) -> dict[str, str | float | int]:
        """What distinguishes it, by parameter name: only what it has."""
        values = {"head": self.head, "learning_rate": self.learning_rate, "batch_size": self.batch_size}
        return {name: value for name, value in values.items() if value is not None}

    def to_text(self) -> str:
        """Return the cell in words: `learning rate 0.01, batch size 16`."""
        if self.learning_rate is None:
            return "linear head"
        steps = f"learning rate {self.learning_rate:g}, batch size {self.batch_size}"
        return steps if self.head == "finetune" else f"fine-tuned from the linear head, {steps}"


class ShownAsText:
    """A record that a notebook shows as its text."""

    def to_text(self) -> str:
        """Return the record in words; each record has its own."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.to_text())}</pre>"


@dataclass(frozen=True, kw_only=True)
class TileTable:
    """Which tile belongs to which image, and which image to which class and group.

    Classes are in sorted order, images in the catalogue's order, tiles image by image, row by row.
    """

    class_names: tuple[str, ...]
    image_ids: tuple[str, ...]
    label_of_image: IntVector
    """Shape (n_images,), index into `class_names`."""
    group_of_image: tuple[str, ...]
    image_of_tile: IntVector
    """Shape (n_tiles,), index into `image_ids`."""

    @property
    def n_tiles(self) -> int:
        """Number of tiles of all images."""
        return len(self.image_of_tile)

    @property
    def label_of_tile(self) -> IntVector:
        """Shape (n_tiles,), index into `class_names`."""
        return self.label_of_image[self.image_of_tile]

    def get_tiles_of(self, image_ids: tuple[str, ...]) -> IntVector:
        """Return the indices of all tiles of these images, ascending, shape (n,)."""
        wanted = set(image_ids)
        is_wanted = np.array([image_id in wanted for image_id in self.image_ids])
        return np.flatnonzero(is_wanted[self.image_of_tile]).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class TileSplits:
    """One fold as tiles: which of them train, validate and test."""

    number: int
    training: IntVector
    """Shape (n_training,), tile indices; so are the others."""
    validation: IntVector
    test: IntVector


@dataclass(frozen=True, kw_only=True)
class EpochFigures:
    """What is known after one epoch: losses (mean cross-entropy per tile) and accuracies (0 to 1)."""

    training_loss: float
    training_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True)
class TrainingCurves:
    """The figures of all epochs, each of shape (n_epochs,).

    Training figures are means over the steps of an epoch, with dropout, as Keras reports them; validation figures are
    those of the weights at the end of the epoch. The last values of a diverged fold may be NaN or infinite.
    """

    training_loss: FloatVector
    training_accuracy: FloatVector
    validation_loss: FloatVector
    validation_accuracy: FloatVector

    @classmethod
    def from_epochs(cls, epochs: Sequence[EpochFigures]) -> Self:
        """Return the curves of these epochs, in their order."""
        names = [field.name for field in fields(EpochFigures)]
        return cls(**{name: np.array([getattr(epoch, name) for epoch in epochs], np.float64) for name in names})

    def list_epochs(self) -> list[EpochFigures]:
        """Return the figures epoch by epoch."""
        columns = {name: values.tolist() for name, values in vars(self).items()}
        return [EpochFigures(**dict(zip(columns, epoch, strict=True))) for epoch in zip(*columns.values(), strict=True)]


@dataclass(frozen=True, kw_only=True)
class FoldOutcome:
    """One head trained on one fold: what it answered where it was not trained."""

    fold: int
    """Counted from 0, as in file names, in JSON and in MLflow's steps and metric names. What people read counts from 1:
    the terminal, messages, figures, the report and all CSV tables."""
    validation_tiles: IntVector
    """Shape (n_validation,), tile indices."""
    validation_probabilities: FloatMatrix
    """Shape (n_validation, n_classes), rows sum to one."""
    test_tiles: IntVector
    """Shape (n_test,), tile indices."""
    test_probabilities: FloatMatrix
    """Shape (n_test, n_classes), rows sum to one."""
    curves: TrainingCurves
    best_epoch: int
    """Index of the epoch whose weights answer the validation tiles: that of the lowest validation loss, or with
    patience 0 the last."""
    is_diverged: bool
    training_s: float
    """Wall-clock seconds; the one number that differs between two equal runs."""

    def get_split(self, split: Split) -> tuple[IntVector, FloatMatrix]:
        """Return tile indices (n,) and probabilities (n, n_classes) of one split of the fold."""
        if split == "validation":
            return self.validation_tiles, self.validation_probabilities
        return self.test_tiles, self.test_probabilities


@dataclass(frozen=True, kw_only=True)
class FinishedFold:
    """A fold that was trained to its end: its answers, and the head that gave them."""

    outcome: FoldOutcome
    head_weights: tuple[NDArray[np.float32], ...]
    """As Keras' `get_weights` lists them, of the head that answered the test tiles."""


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """One cell cross-validated: its finished folds, in order."""

    number: int
    """Optuna's trial number."""
    cell: Cell
    state: TrialState
    folds: tuple[FoldOutcome, ...]
    run_id: str | None = None
    """MLflow's run, where there is one."""
    message: str | None = None
    """Why it was pruned or how it failed."""
    is_refit: bool = False
    """Whether its heads were trained again on training and validation tiles: these answer the test tiles, and the heads
    of the search the validation tiles."""


@dataclass(frozen=True, kw_only=True)
class StudyOutcome:
    """All trials of a study over one table of tiles."""

    name: str
    backbone: str
    select_on: Split
    tiles: TileTable
    trials: tuple[TrialOutcome, ...]
    winner_number: int
    """`TrialOutcome.number` of the winner."""
    refitted: TrialOutcome | None = None
    """The winner with the heads that were trained again, with `refit`."""

    @property
    def chosen(self) -> TrialOutcome:
        """The winner with the heads of the search: of all trials, that of the highest mean F-measure in `select_on`."""
        return next(trial for trial in self.trials if trial.number == self.winner_number)

    @property
    def winner(self) -> TrialOutcome:
        """The winner with the heads that are served."""
        return self.refitted or self.chosen


def _write_shortest(number: float) -> str:
    """Return the shortest exponential form that reads back as the same number."""
    forms = (f"{number:.{digits}e}" for digits in range(DOUBLE_DIGITS))
    return next(form for form in forms if float(form) == number)
