"""The fast way for 1 x 1 heads against its definition in double precision, and which heads it is left to."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.transfer.graph import record_graph
from sem_search.transfer.heads import pointwise
from sem_search.transfer.heads.passes import GeneralPass
from sem_search.transfer.heads.pointwise import PooledConvolution, PositionBlocks, match_pointwise

N_TILES, N_POSITIONS, N_IN, N_OUT = 7, 6, 5, 4
TILE_BYTES = 4 * N_POSITIONS * N_OUT

BuildHead = Callable[..., keras.Model]


def draw_operands(*, has_bias: bool, has_shortcut: bool) -> dict[str, np.ndarray | None]:
    """Return operands, float32, for which about half of the ReLUs are off and some reach six."""
    rng = np.random.default_rng(5)

    def draw(*shape: int, size: float = 1.0) -> np.ndarray:
        return (size * rng.normal(size=shape)).astype(np.float32)

    return {
        "maps": draw(N_TILES, N_POSITIONS, N_IN),
        "shortcut": draw(N_TILES, N_POSITIONS, N_OUT, size=2) if has_shortcut else None,
        "kernel": draw(N_IN, N_OUT, size=2),
        "bias": draw(N_OUT) if has_bias else None,
        "scale": draw(N_OUT) + 1,
        "offset": draw(N_OUT),
        "upstream": draw(N_TILES, N_OUT),
    }


def define(operands: dict[str, np.ndarray | None], *, is_relu6: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the means, and the gradients of kernel and bias of sum(upstream * means), in double precision."""
    maps, shortcut, kernel, bias, scale, offset, upstream = (
        np.float64(0) if value is None else value.astype(np.float64) for value in operands.values()
    )
    sums = (maps @ kernel + bias) * scale + offset + shortcut
    is_active = (sums > 0) & ((sums < 6) | (not is_relu6))
    assert 0.2 < is_active.mean() < 0.8, "the operands would not show a missing ReLU"
    assert (sums > 6).any(), "the operands would not show a missing ceiling"
    means = np.clip(sums, 0, 6 if is_relu6 else None).mean(axis=1)
    d_sums = is_active * upstream[:, None] * scale / N_POSITIONS
    d_kernel = np.einsum("npi,npo->io", maps, d_sums)
    return means, [d_kernel, d_sums.sum(axis=(0, 1))][: 1 if operands["bias"] is None else 2]


