"""A finished fold is there in full, or it is not there."""

from pathlib import Path

import numpy as np
import pytest

from sem_search.errors import StoreError
from sem_search.files import seal, write_atomically
from sem_search.records import Cell, FoldOutcome, TrainingCurves
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.folds.store import FinishedFold, FoldStore, name_fold, pack_fold

CELL = Cell(learning_rate=0.01, batch_size=16)


def make_finished_fold(fold: int = 2) -> FinishedFold:
    rng = np.random.default_rng(fold)
    probabilities = rng.dirichlet(np.ones(3), size=4)
    curve = rng.random(5)
    outcome = FoldOutcome(
        fold=fold,
        validation_tiles=np.arange(4),
        validation_probabilities=probabilities,
        test_tiles=np.arange(4, 8),
        test_probabilities=probabilities[::-1].copy(),
        curves=TrainingCurves(
            training_loss=curve, training_accuracy=curve, validation_loss=curve, validation_accuracy=curve
        ),
        best_epoch=3,
        is_diverged=False,
        training_s=1.5,
    )
    weights = (rng.random((3, 3, 2, 4)).astype(np.float32), rng.random(4).astype(np.float32))
    return FinishedFold(outcome=outcome, head_weights=weights)


def test_what_was_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    store, kept = FoldStore(folder=tmp_path), make_finished_fold()
    store.write(kept, cell=CELL)
    read = store.read(cell=CELL, fold=2)
    assert read is not None
    np.testing.assert_array_equal(read.outcome.test_probabilities, kept.outcome.test_probabilities)
    np.testing.assert_array_equal(read.outcome.curves.training_loss, kept.outcome.curves.training_loss)
    assert all(np.array_equal(one, other) for one, other in zip(read.head_weights, kept.head_weights, strict=True))
    assert (read.outcome.best_epoch, read.outcome.is_diverged, read.outcome.training_s) == (3, False, 1.5)


def test_a_fold_that_was_never_finished_is_not_there(tmp_path: Path) -> None:
    assert FoldStore(folder=tmp_path).read(cell=CELL, fold=0) is None


@pytest.mark.parametrize("position", [0, 70, 300, -1])
def test_one_flipped_bit_is_never_believed(tmp_path: Path, position: int) -> None:
    store = FoldStore(folder=tmp_path)
    store.write(make_finished_fold(), cell=CELL)
    path = tmp_path / CELL.name / "fold_2.bin"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))
    assert store.read(cell=CELL, fold=2) is None
    assert store.is_damaged(cell=CELL, fold=2)


def test_a_truncated_file_is_never_believed(tmp_path: Path) -> None:
    store = FoldStore(folder=tmp_path)
    store.write(make_finished_fold(), cell=CELL)
    path = tmp_path / CELL.name / "fold_2.bin"
    path.write_bytes(path.read_bytes()[:-100])
    assert store.read(cell=CELL, fold=2) is None


def test_writing_again_after_damage_heals(tmp_path: Path) -> None:
    store = FoldStore(folder=tmp_path)
    store.write(make_finished_fold(), cell=CELL)
    (tmp_path / CELL.name / "fold_2.bin").write_bytes(b"")
    store.write(make_finished_fold(), cell=CELL)
    assert store.read(cell=CELL, fold=2) is not None


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_sealed_file_that_is_no_fold_is_damaged_and_gives_way_to_a_shared_fold(
    tmp_path: Path, is_shared: bool
) -> None:
    shared = SharedStore(url=str(tmp_path / "shared"))
    store = FoldStore(folder=tmp_path / "studies", shared=shared if is_shared else None)
    path = tmp_path / "studies" / CELL.name / "fold_2.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(seal(b"an archive of another version"))
    shared.write(name_fold("studies", cell=CELL, fold=2), pack_fold(make_finished_fold()))
    assert store.is_damaged(cell=CELL, fold=2) is not is_shared
    assert store.is_whole(cell=CELL, fold=2) is is_shared
    assert (FoldStore(folder=tmp_path / "studies").read(cell=CELL, fold=2) is not None) is is_shared


def test_a_write_that_fails_leaves_the_old_file_and_no_half_one(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StoreError, match=r"No space left on device.*set study_folder to a place"):
        write_atomically(path, b"new")
    with pytest.raises(StoreError, match="set shared to a place") as caught:
        SharedStore(url=str(tmp_path)).write("file.bin", b"new")
    assert "study_folder" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
