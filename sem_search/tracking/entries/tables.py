"""The numbers behind the figures and the report, computed apart from any drawing.

Each figure is drawn from a record defined here, and the record is logged beside it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import product
from typing import Literal

import numpy as np

from sem_search.evaluation.metrics import ClassIndices, compute_split_scores
from sem_search.heads import HEAD_NAMES, Head
from sem_search.records import (
    Cell,
    FloatMatrix,
    IntMatrix,
    Split,
    StudyOutcome,
    TileTable,
    TrialOutcome,
    TrialState,
)
from sem_search.tracking.entries.types import Scalar, TableArtifact

FoldSplit = Literal["training", "validation", "test", "left out"]
Unit = Literal["tiles", "images"]
FOLD_SPLITS: tuple[FoldSplit, ...] = ("training", "validation", "test")
SPLITS: tuple[Split, ...] = ("validation", "test")
UNITS: tuple[Unit, ...] = ("tiles", "images")
INDEX_NAMES = ("one_vs_rest_accuracy", "precision", "recall", "f_measure")
"""The paper's four indices, as the fields of `ClassIndices` are called."""


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """One field of the paper's Figure 3."""

    cell: Cell
    state: TrialState | Literal["missing"]
    f_measure: float | None
    """Mean macro F-measure over the finished folds; None where no fold is finished."""
    n_folds: int


@dataclass(frozen=True, kw_only=True)
class GridTable:
    """All fields of the paper's Figure 3, for one head and one split."""

    head: Head
    split: Split
    learning_rates: tuple[float, ...]
    """From the largest to the smallest; none for the linear head, which has one field."""
    batch_sizes: tuple[int, ...]
    """From the smallest to the largest; none for the linear head."""
    cells: tuple[GridCell, ...]
    """Learning rate by learning rate, batch size by batch size."""
    winner: Cell


@dataclass(frozen=True, kw_only=True)
class ConfusionTable:
    """A confusion matrix of test tiles or images with its words: rows true, columns predicted."""

    class_names: tuple[str, ...]
    counts: IntMatrix
    unit: Unit

    @property
    def shares(self) -> FloatMatrix:
        """Share of each row, in [0, 1], shape of `counts`; a row without a case is 0 throughout."""
        totals = self.counts.sum(axis=1, keepdims=True)
        shares: FloatMatrix = np.divide(self.counts, totals, out=np.zeros(self.counts.shape), where=totals > 0)
        return shares


@dataclass(frozen=True, kw_only=True)
class IndexTable:
    """The paper's four indices per class on test tiles, as means over the folds and fold by fold."""

    class_names: tuple[str, ...]
    mean: ClassIndices
    per_fold: tuple[ClassIndices, ...]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial in the table of all trials; scores are over its finished folds, None where there is none."""

    trial: int
    head: Head
    learning_rate: float | None
    batch_size: int | None
    """Neither for the linear head."""
    state: TrialState
    is_winner: bool
    n_folds: int
    n_epochs: int
    """Over all finished folds."""
    validation_f_measure: float | None
    test_f_measure: float | None
    validation_image_f_measure: float | None
    test_image_f_measure: float | None
    test_image_accuracy: float | None
    training_s: float
    run_id: str | None
    message: str | None


@dataclass(frozen=True, kw_only=True)
class ScoredTrial:
    """A complete trial and its two headline figures."""

    trial: int
    validation_f_measure: float
    test_f_measure: float


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The best complete trial on validation and on test tiles."""

    chosen_on_validation: ScoredTrial
    chosen_on_test: ScoredTrial

    @property
    def optimism(self) -> float:
        """What a choice on the test tiles themselves adds to the test F-measure; never negative."""
        return self.chosen_on_test.test_f_measure - self.chosen_on_validation.test_f_measure


