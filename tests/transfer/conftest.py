"""Heads small enough for a test, and a pass whose tiles lie along the second axis.

Keras is imported where it is used: the tests of files, downloads and threads do without it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    import keras

N_CLASSES = 3


def build_tiny_head(*, dropout: float = 0.0) -> "keras.Model":
    """Return the head of the tiny backbone; every call gives the same weights."""
    import keras

    from sem_search.transfer.backbones import get_backbone
    from sem_search.transfer.cut import build_head, cut_network

    keras.utils.set_random_seed(0)
    cut = cut_network(get_backbone("tiny").build(tile_px=32))
    return build_head(cut, n_classes=N_CLASSES, hidden_units=8, dropout=dropout, seed=1)


def draw_features(head: "keras.Model", *, n_tiles: int) -> list[np.ndarray]:
    """Return one array per input of the head, shape (n_tiles, ...), float32, centred on zero."""
    rng = np.random.default_rng(2)
    return [rng.normal(size=(n_tiles, *tensor.shape[1:])).astype(np.float32) for tensor in head.inputs]


@pytest.fixture
def make_head() -> Callable[..., "keras.Model"]:
    return build_tiny_head


@pytest.fixture
def make_features() -> Callable[..., list[np.ndarray]]:
    return draw_features


@pytest.fixture(params=["first", "second"])
def pass_type(request: pytest.FixtureRequest) -> type[Any]:
    """The plain head, and one on features that are prepared with an axis before them, as Winograd's way does it."""
    from sem_search.transfer.heads.passes import GeneralPass

    class SecondAxisPass(GeneralPass):
        tile_axis = 1

        def prepare(self, features: Sequence[Any]) -> list[Any]:
            return [2 * feature[None] for feature in features]

        def compute_logits(self, prepared: Sequence[Any], *, is_training: bool) -> Any:
            return super().compute_logits([tensor[0] / 2 for tensor in prepared], is_training=is_training)

    return GeneralPass if request.param == "first" else SecondAxisPass
