"""Finished folds: read from disk where they were trained before, else trained now and written before all else."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sem_search.micrographs.folds import Fold
from sem_search.records import Cell, EpochFigures, FinishedFold
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.pruning.in_order import CellCourse
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.transfer.heads.training import get_tile_splits


class FoldSource(Protocol):
    """Where the folds of a cell come from: this process, or the workers of a cluster."""

    def obtain(self, *, cell: Cell, fold: Fold, course: CellCourse) -> FinishedFold:
        """Return a finished fold that is on disk.

        Args:
            cell: What is tried.
            fold: Which images stand in which split.
            course: The cell's folds so far; this fold has begun on it. An error that it raises ends the fold.

        Raises:
            optuna.TrialPruned: The cell is pruned within this fold.
            FailedTrialError: This cell cannot be trained.
            StoreError: The result could not be written.
        """

    def refit(self, cell: Cell, *, folds: Sequence[Fold]) -> None:
        """Train the heads of finished folds again and write each as soon as it is there, see `HeadTrainer.refit_fold`.

        Args:
            cell: Whose folds they are.
            folds: Those that were not trained again yet.
        """


@dataclass(frozen=True, kw_only=True)
class LocalFolds:
    """Folds from disk, else trained in this process."""

    prepared: PreparedSearch
    progress: SearchProgress

    def obtain(self, *, cell: Cell, fold: Fold, course: CellCourse | None = None) -> FinishedFold:
        """Return a finished fold, as `FoldSource`; without a course it is trained to its end."""
        finished = self.prepared.store.read(cell=cell, fold=fold.number)
        is_new = finished is None
        if finished is None:
            finished = self._train(cell, fold=fold, course=course)
            self.prepared.store.write(finished, cell=cell)
        self.progress.count_fold(cell=cell, fold=fold.number, is_new=is_new)
        return finished

    def refit(self, cell: Cell, *, folds: Sequence[Fold]) -> None:
        """Train the heads of finished folds again, as `FoldSource`."""
        for fold in folds:
            first = self.prepared.store.get(cell=cell, fold=fold.number)
            splits = get_tile_splits(fold, tiles=self.prepared.data.tiles)
            again = self.prepared.trainer.refit_fold(first, splits=splits, cell=cell)
            self.prepared.store.refits.write(again, cell=cell)
            self.progress.count_fold(cell=cell, fold=fold.number, is_new=True)

    def _train(self, cell: Cell, *, fold: Fold, course: CellCourse | None) -> FinishedFold:
        epochs = itertools.count()
        n_epochs = 1 if cell.head == "linear" else self.prepared.settings.epochs

        def show(figures: EpochFigures) -> None:
            self.progress.show_epoch(cell=cell, fold=fold.number, epoch=next(epochs), n_epochs=n_epochs)
            if course is not None:
                course.watch(figures)

        splits = get_tile_splits(fold, tiles=self.prepared.data.tiles)
        return self.prepared.trainer.train_fold(splits, cell=cell, on_epoch=show)
