"""A tiny classifier, whole: real trunk, real heads with weights of their own, logged to a real MLflow store."""

import base64
import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import pytest
from mlflow.pyfunc import PyFuncModel, load_model
from PIL import Image

from sem_search.deployment.package.calibration_record import Calibration
from sem_search.deployment.package.card import CardClass, CardConfusion, CardFold, CardScore, ModelCard
from sem_search.deployment.package.description import ClassifierDescription
from sem_search.deployment.package.record import ModelRecord, OutOfFold
from sem_search.deployment.package.writing import ClassifierParts, LoggedClassifier, log_classifier
from sem_search.evaluation.conformal import CrossAnswers
from sem_search.evaluation.novelty import NoveltyModel, fit_novelty
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.folds import Fold, FoldTable, draw_folds
from sem_search.records import Cell, FoldOutcome, Split, TileTable, TrainingCurves, TrialOutcome
from sem_search.seeds import derive_seed
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import build_head, cut_network
from sem_search.transfer.features import embed_stored_features

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
    **facts: Any,
) -> ClassifierParts:
    """Return a classifier of random weights, in which the heads differ enough for their answers to differ; `facts` are
    further ones of its description.
    """
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
        description=ClassifierDescription(
            class_names=CLASS_NAMES,
            backbone=backbone,
            convolution=cut.convolution,
            n_heads=n_heads,
            tile_px=tile_px,
            stride_px=stride_px or tile_px,
            crop_bottom_px=crop_bottom_px,
            max_megapixels=3.0,
            pixel_sizes_nm={"starch": (2.5, 5.0)},
            settings={"learning_rate": 0.01},
            hashes={"data_sha256": "d" * 64},
            **facts,
        ),
        calibration=draw_calibration(n_heads=n_heads, novelty=draw_novelty(cut.trunk, backbone, tile_px=tile_px)),
    )


def draw_calibration(*, n_heads: int, n_images: int = 30, novelty: NoveltyModel | None = None) -> Calibration:
    """Return a calibration of answers that never were."""
    return Calibration(
        temperature=1.25,
        answers=CrossAnswers(
            of_true_class=np.random.default_rng(0).uniform(0.3, 1, n_images),
            network_of_image=np.arange(n_images) % n_heads,
            group_of_image=np.arange(n_images),
            label_of_image=np.arange(n_images) % len(CLASS_NAMES),
        ),
        novelty=novelty,
    )


def draw_novelty(trunk: keras.Model, backbone: str, *, tile_px: int) -> NoveltyModel:
    """Return what noisy waves look like to a trunk: twelve images of two tiles."""
    pictures = [Pictures.draw(tile_px, tile_px, seed=seed) for seed in range(24)]
    tiles = np.stack(pictures).astype(np.float32) / 255
    features = keras.tree.flatten(trunk(get_backbone(backbone).preprocess(tiles)))
    return fit_novelty(
        embed_stored_features([np.asarray(array) for array in features]),
        image_of_tile=np.repeat(np.arange(12), 2),
        label_of_image=np.arange(12) % len(CLASS_NAMES),
        part_of_image=np.arange(12) // 4,
    )


TILES_PER_IMAGE = 4


def build_catalogue(folder: Path, *, n_images: int = 9, class_names: tuple[str, ...] = CLASS_NAMES) -> Catalogue:
    """Return a catalogue whose files exist, and are no pictures: nothing here decodes them."""
    records = []
    for label in class_names:
        for number in range(n_images):
            path = folder / label / f"{number}.png"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{label} {number}")
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            records.append(
                ImageRecord(
                    image_id=f"{label}/{number}.png",
                    path=path,
                    label=label,
                    group=f"{label}/{number}.png",
                    session=None,
                    sha256=sha256,
                    pixels_sha256=sha256,
                    width_px=64,
                    height_px=64,
                    bit_depth=8,
                    mode="L",
                    pixel_size_nm=2.5,
                    acquired_at=None,
                    detector=None,
                    voltage_kv=None,
                    mean_grey=0.5,
                    contrast=0.1,
                    noise=0.01,
                )
            )
    return Catalogue(root=folder, records=tuple(records))


