"""Tiles in, probabilities out: the one shared trunk and the head of every fold.

A head's answer for a tile is the softmax of its mean logit over the views of the tile that it learnt from, as it was
measured. What is shown of a tile (its embedding, its heat map) is that of view 0, the tile as it is.

Each fold's head was measured on images it never saw. Served are all of them: a tile's answer is the normalised
geometric mean of their softmax outputs, by the rule that joins the tiles of an image, too (`evaluation.metrics`). It is
no worse than the average head: the cross-entropy of a normalised geometric mean is at most the mean of their
cross-entropies, since the mean itself sums to at most one. It needs no training that was not measured.

Trunk and heads are graphs of ONNX Runtime (`transfer.served_graphs`): TensorFlow is not needed. Threads may share
them. The views are computed one after the other: eight take eight times as long, and no more memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sem_search.micrographs.tiles import FloatTiles
from sem_search.records import FloatMatrix
from sem_search.transfer.engine import FloatArray, OnnxFunction
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
    features: tuple[FloatArray, ...]
    """The trunk's crossing tensors in view 0, first axis n_tiles."""


class HeadEnsemble:
    """A trunk with the heads of all folds; safe to share between threads.

    Args:
        trunk: Graph from grey tiles, shape (n, tile_px, tile_px), to crossing tensors.
        heads: Graph from crossing tensors to `logits` and `heat` of all heads.
        tile_px: Side of a tile.
        n_views: In how many views each tile is answered for.
    """

    def __init__(self, *, trunk: OnnxFunction, heads: OnnxFunction, tile_px: int, n_views: int = 1) -> None:
        self._trunk = trunk
        self._heads = heads
        self._tile_px = tile_px
        self._n_views = n_views

    def run(self, tiles: FloatTiles, *, check: Callable[[], None] = lambda: None) -> TileRun:
        """Return what all heads together make of these tiles.

        Args:
            tiles: Grey levels in [0, 1], shape (n, tile_px, tile_px). All are computed at once: the caller bounds n.
            check: Called before each view; what it raises ends the run.
        """
        check()
        features = self.compute_features(tiles)
        of_views = [self._compute_logits(features)]
        for view in range(1, self._n_views):
            check()
            of_views.append(self._compute_logits(self.compute_features(turn_tiles(tiles, view=view))))
        logits = np.stack(of_views).mean(axis=0, dtype=np.float64)
        return TileRun(
            head_probabilities=_compute_softmax(logits), embeddings=_average_channels(features), features=features
        )

    def compute_features(self, tiles: FloatTiles) -> tuple[FloatArray, ...]:
        """Return the same run's features alone, with one pass of the trunk."""
        return tuple(self._trunk(tiles))

    def compute_heat_maps(self, features: Sequence[FloatArray], *, label: int, head: int | None = None) -> FloatMaps:
        """Return where the heads look for one class: the mean of their Grad-CAM maps.

        Their common answer is the softmax of their mean logit, so that each head counts by how far it moves its logit.

        Args:
            features: As `run` gave them.
            label: Class whose logit is explained.
            head: Number of the fold, from 0, whose head alone is explained; None explains all together.

        Returns:
            Shape (n_tiles, height, width) at the resolution of the last convolution, 0 or more, all on one scale. The
            map of a diverged head is zero where it is no number.
        """
        (heat,) = self._heads(*features, outputs=["heat"])
        asked = heat if head is None else heat[head : head + 1]
        mean: FloatMaps = np.nan_to_num(asked[:, :, label], nan=0.0, posinf=0.0).mean(axis=0)
        return mean

    def warm_up(self, *, batch_sizes: Sequence[int]) -> None:
        """Answer and explain so many blank tiles at once, in one view: no request pays for the first steps."""
        for n_tiles in batch_sizes:
            features = self.compute_features(np.zeros((n_tiles, self._tile_px, self._tile_px), dtype=np.float32))
            self._heads(*features)

    def _compute_logits(self, features: Sequence[FloatArray]) -> FloatArray:
        """Return the logits of all heads, shape (n_heads, n_tiles, n_classes)."""
        (logits,) = self._heads(*features, outputs=["logits"])
        return logits


def _average_channels(features: Sequence[FloatArray]) -> FloatMatrix:
    """Return the channels of all crossing tensors, averaged over every axis between the first and the last."""
    averaged = [array.mean(axis=tuple(range(1, array.ndim - 1))) for array in features]
    return np.concatenate(averaged, axis=-1).astype(np.float64)


def _compute_softmax(logits: FloatMatrices) -> FloatMatrices:
    """Return the softmax; logits that are not finite give equal probabilities, as in training."""
    is_finite = np.isfinite(logits).all(axis=-1, keepdims=True)
    probabilities: FloatMatrices = softmax(np.where(is_finite, logits, 0.0), axis=-1)
    return probabilities
