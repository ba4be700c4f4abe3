"""Every fast way gives the logits and gradients of the plain Keras head; each head takes the way meant for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, cut_network
from sem_search.transfer.heads.passes import GeneralPass, HeadPass, choose_pass
from sem_search.transfer.heads.pointwise import PointwisePass
from sem_search.transfer.heads.winograd import WinogradPass

N_TILES, N_CLASSES = 5, 3

WAYS = {
    "vgg16": WinogradPass,
    "resnet50": PointwisePass,
    "mobilenet_v2": PointwisePass,
    "efficientnet_b0": GeneralPass,
    "densenet121": GeneralPass,
    "convnext_tiny": GeneralPass,
    "tiny": GeneralPass,
}


def build(name: str, *, tile_px: int) -> tuple[keras.Model, str, list[tf.Tensor]]:
    """A head, the name of its convolution, and features of some size."""
    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone(name).build(tile_px=tile_px))
    head = build_head(cut, n_classes=N_CLASSES, hidden_units=16, dropout=0.0, seed=1)
    rng = np.random.default_rng(2)
    features = [tf.constant(rng.normal(size=(N_TILES, *t.shape[1:])).astype(np.float32)) for t in cut.tail.inputs]
    return head, cut.convolution, features


def compute(way: HeadPass, head: keras.Model, features: list[tf.Tensor]) -> tuple[np.ndarray, list[np.ndarray]]:
    variables = [variable.value for variable in head.trainable_variables]
    with tf.GradientTape() as tape:
        logits = way.compute_logits(way.prepare(features), is_training=True)
        labels = tf.range(N_TILES) % N_CLASSES
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    return logits.numpy(), [gradient.numpy() for gradient in tape.gradient(loss, variables)]


@pytest.mark.parametrize("name", sorted(WAYS))
def test_the_way_taken_equals_the_plain_head(name: str) -> None:
    head, convolution, features = build(name, tile_px=96 if name == "vgg16" else 64)
    way = choose_pass(head, convolution=convolution)
    assert type(way) is WAYS[name]
    logits, gradients = compute(way, head, features)
    plain_logits, plain_gradients = compute(GeneralPass(head), head, features)
    np.testing.assert_allclose(logits, plain_logits, rtol=0, atol=2e-5 * np.abs(plain_logits).max())
    assert any(np.abs(gradient).max() > 0 for gradient in plain_gradients)
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        np.testing.assert_allclose(gradient, plain, rtol=0, atol=2e-4 * np.abs(plain).max() + 1e-9)


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "mobilenet_v2"])
def test_prediction_needs_no_gradients(name: str) -> None:
    head, convolution, features = build(name, tile_px=64)
    way = choose_pass(head, convolution=convolution)
    logits = way.compute_logits(way.prepare(features), is_training=False)
    plain = GeneralPass(head).compute_logits(features, is_training=False)
    np.testing.assert_allclose(logits, plain, rtol=0, atol=2e-5 * float(tf.reduce_max(tf.abs(plain))))
