"""What names the weights of a network, whatever file or seed they came from."""

import hashlib

import keras
import numpy as np


def compute_weights_digest(model: keras.Model) -> str:
    """Return the SHA-256, in hexadecimal, over all arrays of a network in order.

    The arrays' own names, shapes and types go in with their place; the names of layers do not, because Keras numbers
    unnamed layers by what else the process has built.
    """
    digest = hashlib.sha256()
    for place, weight in enumerate(model.weights):
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(weight))
        digest.update(f"{place} {weight.name} {array.shape} {array.dtype.str}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
