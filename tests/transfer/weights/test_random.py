"""Random weights keep every backbone awake: activations neither vanish nor blow up, and pictures stay apart."""

import keras
import numpy as np
import pytest

from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.names import BACKBONE_NAMES
from sem_search.transfer.weights.random import fill_random_weights

TILE_PX = 128
EFFICIENTNET_TILE_PX = 224
"""Its gates let a tile that is unlike the four it was scaled on grow from block to block, the more the smaller its
maps: at the size it is meant for it must stay in bounds all the same."""


def draw_tiles(n: int, *, seed: int, size_px: int = TILE_PX) -> np.ndarray:
    """Blotches of different sizes, shape (n, size_px, size_px)."""
    draw = np.random.default_rng(seed)
    tiles = []
    for index in range(n):
        side = 2 ** (1 + index % 4)
        coarse = draw.uniform(0, 1, (size_px // side, size_px // side))
        tiles.append(np.kron(coarse, np.ones((side, side))))
    return np.stack(tiles).astype(np.float32)


def _fill(name: str, *, seed: int = 0, size_px: int = TILE_PX) -> keras.Model:
    backbone = get_backbone(name)
    model = backbone.build(tile_px=size_px)
    fill_random_weights(model, pictures=backbone.preprocess(draw_tiles(4, seed=9, size_px=size_px)), seed=seed)
    return model


QUICK = ("tiny", "vgg16", "mobilenet_v2")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BACKBONE_NAMES]
)
def test_outputs_for_unseen_tiles_neither_vanish_nor_blow_up_nor_agree(name):
    size_px = EFFICIENTNET_TILE_PX if name == "efficientnet_b0" else TILE_PX
    tiles = draw_tiles(8, seed=1, size_px=size_px)
    outputs = np.asarray(_fill(name, size_px=size_px)(get_backbone(name).preprocess(tiles)))
    assert np.isfinite(outputs).all()
    assert 0.1 < np.sqrt(np.mean(outputs**2)) < 10
    pooled = outputs.mean(axis=(1, 2))
    between = np.corrcoef(pooled)[np.triu_indices(8, 1)]
    assert between.mean() < 0.9


def test_plain_he_weights_would_let_vgg16_answer_the_same_to_everything():
    """What the scaling is for: without it, this network cannot tell tiles apart."""
    model = get_backbone("vgg16").build(tile_px=TILE_PX)
    for layer in model.layers:
        if layer.weights:
            draw = keras.initializers.HeNormal(seed=len(layer.name))
            layer.set_weights([np.asarray(draw(layer.kernel.shape)), np.zeros(layer.bias.shape)])
    pooled = np.asarray(model(get_backbone("vgg16").preprocess(draw_tiles(8, seed=1)))).mean(axis=(1, 2))
    assert np.corrcoef(pooled)[np.triu_indices(8, 1)].mean() > 0.9


def test_channels_of_a_convolution_are_centred_and_of_unit_variance():
    model = _fill("tiny")
    layer = model.get_layer("conv_1")
    layer.activation = keras.activations.linear
    seen = np.asarray(layer(get_backbone("tiny").preprocess(draw_tiles(4, seed=9))))
    np.testing.assert_allclose(seen.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std(axis=(0, 1, 2)), 1, atol=1e-4)


def _build_zoo() -> keras.Model:
    """Every kind of layer with kernels, with few values per channel at the end."""
    picture = keras.Input((16, 16, 3))
    x = keras.layers.SeparableConv2D(6, 3, activation="relu")(picture)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = keras.layers.BatchNormalization(scale=False)(x)
    inner = keras.Sequential([keras.layers.Conv2D(12, 3, groups=3, use_bias=False), keras.layers.LayerNormalization()])
    x = keras.layers.GlobalAveragePooling2D()(inner(x))
    return keras.Model(picture, keras.layers.Dense(5, activation="sigmoid")(x))


def test_every_kind_of_layer_is_filled():
    model = _build_zoo()
    before = model.get_weights()
    fill_random_weights(model, pictures=draw_pictures(), seed=0)
    after = np.asarray(model(draw_pictures()))
    kernels = [index for index, weight in enumerate(model.weights) if "kernel" in weight.name]
    assert len(kernels) == 5
    assert all(np.abs(model.get_weights()[index] - before[index]).max() > 0 for index in kernels)
    assert (after > 0.01).all() and (after < 0.99).all()


def draw_pictures() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ["tiny", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_same_seed_gives_the_same_weights_and_another_seed_others(name):
    first, same, other = (_fill(name, seed=seed).get_weights() for seed in (3, 3, 4))
    for left, right in zip(first, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert any(np.abs(left - right).max() > 0 for left, right in zip(first, other, strict=True))


def test_flat_calibration_tiles_give_finite_weights():
    backbone = get_backbone("tiny")
    model = backbone.build(tile_px=TILE_PX)
    fill_random_weights(model, pictures=backbone.preprocess(np.full((4, TILE_PX, TILE_PX), 0.5, np.float32)), seed=0)
    assert all(np.isfinite(array).all() and np.abs(array).max() < 1e4 for array in model.get_weights())
