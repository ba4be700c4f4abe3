"""From a backbone's name to features and a trainer: nothing of the user's data decides the weights."""

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sem_search.errors import LeakError, SettingsError, WeightsError
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.records import Cell, TileSplits
from sem_search.search.prepare import features as features_module
from sem_search.search.prepare import network as network_module
from sem_search.search.prepare.features import compute_features
from sem_search.search.prepare.network import build_trainer, prepare_network
from sem_search.transfer import engine, trunk
from sem_search.transfer.engine import EngineError


class StoppedError(Exception):
    """Raised where a test has seen enough."""


def capture(monkeypatch: pytest.MonkeyPatch, name: str, *, room: ModuleType = network_module) -> dict[str, Any]:
    """Replace a function of the module by one that keeps its keyword arguments and goes no further."""
    arguments: dict[str, Any] = {}

    def stop(*_: object, **given: Any) -> None:
        arguments.update(given)
        raise StoppedError

    monkeypatch.setattr(room, name, stop)
    return arguments


def test_the_network_is_cut_and_its_weights_are_told(network, settings) -> None:
    assert network.backbone.name == "tiny"
    assert network.cut.convolution == "conv_2"
    assert network.cut.trunk.input_shape == (None, 48, 48, 3)
    assert network.weights.used == "random"


def test_without_onnxruntime_auto_says_that_it_takes_tensorflow(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "read_versions", lambda: {"onnxruntime": None})
    found = prepare_network(settings.model_copy(update={"engine": "auto", "precision": "float32"}))
    assert found.computation.engine == "tensorflow"
    (warning,) = [text for text in found.warnings if text not in found.weights.warnings]
    assert warning.startswith(
        "engine=auto takes tensorflow. ONNX Runtime needs onnxruntime, not installed here: install"
    )
    asked = prepare_network(settings.model_copy(update={"engine": "tensorflow", "precision": "float32"}))
    assert asked.warnings == asked.weights.warnings
    with pytest.raises(SettingsError, match="ONNX Runtime needs onnxruntime, not installed here"):
        prepare_network(settings.model_copy(update={"engine": "onnxruntime"}))


