"""A trained classifier into a run, as one self-contained MLflow model.

    MLmodel, requirements.txt ...   MLflow's own
    entry_script.py                 the script that MLflow runs to load the model; no pickle is involved
    code/sem_search/                the code that answers, as it was when the model was measured
    artifacts/classifier/
        model.json                  what it is, with the hash of every file
        trunk.onnx                  preprocessing and the frozen part
        heads.onnx                  the heads of all folds, with Grad-CAM
        calibration.npz             what the heads answered where they were not trained, and what follows from it
    artifacts/record/               the model card, and what stands behind it (see `package.record`)
    input_example.json ...          a small picture, ready to be sent
    files.json                      every file above with its hash

MLflow notes where each file was copied from; these paths are removed, so that a model gives away nothing of the machine
that trained it. Requirements are stated, not derived: deriving them loads the model in another process, for 18 s.
"""

import base64
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map, Object, Property
from numpy.typing import NDArray

import sem_search
from sem_search.deployment.package.calibration_record import CALIBRATION_FILE, Calibration, write_calibration
from sem_search.deployment.package.code import compute_code_sha256, copy_package
from sem_search.deployment.package.description import DESCRIPTION_FILE, ClassifierDescription, compute_file_sha256
from sem_search.deployment.package.files import write_file_list
from sem_search.deployment.package.reading import HEADS_GRAPH, TRUNK_GRAPH
from sem_search.deployment.package.record import RECORD_FOLDER, ModelRecord, write_record
from sem_search.deployment.pyfunc.model import MODEL_FOLDER
from sem_search.deployment.pyfunc.requests import DEFAULT_COVERAGE, IMAGE_COLUMN
from sem_search.micrographs.reading.micrograph import encode_png, encode_tiff
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.served_graphs import convert_network

CODE_FOLDER = "code"

MODEL_NAME = "classifier"
"""Name of a model that is given none."""

SERVED_MODEL = Path(__file__).parents[1] / "pyfunc" / "entry_script.py"

NO_STEP = -1
"""MLflow copies to a model the metrics of its step, by default 0: here that would be fold 0 and epoch 0 only."""

QUIET_VARIABLES = ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "MLFLOW_UV_AUTO_DETECT")
"""A bar for each copied file would tear the search's own; a uv.lock of the user's folder is none of the model's."""

SERVING_REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow", "scipy", "tifffile", "tqdm")
"""Distributions that the answering code imports, each pinned to the version that the model was measured with."""

TILE_ANSWER = Object(
    [
        Property("top_px", DataType.long),
        Property("left_px", DataType.long),
        Property("label", DataType.string),
        Property("probability", DataType.double),
        Property("probabilities", Map(DataType.double)),
    ]
)

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, IMAGE_COLUMN)]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(DataType.double, "probability"),
            ColSpec(Map(DataType.double), "probabilities"),
            ColSpec(Array(DataType.string), "prediction_set"),
            ColSpec(DataType.double, "coverage"),
            ColSpec(DataType.long, "n_calibration_images"),
            ColSpec(DataType.long, "n_calibration_groups"),
            ColSpec(DataType.boolean, "is_known", required=False),
            ColSpec(DataType.double, "novelty", required=False),
            ColSpec(DataType.double, "novelty_threshold", required=False),
            ColSpec(DataType.boolean, "is_training_image", required=False),
            ColSpec(DataType.double, "agreement"),
            ColSpec(DataType.double, "spread"),
            ColSpec(DataType.double, "pixel_size_nm", required=False),
            ColSpec(DataType.string, "pixel_size"),
            ColSpec(DataType.long, "n_tiles"),
            ColSpec(Array(DataType.string), "warnings"),
            ColSpec(DataType.string, "model_name", required=False),
            ColSpec(DataType.string, "model_version", required=False),
            ColSpec(DataType.string, "image_png", required=False),
            ColSpec(DataType.string, "overlay_png", required=False),
            ColSpec(Array(TILE_ANSWER), "tiles", required=False),
            ColSpec(DataType.string, "error", required=False),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("explain", DataType.boolean, False),
            ParamSpec("tiles", DataType.boolean, False),
            ParamSpec("on_error", DataType.string, "refuse"),
            ParamSpec("coverage", DataType.double, DEFAULT_COVERAGE),
            ParamSpec("coverage_of", DataType.string, "images"),
        ]
    ),
)


@dataclass(frozen=True, kw_only=True)
class ClassifierParts:
    """Everything that is served, and where it comes from."""

    trunk: keras.Model
    head: keras.Model
    """The architecture that all fold heads share; its own weights are not used."""
    head_weights: Sequence[Sequence[NDArray[np.float32]]]
    """One entry per fold: `head.get_weights()` of the best epoch."""
    description: ClassifierDescription
    """What it is; versions, hashes of code and files are added when it is written."""
    calibration: Calibration | None = None
    """What the out-of-fold answers teach about new ones; None where there are none to learn from."""


@dataclass(frozen=True, kw_only=True)
class LoggedClassifier:
    """A classifier that is in a run."""

    model_id: str
    run_id: str
    warnings: tuple[str, ...]
    """What a user must know: heads whose training diverged."""

    @property
    def model_uri(self) -> str:
        """`models:/<model id>`, which `mlflow.pyfunc.load_model` takes."""
        return f"models:/{self.model_id}"


