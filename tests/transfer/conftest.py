"""Heads small enough for a test, and a pass whose tiles lie along the second axis."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf

from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, cut_network
from sem_search.transfer.passes import GeneralPass

N_CLASSES = 3


class SecondAxisPass(GeneralPass):
    """The plain head on features that are kept with an axis before them, as Winograd's way keeps its own."""

    tile_axis = 1

    def keep(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        return [2 * feature[None] for feature in features]

    def compute_logits(self, kept: Sequence[tf.Tensor], *, is_training: bool) -> tf.Tensor:
        return super().compute_logits([tensor[0] / 2 for tensor in kept], is_training=is_training)


def build_tiny_head(*, dropout: float = 0.0) -> keras.Model:
    """Return the head of the tiny backbone; every call gives the same weights."""
    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone("tiny").build(tile_px=32))
    return build_head(cut, n_classes=N_CLASSES, hidden_units=8, dropout=dropout, seed=1)


def draw_features(head: keras.Model, *, n_tiles: int) -> list[np.ndarray]:
    """Return one array per input of the head, shape (n_tiles, ...), float32, centred on zero."""
    rng = np.random.default_rng(2)
    return [rng.normal(size=(n_tiles, *tensor.shape[1:])).astype(np.float32) for tensor in head.inputs]


@pytest.fixture
def make_head() -> Callable[..., keras.Model]:
    return build_tiny_head


@pytest.fixture
def make_features() -> Callable[..., list[np.ndarray]]:
    return draw_features


@pytest.fixture(params=[GeneralPass, SecondAxisPass])
def pass_type(request: pytest.FixtureRequest) -> type[GeneralPass]:
    return request.param
