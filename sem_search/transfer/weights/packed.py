"""The weights that ship with this package: backbones trained on rendered particles, for machines without internet.

Compact: of each kernel, whole numbers of 8 bits and one scale per output channel; all else in 32 bits. Each unpacked
kernel weight is one product of two exact numbers, so that every machine gets the same values. NumPy reads the file
without pickle, and its hash must be that in the card beside it. How they were made, and their scores: docs/weights.md.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sem_search.errors import WeightsError

LEVELS = 127
"""Of each sign: a kernel's channel is stored as whole numbers from -127 to 127, times its own scale."""

PARTICLES_FOLDER = Path(__file__).with_name("particles")
"""One `<backbone>.npz` and one card, `<backbone>.json`, for each network that has them."""


def has_particle_weights(name: str) -> bool:
    """Return whether weights for this backbone ship with the package."""
    return (PARTICLES_FOLDER / f"{name}.npz").is_file()


def list_particle_weights() -> list[str]:
    """Return the names of the backbones whose weights ship with the package."""
    return sorted(file.stem for file in PARTICLES_FOLDER.glob("*.npz"))


def load_particle_weights(model: keras.Model, *, name: str) -> None:
    """Give a backbone the weights that ship with the package; see `load_packed_weights`.

    Args:
        model: The network without its classifier; changed in place.
        name: The backbone's.
    """
    load_packed_weights(model, file=PARTICLES_FOLDER / f"{name}.npz")


def load_packed_weights(model: keras.Model, *, file: Path) -> None:
    """Give a backbone what `write_particle_weights` wrote, held to the hash in the card beside it.

    Args:
        model: The network without its classifier; changed in place.
        file: Ends in `.npz`; its card has the same name and ends in `.json`.

    Raises:
        WeightsError: They or their card are missing or damaged, or do not fit the network.
    """
    wanted = _read_card(file.with_suffix(".json")).get("sha256")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _explain(file, error=error) from error
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise WeightsError(f"{file} is damaged: its SHA-256 is {found}, its card says {wanted}. {_name_remedy(file)}")
    arrays = _read_arrays(content, file=file)
    misfit = _find_misfit(arrays, model=model)
    if misfit is not None:
        raise WeightsError(
            f"{file} does not fit {model.name!r}: {misfit}. It is of another backbone, or of another version of Keras "
            "or of this package."
        )
    model.set_weights(arrays)


def read_card(name: str) -> Mapping[str, Any]:
    """Return the card of a backbone's shipped weights: how they were made, from how many pictures, and their hash.

    Raises:
        WeightsError: The card is missing or damaged.
    """
    return _read_card(PARTICLES_FOLDER / f"{name}.json")


def add_scores(name: str, *, data: str, scores: Mapping[str, float]) -> Path:
    """Write scores of a backbone's shipped weights into their card; return its file.

    Args:
        name: The backbone's.
        data: On which pictures; other scores, and those of other pictures, stay.
        scores: By their names.

    Raises:
        WeightsError: The card is missing or damaged.
    """
    card = dict(read_card(name))
    known = card.get("scores", {})
    of_data = {**known.get(data, {}), **scores}
    return _write_card({**card, "scores": {**known, data: of_data}}, name=name, folder=PARTICLES_FOLDER)


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
    card = {**card, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    _write_card(card, name=name, folder=folder)
    return file


def pack_array(array: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return an array in parts: vectors as they are, kernels as whole numbers and the scale of each channel."""
    if array.ndim < 2:
        return {"values": array}
    axis = _find_channels(array.shape)
    others = tuple(k for k in range(array.ndim) if k != axis)
    scale = (np.abs(array).max(axis=others, keepdims=True) / LEVELS).astype(np.float32)
    levels = np.rint(array / np.where(scale > 0, scale, 1)).clip(-LEVELS, LEVELS).astype(np.int8)
    return {"levels": levels, "scale": scale}


def unpack_array(parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return what `pack_array` took apart, rounded to its levels."""
    if "values" in parts:
        return np.asarray(parts["values"], dtype=np.float32)
    return parts["levels"].astype(np.float32) * np.asarray(parts["scale"], dtype=np.float32)


def _write_card(card: Mapping[str, Any], *, name: str, folder: Path) -> Path:
    file = folder / f"{name}.json"
    file.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return file


def _find_channels(shape: tuple[int, ...]) -> int:
    """Return the axis of the output channels: the last, or the one before it in depthwise kernels."""
    return len(shape) - 1 if shape[-1] > 1 else len(shape) - 2


def _find_misfit(arrays: list[NDArray[np.float32]], *, model: keras.Model) -> str | None:
    """Return why arrays are not a network's weights, or None where they can be."""
    if len(arrays) != len(model.weights):
        return f"it holds {len(arrays)} arrays, the network {len(model.weights)}"
    for array, weight in zip(arrays, model.weights, strict=True):
        if array.shape != tuple(weight.shape):
            return f"it holds {array.shape} where the network has {tuple(weight.shape)} ({weight.path})"
    return None


def _read_card(file: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _explain(file, error=error) from error


def _explain(file: Path, *, error: Exception) -> WeightsError:
    return WeightsError(f"{file} cannot be read ({type(error).__name__}). {_name_remedy(file)}")


def _name_remedy(file: Path) -> str:
    if file.parent == PARTICLES_FOLDER:
        return "Install the package again."
    return "Weights and card are one: copy both again, or have scripts/pretrain pack them again."


def _read_arrays(content: bytes, *, file: Path) -> list[NDArray[np.float32]]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            parts: dict[str, dict[str, NDArray[Any]]] = {}
            for key in sorted(stored.files):
                number, part = key.split(".")
                parts.setdefault(number, {})[part] = stored[key]
            return [unpack_array(parts[number]) for number in sorted(parts)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _explain(file, error=error) from error