def compute(
    operands: dict[str, np.ndarray | None], *, is_relu6: bool, stores_maps: bool = True
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the same as `PooledConvolution` computes it."""
    tensors = {name: None if value is None else tf.constant(value) for name, value in operands.items()}
    watched = [tensors[name] for name in ("kernel", "bias") if tensors[name] is not None]
    with tf.GradientTape() as tape:
        tape.watch(watched)
        pooled = PooledConvolution(
            blocks=PositionBlocks(maps=tensors["maps"], shortcut=tensors["shortcut"], n_out=N_OUT),
            scale=tensors["scale"],
            offset=tensors["offset"],
            is_relu6=is_relu6,
        )
        means = pooled.compute(tensors["kernel"], tensors["bias"], stores_maps=stores_maps)
        loss = tf.reduce_sum(means * tensors["upstream"])
    gradients = tape.gradient(loss, watched) if stores_maps else []
    return means.numpy(), [gradient.numpy() for gradient in gradients]


@pytest.mark.parametrize("has_shortcut", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("is_relu6", [False, True])
@pytest.mark.parametrize("tiles_at_once", [1, 3, 64])  # seven tiles: blocks of 3, 3 and 1
def test_values_and_gradients_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch, has_shortcut: bool, has_bias: bool, is_relu6: bool, tiles_at_once: int
) -> None:
    monkeypatch.setattr(pointwise, "BLOCK_BYTES", tiles_at_once * TILE_BYTES)
    operands = draw_operands(has_bias=has_bias, has_shortcut=has_shortcut)
    means, gradients = compute(operands, is_relu6=is_relu6)
    exact_means, exact_gradients = define(operands, is_relu6=is_relu6)
    np.testing.assert_allclose(means, exact_means, rtol=0, atol=2e-6 * np.abs(exact_means).max())
    for gradient, exact in zip(gradients, exact_gradients, strict=True):
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=2e-6 * np.abs(exact).max())


def test_prediction_stores_no_maps_and_gives_the_same() -> None:
    operands = draw_operands(has_bias=True, has_shortcut=True)
    np.testing.assert_array_equal(
        compute(operands, is_relu6=True, stores_maps=False)[0], compute(operands, is_relu6=True)[0]
    )


@pytest.mark.parametrize(
    ("block_tiles", "n_at_once", "count"), [(0.5, 1, 7), (1, 1, 7), (3.9, 3, 3), (7, 7, 1), (50, 50, 1)]
)
def test_blocks_hold_as_many_tiles_as_fit(
    monkeypatch: pytest.MonkeyPatch, block_tiles: float, n_at_once: int, count: int
) -> None:
    monkeypatch.setattr(pointwise, "BLOCK_BYTES", int(block_tiles * TILE_BYTES))
    blocks = PositionBlocks(maps=tf.zeros((N_TILES, N_POSITIONS, N_IN)), shortcut=None, n_out=N_OUT)
    assert (blocks.n_at_once, int(blocks.count)) == (n_at_once, count)


def build_head(
    *,
    convolution: dict[str, Any] | None = None,
    normalisation: dict[str, Any] | None = None,
    is_frozen: bool = True,
    has_shortcut: bool = False,
    shortcut_first: bool = False,
    relu: Any = "relu",
    pooling: Any = keras.layers.GlobalAveragePooling2D,
) -> keras.Model:
    """Return a head as backbones leave it: 1 x 1 convolution, what follows it, and new layers."""
    keras.utils.set_random_seed(1)
    main, other = keras.Input((3, 2, N_IN)), keras.Input((3, 2, 6))
    tensor = keras.layers.Conv2D(6, **{"kernel_size": 1, "name": "last", **(convolution or {})})(main)
    if normalisation is not None:
        layer = keras.layers.BatchNormalization(trainable=not is_frozen, **normalisation)
        tensor = layer(tensor)
        rng = np.random.default_rng(4)
        layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
    inputs = [main]
    if has_shortcut:
        inputs = [other, main] if shortcut_first else [main, other]
        tensor = keras.layers.Add()([other, tensor] if shortcut_first else [tensor, other])
    tensor = keras.layers.Activation(relu)(tensor) if isinstance(relu, str) else relu(tensor)
    return keras.Model(inputs, keras.layers.Dense(3)(pooling()(tensor)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convolution": {"use_bias": False}},
        {"normalisation": {}},
        {"normalisation": {"scale": False}},
        {"normalisation": {"center": False}},
        {"normalisation": {"axis": 3, "epsilon": 0.5}},
        {"relu": "relu6"},
        {"relu": keras.layers.ReLU()},
        {"relu": keras.layers.ReLU(max_value=6.0)},
        {"has_shortcut": True},
        {"has_shortcut": True, "shortcut_first": True, "normalisation": {}},
    ],
)
def test_a_head_that_fits_answers_as_keras_does(options: dict[str, Any]) -> None:
    head = build_head(**options)
    fast = match_pointwise(record_graph(head), convolution="last")
    assert fast is not None
    rng = np.random.default_rng(6)
    features = [tf.constant(4 * rng.normal(size=(5, *t.shape[1:])).astype(np.float32)) for t in head.inputs]
    expected = GeneralPass(head).compute_logits(features, is_training=False)
    np.testing.assert_allclose(fast.compute_logits(fast.prepare(features), is_training=False), expected, atol=2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"convolution": {"kernel_size": 3, "padding": "same"}},
        {"convolution": {"strides": 2}},
        {"convolution": {"activation": "relu"}},
        {"normalisation": {}, "is_frozen": False},
        {"normalisation": {"axis": 1}},
        {"relu": "gelu"},
        {"relu": keras.layers.ReLU(max_value=5.0)},
        {"relu": keras.layers.ReLU(negative_slope=0.1)},
        {"relu": keras.layers.ReLU(threshold=0.5)},
        {"pooling": keras.layers.GlobalMaxPooling2D},
        {"pooling": keras.layers.Flatten},
    ],
)
def test_other_heads_are_left_to_keras(options: dict[str, Any]) -> None:
    assert match_pointwise(record_graph(build_head(**options)), convolution="last") is None


def test_a_head_that_uses_a_map_twice_is_left_to_keras() -> None:
    """Squeeze and excitation: what the convolution makes of its input is multiplied with that input."""
    main = keras.Input((3, 2, N_IN))
    tensor = keras.layers.ReLU()(keras.layers.Conv2D(N_IN, 1, name="last")(main))
    gate = keras.layers.Reshape((1, 1, N_IN))(keras.layers.GlobalAveragePooling2D()(tensor))
    gated = keras.layers.Multiply()([main, gate])
    head = keras.Model(main, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(gated)))
    assert match_pointwise(record_graph(head), convolution="last") is None


def test_a_shortcut_around_the_convolution_alone_is_left_to_keras() -> None:
    main = keras.Input((3, 2, N_IN))
    tensor = keras.layers.Add()([main, keras.layers.Conv2D(N_IN, 1, name="last")(main)])
    head = keras.Model(main, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(tensor))))
    assert match_pointwise(record_graph(head), convolution="last") is None