def log_classifier(
    parts: ClassifierParts,
    *,
    run_id: str,
    name: str = MODEL_NAME,
    record: ModelRecord | None = None,
    params: Mapping[str, str] | None = None,
) -> LoggedClassifier:
    """Log the classifier as a model of a run, which may be active or not.

    Cost: the time to write and copy the weights; the model is not loaded.

    The record travels with the model and states its origin; MLflow shows the params beside it.
    """
    with tempfile.TemporaryDirectory(prefix="sem_search_") as staging, _quiet_mlflow():
        folder = Path(staging)
        warnings = write_model_folder(parts, folder=folder / MODEL_FOLDER)
        copy_package(folder / CODE_FOLDER / "sem_search")
        if record is not None:
            write_record(record, folder=folder / RECORD_FOLDER)
        logged = Model.log(
            artifact_path=None,
            model_id=_open_logged_model(run_id=run_id, name=name, params=params or {}),
            flavor=_SelfContainedFlavor,
            run_id=run_id,
            step=NO_STEP,
            validate_serving_input=False,
            shown_name=name,
            python_model=SERVED_MODEL,
            artifacts={part: str(folder / part) for part in (MODEL_FOLDER, RECORD_FOLDER) if (folder / part).is_dir()},
            code_paths=[str(folder / CODE_FOLDER / "sem_search")],
            signature=SIGNATURE,
            input_example=build_input_example(parts),
            pip_requirements=list_requirements(),
            metadata=_summarise(parts.description, folder=folder / MODEL_FOLDER),
        )
    return LoggedClassifier(model_id=str(logged.model_id), run_id=run_id, warnings=warnings)


def write_model_folder(parts: ClassifierParts, *, folder: Path) -> tuple[str, ...]:
    """Write trunk, heads and description into a new folder; return the warnings."""
    folder.mkdir(parents=True)
    graphs = convert_network(
        parts.trunk,
        head=parts.head,
        head_weights=parts.head_weights,
        backbone=get_backbone(parts.description.backbone),
        convolution=parts.description.convolution,
    )
    (folder / TRUNK_GRAPH).write_bytes(graphs.trunk)
    (folder / HEADS_GRAPH).write_bytes(graphs.heads)
    if parts.calibration is not None:
        write_calibration(parts.calibration, path=folder / CALIBRATION_FILE)
    description = replace(
        parts.description,
        sem_search_version=sem_search.__version__,
        code_sha256=compute_code_sha256(),
        files={path.name: compute_file_sha256(path) for path in sorted(folder.iterdir())},
    )
    (folder / DESCRIPTION_FILE).write_text(description.to_json(), encoding="utf-8")
    return tuple(
        f"the head of fold {index + 1} diverged: what is served answers as it was measured, with equal probabilities"
        for index, weights in enumerate(parts.head_weights)
        if not all(np.isfinite(weight).all() for weight in weights)
    )


def build_input_example(parts: ClassifierParts) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a request that the model answers: one picture of one tile and its data bar, and the parameters.

    The picture shows bright discs on dark ground; it is of no material, and small as a file.
    """
    description = parts.description
    height_px, width_px = description.tile_px + description.crop_bottom_px, description.tile_px
    rows, columns = np.mgrid[:height_px, :width_px]
    step = max(8, width_px // 4)
    is_disc = (rows % step - step // 2) ** 2 + (columns % step - step // 2) ** 2 < (step // 3) ** 2
    picture = np.where(is_disc, 200, 60).astype(np.uint8)
    pixel_nm = description.pixel_size_nm
    content = encode_png(picture) if pixel_nm is None else encode_tiff(picture, pixel_nm=pixel_nm)
    frame = pd.DataFrame({IMAGE_COLUMN: [base64.b64encode(content).decode("ascii")]})
    return frame, {param.name: param.default for param in SIGNATURE.params.params}


def list_requirements() -> list[str]:
    """Return what a server must install, each distribution at the version that is installed here."""
    return [f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS]


def _open_logged_model(*, run_id: str, name: str, params: Mapping[str, str]) -> str:
    """Create the entry of a model in the experiment of its run; MLflow itself would take the active experiment."""
    client = MlflowClient()
    model = client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        name=name,
        source_run_id=run_id,
        params=dict(params),
        model_type="classifier",
    )
    return str(model.model_id)


def _summarise(description: ClassifierDescription, *, folder: Path) -> dict[str, Any]:
    """Return the facts that can be read from MLmodel without loading anything."""
    return {
        "class_names": list(description.class_names),
        "backbone": description.backbone,
        "tile_px": description.tile_px,
        "sem_search_version": sem_search.__version__,
        "description_sha256": compute_file_sha256(folder / DESCRIPTION_FILE),
        **description.hashes,
    }


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Let MLflow log a model without bars and notes, and without looking around in the current folder."""
    logger = logging.getLogger("mlflow.pyfunc")
    level_before = logger.level
    before = {name: os.environ[name] for name in QUIET_VARIABLES if name in os.environ}
    logger.setLevel(logging.WARNING)
    os.environ.update(dict.fromkeys(QUIET_VARIABLES, "false"))
    try:
        yield
    finally:
        logger.setLevel(level_before)
        for name in QUIET_VARIABLES:
            del os.environ[name]
        os.environ.update(before)


class _SelfContainedFlavor:
    """MLflow's pyfunc flavor, less the paths of this machine, and with a list of what was written."""

    @staticmethod
    def save_model(
        *, path: str, mlflow_model: Model, shown_name: str, validate_serving_input: bool, **given: Any
    ) -> None:
        """Save as `mlflow.pyfunc` does, replace the paths that nothing needs, and list every file with its hash.

        `validate_serving_input` is `Model.log`'s own: the example is answered by a test, not anew for each trial.
        """
        mlflow.pyfunc.save_model(path=path, mlflow_model=mlflow_model, **given)
        flavor = mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME]
        flavor["model_code_path"] = Path(flavor["model_code_path"]).name
        for artifact in flavor["artifacts"].values():
            artifact["uri"] = artifact["path"]
        mlflow_model.artifact_path = shown_name
        mlflow_model.save(str(Path(path, "MLmodel")))
        write_file_list(Path(path))
