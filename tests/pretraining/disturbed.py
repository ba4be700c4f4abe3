"""Networks that seem to have learned something."""

import keras
import numpy as np


def disturb(model: keras.Model, *, seed: int) -> None:
    """Give every weight, moving means and variances too, a value that no fresh layer has."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        is_spread = "variance" in weight.path or "gamma" in weight.path
        drawn = rng.uniform(0.5, 1.5, weight.shape) if is_spread else rng.normal(0.0, 0.2, weight.shape)
        weight.assign(drawn.astype(np.float32))