def build_out_of_fold(catalogue: Catalogue, *, folds: FoldTable, skill: float, seed: int, run_id: str) -> OutOfFold:
    """Return answers that are right the more often the greater the skill: 0 is chance, 9 is hardly ever wrong."""
    names = catalogue.class_names
    tiles = TileTable(
        class_names=names,
        image_ids=tuple(record.image_id for record in catalogue.records),
        label_of_image=np.array([names.index(record.label) for record in catalogue.records], dtype=np.int64),
        group_of_image=tuple(record.group for record in catalogue.records),
        image_of_tile=np.repeat(np.arange(len(catalogue.records)), TILES_PER_IMAGE),
    )

    def answer(fold: Fold, split: Split) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(derive_seed(seed, split, fold.number))
        indices = tiles.get_tiles_of(fold.splits[split])
        logits = rng.normal(size=(len(indices), len(names)))
        logits[np.arange(len(indices)), tiles.label_of_tile[indices]] += skill
        exponentials = np.exp(logits)
        return indices, exponentials / exponentials.sum(axis=1, keepdims=True)

    outcomes = []
    for fold in folds.folds:
        (validation, of_validation), (test, of_test) = answer(fold, "validation"), answer(fold, "test")
        outcomes.append(
            FoldOutcome(
                fold=fold.number,
                validation_tiles=validation,
                validation_probabilities=of_validation,
                test_tiles=test,
                test_probabilities=of_test,
                curves=TrainingCurves(
                    training_loss=np.array([1.0, 0.5]),
                    training_accuracy=np.array([0.4, 0.8]),
                    validation_loss=np.array([1.1, 0.9]),
                    validation_accuracy=np.array([0.3, 0.7]),
                ),
                best_epoch=1,
                is_diverged=False,
                training_s=0.0,
            )
        )
    cell = Cell(learning_rate=0.01, batch_size=16)
    trial = TrialOutcome(number=3, cell=cell, state="complete", folds=tuple(outcomes), run_id=run_id)
    return OutOfFold(trial=trial, tiles=tiles)


def build_card(
    catalogue: Catalogue, *, folds: FoldTable, run_id: str = "0123", select_on: Split = "validation"
) -> ModelCard:
    """Return a model card in which everything is said."""
    names = catalogue.class_names
    counts = tuple(tuple(9 if row == column else 0 for column in range(len(names))) for row in range(len(names)))
    if names == CLASS_NAMES:
        counts = ((8, 1, 0), (0, 9, 0), (2, 0, 7))
    return ModelCard(
        created_at="2025-01-02T03:04:05+00:00",
        data="excipients",
        study="tiny-quick-0123",
        run_id=run_id,
        backbone="tiny",
        weights_used="random",
        select_on=select_on,
        learning_rate=0.01,
        batch_size=16,
        n_cells=4,
        classes=tuple(
            CardClass(name=name, n_images=9, n_groups=9, n_tiles=36, pixel_sizes_nm=(2.5, 5.0)) for name in names
        ),
        folds=tuple(CardFold(number=fold.number, n_training=9, n_validation=9, n_test=9) for fold in folds.folds),
        scores=(
            CardScore(split="validation", unit="tiles", name="macro F-measure", value=0.91, low=0.85, high=0.95),
            CardScore(split="test", unit="images", name="accuracy", value=0.9, low=0.8, high=0.96),
        ),
        confusions=(CardConfusion(split="test", unit="images", counts=counts),),
        settings={"epochs": 8, "tile_px": 32},
        hashes={"sem_search.data_sha256": catalogue.digest, "sem_search.folds_sha256": folds.digest},
        versions={"python": "3.11.7", "sem_search": "0.1.0"},
        warnings=("RANDOM weights are used.",),
        findings=("class 'starch' was imaged on one day.",),
    )


def build_record(
    folder: Path,
    *,
    skill: float = 2.0,
    seed: int = 0,
    run_id: str = "0123",
    class_names: tuple[str, ...] = CLASS_NAMES,
    n_images: int = 9,
    folds_seed: int = 0,
    select_on: Split = "validation",
) -> ModelRecord:
    """Return the record of a model that was never trained, over files that exist."""
    catalogue = build_catalogue(folder, n_images=n_images, class_names=class_names)
    folds = draw_folds(catalogue, n_folds=3, seed=folds_seed)
    return ModelRecord(
        card=build_card(catalogue, folds=folds, run_id=run_id, select_on=select_on),
        catalogue=catalogue,
        folds=folds,
        out_of_fold=build_out_of_fold(catalogue, folds=folds, skill=skill, seed=seed, run_id=run_id),
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
def make_record() -> Callable[..., ModelRecord]:
    return build_record


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
