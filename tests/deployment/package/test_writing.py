import base64
import dataclasses
import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import yaml

from sem_search.deployment.package.files import FILE_LIST, check_files, read_file_list
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.package.record import RECORD_FOLDER, ModelRecord, read_card
from sem_search.deployment.package.writing import (
    MODEL_NAME,
    SERVING_REQUIREMENTS,
    ClassifierParts,
    LoggedClassifier,
    build_input_example,
    list_requirements,
    log_classifier,
    write_model_folder,
)
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.micrographs.reading.options import ReadingOptions

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def model_folder(logged: LoggedClassifier, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as it lies in the store."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    try:
        folder = tmp_path_factory.mktemp("download")
        return Path(mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(folder)))
    finally:
        mlflow.set_tracking_uri(before)


def list_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "registered_model_meta"]


def test_trunk_and_heads_are_one_graph_each(model_folder: Path) -> None:
    names = [path.name for path in list_files(model_folder / "artifacts")]
    assert names == [
        "calibration.npz",
        "heads.onnx",
        "model.json",
        "trunk.onnx",
    ]


def test_nothing_is_pickled(model_folder: Path) -> None:
    assert not [path for path in list_files(model_folder) if path.suffix in (".pkl", ".pickle", ".pyc", ".joblib")]
    assert "python_model" not in yaml.safe_load((model_folder / "MLmodel").read_text())["flavors"]["python_function"]


def test_the_model_tells_nothing_of_this_machine(model_folder: Path, store: Path) -> None:
    told = re.compile("|".join(re.escape(str(place)) for place in (store, ROOT, Path.home(), "/tmp/")))
    for path in list_files(model_folder):
        if "code" not in path.relative_to(model_folder).parts:
            assert not told.search(path.read_bytes().decode("latin-1")), path.name


def test_code_is_the_whole_package_without_bytecode(model_folder: Path) -> None:
    copied = {path.relative_to(model_folder / "code").as_posix() for path in list_files(model_folder / "code")}
    assert {"sem_search/__init__.py", "sem_search/deployment/pyfunc/model.py", "sem_search/errors.py"} <= copied
    assert all(name.startswith("sem_search/") for name in copied)
    assert not [name for name in copied if "tests" in name or "__pycache__" in name]


def test_requirements_are_exact(model_folder: Path) -> None:
    stated = (model_folder / "requirements.txt").read_text().splitlines()
    assert stated == list_requirements() == [f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS]


def test_metadata_are_read_without_loading(model_folder: Path, parts: ClassifierParts) -> None:
    metadata = mlflow.models.Model.load(str(model_folder)).metadata
    assert metadata["class_names"] == list(parts.description.class_names)
    assert metadata["backbone"] == "tiny"
    assert metadata["data_sha256"] == "d" * 64
    assert len(metadata["description_sha256"]) == 64


def test_the_signature_names_column_and_parameters(model_folder: Path) -> None:
    signature = mlflow.models.Model.load(str(model_folder)).signature
    assert [(spec.name, spec.type.name, spec.required) for spec in signature.inputs] == [("image", "string", True)]
    assert {spec.name: spec.default for spec in signature.params} == {
        "explain": False,
        "tiles": False,
        "on_error": "refuse",
        "coverage": 0.9,
        "coverage_of": "images",
    }


def test_the_stored_example_is_answered(model_folder: Path, served: mlflow.pyfunc.PyFuncModel) -> None:
    request = json.loads((model_folder / "serving_input_example.json").read_text())
    assert set(request) == {"dataframe_split", "params"}
    frame, params = build_example_frame(request)
    answers = served.predict(frame, params=params)
    assert answers["n_tiles"].tolist() == [1]


