import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sem_search.deployment.package import keras_files
from sem_search.deployment.package.calibration_record import CALIBRATION_FILE
from sem_search.deployment.package.description import DESCRIPTION_FILE, compute_file_sha256
from sem_search.deployment.package.keras_files import HEAD_FILE, TRUNK_FILE, name_head_weights
from sem_search.deployment.package.reading import HEADS_GRAPH, TRUNK_GRAPH, read_classifier
from sem_search.deployment.package.record import RECORD_FOLDER, ModelRecord, write_record
from sem_search.deployment.package.writing import ClassifierParts, write_model_folder
from sem_search.errors import StoreError
from sem_search.micrographs.catalogue import compute_pixels_sha256


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
    assert description.class_names == parts.description.class_names
    assert description.grid == parts.description.grid
    assert description.n_heads == len(parts.head_weights)
    assert description.pixel_sizes_nm == {"starch": (2.5, 5.0)}
    assert description.hashes == parts.description.hashes
    assert set(description.files) == {TRUNK_GRAPH, HEADS_GRAPH, CALIBRATION_FILE}


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


@pytest.mark.parametrize("name", [TRUNK_GRAPH, HEADS_GRAPH, CALIBRATION_FILE])
def test_one_changed_byte_is_refused_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"damaged: {name}"):
        read_classifier(folder)


@pytest.fixture
def keras_folder(folder: Path, parts: ClassifierParts) -> Path:
    """The same model as it was written before format 3."""
    for name in (TRUNK_GRAPH, HEADS_GRAPH):
        (folder / name).unlink()
    parts.trunk.save(folder / TRUNK_FILE)
    (folder / HEAD_FILE).write_text(parts.head.to_json())
    for index, weights in enumerate(parts.head_weights):
        np.savez(folder / name_head_weights(index), **{f"weight_{n}": weight for n, weight in enumerate(weights)})
    names = [TRUNK_FILE, HEAD_FILE, CALIBRATION_FILE, *map(name_head_weights, range(len(parts.head_weights)))]
    rewrite(folder, files=dict.fromkeys(names), format_version=2)
    return folder


def test_a_model_of_keras_files_answers_as_one_of_graphs(
    folder: Path, keras_folder: Path, parts: ClassifierParts, tmp_path: Path
) -> None:
    write_model_folder(parts, folder=tmp_path / "graphs")
    image = np.random.default_rng(0).uniform(size=(70, 100)).astype(np.float32)
    wanted, found = (read_classifier(each).explain(image) for each in (tmp_path / "graphs", keras_folder))
    np.testing.assert_array_equal(found.head_probabilities, wanted.head_probabilities)
    assert found.overlay_png == wanted.overlay_png


def test_weights_of_another_head_are_refused(keras_folder: Path) -> None:
    np.savez(keras_folder / name_head_weights(1), weight_0=np.zeros(3, dtype=np.float32))
    rewrite(keras_folder)
    with pytest.raises(StoreError, match="files of Keras cannot be read, or do not fit one another"):
        read_classifier(keras_folder)


def test_a_pickle_among_the_weights_is_not_opened(keras_folder: Path) -> None:
    np.savez(keras_folder / name_head_weights(0), weight_0=np.array([{"a": 1}], dtype=object))
    rewrite(keras_folder)
    with pytest.raises(StoreError, match="allow_pickle=False"):
        read_classifier(keras_folder)


def test_a_model_of_keras_files_without_tensorflow_says_what_to_do(
    keras_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_files, "find_spec", lambda _: None)
    with pytest.raises(
        StoreError, match=r"files of Keras: .* not installed here\. Install all that sem_search requires"
    ):
        read_classifier(keras_folder)


def test_a_model_is_read_and_answers_without_tensorflow(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, in which an import of TensorFlow or Keras fails."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras", "onnx", "tf2onnx", "optuna", "sklearn"]))
import numpy as np, pathlib
import sem_search.deployment.pyfunc.model
from sem_search.deployment.package.reading import read_classifier
answer = read_classifier(pathlib.Path({str(folder)!r})).explain(np.full((40, 50), 0.5, dtype=np.float32))
print(len(answer.probabilities), answer.overlay_png is not None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "3 True"), done.stderr


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
