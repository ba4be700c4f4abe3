"""The cut is exact: head(trunk(x)) is the uncut network, before and after training."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import CutNetwork, build_head, cut_network
from sem_search.transfer.names import BACKBONE_NAMES

TILE_PX = 64
N_TILES = 3
N_CLASSES = 4

EXPECTED_CUTS = {
    "vgg16": ("block5_conv3", [(4, 4, 512)]),
    "resnet50": ("conv5_block3_3_conv", [(2, 2, 512), (2, 2, 2048)]),
    "mobilenet_v2": ("Conv_1", [(2, 2, 320)]),
    "efficientnet_b0": ("top_conv", [(2, 2, 320)]),
    "densenet121": ("conv5_block16_2_conv", [(2, 2, 128), (2, 2, 992)]),
    "convnext_tiny": ("convnext_tiny_stage_3_block_2_depthwise_conv", [(2, 2, 768)]),
    "tiny": ("conv_2", [(16, 16, 8)]),
}

SAVED_QUICKLY = ("tiny", "mobilenet_v2", "convnext_tiny")
"""ConvNeXt is one of them: it alone has layers of its own kind."""


@pytest.fixture(scope="module")
def networks() -> Callable[[str], tuple[keras.Model, CutNetwork]]:
    """Each backbone is built once for all tests: `networks("vgg16")`."""
    built: dict[str, tuple[keras.Model, CutNetwork]] = {}

    def get(name: str) -> tuple[keras.Model, CutNetwork]:
        if name not in built:
            keras.utils.set_random_seed(1)
            model = get_backbone(name).build(tile_px=TILE_PX)
            _spread_batch_statistics(model)
            built[name] = (model, cut_network(model))
        return built[name]

    return get


def _spread_batch_statistics(model: keras.Model) -> None:
    """Give batch normalisation statistics that differ from those of any batch, as trained networks have."""
    draw = np.random.default_rng(2)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(draw.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(draw.uniform(0.8, 1.2, layer.moving_variance.shape))


def _draw_pictures(seed: int = 0) -> tf.Tensor:
    draw = np.random.default_rng(seed)
    return tf.constant(draw.uniform(-1, 1, (N_TILES, TILE_PX, TILE_PX, 3)).astype(np.float32))


def _build_uncut(model: keras.Model, cut: CutNetwork, **options: Any) -> keras.Model:
    """The same network without the cut: a head whose tail is the whole network."""
    whole = keras.Model(model.inputs[0], model.outputs[0])
    return build_head(dataclasses.replace(cut, tail=whole), **options)


def _flatten(outputs: Any) -> list[Any]:
    return list(keras.tree.flatten(outputs))


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_cut_network_finds_the_last_convolution_and_all_that_crosses(name, networks):
    _, cut = networks(name)
    convolution, shapes = EXPECTED_CUTS[name]
    assert cut.convolution == convolution
    assert [tuple(tensor.shape[1:]) for tensor in cut.trunk.outputs] == shapes


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_head_of_trunk_equals_the_uncut_network(name, networks):
    model, cut = networks(name)
    pictures = _draw_pictures()
    uncut = _build_uncut(model, cut, n_classes=N_CLASSES, dropout=0.0, seed=3)
    head = build_head(cut, n_classes=N_CLASSES, dropout=0.0, seed=3)
    crossing = _flatten(cut.trunk(pictures))
    logits = head(crossing)

    assert logits.shape == (N_TILES, N_CLASSES)
    assert np.ptp(logits) > 0
    np.testing.assert_allclose(logits, uncut(pictures), rtol=1e-5, atol=1e-5)
    # Without dropout the two modes are one: batch normalisation keeps its statistics.
    np.testing.assert_array_equal(head(crossing, training=True), logits)
    np.testing.assert_array_equal(cut.tail(crossing).shape, (N_TILES, *model.output_shape[1:]))


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_only_the_last_convolution_and_the_new_layers_are_trainable(name, networks):
    _, cut = networks(name)
    head = build_head(cut, n_classes=2, seed=0)
    assert {layer.name for layer in head.layers if layer.trainable_weights} == {
        cut.convolution,
        "head_hidden",
        "head_logits",
    }
    assert not cut.trunk.trainable_weights


@pytest.mark.parametrize(
    ("name", "dropout"),
    [
        ("tiny", 0.0),
        ("tiny", 0.5),
        ("vgg16", 0.5),
        ("mobilenet_v2", 0.5),
        pytest.param("resnet50", 0.0, marks=pytest.mark.slow),
    ],
)
def test_ten_steps_on_the_head_equal_ten_steps_on_the_uncut_network(name, dropout, networks):
    model, cut = networks(name)
    uncut = _build_uncut(model, cut, n_classes=N_CLASSES, hidden_units=16, dropout=dropout, seed=5)
    head = build_head(cut, n_classes=N_CLASSES, hidden_units=16, dropout=dropout, seed=5)
    start = head.get_layer(cut.convolution).get_weights()[0]
    batches = [_draw_pictures(step) for step in range(2)]
    crossing = [_flatten(cut.trunk(batch)) for batch in batches]

    uncut_losses = _train_ten_steps(uncut, batches)
    head_losses = _train_ten_steps(head, crossing)

    np.testing.assert_allclose(head_losses, uncut_losses, rtol=1e-4, atol=1e-4)
    for layer in (cut.convolution, "head_hidden", "head_logits"):
        for got, wanted in zip(head.get_layer(layer).get_weights(), uncut.get_layer(layer).get_weights(), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(head.get_layer(cut.convolution).get_weights()[0] - start).max() > 1e-5
    np.testing.assert_array_equal(cut.tail.get_layer(cut.convolution).get_weights()[0], start)


def _train_ten_steps(network: keras.Model, batches: list[Any]) -> list[float]:
    """Take ten steps of gradient descent with momentum, going round the batches."""
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(network.trainable_variables)
    labels = tf.constant(np.arange(N_TILES) % N_CLASSES)

    @tf.function
    def step(inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = network(inputs, training=True)
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    return [float(step(batches[index % len(batches)])) for index in range(10)]


def test_training_leaves_batch_statistics_alone(networks):
    _, cut = networks("mobilenet_v2")
    head = build_head(cut, n_classes=N_CLASSES, hidden_units=8, seed=0)
    before = head.get_layer("Conv_1_bn").get_weights()
    _train_ten_steps(head, [_flatten(cut.trunk(_draw_pictures()))])
    for got, wanted in zip(head.get_layer("Conv_1_bn").get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAVED_QUICKLY else pytest.mark.slow) for name in BACKBONE_NAMES]
)
def test_trunk_and_head_are_saved_and_loaded_without_custom_objects(name, networks, tmp_path: Path):
    _, cut = networks(name)
    head = build_head(cut, n_classes=N_CLASSES, hidden_units=8, seed=1)
    pictures = _draw_pictures()
    for part, file in ((cut.trunk, tmp_path / "trunk.keras"), (head, tmp_path / "head.keras")):
        part.save(file)
    trunk, loaded_head = (
        keras.models.load_model(tmp_path / f"{part}.keras", safe_mode=True) for part in ("trunk", "head")
    )
    crossing = _flatten(cut.trunk(pictures))
    for got, wanted in zip(_flatten(trunk(pictures)), crossing, strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(loaded_head(crossing), head(crossing))


def test_seed_decides_the_new_layers_and_nothing_else(networks):
    _, cut = networks("tiny")
    first, same, other = (build_head(cut, n_classes=2, seed=seed) for seed in (1, 1, 2))
    for name in ("head_hidden", "head_logits"):
        kernels = [head.get_layer(name).get_weights()[0] for head in (first, same, other)]
        np.testing.assert_array_equal(kernels[0], kernels[1])
        assert np.abs(kernels[0] - kernels[2]).max() > 0
    np.testing.assert_array_equal(
        first.get_layer("conv_2").get_weights()[0], other.get_layer("conv_2").get_weights()[0]
    )


def _convolve(filters: int, name: str) -> keras.layers.Layer:
    return keras.layers.Conv2D(filters, 3, padding="same", name=name)


def _build_shared_layer() -> keras.Model:
    """A frozen layer that stands on both sides of the cut."""
    picture = keras.Input((8, 8, 3))
    shared = keras.layers.Dense(3, name="shared")
    return keras.Model(picture, shared(_convolve(3, "last")(shared(picture))))


def _build_shortcuts() -> keras.Model:
    """One tensor that the tail uses twice, another past the convolution, and one that is not used."""
    picture = keras.Input((8, 8, 3))
    before = _convolve(4, "first")(picture)
    last = _convolve(4, "last")(before)
    beside = keras.layers.Dense(4, name="beside")(before)
    return keras.Model(picture, keras.layers.Add()([last + before, beside, before]))


def _build_single() -> keras.Model:
    """The picture itself crosses."""
    return keras.Sequential([keras.Input((8, 8, 3)), _convolve(2, "last"), keras.layers.GlobalAveragePooling2D()])


def _build_branches() -> keras.Model:
    """Two convolutions equally far from the output: the one that is called later is the last."""
    picture = keras.Input((8, 8, 3))
    before = _convolve(4, "first")(picture)
    left, right = _convolve(4, "left")(before), _convolve(4, "last")(before)
    return keras.Model(picture, keras.layers.Concatenate()([left, right]))


@pytest.mark.parametrize(
    ("build", "n_crossing"),
    [(_build_shared_layer, 1), (_build_shortcuts, 2), (_build_single, 1), (_build_branches, 2)],
)
def test_other_networks_are_cut_as_exactly(build, n_crossing):
    model = build()
    cut = cut_network(model)
    assert cut.convolution == "last"
    assert len(cut.trunk.outputs) == n_crossing
    pictures = _draw_pictures()[:, :8, :8]
    head = build_head(cut, n_classes=2, seed=1)
    uncut = _build_uncut(model, cut, n_classes=2, seed=1)
    crossing = _flatten(cut.trunk(pictures))
    np.testing.assert_allclose(head(crossing), uncut(pictures), rtol=1e-5, atol=1e-5)
