"""The reference is what a registered model holds of its training images, and its answers carry its version."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from sem_search.deployment.batch.predict import predict_images
from sem_search.deployment.monitoring import comparison
from sem_search.deployment.monitoring.comparison import compare_period, read_training, select_images
from sem_search.deployment.monitoring.journal import AnswerJournal
from sem_search.deployment.package.calibration_record import read_calibration
from sem_search.deployment.package.writing import ClassifierParts, LoggedClassifier, log_classifier
from sem_search.errors import DataError, ModelNotFoundError, StoreError
from sem_search.evaluation.answers import tabulate_answers

NAME = "monitored"


@pytest.fixture
def registered(logged: LoggedClassifier, tracking: mlflow.MlflowClient) -> str:
    version = mlflow.register_model(logged.model_uri, NAME)
    return f"models:/{NAME}/{version.version}"


def test_answers_of_a_registered_version_are_compared_with_its_training_images(
    registered: str, parts: ClassifierParts, tmp_path: Path, pictures: Any
) -> None:
    (tmp_path / "images").mkdir()
    for seed in range(30, 34):
        (tmp_path / "images" / f"{seed}.png").write_bytes(pictures.encode(pictures.draw(seed=seed)))
    place = str(tmp_path / "answers.db")
    predict_images([tmp_path / "images"], model_uri=registered, output=tmp_path / "p.csv", journal=place)
    name, version = registered.removeprefix("models:/").split("/")
    rows = AnswerJournal.open(place).read(model_name=name, model_version=version)
    assert len(rows) == 4
    training = read_training(registered)
    assert parts.calibration is not None and parts.calibration.novelty is not None
    assert list(training.novelty) == list(parts.calibration.novelty.left_out)
    assert training.label.value_counts().to_dict() == {"cellulose": 4, "lactose": 4, "starch": 4}
    report = compare_period(training, select_images(rows))
    told = {one.figure.key for one in report.figures if one.evidence is not None}
    assert told == {"novelty"}  # the model has no record of its images, so their grey levels are not known


def test_the_record_of_a_model_gives_the_grey_levels_of_its_training_images(
    parts: ClassifierParts, make_record: Any, tmp_path: Path, tracking: mlflow.MlflowClient, open_run: Callable[[], str]
) -> None:
    """The record and the calibration name the same images in the same order, else it is damaged."""
    calibration = parts.calibration
    assert calibration is not None and calibration.novelty is not None

    record = make_record(tmp_path / "images", n_images=4, skill=0.5)

    def log(labels: np.ndarray) -> str:
        novelty = replace(calibration.novelty, left_out_classes=labels)
        own = replace(parts, calibration=replace(calibration, novelty=novelty))
        return log_classifier(own, record=record, run_id=open_run()).model_uri

    training = read_training(log(np.repeat(np.arange(3), 4)))
    answers = tabulate_answers(record.out_of_fold.trial, tiles=record.out_of_fold.tiles, split="test")
    predicted = answers.answer_of_row[np.argsort(answers.image_of_row)]
    assert list(training.label) == [record.catalogue.class_names[number] for number in predicted]
    assert 0 < answers.is_right.mean() < 1  # some labels are wrong, as in a journal
    assert set(training.mean_grey) == {0.5} and set(training.contrast) == {0.1} and set(training.noise) == {0.01}
    assert set(training.pixel_size) == {"as trained"}
    with pytest.raises(StoreError, match="hold other training images"):
        read_training(log(np.arange(12) % 3))


def test_a_model_without_left_out_novelty_is_refused(registered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_older(path: Path) -> Any:
        calibration = read_calibration(path)
        assert calibration.novelty is not None
        return replace(calibration, novelty=replace(calibration.novelty, left_out=np.zeros(0)))

    monkeypatch.setattr(comparison, "read_calibration", read_older)
    with pytest.raises(DataError, match=f"{registered} was made before .* an earlier period"):
        read_training(registered)


def test_a_model_that_is_not_there_is_named(tracking: mlflow.MlflowClient) -> None:
    with pytest.raises(ModelNotFoundError, match="models:/nothing/1"):
        read_training("models:/nothing/1")
