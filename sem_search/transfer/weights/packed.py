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
    """Give a backbone what `pretraining.packed_weights` wrote, held to the hash in the card beside it.

    Args:
        model: The network without its classifier; changed in place.
        file: Ends in `.npz`; its card has the same name and ends in `.json`.

    Raises:
        WeightsError: They or their card are missing or damaged, or do not fit the network.
    """
    wanted = read_card(file.with_suffix(".json")).get("sha256")
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


def unpack_array(parts: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Return an array from its parts: levels and the scale of each channel, or values as they are."""
    if "values" in parts:
        return np.asarray(parts["values"], dtype=np.float32)
    return parts["levels"].astype(np.float32) * np.asarray(parts["scale"], dtype=np.float32)


def _find_misfit(arrays: list[NDArray[np.float32]], *, model: keras.Model) -> str | None:
    if len(arrays) != len(model.weights):
        return f"it holds {len(arrays)} arrays, the network {len(model.weights)}"
    for array, weight in zip(arrays, model.weights, strict=True):
        if array.shape != tuple(weight.shape):
            return f"it holds {array.shape} where the network has {tuple(weight.shape)} ({weight.path})"
    return None


def read_card(file: Path) -> Mapping[str, Any]:
    """Return the card of packed weights: how they were made, from how many pictures, and their hash.

    Raises:
        WeightsError: The card is missing or damaged.
    """
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
