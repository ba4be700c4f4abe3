"""A finished fold is taken from disk; a new one is on disk before it is counted."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from sem_search.errors import FailedTrialError, StoreError
from sem_search.records import Cell
from sem_search.search.folds.train import LocalFolds
from sem_search.transfer.heads.training import get_tile_splits

CELL = Cell(learning_rate=0.1, batch_size=8)


def test_a_finished_fold_is_not_trained_again(prepared, untouched_trainer, store_folds, progress) -> None:
    stored = store_folds()
    fold = prepared.data.folds.folds[1]
    obtained = LocalFolds(prepared=prepared, progress=progress).obtain(cell=CELL, fold=fold)
    np.testing.assert_array_equal(obtained.outcome.test_probabilities, stored[1].outcome.test_probabilities)
    assert obtained.outcome.fold == 1
    assert progress.told == [("fold", CELL.name, 1, False)]


def test_a_new_fold_is_trained_on_its_own_splits_and_written(prepared, trainer, progress) -> None:
    fold, tiles = prepared.data.folds.folds[2], prepared.data.tiles
    obtained = LocalFolds(prepared=prepared, progress=progress).obtain(cell=CELL, fold=fold)
    outcome = obtained.outcome
    trained = trainer.train_fold(get_tile_splits(fold, tiles=tiles), cell=CELL)
    expected = trained.outcome
    assert {tiles.image_ids[image] for image in tiles.image_of_tile[outcome.test_tiles]} == set(fold.test)
    assert {tiles.image_ids[image] for image in tiles.image_of_tile[outcome.validation_tiles]} == set(fold.validation)
    np.testing.assert_array_equal(outcome.test_probabilities, expected.test_probabilities)
    np.testing.assert_array_equal(outcome.validation_probabilities, expected.validation_probabilities)
    for name in ("training_loss", "training_accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_array_equal(getattr(outcome.curves, name), getattr(expected.curves, name))
    assert (outcome.best_epoch, outcome.is_diverged) == (expected.best_epoch, expected.is_diverged)
    assert outcome.training_s > 0
    for weight, other in zip(obtained.head_weights, trained.head_weights, strict=True):
        np.testing.assert_array_equal(weight, other)
    read = prepared.store.read(cell=CELL, fold=2)
    assert read is not None
    np.testing.assert_array_equal(read.outcome.test_probabilities, outcome.test_probabilities)
    assert progress.told == [*(("epoch", CELL.name, 2, epoch, 3) for epoch in range(3)), ("fold", CELL.name, 2, True)]


def test_a_damaged_fold_is_trained_anew(prepared, store_folds, progress) -> None:
    store_folds()
    fold = prepared.data.folds.folds[0]
    path = Path(prepared.store.folder) / CELL.name / "fold_0.bin"
    path.write_bytes(path.read_bytes()[:-1])
    LocalFolds(prepared=prepared, progress=progress).obtain(cell=CELL, fold=fold)
    assert progress.told[-1] == ("fold", CELL.name, 0, True)
    assert not prepared.store.is_damaged(cell=CELL, fold=0)


def test_a_fold_that_could_not_be_written_is_not_counted(prepared, progress, monkeypatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StoreError, match="No space left"):
        LocalFolds(prepared=prepared, progress=progress).obtain(cell=CELL, fold=prepared.data.folds.folds[0])
    assert not [told for told in progress.told if told[0] == "fold"]


def test_too_little_memory_fails_this_cell_alone(prepared, trainer, progress, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(trainer._loop, "train", fail)
    with pytest.raises(FailedTrialError, match=r"lr1e-01_bs8: the memory does not suffice .*OOM when allocating"):
        LocalFolds(prepared=prepared, progress=progress).obtain(cell=CELL, fold=prepared.data.folds.folds[0])
    assert prepared.store.read(cell=CELL, fold=0) is None
