"""Weights in the package's own compact files, and the cards beside them: the side that writes."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sem_search.transfer.weights import packed

LEVELS = 127
"""Of each sign: a kernel's channel is stored as whole numbers from -127 to 127, times its own scale."""


def write_particle_weights(model: keras.Model, *, name: str, card: Mapping[str, Any], folder: Path) -> Path:
    """Write a backbone's weights and their card; return the file of the weights.

    Args:
        model: The trained backbone.
        name: Of the backbone.
        card: How the weights were made.
        folder: Where both files go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.npz"
    arrays: dict[str, Any] = {}
    for number, weight in enumerate(model.get_weights()):
        arrays |= {f"{number:04d}.{part}": array for part, array in pack_array(weight).items()}
    np.savez_compressed(file, **arrays)
    _write_card({**card, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}, file=file.with_suffix(".json"))
    return file


def pack_array(array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return an array in parts: vectors as they are, kernels as whole numbers and the scale of each channel."""
    if array.ndim < 2:
        return {"values": array}
    axis = array.ndim - 1 if array.shape[-1] > 1 else array.ndim - 2  # of the output channels, in depthwise kernels
    others = tuple(k for k in range(array.ndim) if k != axis)
    scale = (np.abs(array).max(axis=others, keepdims=True) / LEVELS).astype(np.float32)
    levels = np.rint(array / np.where(scale > 0, scale, 1)).clip(-LEVELS, LEVELS).astype(np.int8)
    return {"levels": levels, "scale": scale}


def add_scores(name: str, *, data: str, scores: Mapping[str, float]) -> None:
    """Write scores of a backbone's shipped weights into their card.

    Args:
        name: The backbone's.
        data: On which pictures; other scores, and those of other pictures, stay.
        scores: By their names.

    Raises:
        WeightsError: The card is missing or damaged.
    """
    file = packed.PARTICLES_FOLDER / f"{name}.json"
    card = packed.read_card(file)
    known = card.get("scores", {})
    _write_card({**card, "scores": {**known, data: {**known.get(data, {}), **scores}}}, file=file)


def _write_card(card: Mapping[str, Any], *, file: Path) -> None:
    file.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
