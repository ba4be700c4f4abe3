"""A trained classifier into a run, as one self-contained MLflow model (being written: signatures first)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.reading import DEFAULT_MAX_MEGAPIXELS
from sem_search.micrographs.tiles import TileGrid

MODEL_NAME = "classifier"


@dataclass(frozen=True, kw_only=True)
class ClassifierParts:
    """Everything that is served, and where it comes from."""

    trunk: keras.Model
    head: keras.Model
    """The architecture that all fold heads share; its own weights are not used."""
    head_weights: Sequence[Sequence[NDArray[np.float32]]]
    """One entry per fold: `head.get_weights()` of the epoch that was kept."""
    convolution: str
    backbone: str
    class_names: tuple[str, ...]
    grid: TileGrid
    crop_bottom_px: int
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS
    pixel_sizes_nm: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Class name -> pixel sizes of its training images, where files tell them."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON values: learning rate, batch size, seed, ..."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """What leads back: data_sha256, folds_sha256, weights_sha256, weights_used, ..."""


@dataclass(frozen=True, kw_only=True)
class LoggedClassifier:
    """A classifier that is in a run."""

    model_uri: str
    """`models:/<model id>`"""
    run_id: str
    warnings: tuple[str, ...]


def log_classifier(parts: ClassifierParts, *, run_id: str, name: str = MODEL_NAME) -> LoggedClassifier:
    """Log the classifier as a model of a run; the run may be active or not."""
    raise NotImplementedError