def test_a_network_that_onnxruntime_cannot_compute_is_tensorflow_s_and_that_is_said(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EngineError("It gives other numbers.")

    monkeypatch.setattr(trunk, "_measure", refuse)
    monkeypatch.setattr(trunk, "may_have_bfloat16", lambda: False)
    found = prepare_network(settings.model_copy(update={"engine": "auto", "seed": 7}))
    assert str(found.computation) == "engine=tensorflow precision=float32"
    assert "engine=auto takes tensorflow. It gives other numbers." in found.warnings


def test_the_seed_decides_random_weights(settings, network, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = np.random.default_rng(0).random((4, 48, 48)).astype(np.float32)
    monkeypatch.setattr(network_module, "render_calibration_tiles", lambda _: tiles)
    seeds = [prepare_network(settings.model_copy(update={"seed": seed})).weights.sha256 for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize("tile_px", [64, 500])  # the rendered scan is 448 px high
def test_weights_are_scaled_on_rendered_pictures_of_any_size(
    settings, monkeypatch: pytest.MonkeyPatch, tile_px: int
) -> None:
    arguments = capture(monkeypatch, "build_weighted_backbone")
    with pytest.raises(StoppedError):
        prepare_network(settings.model_copy(update={"tile_px": tile_px, "seed": 5}))
    tiles = arguments.pop("calibration_tiles")
    assert tiles.shape == (4, tile_px, tile_px)
    assert tiles.dtype == np.float32
    assert 0 <= tiles.min() < tiles.max() <= 1
    assert len({tile.tobytes() for tile in tiles}) == 4
    assert all(tile[:, -1].std() > 0 and tile[-1].std() > 0 for tile in tiles), "no flat border, no data bar"
    assert arguments == {"weights": "random", "tile_px": tile_px, "seed": 5}


def test_weights_that_cannot_be_had_are_refused(settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_module, "render_calibration_tiles", lambda _: None)
    with pytest.raises(WeightsError, match=r"no/such\.h5"):
        prepare_network(settings.model_copy(update={"weights": "no/such.h5"}))


def test_features_are_the_trunk_s_outputs_tile_by_tile(data, network, features) -> None:
    (array,) = features.arrays
    assert array.shape == (60, 12, 12, 8)
    for image, tile, top, left in ((0, 0, 0, 0), (6, 26, 48, 0), (14, 59, 48, 48)):
        pixels = read_micrograph(data.catalogue.records[image].path).pixels[top : top + 48, left : left + 48]
        (expected,) = np.asarray(network.cut.trunk(network.backbone.preprocess(pixels[None]))).reshape(1, 12, 12, 8)
        np.testing.assert_allclose(array[tile], expected, atol=1e-5)


def test_features_are_known_again_by_what_they_depend_on(
    settings, data, network, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = capture(monkeypatch, "get_features", room=features_module)

    def get_key(*, data=data, network=network, view: int = 0) -> str:
        with pytest.raises(StoppedError):
            compute_features(settings, data=data, network=network, view=view)
        return str(arguments["content_key"])

    records = data.catalogue.records
    relabelled = dataclasses.replace(
        data.catalogue, records=tuple(dataclasses.replace(record, label="x") for record in records)
    )
    others = {
        "pixels": get_key(
            data=dataclasses.replace(data, catalogue=dataclasses.replace(data.catalogue, records=records[::-1]))
        ),
        "step": get_key(data=dataclasses.replace(data, grid=dataclasses.replace(data.grid, stride_px=24))),
        "split": get_key(data=dataclasses.replace(data, grid=dataclasses.replace(data.grid, size_px=32))),
        "weights": get_key(
            network=dataclasses.replace(network, weights=dataclasses.replace(network.weights, sha256="0" * 64))
        ),
        "backbone": get_key(
            network=dataclasses.replace(network, backbone=dataclasses.replace(network.backbone, name="other"))
        ),
        "cut": get_key(network=dataclasses.replace(network, cut=dataclasses.replace(network.cut, convolution="c"))),
    }
    others |= {f"view {view}": get_key(view=view) for view in range(1, 8)}
    assert len({get_key(), *others.values()}) == 1 + len(others)
    assert get_key(data=dataclasses.replace(data, catalogue=relabelled)) == get_key(), "labels change no picture"


def test_the_trainer_is_set_up_as_the_settings_say(
    settings, data, network, features, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = capture(monkeypatch, "HeadTrainer")
    changed = {"epochs": 7, "patience": 2, "momentum": 0.3, "hidden_units": 5, "dropout": 0.1, "seed": 9}
    with pytest.raises(StoppedError):
        build_trainer(settings.model_dump() | changed, cut=network.cut, tiles=data.tiles, views=[features])
    training = arguments["settings"]
    assert (training.epochs, training.patience, training.momentum) == (7, 2, 0.3)
    assert (arguments["hidden_units"], arguments["dropout"], arguments["seed"]) == (5, 0.1, 9)
    assert arguments["features"] == [features.arrays]
    assert arguments["n_classes"] == 3
    np.testing.assert_array_equal(arguments["labels"], np.repeat([0, 1, 2], 20))
    assert arguments["groups"] == [data.catalogue.records[tile // 4].group for tile in range(60)]


def test_tiles_of_one_image_on_two_sides_are_never_trained_on(trainer) -> None:
    with pytest.raises(LeakError, match="blobs/0"):
        trainer.train_fold(
            TileSplits(number=0, training=np.arange(4, 7), validation=np.array([0, 1]), test=np.array([2, 3])),
            cell=Cell(learning_rate=0.1, batch_size=8),
        )