@dataclass(frozen=True, kw_only=True)
class FoldRow:
    """In which split one image stands in each fold."""

    image_id: str
    label: str
    group: str
    n_tiles: int
    splits: tuple[FoldSplit, ...]
    """One per fold, in order of the folds."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """How much there is of one class."""

    label: str
    n_images: int
    n_groups: int
    n_tiles: int


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """One class that was predicted as another."""

    true: str
    predicted: str
    count: int
    n_true: int
    """All cases of the true class."""


def compute_grid_tables(study: StudyOutcome, *, cells: Sequence[Cell]) -> tuple[GridTable, ...]:
    """Return the fields of the paper's Figure 3: every cell that was asked for or tried, with what it scored.

    Head by head, there is a table for the validation and one for the test tiles. Of several trials of one cell a
    complete one counts, else the one with most finished folds.

    Args:
        study: All trials.
        cells: Those that were asked for.
    """

    def rank(trial: TrialOutcome) -> tuple[bool, bool, int]:
        """Return what sorts the trials of a cell, the one that counts highest."""
        return trial.number == study.winner_number, trial.state == "complete", len(trial.folds)

    best: dict[Cell, TrialOutcome] = {}
    for trial in sorted(study.trials, key=rank, reverse=True):
        best.setdefault(trial.cell, trial)
    asked = {*cells, *best}
    heads = [head for head in HEAD_NAMES if any(cell.head == head for cell in asked)]
    return tuple(
        _build_grid_table(study, head=head, split=split, asked=asked, best=best) for head in heads for split in SPLITS
    )


def compute_trial_rows(study: StudyOutcome) -> tuple[TrialRow, ...]:
    """Return one row per trial, in order of their numbers."""
    ordered = sorted(study.trials, key=lambda trial: trial.number)
    return tuple(_build_trial_row(trial, study=study) for trial in ordered)


def compute_selection(study: StudyOutcome) -> Selection:
    """Return the best complete trial on validation and on test tiles; of equals the study's winner, then the first."""
    complete = [_score_trial(trial, study=study) for trial in study.trials if trial.state == "complete"]
    ranked = sorted(complete, key=lambda one: (one.trial != study.winner_number, one.trial))
    return Selection(
        chosen_on_validation=max(ranked, key=lambda one: one.validation_f_measure),  # of equals, the first
        chosen_on_test=max(ranked, key=lambda one: one.test_f_measure),
    )


def compute_confusion_table(trial: TrialOutcome, *, tiles: TileTable, unit: Unit) -> ConfusionTable:
    """Return the confusion matrix of a trial's finished folds on their test tiles, or on whole test images.

    Args:
        trial: With its finished folds.
        tiles: The study's tiles.
        unit: Tiles or images.
    """
    scores = compute_split_scores(trial, tiles=tiles, split="test")
    counts = scores.confusion if unit == "tiles" else scores.image_confusion
    return ConfusionTable(class_names=tiles.class_names, counts=counts, unit=unit)


def compute_index_table(trial: TrialOutcome, *, tiles: TileTable) -> IndexTable:
    """Return the paper's four indices per class on the test tiles of a trial's finished folds."""
    scores = compute_split_scores(trial, tiles=tiles, split="test")
    return IndexTable(class_names=tiles.class_names, mean=scores.mean, per_fold=scores.per_fold)


def compute_confused_pairs(table: ConfusionTable, *, n_most: int) -> tuple[ConfusedPair, ...]:
    """Return the pairs of classes that were confused most, by share of the true class, at most `n_most`."""
    off_diagonal = table.shares * (1 - np.eye(len(table.class_names)))
    order = np.argsort(-off_diagonal, axis=None, kind="stable")[:n_most]
    places = [divmod(int(place), len(table.class_names)) for place in order]
    return tuple(
        ConfusedPair(
            true=table.class_names[row],
            predicted=table.class_names[column],
            count=int(table.counts[row, column]),
            n_true=int(table.counts[row].sum()),
        )
        for row, column in places
        if off_diagonal[row, column] > 0
    )


def compute_fold_rows(folds: Sequence[Mapping[str, Sequence[str]]], *, tiles: TileTable) -> tuple[FoldRow, ...]:
    """Return the splits of every image, class by class, in the order of the tile table.

    Args:
        folds: In order; the image ids of each split, by its name.
        tiles: The study's tiles.
    """
    split_of = [{image: split for split in FOLD_SPLITS for image in fold[split]} for fold in folds]
    n_tiles = np.bincount(tiles.image_of_tile, minlength=len(tiles.image_ids))
    return tuple(
        FoldRow(
            image_id=tiles.image_ids[image],
            label=tiles.class_names[tiles.label_of_image[image]],
            group=tiles.group_of_image[image],
            n_tiles=int(n_tiles[image]),
            splits=tuple(splits.get(tiles.image_ids[image], "left out") for splits in split_of),
        )
        for image in np.argsort(tiles.label_of_image, kind="stable")
    )


