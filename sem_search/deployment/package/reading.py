"""A model folder from disk into a classifier that has answered once: what a server does before its first request."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from sem_search.deployment.classifier.classifier import BATCH_TILES, MicrographClassifier
from sem_search.deployment.classifier.ensemble import HeadEnsemble
from sem_search.deployment.package.calibration_record import CALIBRATION_FILE, read_calibration
from sem_search.deployment.package.code import compute_code_sha256
from sem_search.deployment.package.description import ClassifierDescription, read_description
from sem_search.deployment.package.record import RECORD_FOLDER, read_pixel_hashes
from sem_search.errors import StoreError
from sem_search.files import unpack_arrays
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.views import VIEWS

TRUNK_FILE = "trunk.keras"
HEAD_FILE = "head.json"

_logger = logging.getLogger(__name__)


def name_head_weights(index: int) -> str:
    """Return the file that holds the weights of one head."""
    return f"head_{index}.npz"


def read_classifier(folder: Path) -> MicrographClassifier:
    """Read a model folder that `package.writing.write_model_folder` wrote, and warm it up.

    The record beside it, if there is one, gives the hashes of the images that the model was made from.

    A warning is logged if the code that runs is not the code that was stored with the model.

    Raises:
        StoreError: The folder is incomplete, damaged or of another format; the message names the file.
    """
    description = read_description(folder)
    _check_code(description)
    # safe_mode: a model file may describe layers, but bring no code.
    trunk = keras.saving.load_model(folder / TRUNK_FILE, compile=False, safe_mode=True)
    structure = (folder / HEAD_FILE).read_text(encoding="utf-8")
    heads = [_read_head(folder, structure=structure, index=index) for index in range(description.n_heads)]
    ensemble = HeadEnsemble(
        trunk=trunk,
        heads=heads,
        backbone=get_backbone(description.backbone),
        convolution=description.convolution,
        tile_px=description.tile_px,
        n_views=VIEWS[description.augment],
    )
    with _quiet_tensorflow():
        ensemble.warm_up(batch_sizes=(1, BATCH_TILES))
    calibration = read_calibration(folder / CALIBRATION_FILE) if CALIBRATION_FILE in description.files else None
    record = folder.with_name(RECORD_FOLDER)
    return MicrographClassifier(
        description=description,
        ensemble=ensemble,
        calibration=calibration,
        pixel_hashes=read_pixel_hashes(record) if record.is_dir() else None,
    )


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Keep TensorFlow from warning of one trace per head, which is meant."""
    logger = logging.getLogger("tensorflow")
    level_before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level_before)


def _read_head(folder: Path, *, structure: str, index: int) -> keras.Model:
    name = name_head_weights(index)
    head = keras.models.model_from_json(structure)
    weights = list(unpack_arrays((folder / name).read_bytes()).values())
    shapes = [weight.shape for weight in weights]
    if shapes != [tuple(weight.shape) for weight in head.weights]:
        raise StoreError(f"The model is inconsistent: the weights in {name} do not fit {HEAD_FILE}.")
    head.set_weights(weights)
    return head


def _check_code(description: ClassifierDescription) -> None:
    """Log a warning if other code answers than the code that was measured."""
    if description.code_sha256 != compute_code_sha256():
        _logger.warning(
            "This model was logged with sem_search %s, and the sem_search that is imported here differs from it in the "
            "code that makes answers. In a process that has not imported sem_search, the model uses its own copy.",
            description.sem_search_version,
        )
