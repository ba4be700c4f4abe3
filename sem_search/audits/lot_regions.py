"""Which regions of a tile speak for its lot.

The score of a tile is a weighted sum over the trunk's channels, each averaged over the tile (`evaluation.lots.scores`).
So each place of the feature map has a share of it that is known exactly, the same sum over its own channels; the mean
of all places is the score. For a score of this form that is Grad-CAM's map, too (Selvaraju et al., ICCV 2017, section
3.1), there known as CAM (Zhou et al., CVPR 2016): the gradient of the score is the weights themselves.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sem_search.records import FloatVector
from sem_search.transfer.gradcam import resize_heat_maps

FloatMap = NDArray[np.float64]


def compute_shares(features: Sequence[NDArray[np.float32]], *, weights: FloatVector, offset: float) -> FloatMap:
    """Return what each place of a tile adds to its score, shape (side, side); its mean is the score.

    Args:
        features: What crosses from trunk to head, of one tile, each of shape (height, width, n_channels); the coarser
            ones are enlarged to the finest.
        weights: Of all channels of all of them, in their order, shape (n_features,).
        offset: Of the score.
    """
    side = max(array.shape[0] for array in features)
    ends = np.cumsum([array.shape[-1] for array in features])
    parts = [
        np.asarray(array, dtype=np.float64) @ part
        for array, part in zip(features, np.split(weights, ends[:-1]), strict=True)
    ]
    shares: FloatMap = np.sum([_enlarge(part, side=side) for part in parts], axis=0) + offset
    return shares


def compute_heat(shares: FloatMap) -> FloatMap:
    """Return how much each place speaks for the lot, from 0 (not at all, or against it) to 1 (most of this tile)."""
    positive = np.maximum(shares, 0.0)
    highest = float(positive.max())
    return positive / highest if highest > 0 else positive


def _enlarge(part: FloatMap, *, side: int) -> FloatMap:
    """Return a map at the finest resolution, its mean kept."""
    if len(part) == side:
        return part
    enlarged = resize_heat_maps(part[None].astype(np.float32), size_px=side)[0].astype(np.float64)
    kept: FloatMap = enlarged + (part.mean() - enlarged.mean())
    return kept
