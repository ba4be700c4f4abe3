"""Every backbone builds offline, and its tiles are prepared exactly as keras.applications does it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.errors import SettingsError
from sem_search.transfer.backbones import BACKBONES, get_backbone
from sem_search.transfer.names import BACKBONE_NAMES, TINY

MODULES = {
    "vgg16": keras.applications.vgg16,
    "resnet50": keras.applications.resnet50,
    "mobilenet_v2": keras.applications.mobilenet_v2,
    "efficientnet_b0": keras.applications.efficientnet,
    "densenet121": keras.applications.densenet,
    "convnext_tiny": keras.applications.convnext,
}


def test_names_and_rows_agree():
    assert tuple(BACKBONES) == BACKBONE_NAMES
    assert all(backbone.name == name for name, backbone in BACKBONES.items())


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("is_compiled", [False, True])
def test_preprocess_is_that_of_keras_applications(name, is_compiled):
    tiles = np.random.default_rng(0).uniform(0, 1, (2, 8, 8)).astype(np.float32)
    tiles[0, 0, :2] = (0, 1)
    rgb = np.stack([tiles * 255] * 3, axis=-1)
    preprocess = get_backbone(name).preprocess
    prepared = tf.function(preprocess)(tiles) if is_compiled else preprocess(tiles)
    np.testing.assert_allclose(prepared, MODULES[name].preprocess_input(rgb), rtol=1e-6, atol=1e-5)


def test_preprocess_of_tiny_spans_minus_one_to_one():
    tiles = np.array([[[0.0, 0.5, 1.0]]], dtype=np.float32)
    prepared = np.asarray(get_backbone(TINY).preprocess(tiles))
    assert prepared.shape == (1, 1, 3, 3)
    np.testing.assert_allclose(prepared[0, 0, :, 1], [-1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("tile_px", [32, 96])
def test_build_takes_any_tile_size(tile_px):
    model = get_backbone("mobilenet_v2").build(tile_px=tile_px)
    assert model.input_shape == (None, tile_px, tile_px, 3)
    assert model.output_shape == (None, tile_px // 32, tile_px // 32, 1280)


def test_build_refuses_tiles_that_would_shrink_to_nothing():
    with pytest.raises(SettingsError, match=r"tile_px=16 is too small for backbone 'vgg16': give at least 32"):
        get_backbone("vgg16").build(tile_px=16)


def test_unknown_backbone_is_refused_with_the_list():
    with pytest.raises(SettingsError, match=r"backbone='vgg19' is not known; choose one of: vgg16, resnet50"):
        get_backbone("vgg19")


def test_efficientnet_is_the_network_that_imagenet_weights_were_trained_for(monkeypatch):
    """Keras builds another EfficientNet for ImageNet weights than without; ours must be the former."""
    ours = get_backbone("efficientnet_b0").build(tile_px=32)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *args, **kwargs: "no file is read")
    monkeypatch.setattr(keras.Model, "load_weights", lambda *args, **kwargs: None)
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    ours.set_weights(theirs.get_weights())
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(pictures), theirs(pictures), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "vgg16" else pytest.mark.slow) for name in MODULES]
)
def test_published_weights_are_those_that_keras_would_fetch(name, monkeypatch):
    """Our own download must not drift from keras.applications: same address, same hash."""
    asked = {}

    def get_file(file_name, origin, *, file_hash=None, **_):
        asked.update(file_name=file_name, url=origin, digest=file_hash)
        raise OSError("no network in tests")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file)
    builders = {
        "vgg16": keras.applications.VGG16,
        "resnet50": keras.applications.ResNet50,
        "mobilenet_v2": keras.applications.MobileNetV2,
        "efficientnet_b0": keras.applications.EfficientNetB0,
        "densenet121": keras.applications.DenseNet121,
        "convnext_tiny": keras.applications.ConvNeXtTiny,
    }
    with pytest.raises(OSError, match="no network"):
        builders[name](include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    published = get_backbone(name).imagenet
    assert published is not None
    assert asked == {"file_name": published.file_name, "url": published.url, "digest": published.digest}
