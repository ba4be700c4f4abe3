"""What would be served if a trial won."""

import dataclasses
import socket
from typing import Any

import pytest

from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.records import Cell, TrialOutcome
from sem_search.search.results import model as packing
from sem_search.search.results.model import log_trial_model
from sem_search.tracking.entries.types import Tags

CELL = Cell(learning_rate=0.1, batch_size=8)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was handed to the packaging and to the log; `warnings` is what the packaging answers."""
    seen: dict[str, Any] = {"warnings": (), "entries": []}

    def post_classifier(parts: object, *, run_id: str, record: object) -> tuple[str, ...]:
        seen.update(parts=parts, run_id=run_id, record=record)
        return tuple(seen["warnings"])

    monkeypatch.setattr(packing, "post_classifier", post_classifier)
    monkeypatch.setattr(packing, "log_entries", lambda entries, *, run_id: seen["entries"].append((run_id, *entries)))
    return seen


def pack(prepared, trainer, kept) -> None:
    outcome = TrialOutcome(
        number=0, cell=CELL, state="complete", folds=tuple(one.outcome for one in kept), run_id="a run"
    )
    log_trial_model(prepared, outcome=outcome, trainer=trainer, finished_folds=kept, run_id="a run")


def test_the_model_is_the_fold_heads_over_the_one_trunk(prepared, trainer, store_folds, logged: dict[str, Any]) -> None:
    kept = store_folds()
    pack(prepared, trainer, kept)
    parts = logged["parts"]
    assert parts.trunk is prepared.network.cut.trunk
    assert parts.head is trainer.head
    assert [weights is one.head_weights for weights, one in zip(parts.head_weights, kept, strict=True)] == [True] * 3
    assert (parts.backbone, parts.convolution) == ("tiny", "conv_2")
    assert parts.class_names == ("blobs", "grains", "stripes")
    assert parts.grid == prepared.data.grid
    assert parts.hashes["sem_search.data_sha256"] == prepared.data.catalogue.digest
    assert logged["run_id"] == "a run"
    assert logged["entries"] == []


def test_the_model_takes_its_data_s_catalogue_folds_and_answers_along(
    prepared, trainer, store_folds, logged: dict[str, Any]
) -> None:
    kept = store_folds()
    pack(prepared, trainer, kept)
    record = logged["record"]
    assert record.catalogue is prepared.data.catalogue
    assert record.folds is prepared.data.folds
    assert [fold is one.outcome for fold, one in zip(record.out_of_fold.trial.folds, kept, strict=True)] == [True] * 3
    assert (record.card.learning_rate, record.card.batch_size) == (0.1, 8)


def test_reading_is_told_as_it_was_in_training(prepared, trainer, store_folds, logged: dict[str, Any]) -> None:
    reading = ReadingOptions(max_megapixels=7.0, crop_bottom_px=9)  # the demonstration set's bar is no setting
    data = dataclasses.replace(prepared.data, catalogue=dataclasses.replace(prepared.data.catalogue, reading=reading))
    pack(dataclasses.replace(prepared, data=data), trainer, store_folds())
    assert (logged["parts"].crop_bottom_px, logged["parts"].max_megapixels) == (9, 7.0)


def test_the_cell_is_told_and_nothing_of_this_machine(prepared, trainer, store_folds, logged: dict[str, Any]) -> None:
    pack(prepared, trainer, store_folds())
    settings = logged["parts"].settings
    assert (settings["learning_rate"], settings["batch_size"], settings["epochs"]) == (0.1, 8, 3)
    text = repr(settings)
    for private in (prepared.settings.data, prepared.settings.storage, prepared.settings.study_folder):
        assert private not in text
    assert socket.gethostname() not in text


def test_pixel_sizes_are_gathered_by_class_each_once(prepared, trainer, store_folds, logged: dict[str, Any]) -> None:
    sizes = {0: 5.0, 1: 2.5, 2: 5.0, 7: 3.0}
    records = tuple(
        dataclasses.replace(record, pixel_size_nm=sizes.get(index))
        for index, record in enumerate(prepared.data.catalogue.records)
    )
    catalogue = dataclasses.replace(prepared.data.catalogue, records=records)
    data = dataclasses.replace(prepared.data, catalogue=catalogue)
    pack(dataclasses.replace(prepared, data=data), trainer, store_folds())
    assert logged["parts"].pixel_sizes_nm == {"blobs": [2.5, 5.0], "grains": [3.0]}


def test_what_the_model_cannot_do_as_it_should_is_a_tag(prepared, trainer, store_folds, logged: dict[str, Any]) -> None:
    logged["warnings"] = ("first", "second")
    pack(prepared, trainer, store_folds())
    assert logged["entries"] == [("a run", Tags(values={"sem_search.model_warnings": "first\nsecond"}))]
