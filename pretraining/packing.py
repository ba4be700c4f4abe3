"""Twins laid side by side, folded, and packed into the package's own files with a card that says how they were made."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pretraining.networks import join_twins
from pretraining.recipe import PretrainingRecipe
from pretraining.training import TrainedTwin
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.particle_weights import PARTICLES_FOLDER, write_particle_weights

PROBE_PX = 64
TOLERANCE = 1e-3
"""By which joined and folded networks may differ from the twins, of the largest feature: rounding alone."""


def pack(
    twins: Sequence[TrainedTwin],
    *,
    backbone: Backbone,
    recipe: PretrainingRecipe,
    facts: Mapping[str, Any],
    folder: Path | None = None,
) -> Path:
    """Write the weights and the card of a backbone; return the file of the weights.

    Args:
        twins: All that the recipe asks for.
        backbone: Which network.
        recipe: How they were made.
        facts: What else the card is to tell.
        folder: Where to; by default into the package.

    Raises:
        ValueError: The published network does not compute what the twins do.
    """
    published = build_published([twin.network for twin in twins], backbone=backbone)
    card = {
        "backbone": backbone.name,
        "made": time.strftime("%Y-%m-%d"),
        "recipe": asdict(recipe),
        "training_s": round(sum(twin.training_s for twin in twins)),
        "n_crops": sum(twin.n_rounds * twin.n_steps * twin.batch_size for twin in recipe.twins),
        "n_scans": recipe.scans.n_scans + (recipe.twin.n_rounds - 1) * recipe.scans.n_renewed,
        **facts,
    }
    return write_particle_weights(published, name=backbone.name, card=card, folder=folder or PARTICLES_FOLDER)


def build_published(twins: Sequence[keras.Model], *, backbone: Backbone) -> keras.Model:
    """Return the published architecture with what the twins have learned; its features are theirs, one after the other.

    Raises:
        ValueError: They are not.
    """
    published = backbone.build_open()
    join_twins(twins, published=published)
    pictures = backbone.preprocess(np.random.default_rng(0).random((2, PROBE_PX, PROBE_PX), dtype=np.float32))
    wanted = np.concatenate([np.asarray(twin(pictures, training=False)) for twin in twins], axis=-1)
    found = np.asarray(published(pictures, training=False))
    wanted = np.pad(wanted, [(0, 0)] * 3 + [(0, found.shape[-1] - wanted.shape[-1])])  # channels that no twin fills
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not error < TOLERANCE:
        raise ValueError(f"{backbone.name} does not compute what its twins do: features differ by {error:.2g}")
    return published
