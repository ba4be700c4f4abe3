"""One finished fold: from disk if it was trained before, else trained now and kept before anybody is told."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sem_search.errors import FailedTrialError
from sem_search.micrographs.folds import Fold
from sem_search.records import Cell, FoldOutcome, TileTable, TrainingCurves
from sem_search.search.folds.store import FinishedFold
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.pruning.curve_extrapolation import FoldRace, Rival
from sem_search.search.trials.search_progress import SearchProgress
from sem_search.transfer.heads.training import EpochFigures, FoldTraining, HeadTrainer, OutOfMemoryError


@dataclass(frozen=True, kw_only=True)
class ObtainedFold:
    """A finished fold, and whether its epochs were told of one by one."""

    kept: FinishedFold
    is_watched: bool


class FoldSource(Protocol):
    """Where the folds of a cell come from."""

    def obtain(
        self,
        *,
        cell: Cell,
        fold: Fold,
        race: FoldRace,
        find_rival: Callable[[], Rival | None],
        on_epoch: Callable[[EpochFigures], None],
        check: Callable[[], None],
    ) -> ObtainedFold:
        """Return a finished fold, kept on disk.

        Args:
            cell: What is tried.
            fold: Which images stand where.
            race: Of this fold; where epochs are not told of, the source takes them in if they end the fold.
            find_rival: Returns whom the fold races against, as far as is known.
            on_epoch: Is told the figures of each epoch that is trained in this process. What it raises ends the fold.
            check: Ends the cell, if it can be judged, by what the race has taken in.

        Raises:
            optuna.TrialPruned: The cell is ended within this fold.
            FailedTrialError: This cell cannot be trained.
        """

    def leave(self, cell: Cell) -> None:
        """No further fold of this cell will be asked for."""

    def close(self) -> None:
        """No further fold of any cell will be asked for."""


@dataclass(frozen=True, kw_only=True)
class LocalFolds:
    """Folds from disk, else trained in this process."""

    prepared: PreparedSearch
    trainer: HeadTrainer
    progress: SearchProgress

    def obtain(
        self,
        *,
        cell: Cell,
        fold: Fold,
        race: FoldRace,
        find_rival: Callable[[], Rival | None],
        on_epoch: Callable[[EpochFigures], None],
        check: Callable[[], None],
    ) -> ObtainedFold:
        """As `FoldSource`; the race is run by `on_epoch`."""
        told: list[EpochFigures] = []

        def tell(figures: EpochFigures) -> None:
            told.append(figures)
            on_epoch(figures)

        kept = obtain_fold(
            self.prepared, trainer=self.trainer, cell=cell, fold=fold, progress=self.progress, on_epoch=tell
        )
        return ObtainedFold(kept=kept, is_watched=bool(told))

    def leave(self, cell: Cell) -> None:
        """Nothing was begun that is not finished."""

    def close(self) -> None:
        """Nothing was begun that is not finished."""


def obtain_fold(
    prepared: PreparedSearch,
    *,
    trainer: HeadTrainer,
    cell: Cell,
    fold: Fold,
    progress: SearchProgress,
    on_epoch: Callable[[EpochFigures], None] | None = None,
) -> FinishedFold:
    """Return a finished fold of a cell.

    Args:
        prepared: Data, settings and the store of finished folds.
        trainer: Trains a fold that is not kept yet.
        cell: What is tried.
        fold: Which images stand where.
        progress: Is told of epochs and folds.
        on_epoch: Is told the figures of each epoch that is trained now. What it raises ends the fold, unkept.

    Raises:
        FailedTrialError: The memory does not suffice for this cell.
        StoreError: The result could not be written.
    """
    kept = prepared.store.read(cell=cell, fold=fold.number)
    is_new = kept is None
    if kept is None:
        epochs = itertools.count()

        def show(figures: EpochFigures) -> None:
            progress.show_epoch(cell=cell, fold=fold.number, epoch=next(epochs), n_epochs=prepared.settings.epochs)
            if on_epoch is not None:
                on_epoch(figures)

        kept = train_fold(trainer, tiles=prepared.data.tiles, cell=cell, fold=fold, on_epoch=show)
        prepared.store.write(kept, cell=cell)
    progress.count_fold(cell=cell, fold=fold.number, is_new=is_new)
    return kept


def train_fold(
    trainer: HeadTrainer, *, tiles: TileTable, cell: Cell, fold: Fold, on_epoch: Callable[[EpochFigures], None]
) -> FinishedFold:
    """Return a fold that is trained now: a pure function of features, tiles, cell and fold.

    Args:
        trainer: Holds features and head.
        tiles: Which tile belongs to which image.
        cell: What is tried.
        fold: Which images stand where.
        on_epoch: Is told the figures of each epoch. What it raises ends the fold.

    Raises:
        FailedTrialError: The memory does not suffice for this cell.
    """
    validation, test = tiles.get_tiles_of(fold.validation), tiles.get_tiles_of(fold.test)
    try:
        training = trainer.train_fold(
            fold=fold.number,
            learning_rate=cell.learning_rate,
            batch_size=cell.batch_size,
            training=tiles.get_tiles_of(fold.training),
            validation=validation,
            test=test,
            on_epoch=on_epoch,
        )
    except OutOfMemoryError as error:
        raise FailedTrialError(f"{cell.name}: the memory does not suffice for this batch size: {error}") from error
    return FinishedFold(
        outcome=FoldOutcome(
            fold=fold.number,
            validation_tiles=validation,
            validation_probabilities=training.validation_probabilities,
            test_tiles=test,
            test_probabilities=training.test_probabilities,
            curves=_convert_curves(training),
            best_epoch=training.best_epoch,
            is_diverged=training.is_diverged,
            training_s=training.training_s,
        ),
        head_weights=training.head_weights,
    )


def _convert_curves(training: FoldTraining) -> TrainingCurves:
    curves = training.curves
    return TrainingCurves(
        training_loss=curves.training_loss,
        training_accuracy=curves.training_accuracy,
        validation_loss=curves.validation_loss,
        validation_accuracy=curves.validation_accuracy,
    )