def compute_class_rows(tiles: TileTable) -> tuple[ClassRow, ...]:
    """Return how many images, groups and tiles each class has."""
    groups = np.array(tiles.group_of_image, dtype=object)
    return tuple(
        ClassRow(
            label=name,
            n_images=int(np.count_nonzero(tiles.label_of_image == label)),
            n_groups=len(set(groups[tiles.label_of_image == label])),
            n_tiles=int(np.count_nonzero(tiles.label_of_tile == label)),
        )
        for label, name in enumerate(tiles.class_names)
    )


def build_fold_table(rows: Sequence[FoldRow], *, path: str) -> TableArtifact:
    """Return the folds as an artifact: one row per image, one column per fold."""
    n_folds = len(rows[0].splits) if rows else 0
    columns = ("image_id", "class", "group", "n_tiles", *(f"fold_{fold}" for fold in range(1, n_folds + 1)))
    cells: tuple[tuple[Scalar, ...], ...] = tuple(
        (row.image_id, row.label, row.group, row.n_tiles, *row.splits) for row in rows
    )
    return TableArtifact(path=path, columns=columns, rows=cells)


def build_trial_table(rows: Sequence[TrialRow], *, path: str) -> TableArtifact:
    """Return the table of all trials as an artifact."""
    columns = tuple(field.name for field in fields(TrialRow))
    return TableArtifact(path=path, columns=columns, rows=tuple(astuple(row) for row in rows))


def build_index_table(table: IndexTable, *, path: str) -> TableArtifact:
    """Return the indices per class as an artifact: one row per class, then the mean of the classes."""
    means = [getattr(table.mean, name) for name in INDEX_NAMES]
    rows: list[tuple[Scalar, ...]] = [
        (name, *(float(mean[row]) for mean in means)) for row, name in enumerate(table.class_names)
    ]
    rows.append(("mean of the classes", *(float(mean.mean()) for mean in means)))
    return TableArtifact(path=path, columns=("class", *INDEX_NAMES), rows=tuple(rows))


def _score_trial(trial: TrialOutcome, *, study: StudyOutcome) -> ScoredTrial:
    validation, test = (compute_split_scores(trial, tiles=study.tiles, split=split).f_measure for split in SPLITS)
    return ScoredTrial(trial=trial.number, validation_f_measure=validation, test_f_measure=test)


def _build_grid_table(
    study: StudyOutcome, *, head: Head, split: Split, asked: Collection[Cell], best: Mapping[Cell, TrialOutcome]
) -> GridTable:
    """Return the grid of one head, of all learning rates and batch sizes asked for with it; or its only field."""
    of_head = [cell for cell in asked if cell.head == head]
    rates = sorted({cell.learning_rate for cell in of_head if cell.learning_rate is not None}, reverse=True)
    sizes = sorted({cell.batch_size for cell in of_head if cell.batch_size is not None})
    grid = [Cell(head=head, learning_rate=rate, batch_size=size) for rate, size in product(rates, sizes)] or of_head
    return GridTable(
        head=head,
        split=split,
        learning_rates=tuple(rates),
        batch_sizes=tuple(sizes),
        cells=tuple(_build_grid_cell(cell, trial=best.get(cell), study=study, split=split) for cell in grid),
        winner=study.winner.cell,
    )


def _build_grid_cell(cell: Cell, *, trial: TrialOutcome | None, study: StudyOutcome, split: Split) -> GridCell:
    if trial is None:
        return GridCell(cell=cell, state="missing", f_measure=None, n_folds=0)
    score = compute_split_scores(trial, tiles=study.tiles, split=split).f_measure if trial.folds else None
    return GridCell(cell=cell, state=trial.state, f_measure=score, n_folds=len(trial.folds))


def _build_trial_row(trial: TrialOutcome, *, study: StudyOutcome) -> TrialRow:
    validation, test = (
        compute_split_scores(trial, tiles=study.tiles, split=split) if trial.folds else None for split in SPLITS
    )
    return TrialRow(
        trial=trial.number,
        head=trial.cell.head,
        learning_rate=trial.cell.learning_rate,
        batch_size=trial.cell.batch_size,
        state=trial.state,
        is_winner=trial.number == study.winner_number,
        n_folds=len(trial.folds),
        n_epochs=sum(len(fold.curves.training_loss) for fold in trial.folds),
        validation_f_measure=validation.f_measure if validation else None,
        test_f_measure=test.f_measure if test else None,
        validation_image_f_measure=validation.image_f_measure if validation else None,
        test_image_f_measure=test.image_f_measure if test else None,
        test_image_accuracy=test.image_accuracy if test else None,
        training_s=sum(fold.training_s for fold in trial.folds),
        run_id=trial.run_id,
        message=trial.message,
    )