def build_example_frame(request: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    import pandas as pd

    return pd.DataFrame(**request["dataframe_split"]), request["params"]


@pytest.mark.parametrize("pixel_size_nm", [None, 12.34])
@pytest.mark.parametrize(("tile_px", "bar_px"), [(32, 0), (224, 64)])
def test_the_example_is_a_small_file(
    make_parts: Callable[..., ClassifierParts], tile_px: int, bar_px: int, pixel_size_nm: float | None
) -> None:
    parts = make_parts(tile_px=tile_px, crop_bottom_px=bar_px, pixel_size_nm=pixel_size_nm)
    frame, _ = build_input_example(parts)
    assert len(frame["image"][0]) < 4000
    picture = read_micrograph(base64.b64decode(frame["image"][0]), reading=ReadingOptions(crop_bottom_px=bar_px))
    assert picture.pixels.shape == (tile_px, tile_px)
    assert picture.metadata.pixel_size_nm == pixel_size_nm


def test_the_model_belongs_to_its_run(logged: LoggedClassifier, tracking: mlflow.MlflowClient) -> None:
    model = tracking.get_logged_model(logged.model_uri.removeprefix("models:/"))
    assert (model.source_run_id, model.name, model.status) == (logged.run_id, MODEL_NAME, "READY")
    assert logged.warnings == ()
    folder = Path(mlflow.artifacts.download_artifacts(f"runs:/{logged.run_id}/{MODEL_NAME}"))
    assert mlflow.models.Model.load(str(folder)).model_id == model.model_id


def test_metrics_of_the_run_are_not_taken_for_the_model_s(
    parts: ClassifierParts, tracking: mlflow.MlflowClient, open_run: Callable[[], str]
) -> None:
    run_id = open_run()
    tracking.log_metric(run_id, "test_f_measure", 0.5, step=0)
    logged = log_classifier(parts, run_id=run_id)
    assert tracking.get_logged_model(logged.model_uri.removeprefix("models:/")).metrics is None


def test_logging_leaves_the_environment_as_it_was(
    parts: ClassifierParts, open_run: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")
    monkeypatch.delenv("MLFLOW_UV_AUTO_DETECT", raising=False)
    before = dict(os.environ)
    log_classifier(parts, run_id=open_run())
    assert dict(os.environ) == before


def test_a_diverged_head_is_a_warning_and_answers_as_it_was_measured(parts: ClassifierParts, tmp_path: Path) -> None:
    weights = [list(some) for some in parts.head_weights]
    weights[1] = [np.full_like(weight, np.nan) for weight in weights[1]]
    warnings = write_model_folder(dataclasses.replace(parts, head_weights=weights), folder=tmp_path / "one")
    assert warnings == (
        "the head of fold 2 diverged: what is served answers as it was measured, with equal probabilities",
    )
    fewer = dataclasses.replace(
        parts, head_weights=[weights[0], weights[2]], description=dataclasses.replace(parts.description, n_heads=2)
    )
    write_model_folder(fewer, folder=tmp_path / "without")
    image = np.random.default_rng(0).uniform(size=(32, 32)).astype(np.float32)
    with_it, without = (
        read_classifier(tmp_path / name).classify([image])[0].tile_probabilities for name in ("one", "without")
    )
    wanted = without ** (2 / 3)  # a third voice that says nothing
    assert np.abs(with_it - wanted / wanted.sum(axis=1, keepdims=True)).max() < 1e-6


def test_nothing_but_diverged_heads_still_answers_and_explains(parts: ClassifierParts, tmp_path: Path) -> None:
    weights = [[np.full_like(weight, np.inf) for weight in some] for some in parts.head_weights]
    warnings = write_model_folder(dataclasses.replace(parts, head_weights=weights), folder=tmp_path / "model")
    assert len(warnings) == 3
    answer = read_classifier(tmp_path / "model").explain(np.full((32, 40), 0.5, dtype=np.float32))
    assert answer.probabilities == pytest.approx([1 / 3] * 3)


def test_every_file_is_listed_with_its_hash_and_the_record_travels_along(
    parts: ClassifierParts,
    make_record: Callable[..., ModelRecord],
    open_run: Callable[[], str],
    tracking: mlflow.MlflowClient,
    tmp_path: Path,
) -> None:
    record = make_record(tmp_path / "data")
    logged = log_classifier(parts, run_id=open_run(), record=record)
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(tmp_path / "copy")))
    report = check_files(folder)
    assert (report.problems, report.n_bytecode) == ((), 0)
    listed = read_file_list(folder / FILE_LIST)
    assert {
        "MLmodel",
        "requirements.txt",
        "code/sem_search/__init__.py",
        "artifacts/classifier/trunk.onnx",
        "artifacts/record/card.json",
    } <= set(listed)
    assert read_card(folder / "artifacts" / RECORD_FOLDER) == record.card
