"""Answers as plain values, from a classifier of stone."""

import base64
import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sem_search.deployment.classifier.classifier import ImageAnswer
from sem_search.deployment.classifier.overlay import draw_image
from sem_search.deployment.package.calibration_record import Calibration
from sem_search.deployment.pyfunc.answers import ServedName, describe_answers
from sem_search.deployment.pyfunc.requests import BadRow, RequestOptions
from sem_search.evaluation.conformal import CrossAnswers
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.reading.instruments import InstrumentMetadata
from sem_search.micrographs.reading.micrograph import Micrograph, encode_png

CLASS_NAMES = ("cellulose", "lactose", "starch")
ANSWER = ImageAnswer(
    probabilities=np.array([0.15, 0.6, 0.25]),
    head_probabilities=np.array([[0.1, 0.7, 0.2], [0.2, 0.35, 0.45]]),
    tile_probabilities=np.array([[0.1, 0.6, 0.3], [0.5, 0.3, 0.2]]),
    novelty=0.75,
    corners=((0, 0), (0, 32)),
    overlay_png=b"PNG",
)
CALIBRATION = Calibration(
    temperature=1.0,
    answers=CrossAnswers(
        of_true_class=np.array([0.05, 0.4, *np.linspace(0.5, 0.99, 18)]),
        network_of_image=np.arange(20) % 2,
        group_of_image=np.arange(20),
        label_of_image=np.array([0, 1, *np.repeat([0, 1, 2], 6)]),
    ),
    novelty=SimpleNamespace(  # type: ignore[arg-type]
        class_sizes=np.array([8, 8, 8]), class_alarms=np.array([0, 0, 3]), attained_false_alarm_rate=0.1
    ),
)


NEW, SEEN = np.zeros((32, 64), dtype=np.float32), np.ones((32, 64), dtype=np.float32)


def build_classifier(calibration: Calibration | None = CALIBRATION) -> Any:
    description = SimpleNamespace(class_names=CLASS_NAMES, pixel_sizes_nm={"starch": (100.0,)}, pixel_size_nm=None)
    return SimpleNamespace(
        description=description, calibration=calibration, is_training_image=lambda pixels: pixels is SEEN
    )


def build_micrograph(pixel_size_nm: float | None = 100.0, *, pixels: FloatImage = NEW) -> Micrograph:
    return Micrograph(
        pixels=pixels,
        original=pixels,
        metadata=InstrumentMetadata(pixel_size_nm=pixel_size_nm),
        bit_depth=8,
        file_height_px=32,
        mode="L",
        warnings=("has 2 pages",),
    )


def describe(
    answer: ImageAnswer = ANSWER,
    *,
    calibration: Calibration | None = CALIBRATION,
    pixel_size_nm: float | None = 100.0,
    **options: Any,
) -> dict[str, Any]:
    (record,) = describe_answers(
        [answer],
        rows=[build_micrograph(pixel_size_nm)],
        classifier=build_classifier(calibration),
        options=RequestOptions(**options),
        served_name=ServedName(name="lactose", version="3"),
    )
    return record


def test_an_answer_in_full() -> None:
    assert describe() == {
        "label": "lactose",
        "probability": 0.6,
        "probabilities": {"cellulose": 0.15, "lactose": 0.6, "starch": 0.25},
        "prediction_set": ["lactose", "starch"],
        "coverage": 0.9,
        "n_calibration_images": 20,
        "n_calibration_groups": 20,
        "is_known": True,
        "novelty": 0.75,
        "novelty_threshold": 1.0,
        "is_training_image": False,
        "agreement": 0.5,
        "spread": pytest.approx(0.175),
        "pixel_size_nm": 100.0,
        "pixel_size": "as trained",
        "n_tiles": 2,
        "warnings": ["has 2 pages"],
        "model_name": "lactose",
        "model_version": "3",
    }


def test_the_set_is_the_most_probable_first_and_grows_with_the_coverage() -> None:
    sets = [describe(coverage=coverage)["prediction_set"] for coverage in (0.1, 0.9, 0.95)]
    assert sets == [["lactose"], ["lactose", "starch"], ["lactose", "starch", "cellulose"]]


def test_too_few_images_give_all_classes_and_that_is_said() -> None:
    record = describe(coverage=0.96)
    assert record["prediction_set"] == ["lactose", "starch", "cellulose"]
    assert record["warnings"][1] == (
        "a set that holds the true class of 96 % of images needs 24 independent images to calibrate on, and there are "
        "20: it holds all classes"
    )


