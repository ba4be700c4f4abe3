"""Weights of a network: read from a file, with words for what does not fit, and named by a digest."""

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sem_search.errors import WeightsError
from sem_search.transfer.names import PACKED_SUFFIX, WEIGHTS_SUFFIXES
from sem_search.transfer.weights.packed import load_packed_weights

N_MISFITS_SHOWN = 5
UNNAMED_ARRAY = re.compile(r"variable(_\d+)?")


def read_weights_into(model: keras.Model, *, file: Path) -> None:
    """Load a weights file into a network.

    Args:
        model: The network; changed in place. After an error its weights are not to be used.
        file: HDF5 weights (`.weights.h5`, or `.h5` as older Keras wrote them), a saved Keras model (`.keras`) that
            contains layers of the same names or the same weights in the same order, or what `scripts/pretrain --pack`
            wrote (`.npz`, its card beside it).

    Raises:
        WeightsError: There is no such file, it is no weights file, it does not fit the network (the message names
            the layers and shapes), or it holds values that are not finite.
    """
    if not file.is_file():
        raise WeightsError(f"weights={str(file)!r}: there is no such file.")
    if file.suffix not in WEIGHTS_SUFFIXES:
        raise WeightsError(
            f"weights={str(file)!r}: weights files end in one of {', '.join(WEIGHTS_SUFFIXES)}, not in {file.suffix!r}."
        )
    if file.suffix == PACKED_SUFFIX:
        load_packed_weights(model, file=file)
    elif file.suffix == ".keras":
        _copy_weights(_read_saved_model(file), model=model, file=file)
    else:
        _read_hdf5(model, file)
    _check_finite(model, file)


def compute_weights_digest(model: keras.Model) -> str:
    """Return the SHA-256, in hexadecimal, over all arrays of a network in order.

    The arrays' own names, shapes and types go in with their place; the names of layers do not, because Keras numbers
    unnamed layers by what else the process has built. It numbers unnamed arrays so as well (ConvNeXt has some): these
    are counted here within the network.
    """
    digest = hashlib.sha256()
    n_unnamed = 0
    for place, weight in enumerate(model.weights):
        name = weight.name
        if UNNAMED_ARRAY.fullmatch(name):
            name = f"variable_{n_unnamed}" if n_unnamed else "variable"
            n_unnamed += 1
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{place} {name} {array.shape} {array.dtype.str}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _read_saved_model(file: Path) -> keras.Model:
    try:
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, ImportError) as error:
        raise WeightsError(
            f"weights={str(file)!r}: not a Keras model that can be loaded safely: {_shorten(error)}"
        ) from error


def _copy_weights(source: keras.Model, *, model: keras.Model, file: Path) -> None:
    """Copy weights by the names of their layers, or by their order where both networks have the same ones."""
    by_name = _name_weights(source)
    pairs = [(weight, by_name.get(name)) for name, weight in _name_weights(model).items()]
    if any(found is None for _, found in pairs) and len(source.weights) == len(model.weights):
        pairs = list(zip(model.weights, source.weights, strict=True))
    misfits = [
        f"{wanted.path} needs {tuple(wanted.shape)}, the file has {'none' if found is None else tuple(found.shape)}"
        for wanted, found in pairs
        if found is None or found.shape != wanted.shape
    ]
    if misfits:
        more = f" and {len(misfits) - N_MISFITS_SHOWN} more" if len(misfits) > N_MISFITS_SHOWN else ""
        raise WeightsError(
            f"weights={str(file)!r} do not fit {model.name!r}: {'; '.join(misfits[:N_MISFITS_SHOWN])}{more}."
        )
    for wanted, found in pairs:
        wanted.assign(found)


def _name_weights(model: keras.Model) -> dict[str, Any]:
    """Return the weights by the name of their layer and their own, whatever models the layer is nested in."""
    weights: dict[str, Any] = {}
    for layer in model.layers:
        is_nested = isinstance(layer, keras.Model)
        weights |= _name_weights(layer) if is_nested else {f"{layer.name}/{own.name}": own for own in layer.weights}
    return weights


def _read_hdf5(model: keras.Model, file: Path) -> None:
    """Load with Keras, then check whether it left anything out: Keras only warns then, and sometimes without need."""
    kernels = [weight for weight in model.weights if weight.name.endswith("kernel")]
    for kernel in kernels:
        kernel.assign(np.full(kernel.shape, np.nan))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Skipping nested container", category=UserWarning)
            model.load_weights(file)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise WeightsError(
            f"weights={str(file)!r} do not fit {model.name!r}: are they of another network? Then give its name as "
            f"backbone. Keras says: {_shorten(error)}"
        ) from error
    untouched = [kernel.path for kernel in kernels if np.isnan(kernel.numpy()).all()]
    if untouched:
        raise WeightsError(
            f"weights={str(file)!r} do not fit {model.name!r}: nothing was found for {len(untouched)} layers, "
            f"the first is {untouched[0]}."
        )


def _check_finite(model: keras.Model, file: Path) -> None:
    wrong = [weight.path for weight in model.weights if not np.isfinite(weight.numpy()).all()]
    if wrong:
        raise WeightsError(
            f"weights={str(file)!r}: {len(wrong)} arrays hold values that are not finite, the first is {wrong[0]}; "
            "the file is damaged or its training diverged."
        )


def _shorten(error: Exception) -> str:
    """Return the first lines of a library's message as one: what follows repeats the whole model."""
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else f"{words[:300]} ..."
