"""Weights files of every kind load, and what does not fit is said in words."""

from pathlib import Path

import keras
import numpy as np
import pytest

from sem_search.errors import WeightsError
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.weights.files import compute_weights_digest, read_weights_into

SHARED = Path(__file__).parents[4] / "shared"
MOBILENET_FILE = SHARED / "weights" / "mobilenet_v2_imagenet_notop.weights.h5"


def _build(*, filters: int = 4, name: str = "small", first_name: str = "first") -> keras.Model:
    picture = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(filters, 3, name=first_name)(picture)
    return keras.Model(picture, keras.layers.BatchNormalization(name="norm")(x), name=name)


def _fill(model: keras.Model) -> keras.Model:
    draw = np.random.default_rng(0)
    model.set_weights([draw.uniform(1, 2, array.shape) for array in model.get_weights()])
    return model


def _wrap(inner: keras.Model) -> keras.Model:
    """The network inside a classifier, as people save what they have fine-tuned."""
    return keras.Sequential([inner, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, name="answer")])


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_every_kind_of_file_loads(suffix, tmp_path):
    source, model, file = _fill(_build()), _build(), tmp_path / f"some{suffix}"
    source.save_weights(file) if suffix == ".weights.h5" else source.save(file)
    for _ in range(2):  # what is there already is no sign that nothing was read
        read_weights_into(model, file=file)
    for got, wanted in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("change", [_wrap, lambda inner: inner])
@pytest.mark.parametrize("first_name", ["first", "other"])
def test_saved_model_is_read_by_names_or_else_by_order(change, first_name, tmp_path):
    source, model = _fill(_build(first_name=first_name)), _build()
    change(source).save(tmp_path / "some.keras")
    if first_name == "other" and change is _wrap:
        with pytest.raises(WeightsError, match=r"first/kernel needs .* the file has none"):
            read_weights_into(model, file=tmp_path / "some.keras")
        return
    read_weights_into(model, file=tmp_path / "some.keras")
    np.testing.assert_array_equal(model.get_weights()[0], source.get_weights()[0])


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_hdf5_weights_of_a_classifier_around_the_network_are_refused_not_skipped(suffix, tmp_path):
    source, file = _wrap(_fill(_build())), tmp_path / f"some{suffix}"
    source.save_weights(file) if suffix == ".weights.h5" else source.save(file)
    with pytest.raises(WeightsError, match="do not fit 'small'"):
        read_weights_into(_build(), file=file)


def test_layers_that_keras_leaves_out_are_noticed(tmp_path, monkeypatch):
    _fill(_build()).save_weights(tmp_path / "some.weights.h5")
    monkeypatch.setattr(keras.Model, "load_weights", lambda *args, **kwargs: None)
    with pytest.raises(WeightsError, match="nothing was found for 1 layers, the first is first/kernel"):
        read_weights_into(_build(), file=tmp_path / "some.weights.h5")


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
def test_shapes_that_do_not_fit_are_named(suffix, tmp_path):
    source, file = _fill(_build(filters=5)), tmp_path / f"some{suffix}"
    source.save_weights(file) if suffix == ".weights.h5" else source.save(file)
    with pytest.raises(WeightsError) as raised:
        read_weights_into(_build(), file=file)
    message = str(raised.value)
    assert "do not fit 'small'" in message and "3, 3, 3, 4" in message and "3, 3, 3, 5" in message
    assert len(message) < 600


def _write_text(file: Path) -> None:
    file.write_text("no weights")


def _write_infinite(file: Path) -> None:
    model = _fill(_build())
    model.set_weights([np.full(array.shape, np.inf) for array in model.get_weights()])
    model.save_weights(file)


def _write_unsafe(file: Path) -> None:
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda values: values)]).save(file)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("none.h5", lambda file: None, "there is no such file"),
        ("some.pth", _write_text, r"files end in one of \.h5, \.keras, \.npz, not in '\.pth'"),
        ("some.h5", _write_text, "do not fit 'small'"),
        ("some.weights.h5", _write_text, "do not fit 'small'"),
        ("some.keras", _write_text, "not a Keras model that can be loaded safely"),
        ("unsafe.keras", _write_unsafe, "not a Keras model that can be loaded safely"),
        ("some.weights.h5", _write_infinite, "6 arrays hold values that are not finite, the first is first/kernel"),
    ],
)
def test_what_is_no_weights_file_is_refused(name, write, message, tmp_path):
    write(tmp_path / name)
    with pytest.raises(WeightsError, match=message) as raised:
        read_weights_into(_build(), file=tmp_path / name)
    assert name in str(raised.value)


def test_real_imagenet_weights_fit_mobilenet_and_no_other_network():
    if not MOBILENET_FILE.is_file():
        pytest.skip(f"{MOBILENET_FILE} is not there")
    model = get_backbone("mobilenet_v2").build(tile_px=96)
    read_weights_into(model, file=MOBILENET_FILE)
    assert np.ptp(model.get_layer("Conv_1_bn").beta.numpy()) > 0  # a fresh network has zeros
    with pytest.raises(WeightsError, match="do not fit 'vgg16'"):
        read_weights_into(get_backbone("vgg16").build(tile_px=96), file=MOBILENET_FILE)


def test_digest_depends_on_values_and_not_on_how_keras_numbered_the_layers():
    first, second = (keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]) for _ in range(2))
    assert first.layers[0].name != second.layers[0].name
    second.set_weights(first.get_weights())
    assert compute_weights_digest(first) == compute_weights_digest(second)
    second.layers[0].bias.assign([0.0, 1e-7])
    assert compute_weights_digest(first) != compute_weights_digest(second)


def test_digest_does_not_depend_on_how_keras_numbered_arrays_without_a_name():
    class Scale(keras.layers.Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(2,), initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

    first, second = (keras.Sequential([keras.Input((2,)), Scale(), Scale()]) for _ in range(2))
    assert first.weights[0].name != second.weights[0].name
    assert compute_weights_digest(first) == compute_weights_digest(second)
