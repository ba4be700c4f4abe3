import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sem_search.deployment.package.calibration_record import CALIBRATION_FILE
from sem_search.deployment.package.description import DESCRIPTION_FILE, compute_file_sha256
from sem_search.deployment.package.reading import HEAD_FILE, TRUNK_FILE, name_head_weights, read_classifier
from sem_search.deployment.package.record import RECORD_FOLDER, ModelRecord, write_record
from sem_search.deployment.package.writing import ClassifierParts, write_model_folder
from sem_search.errors import StoreError
from sem_search.micrographs.catalogue import compute_pixels_sha256
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.names import BACKBONE_NAMES


@pytest.fixture
def folder(parts: ClassifierParts, tmp_path: Path) -> Path:
    write_model_folder(parts, folder=tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, **changes: object) -> None:
    """Change the description, with hashes that are right again."""
    values = json.loads((folder / DESCRIPTION_FILE).read_text()) | changes
    values["files"] = {name: compute_file_sha256(folder / name) for name in values["files"]}
    (folder / DESCRIPTION_FILE).write_text(json.dumps(values))


def test_description_is_read_back(folder: Path, parts: ClassifierParts) -> None:
    description = read_classifier(folder).description
    assert description.class_names == parts.class_names
    assert description.grid == parts.grid
    assert description.n_heads == len(parts.head_weights)
    assert description.pixel_sizes_nm == {"starch": (2.5, 5.0)}
    assert description.hashes == parts.hashes
    assert set(description.files) == {
        *(TRUNK_FILE, HEAD_FILE, CALIBRATION_FILE),
        *(name_head_weights(index) for index in range(3)),
    }


def test_images_that_the_model_was_made_from_are_known_by_the_record_beside_it(
    folder: Path, make_record: Callable[..., ModelRecord]
) -> None:
    image = np.full((40, 50), 0.5, dtype=np.float32)
    assert read_classifier(folder).is_training_image(image) is None
    record = make_record(folder.parent / "data")
    first = dataclasses.replace(record.catalogue.records[0], pixels_sha256=compute_pixels_sha256(image))
    catalogue = dataclasses.replace(record.catalogue, records=(first, *record.catalogue.records[1:]))
    write_record(dataclasses.replace(record, catalogue=catalogue), folder=folder.with_name(RECORD_FOLDER))
    classifier = read_classifier(folder)
    assert classifier.is_training_image(image) is True
    assert classifier.is_training_image(image[:-1]) is False


@pytest.mark.parametrize("name", [TRUNK_FILE, HEAD_FILE, name_head_weights(1), CALIBRATION_FILE])
def test_one_changed_byte_is_refused_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"damaged: {name}"):
        read_classifier(folder)


def test_weights_of_another_head_are_refused(folder: Path) -> None:
    np.savez(folder / name_head_weights(1), weight_0=np.zeros(3, dtype=np.float32))
    rewrite(folder)
    with pytest.raises(StoreError, match=r"head_1\.npz do not fit head\.json"):
        read_classifier(folder)


def test_a_pickle_among_the_weights_is_not_opened(folder: Path) -> None:
    np.savez(folder / name_head_weights(0), weight_0=np.array([{"a": 1}], dtype=object))
    rewrite(folder)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_classifier(folder)


def test_other_code_than_the_model_s_is_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sem_search"):
        read_classifier(folder)
        assert not caplog.records
        rewrite(folder, code_sha256="another", sem_search_version="0.0.9")
        read_classifier(folder)
    assert "logged with sem_search 0.0.9" in caplog.text


def test_the_calibration_is_read_back(folder: Path, parts: ClassifierParts) -> None:
    found, packed = read_classifier(folder).calibration, parts.calibration
    assert found is not None
    assert packed is not None
    assert found.temperature == packed.temperature
    assert np.array_equal(found.answers.of_true_class, packed.answers.of_true_class)
    assert found.novelty is not None
    assert np.array_equal(found.novelty.limits.distances, packed.novelty.limits.distances)


def test_a_model_without_a_calibration_is_served_as_such(parts: ClassifierParts, tmp_path: Path) -> None:
    write_model_folder(dataclasses.replace(parts, calibration=None), folder=tmp_path / "bare")
    assert read_classifier(tmp_path / "bare").calibration is None


def test_a_calibration_that_is_none_is_refused(folder: Path) -> None:
    (folder / CALIBRATION_FILE).write_bytes(b"nothing")
    rewrite(folder)
    with pytest.raises(StoreError, match=r"calibration\.npz does not hold a calibration"):
        read_classifier(folder)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [name for name in BACKBONE_NAMES if name != "tiny"])
def test_every_backbone_survives_the_folder(
    backbone: str, make_parts: Callable[..., ClassifierParts], tmp_path: Path
) -> None:
    parts = make_parts(backbone=backbone, tile_px=64, n_heads=1)
    write_model_folder(parts, folder=tmp_path / "model")
    tiles = np.random.default_rng(0).uniform(size=(2, 64, 64)).astype(np.float32)
    parts.head.set_weights(parts.head_weights[0])
    logits = np.asarray(parts.head(parts.trunk(get_backbone(backbone).preprocess(tiles)))).astype(np.float64)
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    found = read_classifier(tmp_path / "model")._ensemble.run(tiles).head_probabilities[0]
    assert np.abs(found - softmax / softmax.sum(axis=1, keepdims=True)).max() < 1e-5
