"""Tiles in, probabilities out: the one shared trunk and the head of every fold.

A head's answer for a tile is the softmax of its mean logit over the views of the tile that it learnt from, as it was
measured. What is shown of a tile (its embedding, its heat map) is that of view 0, the tile as it is.

Each fold's head was measured on images it never saw. Served are all of them: a tile's answer is the normalised
geometric mean of their softmax outputs, by the rule that joins the tiles of an image, too (`evaluation.metrics`). It is
no worse than the average head: the cross-entropy of a normalised geometric mean is at most the mean of their
cross-entropies, since the mean itself sums to at most one. It needs no training that was not measured.

The graph is traced once, for any number of tiles, so that no request waits for a trace and threads may share it. The
views are computed one after the other: eight take eight times as long, and no more memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from sem_search.micrographs.tiles import FloatTiles
from sem_search.records import FloatMatrix
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import average_channels
from sem_search.transfer.gradcam import compute_heat_maps
from sem_search.transfer.views import turn_tiles

FloatMaps = NDArray[np.float32]
FloatMatrices = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TileRun:
    """What the ensemble made of some tiles."""

    head_probabilities: FloatMatrices
    """Shape (n_heads, n_tiles, n_classes), rows sum to one; of all views."""
    embeddings: FloatMatrix
    """Shape (n_tiles, n_features): each of the trunk's channels, averaged over the tile in view 0."""
    features: tuple[Any, ...]
    """The trunk's crossing tensors in view 0, first axis n_tiles."""


class HeadEnsemble:
    """A trunk with the heads of all folds; safe to share between threads.

    Args:
        trunk: Pictures of shape (n, tile_px, tile_px, 3) to crossing tensors.
        heads: Crossing tensors to logits, shape (n, n_classes); one per fold, each with weights of its own.
        backbone: Turns grey tiles into the trunk's input.
        convolution: Name of the heads' last convolution layer.
        tile_px: Side of a tile.
        n_views: In how many views each tile is answered for.
    """

    def __init__(
        self,
        *,
        trunk: keras.Model,
        heads: Sequence[keras.Model],
        backbone: Backbone,
        convolution: str,
        tile_px: int,
        n_views: int = 1,
    ) -> None:
        self._heads = tuple(heads)
        self._n_views = n_views
        self._convolution = convolution
        self._tile_px = tile_px

        def answer(tiles: Any) -> tuple[Any, Any, list[Any]]:
            """Return the logits of each head, the embeddings, and the crossing tensors of some tiles."""
            features = keras.tree.flatten(trunk(backbone.preprocess(tiles), training=False))
            logits = [head(features, training=False) for head in self._heads]
            return tf.stack(logits), tf.cast(average_channels(features), tf.float64), features

        self._answer = tf.function(answer, input_signature=[tf.TensorSpec((None, tile_px, tile_px), tf.float32)])
        self._answer.get_concrete_function()

    def run(self, tiles: FloatTiles, *, check: Callable[[], None] = lambda: None) -> TileRun:
        """Return what all heads together make of these tiles.

        Args:
            tiles: Grey levels in [0, 1], shape (n, tile_px, tile_px). All are computed at once: the caller bounds n.
            check: Called before each view; what it raises ends the run.
        """
        check()
        logits, embeddings, features = self._answer(tf.constant(tiles, tf.float32))
        of_views = [logits]
        for view in range(1, self._n_views):
            check()
            of_views.append(self._answer(tf.constant(turn_tiles(tiles, view=view), tf.float32))[0])
        softmax = _compute_softmax(tf.reduce_mean(tf.cast(tf.stack(of_views), tf.float64), axis=0))
        return TileRun(head_probabilities=softmax.numpy(), embeddings=embeddings.numpy(), features=tuple(features))

    def compute_features(self, tiles: FloatTiles) -> tuple[Any, ...]:
        """Return the same run's features alone, with one pass of the trunk."""
        return tuple(self._answer(tf.constant(tiles, tf.float32))[2])

    def compute_heat_maps(self, features: Sequence[Any], *, label: int) -> FloatMaps:
        """Return where the heads look for one class: the mean of their Grad-CAM maps.

        Their common answer is the softmax of their mean logit, so that each head counts by how far it moves its logit.

        Args:
            features: As `run` gave them.
            label: Class whose logit is explained.

        Returns:
            Shape (n_tiles, height, width) at the resolution of the last convolution, 0 or more, all on one scale.
        """
        arrays = [np.asarray(tensor) for tensor in features]
        labels = np.full(len(arrays[0]), label, dtype=np.int64)
        maps = [
            compute_heat_maps(head, features=arrays, class_index=labels, convolution=self._convolution).strengths
            for head in self._heads
        ]
        mean: FloatMaps = np.mean(maps, axis=0, dtype=np.float32)
        return mean

    def warm_up(self, *, batch_sizes: Sequence[int] = (1,)) -> None:
        """Answer and explain blank tiles, in one view: no request pays for TensorFlow's first steps.

        Args:
            batch_sizes: How many tiles at once, each once: for some sizes oneDNN prepares what it keeps.
        """
        for n_tiles in batch_sizes:
            features = self.compute_features(np.zeros((n_tiles, self._tile_px, self._tile_px), dtype=np.float32))
            self.compute_heat_maps(features, label=0)


def _compute_softmax(logits: Any) -> Any:
    """Return the softmax; logits, float64, that are not finite give equal probabilities, as in training."""
    is_finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1, keepdims=True)
    return tf.nn.softmax(tf.where(is_finite, logits, 0.0))
