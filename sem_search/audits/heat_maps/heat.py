"""Heat maps of all tiles by all heads of a study, and how the score changes where the hottest cells are deleted.

Everything works on stored trunk features: a head gets its stored weights and is explained; nothing is trained. A
deleted cell gets the mean features of all tiles, as if nothing particular were there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from sem_search.audits.subject import AuditSubject
from sem_search.records import FloatMatrix, FloatVector, IntVector
from sem_search.seeds import derive_seed
from sem_search.transfer.cut import build_head
from sem_search.transfer.gradcam import compute_heat_maps

FloatMaps = NDArray[np.float64]
HeadWeights = tuple[NDArray[np.float32], ...]

SHARES: FloatVector = np.linspace(0.0, 1.0, 11)
"""Of the cells that are deleted or inserted."""

CHUNK_TILES = 64
"""Tiles whose features are read at once."""

NEW_LAYERS = "head_"
"""What the names of the new layers begin with."""


class Explainer:
    """One head that is given weights, and the features that it explains."""

    def __init__(self, subject: AuditSubject) -> None:
        """Build the head.

        Args:
            subject: The study.
        """
        self._subject = subject
        self._head = build_head(
            subject.cut,
            n_classes=subject.n_classes,
            hidden_units=subject.hidden_units,
            dropout=subject.dropout,
            seed=subject.seed,
        )

    def explain(self, weights: HeadWeights, tiles: IntVector) -> FloatMaps:
        """Return where a head of these weights looks for each tile's true class, shape (n, height, width)."""
        self._head.set_weights(list(weights))
        labels = self._subject.tiles.label_of_tile
        maps = [
            compute_heat_maps(
                self._head,
                features=[np.asarray(array[part]) for array in self._subject.features.arrays],
                class_index=labels[part],
                convolution=self._subject.cut.convolution,
            ).values
            for part in _iter_chunks(tiles)
        ]
        return np.concatenate(maps).astype(np.float64)

    def randomise(self, weights: HeadWeights, *, with_convolution: bool) -> HeadWeights:
        """Return the weights with the values of the new layers permuted, on request those of the last convolution, too.

        Each array keeps its values and loses their places: what a map owes to training is lost, what it owes to the
        picture and to the architecture stays (Adebayo et al., NeurIPS 2018).
        """
        rng = np.random.default_rng(derive_seed(self._subject.seed, "audit", "randomised"))
        prefixes = (NEW_LAYERS, f"{self._subject.cut.convolution}/") if with_convolution else (NEW_LAYERS,)
        paths = [str(weight.path) for weight in self._head.weights]
        return tuple(
            rng.permutation(array.ravel()).reshape(array.shape) if path.startswith(prefixes) else array
            for path, array in zip(paths, weights, strict=True)
        )

    def trace(
        self, weights: HeadWeights, tiles: IntVector, *, order: FloatMaps, mean: Sequence[NDArray[Any]]
    ) -> tuple[FloatMatrix, FloatMatrix]:
        """Return the probability of the true class while cells are deleted, or inserted, the highest of `order` first.

        Each has shape (n, n_steps).

        Args:
            weights: Of the head.
            tiles: Tile indices, shape (n,).
            order: Shape (n, height, width).
            mean: What a deleted cell holds: for each crossing tensor its mean, shape (n_channels,).
        """
        self._head.set_weights(list(weights))
        deletion, insertion = [], []
        for part, some in zip(_iter_chunks(tiles), _iter_chunks(order), strict=True):
            features = [np.asarray(array[part]) for array in self._subject.features.arrays]
            ranks = _rank_cells(some)
            labels = self._subject.tiles.label_of_tile[part]
            steps = [ranks < share for share in SHARES]
            deletion.append(np.stack([self._answer(features, mean, is_out, labels) for is_out in steps], axis=1))
            insertion.append(np.stack([self._answer(features, mean, ~is_in, labels) for is_in in steps], axis=1))
        return np.concatenate(deletion), np.concatenate(insertion)

    def _answer(
        self,
        features: Sequence[NDArray[np.float32]],
        mean: Sequence[NDArray[Any]],
        is_out: NDArray[np.bool_],
        labels: IntVector,
    ) -> FloatVector:
        """Return the probability of the true class with some cells deleted, shape (n,)."""
        shown = [
            np.where(_stretch(is_out, shape=array.shape[1:3])[..., None], blank.astype(np.float32), array)
            for array, blank in zip(features, mean, strict=True)
        ]
        logits = np.asarray(self._head(shown, training=False), dtype=np.float64)
        answers: FloatVector = softmax(logits, axis=1)[np.arange(len(labels)), labels]
        return answers


def explain_unseen(explainer: Explainer, *, head_weights: Mapping[int, HeadWeights], own_fold: IntVector) -> FloatMaps:
    """Return where a head looks that was not trained on the tile, shape (n_tiles, height, width).

    Args:
        explainer: Of the study.
        head_weights: The head of each fold, by the fold's number.
        own_fold: Whose head explains each tile: the fold that tests it, or of heads of the search the fold that it
            validates; shape (n_tiles,).
    """
    parts = []
    for fold, weights in head_weights.items():
        members = np.flatnonzero(own_fold == fold)
        parts.append((members, explainer.explain(weights, members)))
    maps = np.zeros((len(own_fold), *parts[0][1].shape[1:]))
    for members, values in parts:
        maps[members] = values
    return maps


def compute_mean_features(subject: AuditSubject) -> list[NDArray[np.float64]]:
    """Return the mean of each crossing tensor over all tiles and places, each of shape (n_channels,)."""
    tiles = np.arange(subject.tiles.n_tiles)
    return [
        np.mean(
            [np.asarray(array[part]).mean(axis=(0, 1, 2), dtype=np.float64) for part in _iter_chunks(tiles)], axis=0
        )
        for array in subject.features.arrays
    ]


def _iter_chunks(rows: NDArray[Any]) -> list[NDArray[Any]]:
    return [rows[start : start + CHUNK_TILES] for start in range(0, len(rows), CHUNK_TILES)]


def _rank_cells(order: FloatMaps) -> FloatMaps:
    """Return the share of cells that go before each cell, in [0, 1), the highest first, shape of `order`."""
    flat = order.reshape(len(order), -1)
    places = np.argsort(np.argsort(-flat, axis=1, kind="stable"), axis=1)
    return (places / flat.shape[1]).reshape(order.shape)


def _stretch(cells: NDArray[np.bool_], *, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return cells at the resolution of a feature map, each place belonging to the cell that it lies in."""
    rows = np.arange(shape[0]) * cells.shape[1] // shape[0]
    columns = np.arange(shape[1]) * cells.shape[2] // shape[1]
    return cells[:, rows[:, None], columns[None, :]]
