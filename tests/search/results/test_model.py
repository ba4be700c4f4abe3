"""What would be served if a trial won, and what travels with it: figures with intervals, nothing of this machine."""

import dataclasses
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sem_search.deployment.package.card import CardFold, ModelCard
from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.intervals import compute_intervals
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.micrographs.inspection.finding import Finding
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.records import Cell, TrialOutcome
from sem_search.search.results import model as model_module
from sem_search.search.results.model import (
    build_card,
    build_record,
    describe_model_settings,
    hide_places,
    log_refit,
    log_trial_model,
    name_model,
)
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.models import ModelLink

CELL = Cell(learning_rate=0.1, batch_size=8)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was handed to the packaging and to the log; `warnings` is what the packaging answers."""
    seen: dict[str, Any] = {"warnings": (), "entries": []}

    def log_classifier(parts: object, *, run_id: str, **given: object) -> SimpleNamespace:
        seen.update(given, parts=parts, run_id=run_id)
        return SimpleNamespace(warnings=tuple(seen["warnings"]), model_id="m-1")

    monkeypatch.setattr(model_module, "log_classifier", log_classifier)
    monkeypatch.setattr(
        model_module, "log_entries", lambda entries, *, run_id: seen["entries"].append((run_id, *entries))
    )
    return seen


def pack(prepared, kept, *, cell: Cell = CELL) -> str:
    outcome = TrialOutcome(
        number=0, cell=cell, state="complete", folds=tuple(one.outcome for one in kept), run_id="a run"
    )
    return log_trial_model(prepared, outcome=outcome, finished_folds=kept, run_id="a run")


def test_the_model_is_the_fold_heads_over_the_one_trunk(prepared, trainer, store_folds, logged: dict[str, Any]) -> None:
    kept = store_folds()
    assert pack(prepared, kept) == "m-1"
    parts = logged["parts"]
    assert parts.trunk is prepared.network.cut.trunk
    assert parts.head is trainer.head
    assert [weights is one.head_weights for weights, one in zip(parts.head_weights, kept, strict=True)] == [True] * 3
    described = parts.description
    assert (described.backbone, described.convolution) == ("tiny", "conv_2")
    assert described.class_names == ("blobs", "grains", "stripes")
    assert described.grid == prepared.data.grid
    assert described.hashes["sem_search.data_sha256"] == prepared.data.catalogue.digest
    assert (logged["run_id"], logged["name"]) == ("a run", "tiny-lr1e-01-bs8")
    assert (logged["params"]["learning_rate"], logged["params"]["batch_size"]) == ("0.1", "8")
    assert logged["entries"] == []


@pytest.mark.parametrize(
    ("backbone", "cell", "name"),
    [
        ("vgg16", Cell(learning_rate=1e-2, batch_size=16), "vgg16-lr1e-02-bs16"),
        ("mobilenet_v2", Cell(learning_rate=1e-3, batch_size=16), "mobilenet-v2-lr1e-03-bs16"),
        ("vgg16", Cell(learning_rate=1.5e-3, batch_size=16), "vgg16-lr1-5e-03-bs16"),
        ("vgg16", Cell(head="linear"), "vgg16-linear"),
        ("tiny", Cell(head="linear_init", learning_rate=1e-2, batch_size=8), "tiny-linear-init-lr1e-02-bs8"),
    ],
)
def test_a_model_is_called_after_backbone_and_cell(backbone: str, cell: Cell, name: str) -> None:
    assert name_model(backbone, cell=cell) == name
    assert name_model(backbone, cell=cell, is_refit=True) == f"{name}-refit"


def test_a_linear_model_has_no_learning_rate(prepared, store_folds, logged: dict[str, Any]) -> None:
    cell = Cell(head="linear")
    kept = store_folds(cell=cell)
    pack(prepared, kept, cell=cell)
    for told in (logged["parts"].description.settings, logged["params"]):
        assert told["head"] == "linear"
        assert not {"learning_rate", "batch_size"} & set(told)
    assert logged["record"].card.cell == cell
    assert logged["name"] == "tiny-linear"


def test_the_model_takes_its_data_s_catalogue_folds_and_answers_along(
    prepared, store_folds, logged: dict[str, Any]
) -> None:
    kept = store_folds()
    pack(prepared, kept)
    record = logged["record"]
    assert record.catalogue is prepared.data.catalogue
    assert record.folds is prepared.data.folds
    assert [fold is one.outcome for fold, one in zip(record.out_of_fold.trial.folds, kept, strict=True)] == [True] * 3
    assert (record.card.learning_rate, record.card.batch_size) == (0.1, 8)


def test_reading_is_told_as_it_was_in_training(prepared, store_folds, logged: dict[str, Any]) -> None:
    reading = ReadingOptions(max_megapixels=7.0, crop_bottom_px=9)  # the demonstration set's bar is no setting
    data = dataclasses.replace(prepared.data, catalogue=dataclasses.replace(prepared.data.catalogue, reading=reading))
    pack(dataclasses.replace(prepared, data=data), store_folds())
    described = logged["parts"].description
    assert (described.crop_bottom_px, described.max_megapixels) == (9, 7.0)


def test_the_cell_is_told_and_nothing_of_this_machine(prepared, store_folds, logged: dict[str, Any]) -> None:
    pack(prepared, store_folds())
    settings = logged["parts"].description.settings
    assert (settings["learning_rate"], settings["batch_size"], settings["epochs"]) == (0.1, 8, 3)
    text = repr(settings)
    for private in (prepared.settings.data, prepared.settings.storage, prepared.settings.study_folder):
        assert private not in text
    assert socket.gethostname() not in text


def test_pixel_sizes_are_gathered_by_class_each_once(prepared, store_folds, logged: dict[str, Any]) -> None:
    sizes = {0: 5.0, 1: 2.5, 2: 5.0, 7: 3.0}
    records = tuple(
        dataclasses.replace(record, pixel_size_nm=sizes.get(index))
        for index, record in enumerate(prepared.data.catalogue.records)
    )
    catalogue = dataclasses.replace(prepared.data.catalogue, records=records)
    data = dataclasses.replace(prepared.data, catalogue=catalogue)
    pack(dataclasses.replace(prepared, data=data), store_folds())
    assert logged["parts"].description.pixel_sizes_nm == {"blobs": (2.5, 5.0), "grains": (3.0,)}


def test_what_the_model_cannot_do_as_it_should_is_a_tag(prepared, store_folds, logged: dict[str, Any]) -> None:
    logged["warnings"] = ("first", "second")
    pack(prepared, store_folds())
    assert logged["entries"] == [("a run", Tags(values={"sem_search.model_warnings": "first\nsecond"}))]


@pytest.fixture
def outcome(store_folds: Any) -> TrialOutcome:
    folds = tuple(kept.outcome for kept in store_folds(shares_right=(1.0, 0.75)))
    return TrialOutcome(number=2, cell=CELL, state="complete", folds=folds, run_id="a run")


@pytest.fixture
def card(prepared: Any, outcome: TrialOutcome) -> ModelCard:
    return build_card(prepared, outcome=outcome)


def test_the_card_says_what_it_was_made_from(prepared: Any, card: ModelCard) -> None:
    assert (card.study, card.run_id, card.backbone, card.weights_used) == ("a study", "a run", "tiny", "random")
    assert (card.learning_rate, card.batch_size, card.n_cells, card.select_on) == (0.1, 8, 4, "validation")
    assert card.data == Path(prepared.settings.data).name
    assert [(each.name, each.n_images, each.n_groups, each.n_tiles) for each in card.classes] == [
        ("blobs", 5, 5, 20),
        ("grains", 5, 5, 20),
        ("stripes", 5, 5, 20),
    ]
    assert [fold.number for fold in card.folds] == [0, 1, 2]
    assert isinstance(card.folds[0], CardFold)
    assert {fold.n_training + fold.n_validation + fold.n_test for fold in card.folds} == {15}
    assert card.hashes["sem_search.data_sha256"] == prepared.data.catalogue.digest
    assert card.versions["sem_search"]
    assert card.created_at.endswith("+00:00")


def test_scores_are_those_reported_each_with_its_interval(
    prepared: Any, outcome: TrialOutcome, card: ModelCard
) -> None:
    tiles = prepared.data.tiles
    for split in ("validation", "test"):
        intervals = compute_intervals(tabulate_answers(outcome, tiles=tiles, split=split))
        of_side = [score for score in card.scores if score.split == split]
        assert [score.unit for score in of_side] == ["tiles", "tiles", "images", "images"]
        assert of_side[0].value == pytest.approx(compute_split_scores(outcome, tiles=tiles, split=split).f_measure)
        assert (of_side[0].low, of_side[0].high) == (intervals.f_measure.low, intervals.f_measure.high)
        assert of_side[3].value == intervals.image_accuracy.value
        assert all(score.low <= score.value <= score.high for score in of_side)


def test_confusion_is_of_test_images_and_tiles(prepared: Any, outcome: TrialOutcome, card: ModelCard) -> None:
    scores = compute_split_scores(outcome, tiles=prepared.data.tiles, split="test")
    images, of_tiles = card.confusions
    assert (images.unit, images.split, of_tiles.unit) == ("images", "test", "tiles")
    assert [list(row) for row in images.counts] == scores.image_confusion.tolist()
    assert [list(row) for row in of_tiles.counts] == scores.confusion.tolist()


def test_the_record_holds_data_folds_and_answers(prepared: Any, outcome: TrialOutcome) -> None:
    record = build_record(prepared, outcome=outcome)
    assert record.catalogue is prepared.data.catalogue
    assert record.folds is prepared.data.folds
    assert record.out_of_fold.trial is outcome
    assert record.out_of_fold.tiles is prepared.data.tiles


def test_a_card_names_no_place_of_this_machine(prepared: Any, outcome: TrialOutcome, tmp_path: Path) -> None:
    weights = dataclasses.replace(prepared.network.weights, warnings=(f"put the file into {tmp_path}/models, or not",))
    findings = (
        Finding(kind="confound", severity="warning", message=f"see {tmp_path}/a.png"),
        Finding(kind="size", severity="note", message="good to know"),
    )
    told = dataclasses.replace(
        prepared,
        network=dataclasses.replace(prepared.network, weights=weights),
        data=dataclasses.replace(prepared.data, findings=findings),
    )
    card = build_card(told, outcome=outcome)
    assert card.warnings == ("put the file into models, or not",)
    assert card.findings == ("see a.png",)
    assert str(tmp_path.parent) not in card.to_json()
    assert str(Path(prepared.settings.data).parent) not in card.to_json()


def test_settings_of_the_machine_and_of_the_registry_are_no_part_of_a_model(
    prepared: Any, outcome: TrialOutcome
) -> None:
    left_open = prepared.settings.model_copy(update={"engine": "auto"})
    settings = describe_model_settings(dataclasses.replace(prepared, settings=left_open), outcome=outcome)
    assert settings["tile_px"] == 48
    assert prepared.settings.stride_px is None
    assert (settings["stride_px"], settings["study"], settings["precision"]) == (48, "a study", "float32"), "as used"
    assert settings["engine"] == "tensorflow", "as used"
    left_out = {"data", "weights", "storage", "study_folder", "model_name", "threads"}
    assert not (left_out | {"promote_margin", "promote_confidence"}) & set(settings)


@pytest.mark.parametrize("is_refit", [False, True])
def test_only_the_model_of_a_winner_has_been_trained_again(
    prepared: Any, outcome: TrialOutcome, is_refit: bool
) -> None:
    asked = dataclasses.replace(prepared, settings=prepared.settings.model_copy(update={"refit": True}))
    card = build_card(asked, outcome=dataclasses.replace(outcome, is_refit=is_refit))
    assert card.settings["refit"] is is_refit


@pytest.mark.parametrize("tags", [{}, {"sem_search.refit": "true"}])
def test_a_winner_that_was_trained_again_is_logged_to_its_run_once(
    prepared: Any, store_folds: Any, logged: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tags: dict
) -> None:
    kept = store_folds(shares_right=(1.0, 0.5))
    again = [dataclasses.replace(one, head_weights=tuple(weight + 1 for weight in one.head_weights)) for one in kept]
    for one in again:
        prepared.store.refits.write(one, cell=CELL)
    links: list[ModelLink] = []
    monkeypatch.setattr(model_module, "get_tags", {"a run": tags}.__getitem__)
    monkeypatch.setattr(
        model_module,
        "log_entries",
        lambda entries, *, run_id, link: (logged["entries"].append((run_id, *entries)), links.append(link)),
    )
    folds = tuple(one.outcome for one in kept)
    winner = TrialOutcome(number=0, cell=CELL, state="complete", folds=folds, run_id="a run", is_refit=True)
    log_refit(prepared, winner=winner)
    log_refit(prepared, winner=dataclasses.replace(winner, is_refit=False))
    assert len(logged["entries"]) == (not tags)
    if tags:
        return
    assert (logged["run_id"], logged["name"]) == ("a run", "tiny-lr1e-01-bs8-refit")
    np.testing.assert_array_equal(logged["parts"].head_weights[0][0], again[0].head_weights[0])
    assert logged["record"].out_of_fold.trial is winner
    ((run_id, metrics, *tables, last),) = logged["entries"]
    scores = {point.key: point.value for point in metrics.points}
    expected = compute_split_scores(winner, tiles=prepared.data.tiles, split="test")
    assert scores["refit/test/f_measure"] == expected.f_measure
    assert {key.partition("/")[0] for key in scores} == {"refit"}
    assert run_id == "a run"
    assert [table.path for table in tables] == [f"refit/predictions/{unit}.parquet" for unit in ("images", "tiles")]
    assert last == Tags(values={"sem_search.refit": "true"})
    assert links[0].model_id == "m-1"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("put the file into /home/me/.keras/models, or give", "put the file into models, or give"),
        ("from https://host/a/b.h5: no route", "from https://host/a/b.h5: no route"),
        (r"in C:\Users\me\data.csv", "in data.csv"),
        ("put it into ~/models", "put it into ~/models"),
        ("validation and / or test, 3/4 of all", "validation and / or test, 3/4 of all"),
        ("lactose/01.tif and a/b.png", "lactose/01.tif and a/b.png"),
    ],
)
def test_places_are_hidden_and_nothing_else(text: str, wanted: str) -> None:
    assert hide_places(text) == wanted


def test_a_class_of_one_group_has_scores_without_intervals_and_a_warning(
    prepared: Any, outcome: TrialOutcome, card: ModelCard
) -> None:
    groups = tuple("one" if image.startswith("blobs") else image for image in prepared.data.tiles.image_ids)
    tiles = dataclasses.replace(prepared.data.tiles, group_of_image=groups)
    few = build_card(
        dataclasses.replace(prepared, data=dataclasses.replace(prepared.data, tiles=tiles)), outcome=outcome
    )
    assert [score.value for score in few.scores] == pytest.approx([score.value for score in card.scores])
    assert {(score.low, score.high) for score in few.scores} == {(None, None)}
    assert few.warnings[-1].startswith("no intervals: ")


def test_a_trial_that_diverged_throughout_has_a_card(prepared: Any, store_folds: Any) -> None:
    folds = tuple(kept.outcome for kept in store_folds(shares_right=(0.0, 0.0)))
    uniform = tuple(
        dataclasses.replace(
            fold,
            validation_probabilities=np.full_like(fold.validation_probabilities, 1 / 3),
            test_probabilities=np.full_like(fold.test_probabilities, 1 / 3),
        )
        for fold in folds
    )
    card = build_card(prepared, outcome=TrialOutcome(number=0, cell=CELL, state="complete", folds=uniform))
    assert all(np.isfinite([score.low, score.value, score.high]).all() for score in card.scores)
    assert ModelCard.from_json(card.to_json()) == card
