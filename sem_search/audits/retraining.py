"""Cells trained again, with one thing changed: labels, folds, groups or what the trunk was shown."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from sem_search.audits.subject import AuditSubject
from sem_search.progress import Show
from sem_search.records import Cell, FoldOutcome, IntVector, TileSplits
from sem_search.transfer.heads.training import HeadTrainer, get_tile_splits


def list_splits(subject: AuditSubject) -> tuple[TileSplits, ...]:
    """Return the study's own folds as tiles."""
    return tuple(get_tile_splits(fold, tiles=subject.tiles) for fold in subject.folds.folds)


def retrain_winner(
    subject: AuditSubject,
    *,
    splits: Sequence[TileSplits],
    name: str,
    show: Show,
    trainer: HeadTrainer | None = None,
) -> tuple[FoldOutcome, ...]:
    """Train the winner's cell on these folds, twice as its own heads were (`refit`).

    Args:
        subject: The study.
        splits: The folds.
        name: Of the audit, to show.
        show: Called before each fold.
        trainer: From `build_trainer`; by default of the study as it is.

    Raises:
        LeakError: A group stands in two splits of a fold.
    """
    trained = iter_retrained(subject, splits=splits, trainer=trainer)
    outcomes: list[FoldOutcome] = []
    for number in range(1, len(splits) + 1):
        show(f"{name}: fold {number} of {len(splits)}")
        outcomes.append(next(trained))
    return tuple(outcomes)


def iter_retrained(
    subject: AuditSubject, *, splits: Iterable[TileSplits], trainer: HeadTrainer | None = None
) -> Iterator[FoldOutcome]:
    """Yield the folds as `retrain_winner` returns them, each when it is trained; arguments and errors as there."""
    trainer = trainer or build_trainer(subject)
    for split in splits:
        finished = trainer.train_fold(split, cell=subject.winner.cell)
        if subject.winner.is_refit:
            finished = trainer.refit_fold(finished, splits=split, cell=subject.winner.cell)
        yield finished.outcome


def retrain_cells(
    subject: AuditSubject, *, cells: Sequence[Cell], splits: Sequence[TileSplits], name: str, show: Show
) -> tuple[tuple[FoldOutcome, ...], ...]:
    """Train several cells on these folds, with the study's own tiles; return the folds of each cell.

    Args:
        subject: The study.
        cells: What is trained.
        splits: The folds.
        name: Of the audit, to show.
        show: Called before each cell.

    Raises:
        LeakError: A group stands in two splits of a fold.
    """
    trainer = build_trainer(subject)
    outcomes = []
    for place, cell in enumerate(cells, start=1):
        show(f"{name}: cell {place} of {len(cells)}, {len(splits)} heads")
        outcomes.append(tuple(trainer.train_fold(split, cell=cell).outcome for split in splits))
    return tuple(outcomes)


def build_trainer(
    subject: AuditSubject,
    *,
    features: Sequence[Sequence[NDArray[np.float32]]] | None = None,
    labels: IntVector | None = None,
    groups: Sequence[str] | None = None,
) -> HeadTrainer:
    """Return a trainer of the study's heads; what is not given is the study's own.

    Args:
        subject: The study.
        features: Other trunk outputs, view by view: one array per crossing tensor, shape (n_tiles, ...).
        labels: Other classes of the tiles, shape (n_tiles,).
        groups: Other groups of the tiles: what may not stand in two splits.
    """
    return HeadTrainer(
        subject.cut,
        features=[view.arrays for view in subject.views] if features is None else features,
        labels=subject.tiles.label_of_tile if labels is None else labels,
        groups=subject.group_of_tile if groups is None else groups,
        n_classes=subject.n_classes,
        settings=subject.training,
        seed=subject.seed,
        hidden_units=subject.hidden_units,
        dropout=subject.dropout,
    )