def test_a_coverage_of_each_class_compares_a_class_with_its_own_images_and_names_those_with_too_few() -> None:
    record = describe(coverage=0.8, coverage_of="class")
    assert record["prediction_set"] == ["lactose", "cellulose"]
    assert record["warnings"] == ["has 2 pages"]
    record = describe(coverage=0.87, coverage_of="class")  # needs 7 images
    assert "starch" in record["prediction_set"]
    assert record["warnings"][1] == (
        "sets that hold the true class of 87 % of the images of each class need 7 independent images of each to "
        "calibrate on; of these there are fewer, and every set holds them: starch (6)"
    )


def test_a_model_without_the_classes_of_its_calibration_images_says_so() -> None:
    older = dataclasses.replace(CALIBRATION, answers=dataclasses.replace(CALIBRATION.answers, label_of_image=None))
    record = describe(calibration=older, coverage=0.8, coverage_of="class")
    assert record["prediction_set"] == ["lactose", "starch", "cellulose"]
    assert "did not record the classes of its calibration images" in record["warnings"][1]
    assert describe(calibration=older)["warnings"] == ["has 2 pages"]


def test_an_unknown_material_is_refused_in_words() -> None:
    record = describe(dataclasses.replace(ANSWER, novelty=7.12345))
    assert (record["is_known"], record["novelty"]) == (False, 7.12345)
    assert record["warnings"][1] == (
        "the image is unlike the training images (novelty 7.12, unknown above 1): 'lactose' is only the closest "
        "material that the model knows"
    )


def test_of_a_varied_class_it_is_said_that_its_own_images_are_called_unknown_too() -> None:
    starch = dataclasses.replace(ANSWER, probabilities=np.array([0.15, 0.25, 0.6]), novelty=1.25)
    assert describe(starch)["warnings"][1] == (
        "the image is unlike the training images (novelty 1.25, unknown above 1): 'starch' is only the closest "
        "material that the model knows; but its images vary: 3 of the 8 in training, when left out, counted as "
        "unknown, too"
    )
    assert describe(dataclasses.replace(starch, novelty=1.0))["is_known"]


def test_a_model_without_calibration_says_so() -> None:
    record = describe(dataclasses.replace(ANSWER, novelty=None), calibration=None)
    assert record["prediction_set"] == ["lactose", "starch", "cellulose"]
    assert (record["is_known"], record["novelty"], record["novelty_threshold"]) == (None, None, None)
    assert record["n_calibration_images"] == 0
    assert [warning.partition(":")[0] for warning in record["warnings"][1:]] == [
        "the model cannot tell whether it knows this material",
        "the model was packed without out-of-fold answers",
    ]


@pytest.mark.parametrize(("pixel_size_nm", "state"), [(None, "unknown"), (1000.0, "far"), (90.0, "as trained")])
def test_the_pixel_size_is_looked_at(pixel_size_nm: float | None, state: str) -> None:
    record = describe(pixel_size_nm=pixel_size_nm)
    assert (record["pixel_size_nm"], record["pixel_size"]) == (pixel_size_nm, state)
    assert (len(record["warnings"]) == 2) == (state == "far")


def test_overlay_and_tiles_where_they_were_asked_for() -> None:
    record = describe(explain=True, tiles=True)
    assert record["overlay_png"] == "UE5H"
    assert base64.b64decode(record["image_png"]) == encode_png(draw_image(NEW))
    assert record["tiles"] == [
        {
            "top_px": 0,
            "left_px": left_px,
            "label": label,
            "probability": max(probabilities),
            "probabilities": dict(zip(CLASS_NAMES, probabilities, strict=True)),
        }
        for left_px, label, probabilities in ((0, "lactose", [0.1, 0.6, 0.3]), (32, "cellulose", [0.5, 0.3, 0.2]))
    ]


def test_rows_keep_their_order_and_their_names() -> None:
    good, bad, last = describe_answers(
        [ANSWER, ANSWER],
        rows=[build_micrograph(), BadRow(row=1, reason="is no picture"), build_micrograph(pixels=SEEN)],
        classifier=build_classifier(),
        options=RequestOptions(on_error="report", explain=True, tiles=True),
        served_name=ServedName(),
    )
    assert list(good) == list(bad) == list(last) or set(good) == set(bad) == set(last)
    assert (good["error"], bad["error"], last["error"]) == (None, "is no picture", None)
    assert (bad["label"], bad["prediction_set"], bad["n_tiles"], bad["tiles"]) == (None, [], 0, [])
    assert [row["is_training_image"] for row in (good, bad, last)] == [False, None, True]
    assert good["model_version"] is None
