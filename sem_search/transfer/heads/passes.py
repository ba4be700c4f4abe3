"""How a head turns features into logits: the general way, and faster ways that give the same numbers.

Every way is a `HeadPass`. It prepares the features (once, since features never change) in the form that it needs, and
computes logits, and through TensorFlow's tapes gradients, from batches of that form. The way is chosen by the
head's graph (types and geometry of its layers), so that the rest of the program need not know it.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from sem_search.transfer.graph import record_graph
from sem_search.transfer.heads.pointwise import PointwisePass, match_pointwise
from sem_search.transfer.heads.winograd import WinogradPass, match_winograd


class GeneralPass:
    """Calls the Keras head: right for every network."""

    tile_axis = 0

    def __init__(self, head: keras.Model) -> None:
        self._head = head

    def prepare(self, features: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the crossing tensors as they are."""
        return list(features)

    def compute_logits(self, prepared: Sequence[tf.Tensor], *, is_training: bool) -> tf.Tensor:
        """Return the head's logits, shape (n, n_classes)."""
        return self._head(list(prepared), training=is_training)


HeadPass = PointwisePass | WinogradPass | GeneralPass
"""One way from features to logits; the tiles lie along `tile_axis` of the prepared tensors."""


def choose_pass(head: keras.Model, *, convolution: str) -> HeadPass:
    """Return the fastest way that fits the head.

    Args:
        head: Crossing tensors to logits, as `build_head` returns it.
        convolution: Name of the trained convolution layer.
    """
    graph = record_graph(head)
    return (
        match_pointwise(graph, convolution=convolution)
        or match_winograd(graph, convolution=convolution)
        or GeneralPass(head)
    )
