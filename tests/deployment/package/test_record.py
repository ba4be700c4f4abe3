import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sem_search.deployment.package.record import (
    CARD_FILE,
    CATALOGUE_FILE,
    FOLDS_FILE,
    OUT_OF_FOLD_FILE,
    ModelRecord,
    pack_out_of_fold,
    read_card,
    read_catalogue_record,
    read_folds_record,
    read_out_of_fold,
    unpack_out_of_fold,
    write_record,
)
from sem_search.errors import StoreError
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.files import pack_arrays, unpack_arrays
from sem_search.records import Cell


@pytest.fixture
def record(tmp_path: Path, make_record: Callable[..., ModelRecord]) -> ModelRecord:
    return make_record(tmp_path / "data")


@pytest.fixture
def folder(record: ModelRecord, tmp_path: Path) -> Path:
    write_record(record, folder=tmp_path / "record")
    return tmp_path / "record"


def test_answers_of_a_linear_head_and_of_an_older_record_name_their_cell(record: ModelRecord) -> None:
    answers = record.out_of_fold
    linear = replace(answers, trial=replace(answers.trial, cell=Cell(head="linear")))
    assert unpack_out_of_fold(pack_out_of_fold(linear)).trial.cell == Cell(head="linear")
    arrays = unpack_arrays(pack_out_of_fold(answers))
    facts = json.loads(arrays["facts"].tobytes())
    assert facts.pop("head") == "finetune"
    older = pack_arrays({**arrays, "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)})
    assert unpack_out_of_fold(older).trial.cell == answers.trial.cell


def test_a_record_survives_being_written_and_read(record: ModelRecord, folder: Path, tmp_path: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {CARD_FILE, CATALOGUE_FILE, FOLDS_FILE, OUT_OF_FOLD_FILE}
    assert read_card(folder) == record.card
    assert read_catalogue_record(folder, root=tmp_path / "data") == record.catalogue
    assert read_folds_record(folder) == record.folds
    read, written = read_out_of_fold(folder), record.out_of_fold
    assert read.tiles.class_names == written.tiles.class_names
    assert read.tiles.image_ids == written.tiles.image_ids
    assert read.tiles.group_of_image == written.tiles.group_of_image
    assert (read.trial.number, read.trial.cell, read.trial.run_id, read.trial.state) == (
        written.trial.number,
        written.trial.cell,
        written.trial.run_id,
        "complete",
    )
    for fold, wanted in zip(read.trial.folds, written.trial.folds, strict=True):
        assert (fold.fold, fold.best_epoch, fold.is_diverged) == (wanted.fold, wanted.best_epoch, wanted.is_diverged)
        for split in ("validation", "test"):
            for one, other in zip(fold.get_split(split), wanted.get_split(split), strict=True):
                np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(fold.curves.validation_loss, wanted.curves.validation_loss)


def test_scores_can_be_computed_anew_bit_for_bit(record: ModelRecord, folder: Path) -> None:
    read, written = read_out_of_fold(folder), record.out_of_fold
    for split in ("validation", "test"):
        one = compute_split_scores(read.trial, tiles=read.tiles, split=split)
        assert one.f_measure == compute_split_scores(written.trial, tiles=written.tiles, split=split).f_measure


def test_a_record_names_no_place(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_equal_answers_are_equal_bytes(record: ModelRecord) -> None:
    assert pack_out_of_fold(record.out_of_fold) == pack_out_of_fold(record.out_of_fold)


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "flipped"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        (CARD_FILE, read_card),
        (CATALOGUE_FILE, lambda folder: read_catalogue_record(folder, root=Path())),
        (FOLDS_FILE, read_folds_record),
        (OUT_OF_FOLD_FILE, read_out_of_fold),
    ],
)
def test_damage_is_named(folder: Path, name: str, read: Callable[[Path], object], damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    changed = {"empty": b"", "text": b"no", "cut": content[: len(content) // 2], "flipped": b"\xff" + content[1:]}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    with pytest.raises(StoreError, match=r"damaged|missing"):
        read(folder)
