"""A model folder from disk into a classifier that has answered once: what a server does before its first request."""

import logging
from pathlib import Path

from sem_search.deployment.classifier.classifier import BATCH_TILES, MicrographClassifier
from sem_search.deployment.classifier.ensemble import HeadEnsemble
from sem_search.deployment.package.calibration_record import CALIBRATION_FILE, read_calibration
from sem_search.deployment.package.code import compute_code_sha256
from sem_search.deployment.package.description import ClassifierDescription, read_description
from sem_search.deployment.package.keras_files import TRUNK_FILE, convert_keras_files
from sem_search.deployment.package.record import RECORD_FOLDER, read_catalogue_record
from sem_search.transfer.engine import OnnxFunction
from sem_search.transfer.views import VIEWS

TRUNK_GRAPH = "trunk.onnx"
HEADS_GRAPH = "heads.onnx"

_logger = logging.getLogger(__name__)


def read_classifier(folder: Path, *, graphs: tuple[bytes, bytes] | None = None) -> MicrographClassifier:
    """Read a model folder that `package.writing.write_model_folder` wrote, and warm it up.

    The record beside it, if there is one, gives the hashes of the images that the model was made from.

    A warning is logged if the code that runs is not the code that was stored with the model.

    Args:
        folder: The model folder.
        graphs: As `read_graphs` returns them, where they have been read before.

    Raises:
        StoreError: The folder is incomplete, damaged or of another format; the message names the file.
    """
    description = read_description(folder)
    _check_code(description)
    trunk, heads = graphs or read_graphs(folder, description=description)
    ensemble = HeadEnsemble(
        trunk=OnnxFunction(trunk),
        heads=OnnxFunction(heads),
        tile_px=description.tile_px,
        n_views=VIEWS[description.augment],
    )
    ensemble.warm_up(batch_sizes=(1, BATCH_TILES))
    calibration = read_calibration(folder / CALIBRATION_FILE) if CALIBRATION_FILE in description.files else None
    record = folder.with_name(RECORD_FOLDER)
    images = read_catalogue_record(record, root=record).records if record.is_dir() else None
    return MicrographClassifier(
        description=description,
        ensemble=ensemble,
        calibration=calibration,
        pixel_hashes=None if images is None else frozenset(image.pixels_sha256 for image in images),
    )


def read_graphs(folder: Path, *, description: ClassifierDescription) -> tuple[bytes, bytes]:
    """Return the graphs of trunk and heads; those of a model from before format 3 are converted from Keras' files."""
    if TRUNK_FILE in description.files:
        graphs = convert_keras_files(folder, description=description)
        return graphs.trunk, graphs.heads
    return (folder / TRUNK_GRAPH).read_bytes(), (folder / HEADS_GRAPH).read_bytes()


def _check_code(description: ClassifierDescription) -> None:
    """Log a warning if other code answers than the code that was measured."""
    if description.code_sha256 != compute_code_sha256():
        _logger.warning(
            "This model was logged with sem_search %s, and the sem_search that is imported here differs from it in the "
            "code that makes answers. In a process that has not imported sem_search, the model uses its own copy.",
            description.sem_search_version,
        )
