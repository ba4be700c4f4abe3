"""A twin carried over into the whole network, and packed into the package's own files with a card beside them."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pretraining.networks import carry_over
from pretraining.packed_weights import pack_array, write_particle_weights
from pretraining.recipe import PretrainingRecipe
from pretraining.training import TrainedTwin
from sem_search.errors import SemSearchError
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.weights.files import compute_weights_digest
from sem_search.transfer.weights.packed import PARTICLES_FOLDER, unpack_array


class PackingError(SemSearchError):
    """Weights that would not be what was trained."""


PROBE_PX = 64
TOLERANCE = 1e-3
"""By which the whole network may differ from its twin, of the largest feature: rounding of 32 bits alone."""

PACKED_TOLERANCE = 0.1
"""And what is packed in 8 bits: root mean square over the features, of their own."""


def pack(
    trained: TrainedTwin,
    *,
    backbone: Backbone,
    recipe: PretrainingRecipe,
    facts: Mapping[str, Any],
    folder: Path | None = None,
) -> Path:
    """Write the weights and the card of a backbone; return the file of the weights.

    Args:
        trained: To the end of its recipe.
        backbone: Which network.
        recipe: How it was made.
        facts: What else goes into the card.
        folder: Where to; by default into the package.

    Raises:
        PackingError: The published network does not compute what the twin does, as it is or packed.
    """
    published = build_published(trained.network, backbone=backbone)
    rounded = round_weights(published, backbone=backbone)
    twin = recipe.twin
    card = {
        "backbone": backbone.name,
        "made": time.strftime("%Y-%m-%d"),
        "recipe": asdict(recipe),
        "training_s": round(trained.training_s),
        "n_crops": twin.n_rounds * twin.n_steps * twin.batch_size,
        "n_scans": recipe.scans.n_scans + (twin.n_rounds - 1) * recipe.scans.n_renewed,
        "rounding": float(f"{measure_rounding(published, rounded=rounded, backbone=backbone):.2g}"),
        "powders": trained.identity["powders"],
        "teacher_sha256": trained.identity["teacher"],
        "weights_sha256": compute_weights_digest(rounded),
        **facts,
    }
    return write_particle_weights(published, name=backbone.name, card=card, folder=folder or PARTICLES_FOLDER)


def build_published(twin: keras.Model, *, backbone: Backbone) -> keras.Model:
    """Return the published architecture with what the twin has learned; its first features are the twin's, the rest 0.

    Raises:
        PackingError: They are not.
    """
    published = backbone.build_open()
    carry_over(twin, published=published)
    wanted, found = _compute_features(twin, backbone=backbone), _compute_features(published, backbone=backbone)
    wanted = np.pad(wanted, [(0, 0)] * 3 + [(0, found.shape[-1] - wanted.shape[-1])])
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not error < TOLERANCE:
        raise PackingError(
            f"{backbone.name} does not compute what its twin does: features differ by {error:.2g} of the largest. "
            "Nothing was written; its layers and `pretraining/networks.py` do not fit each other."
        )
    return published


def round_weights(published: keras.Model, *, backbone: Backbone) -> keras.Model:
    """Return the network with the weights that packing leaves of its own."""
    rounded = backbone.build_open()
    rounded.set_weights([unpack_array(pack_array(array)) for array in published.get_weights()])
    return rounded


def measure_rounding(published: keras.Model, *, rounded: keras.Model, backbone: Backbone) -> float:
    """Return by how much packing changes the features: root mean square, as a share of theirs.

    Raises:
        PackingError: By too much.
    """
    wanted, found = _compute_features(published, backbone=backbone), _compute_features(rounded, backbone=backbone)
    error = float(np.sqrt(np.square(found - wanted).mean() / np.square(wanted).mean()))
    if not error < PACKED_TOLERANCE:
        raise PackingError(
            f"{backbone.name} loses too much in 8 bits: features differ by {error:.2g} of their root mean square, "
            f"{PACKED_TOLERANCE:g} is allowed. Nothing was written; look for channels of very unequal weights."
        )
    return error


def _compute_features(network: keras.Model, *, backbone: Backbone) -> NDArray[np.float32]:
    pictures = np.random.default_rng(0).random((2, PROBE_PX, PROBE_PX), dtype=np.float32)
    features: NDArray[np.float32] = keras.ops.convert_to_numpy(network(backbone.preprocess(pictures), training=False))
    return features
