"""A tiny classifier, whole: real trunk, real heads with weights of their own, logged to a real MLflow store."""

import base64
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from mlflow.pyfunc import PyFuncModel, load_model
from PIL import Image

from sem_search.deployment.packaging import ClassifierParts, LoggedClassifier, log_classifier
from sem_search.micrographs.tiles import TileGrid
from sem_search.seeds import derive_seed
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, cut_network

TILE_PX = 32
CLASS_NAMES = ("cellulose", "lactose", "starch")


def build_parts(
    *,
    backbone: str = "tiny",
    tile_px: int = TILE_PX,
    stride_px: int | None = None,
    n_heads: int = 3,
    crop_bottom_px: int = 0,
    seed: int = 0,
) -> ClassifierParts:
    """Return a classifier of random weights, in which the heads differ enough for their answers to differ."""
    keras.utils.set_random_seed(seed)
    cut = cut_network(get_backbone(backbone).build(tile_px=tile_px))
    head = build_head(cut, n_classes=len(CLASS_NAMES), hidden_units=8, seed=seed)
    head_weights = []
    for fold in range(n_heads):
        rng = np.random.default_rng(derive_seed(seed, "head", fold))
        # Factors above zero: variances of a normalisation stay variances.
        head_weights.append(
            [weight * rng.uniform(0, 4, weight.shape).astype("float32") for weight in head.get_weights()]
        )
    return ClassifierParts(
        trunk=cut.trunk,
        head=head,
        head_weights=head_weights,
        convolution=cut.convolution,
        backbone=backbone,
        class_names=CLASS_NAMES,
        grid=TileGrid(size_px=tile_px, stride_px=stride_px or tile_px),
        crop_bottom_px=crop_bottom_px,
        max_megapixels=3.0,
        pixel_sizes_nm={"starch": [5.0, 2.5]},
        settings={"learning_rate": 0.01},
        hashes={"data_sha256": "d" * 64},
    )


class Pictures:
    """Pictures and the files they come in."""

    @staticmethod
    def draw(height_px: int = 70, width_px: int = 100, *, seed: int = 0) -> np.ndarray:
        """Return noisy waves, shape (height_px, width_px), uint8."""
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:height_px, :width_px]
        waves = np.sin(rows / rng.uniform(2, 9)) * np.sin(columns / rng.uniform(2, 9))
        return np.clip(128 + 60 * waves + rng.normal(scale=20, size=waves.shape), 0, 255).astype(np.uint8)

    @staticmethod
    def encode(pixels: np.ndarray, file_format: str = "PNG") -> bytes:
        """Return the content of a file."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format=file_format)
        return buffer.getvalue()

    def to_text(self, pixels: np.ndarray, file_format: str = "PNG") -> str:
        """Return the base64 text of a file."""
        return base64.b64encode(self.encode(pixels, file_format)).decode()


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture(scope="session")
def make_parts() -> Callable[..., ClassifierParts]:
    return build_parts


@pytest.fixture(scope="session")
def parts() -> ClassifierParts:
    return build_parts()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, make_mlflow_store: Callable[[Path], str]) -> Path:
    """A folder with an MLflow database and its artifacts."""
    folder = tmp_path_factory.mktemp("store")
    make_mlflow_store(folder)
    return folder


@pytest.fixture
def tracking(store: Path) -> Iterator[mlflow.MlflowClient]:
    """The store, set as MLflow's; put back afterwards."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def open_run(tracking: mlflow.MlflowClient, store: Path) -> Callable[[], str]:
    """Opens a run whose artifacts stay inside the store's folder."""
    return lambda: _open_run(tracking, store)


@pytest.fixture(scope="session")
def logged(parts: ClassifierParts, store: Path) -> LoggedClassifier:
    """The tiny classifier, logged once for all tests."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    try:
        return log_classifier(parts, run_id=_open_run(mlflow.MlflowClient(), store))
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="session")
def served(logged: LoggedClassifier, store: Path) -> PyFuncModel:
    """The tiny classifier, loaded from the store as MLflow's server loads it."""
    before, path_before = mlflow.get_tracking_uri(), list(sys.path)
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    try:
        return load_model(logged.model_uri)
    finally:
        mlflow.set_tracking_uri(before)
        sys.path[:] = path_before


def _open_run(client: mlflow.MlflowClient, store: Path) -> str:
    experiment = client.get_experiment_by_name("served")
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment("served", artifact_location=(store / "artifacts").as_uri())
    )
    return client.create_run(experiment_id).info.run_id
