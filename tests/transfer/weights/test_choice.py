"""The record tells which weights a network has got, whatever was asked for."""

from pathlib import Path

import keras
import numpy as np
import pytest

from pretraining.packed_weights import write_particle_weights
from sem_search.errors import WeightsError
from sem_search.transfer.backbones import Backbone, PublishedWeights, get_backbone
from sem_search.transfer.weights import choice as weights
from sem_search.transfer.weights import packed as particle_weights
from sem_search.transfer.weights.choice import WeightsRecord, build_weighted_backbone, check_weights
from sem_search.transfer.weights.files import compute_weights_digest

SHARED = Path(__file__).parents[4] / "shared"
MOBILENET_FILE = SHARED / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"
TILE_PX = 32
OFFLINE = PublishedWeights(url="http://127.0.0.1:9/net_notop.h5", digest=None)


def _get_small(imagenet: PublishedWeights | None = OFFLINE) -> Backbone:
    """The tiny backbone, as if its ImageNet weights were published at an address that does not answer."""
    tiny = get_backbone("tiny")
    return Backbone(
        name="small",
        build_network=tiny.build_network,
        preprocess_input=tiny.preprocess_input,
        imagenet=imagenet,
        min_tile_px=16,
    )


def _build(wanted: str, *, backbone: Backbone | None = None, seed: int = 0) -> tuple[keras.Model, WeightsRecord]:
    tiles = np.random.default_rng(0).uniform(0, 1, (4, TILE_PX, TILE_PX)).astype(np.float32)
    return build_weighted_backbone(
        backbone or _get_small(), weights=wanted, tile_px=TILE_PX, seed=seed, calibration_tiles=tiles
    )


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    """Keras' cache is an empty folder, and nothing ships with the package."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(particle_weights, "PARTICLES_FOLDER", tmp_path / "particles")
    folder = tmp_path / "keras" / "models"
    folder.mkdir(parents=True)
    return folder


def _save_some(file: Path) -> keras.Model:
    """Write weights of the tiny network to a file, and return the network."""
    model = get_backbone("tiny").build(tile_px=TILE_PX)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save_weights(file) if file.name.endswith(".weights.h5") else model.save(file)
    return model


def _ship_some(folder: Path) -> keras.Model:
    """Ship weights of the tiny network, and return the network as they were before they were packed."""
    model = get_backbone("tiny").build(tile_px=TILE_PX)
    write_particle_weights(model, name="small", card={}, folder=folder)
    return model


def _assert_near(model: keras.Model, wanted: keras.Model) -> None:
    """Equal but for the rounding of the packed weights: half a level of 127."""
    for got, array in zip(model.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(got, array, atol=np.abs(array).max() / 253)


def _assert_equal(model: keras.Model, wanted: keras.Model) -> None:
    for got, array in zip(model.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_array_equal(got, array)


def test_random_weights_are_recorded():
    model, record = _build("random")
    assert (record.used, record.warnings) == ("random", ())
    assert record.sha256 == compute_weights_digest(model)
    assert _build("random")[1].sha256 == record.sha256
    assert _build("random", seed=1)[1].sha256 != record.sha256


def test_imagenet_weights_come_from_keras_cache(cache):
    source = _save_some(cache / "net_notop.h5")
    model, record = _build("imagenet")
    _assert_equal(model, source)
    assert (record.used, record.warnings) == ("imagenet", ())


def test_imagenet_weights_that_cannot_be_had_are_an_error_in_words():
    wanted = (
        r"could not be downloaded from http://127\.0\.0\.1:9/net_notop\.h5.*Else give weights=random or weights=FILE"
    )
    with pytest.raises(WeightsError, match=wanted):
        _build("imagenet")


def test_what_ships_is_named_where_imagenet_weights_cannot_be_had(tmp_path):
    _ship_some(tmp_path / "particles")
    with pytest.raises(WeightsError, match="Else give weights=particles, weights=random or weights=FILE"):
        _build("imagenet")


def test_imagenet_weights_that_do_not_exist_are_an_error_in_words():
    with pytest.raises(WeightsError, match=r"there are none for backbone 'tiny'\. Else give weights=random"):
        _build("imagenet", backbone=get_backbone("tiny"))


def test_particles_weights_ship_with_the_package_or_are_an_error(tmp_path):
    with pytest.raises(WeightsError, match="this version ships none for backbone 'small', only for"):
        _build("particles")
    source = _ship_some(tmp_path / "particles")
    with pytest.raises(WeightsError, match=r"only for small\. Choose one of these, or give weights=random"):
        check_weights("particles", backbone="vgg19")
    model, record = _build("particles")
    _assert_near(model, source)
    assert (record.used, record.warnings) == ("particles", ())


def test_auto_takes_imagenet_where_it_is_in_the_cache(cache):
    source = _save_some(cache / "net_notop.h5")
    model, record = _build("auto")
    _assert_equal(model, source)
    assert (record.used, record.warnings) == ("imagenet", ())


def test_auto_takes_particles_next_and_says_so(tmp_path):
    source = _ship_some(tmp_path / "particles")
    model, record = _build("auto")
    _assert_near(model, source)
    assert record.used == "particles"
    (warning,) = record.warnings
    assert "trained on rendered particles that ship with this package are used instead of ImageNet's" in warning
    assert "could not be downloaded" in warning


def test_auto_takes_random_last_and_says_so():
    model, record = _build("auto")
    _assert_equal(model, _build("random")[0])
    assert record.used == "random"
    (warning,) = record.warnings
    assert "RANDOM weights are used" in warning and "No other weights for 'small'" in warning


def test_auto_waits_less_long_than_a_wish_for_imagenet(monkeypatch):
    waits = []

    def fail(published: PublishedWeights, *, first_byte_s: float, whole_file_s: float) -> Path:
        waits.append((first_byte_s, whole_file_s))
        raise WeightsError("no network in tests")

    monkeypatch.setattr(weights, "fetch_published_weights", fail)
    _build("auto")
    with pytest.raises(WeightsError, match="no network"):
        _build("imagenet")
    assert waits == [(4.0, 120.0), (20.0, 300.0)]


def test_what_pretraining_packed_is_a_file_like_any_other(tmp_path):
    source = _ship_some(tmp_path / "trial")
    model, record = _build(str(tmp_path / "trial" / "small.npz"))
    _assert_near(model, source)
    assert record.used == "small.npz"
    (tmp_path / "trial" / "small.json").unlink()
    with pytest.raises(WeightsError, match=r"small\.json cannot be read .* have scripts/pretrain pack them again"):
        _build(str(tmp_path / "trial" / "small.npz"))


@pytest.mark.parametrize("name", ["some.weights.h5", "some.h5", "some.keras"])
def test_a_file_is_recorded_by_its_name(name, tmp_path):
    source = _save_some(tmp_path / name)
    model, record = _build(str(tmp_path / name))
    _assert_equal(model, source)
    assert (record.used, record.warnings) == (name, ())


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("imagnet", "weights='imagnet' is neither a file nor one of: auto, imagenet, particles, random"),
        ("missing.weights.h5", "there is no such file"),
    ],
)
def test_unknown_weights_are_refused(wanted, message):
    with pytest.raises(WeightsError, match=message):
        _build(wanted)


def test_the_real_imagenet_file_is_recorded():
    if not MOBILENET_FILE.is_file():
        pytest.skip(f"{MOBILENET_FILE} is not there")
    model, record = _build(str(MOBILENET_FILE), backbone=get_backbone("mobilenet_v2"))
    assert record.used == MOBILENET_FILE.name
    assert len(record.sha256) == 64
    assert np.isfinite(np.asarray(model(np.zeros((1, TILE_PX, TILE_PX, 3), np.float32)))).all()
