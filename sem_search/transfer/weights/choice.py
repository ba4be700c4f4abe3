"""Weights for a backbone, and the record of what was really used.

The record names the weights that the network really has, by name and by hash, whatever was asked for; it holds a
warning where they are less than was asked for.
"""

from dataclasses import dataclass
from pathlib import Path

import keras

from sem_search.errors import WeightsError
from sem_search.micrographs.tiles import FloatTiles
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.names import (
    AUTO_WEIGHTS,
    IMAGENET_WEIGHTS,
    PARTICLES_WEIGHTS,
    RANDOM_WEIGHTS,
    WEIGHTS_NAMES,
    WEIGHTS_SUFFIXES,
)
from sem_search.transfer.weights.download import fetch_published_weights
from sem_search.transfer.weights.files import compute_weights_digest, read_weights_into
from sem_search.transfer.weights.packed import has_particle_weights, list_particle_weights, load_particle_weights
from sem_search.transfer.weights.random import fill_random_weights

FIRST_BYTE_S = 20.0
"""How long the first byte of a download may take where ImageNet weights were asked for by name."""

WHOLE_FILE_S = 300.0
"""And the rest: 100 MB over a line of 3 Mbit/s."""

AUTO_FIRST_BYTE_S = 4.0
"""The same where `auto` only looks whether they can be had: a search begins without a long wait."""

AUTO_WHOLE_FILE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """Which weights a network has got."""

    used: str
    """`imagenet`, `particles`, `random`, or the name of a file."""
    sha256: str
    """Over all arrays of the network in order, with their names, shapes and types."""
    warnings: tuple[str, ...]
    """What a user must know about them."""


def build_weighted_backbone(
    backbone: Backbone, *, weights: str, tile_px: int, seed: int, calibration_tiles: FloatTiles
) -> tuple[keras.Model, WeightsRecord]:
    """Build a backbone and give it weights.

    Args:
        backbone: Which network.
        weights: `imagenet` (from Keras' cache, or downloaded once), `particles` (shipped with this package), `random`
            (He's, scaled on the calibration tiles), `auto` (the first of these that can be had at once), or a file.
        tile_px: Side of a tile.
        seed: Decides random weights.
        calibration_tiles: Grey levels in [0, 1], shape (n, tile_px, tile_px); seen by random weights only.

    Returns:
        The network without its classifier, and the record of its weights.

    Raises:
        WeightsError: The weights asked for cannot be had, or do not fit.
        SettingsError: The tiles are too small for the network.
    """
    check_weights(weights, backbone=backbone.name)
    model = backbone.build(tile_px=tile_px)
    used = weights
    warnings: tuple[str, ...] = ()
    if weights == IMAGENET_WEIGHTS:
        _load_imagenet_or_explain(model, backbone)
    elif weights == PARTICLES_WEIGHTS:
        load_particle_weights(model, name=backbone.name)
    elif weights == AUTO_WEIGHTS:
        used, warnings = _load_best(model, backbone)
    elif weights != RANDOM_WEIGHTS:
        file = Path(weights).expanduser()
        read_weights_into(model, file=file)
        used = file.name
    if used == RANDOM_WEIGHTS:
        fill_random_weights(model, pictures=backbone.preprocess(calibration_tiles), seed=seed)
    digest = compute_weights_digest(model)
    return model, WeightsRecord(used=used, sha256=digest, warnings=warnings)


def check_weights(weights: str, *, backbone: str) -> None:
    """Refuse what is neither a name of weights nor a file, before data are read and networks built.

    Args:
        weights: As in `build_weighted_backbone`.
        backbone: The name of the network that they are for.

    Raises:
        WeightsError: There are no such weights.
    """
    file = Path(weights).expanduser()
    if weights == PARTICLES_WEIGHTS and not has_particle_weights(backbone):
        raise WeightsError(
            f"weights={PARTICLES_WEIGHTS!r}: this version ships none for backbone {backbone!r}, only for "
            f"{', '.join(list_particle_weights())}. Choose one of these, or give {_name_substitutes(backbone)}."
        )
    if weights in WEIGHTS_NAMES or file.is_file():
        return
    if file.suffix in WEIGHTS_SUFFIXES:
        raise WeightsError(f"weights={weights!r}: there is no such file here ({file.absolute()}).")
    raise WeightsError(f"weights={weights!r} is neither a file nor one of: {', '.join(WEIGHTS_NAMES)}")


def _load_imagenet_or_explain(model: keras.Model, backbone: Backbone) -> None:
    try:
        _load_imagenet(model, backbone, first_byte_s=FIRST_BYTE_S, whole_file_s=WHOLE_FILE_S)
    except WeightsError as error:
        raise WeightsError(f"{error} Else give {_name_substitutes(backbone.name)}.") from error


def _name_substitutes(backbone: str) -> str:
    """Return, as they are typed, the weights that can be had anywhere."""
    shipped = f"weights={PARTICLES_WEIGHTS}, " if has_particle_weights(backbone) else ""
    return f"{shipped}weights={RANDOM_WEIGHTS} or weights=FILE"


def _load_imagenet(model: keras.Model, backbone: Backbone, *, first_byte_s: float, whole_file_s: float) -> None:
    if backbone.imagenet is None:
        raise WeightsError(f"weights={IMAGENET_WEIGHTS!r}: there are none for backbone {backbone.name!r}.")
    file = fetch_published_weights(backbone.imagenet, first_byte_s=first_byte_s, whole_file_s=whole_file_s)
    read_weights_into(model, file=file)


def _load_best(model: keras.Model, backbone: Backbone) -> tuple[str, tuple[str, ...]]:
    """Load the best weights that can be had at once; return their name and the warnings about them."""
    try:
        _load_imagenet(model, backbone, first_byte_s=AUTO_FIRST_BYTE_S, whole_file_s=AUTO_WHOLE_FILE_S)
    except WeightsError as error:
        reason = str(error)
    else:
        return IMAGENET_WEIGHTS, ()
    if has_particle_weights(backbone.name):
        load_particle_weights(model, name=backbone.name)
        return PARTICLES_WEIGHTS, (
            f"weights={AUTO_WEIGHTS}: the weights trained on rendered particles that ship with this package are used "
            "instead of ImageNet's. docs/weights.md lists their scores; scores with other weights cannot be "
            f"compared with these. {reason}",
        )
    return RANDOM_WEIGHTS, (
        f"weights={AUTO_WEIGHTS}: RANDOM weights are used, with which scores stay far below those of ImageNet weights. "
        f"{reason} No other weights for {backbone.name!r} ship with this version.",
    )
