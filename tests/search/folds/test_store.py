"""A finished fold is there in full, or it is not there."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sem_search.errors import StoreError
from sem_search.files import seal, write_atomically
from sem_search.records import Cell, FinishedFold, FoldOutcome, TrainingCurves
from sem_search.search.cluster.object_store import SharedStore
from sem_search.search.folds.store import FoldStore, name_fold, pack_fold

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
    store, finished = FoldStore(folder=tmp_path), make_finished_fold()
    store.write(finished, cell=CELL)
    read = store.read(cell=CELL, fold=2)
    assert read is not None
    assert store.has(cell=CELL, fold=2)
    np.testing.assert_array_equal(read.outcome.test_probabilities, finished.outcome.test_probabilities)
    np.testing.assert_array_equal(read.outcome.curves.training_loss, finished.outcome.curves.training_loss)
    assert all(np.array_equal(one, other) for one, other in zip(read.head_weights, finished.head_weights, strict=True))
    assert (read.outcome.best_epoch, read.outcome.is_diverged, read.outcome.training_s) == (3, False, 1.5)


def test_a_head_that_was_trained_again_lies_beside_the_first(tmp_path: Path) -> None:
    store = FoldStore(folder=tmp_path, shared=SharedStore(url=str(tmp_path / "shared")))
    store.write(make_finished_fold(), cell=CELL)
    assert store.refits.read(cell=CELL, fold=2) is None
    with pytest.raises(
        StoreError, match=r"refit_2\.bin is not there, or damaged\. Start the search's own command again"
    ):
        store.refits.get(cell=CELL, fold=2)
    again = replace(make_finished_fold(), head_weights=())
    store.refits.write(again, cell=CELL)
    elsewhere = replace(store, folder=tmp_path / "elsewhere" / tmp_path.name)
    for place in (store, elsewhere):
        assert len(place.get(cell=CELL, fold=2).head_weights) == 2
        assert place.refits.get(cell=CELL, fold=2).head_weights == ()


def test_the_stored_format_is_that_of_before(tmp_path: Path) -> None:
    """Finished folds outlive the program that wrote them: a change of this hash needs a reader of both formats."""
    FoldStore(folder=tmp_path).write(make_finished_fold(), cell=CELL)
    with np.load(io.BytesIO((tmp_path / CELL.name / "fold_2.bin").read_bytes()[65:])) as arrays:
        assert arrays.files == [
            "facts",
            *("validation_tiles", "validation_probabilities", "test_tiles", "test_probabilities"),
            *("training_loss", "training_accuracy", "validation_loss", "validation_accuracy"),
            *("head_0", "head_1"),
        ]
        facts = json.loads(arrays["facts"].tobytes())
    assert facts == {"fold": 2, "best_epoch": 3, "is_diverged": False, "training_s": 1.5, "n_head_weights": 2}


def test_a_fold_that_was_never_finished_is_not_there(tmp_path: Path) -> None:
    store = FoldStore(folder=tmp_path, shared=SharedStore(url=str(tmp_path / "shared")))
    assert store.read(cell=CELL, fold=0) is None
    assert not store.has(cell=CELL, fold=0)


def flip(position: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[position] ^= 1
        return bytes(changed)

    return change


@pytest.mark.parametrize(
    "damage", [*(flip(position) for position in (0, 70, 300, -1)), lambda content: content[:-100], lambda _: b""]
)
def test_a_damaged_file_is_never_believed_and_written_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    store = FoldStore(folder=tmp_path)
    store.write(make_finished_fold(), cell=CELL)
    path = tmp_path / CELL.name / "fold_2.bin"
    path.write_bytes(damage(path.read_bytes()))
    assert store.read(cell=CELL, fold=2) is None
    assert store.is_damaged(cell=CELL, fold=2)
    store.write(make_finished_fold(), cell=CELL)
    assert store.is_whole(cell=CELL, fold=2)


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
