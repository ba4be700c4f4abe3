"""What the page says of an answer (`browser/words.js`), asked in a real browser."""

import csv
import io
from typing import Any

import pytest

from sem_search.deployment.batch.table import CSV_COLUMNS
from tests.app.conftest import ANSWER, PageBench

TEN = {f"m{number}": 0.1 for number in range(10)}


def build_answer(**other: Any) -> dict[str, Any]:
    return ANSWER | {"model_version": "1", "coverage": 0.9} | other


@pytest.mark.parametrize(
    ("other", "kind", "heading"),
    [
        ({"prediction_set": ["lactose"]}, "one", "lactose"),
        ({"prediction_set": ["lactose", "starch"]}, "several", "lactose or starch"),
        ({"prediction_set": ["lactose", "starch", "cellulose"]}, "open", "Cannot tell (all 3 remain)"),
        ({"prediction_set": ["m1", "m2", "m3"], "probabilities": TEN}, "several", "m1, m2 or m3"),
        ({"prediction_set": ["m1", "m2", "m3", "m4"], "probabilities": TEN}, "open", "Cannot tell (4 of 10 remain)"),
        ({"prediction_set": ["a", "b"], "probabilities": {"a": 0.5, "b": 0.5}}, "open", "Cannot tell (both remain)"),
        ({"prediction_set": ["lactose"], "is_known": False}, "unknown", "Unknown material"),
        ({"prediction_set": ["lactose"], "is_known": None}, "one", "lactose"),
    ],
)
def test_the_heading_follows_the_prediction_set(
    page: PageBench, other: dict[str, Any], kind: str, heading: str
) -> None:
    answer = build_answer(**other)
    assert (page.call("findKind", answer), page.call("writeHeading", answer)) == (kind, heading)


@pytest.mark.parametrize(
    ("other", "lead"),
    [
        ({}, "Probability 60.0 %. At 90 %, only this material remains."),
        (
            {"prediction_set": ["lactose", "starch"]},
            "The model cannot rule these out. Most probable: lactose (60.0 %).",
        ),
        (
            {"prediction_set": list(TEN), "probabilities": TEN},
            "The image does not decide it. Most probable: lactose (60.0 %).",
        ),
        (
            {"prediction_set": list(TEN), "probabilities": TEN, "coverage": 0.99},
            "20 independent calibration images are too few to decide it at 99 %. Most probable: lactose (60.0 %).",
        ),
        (
            {"prediction_set": list(TEN), "probabilities": TEN, "n_calibration_groups": 1},
            "1 independent calibration image is too few to decide it at 90 %. Most probable: lactose (60.0 %).",
        ),
        (
            {"prediction_set": list(TEN), "probabilities": TEN, "n_calibration_images": 0},
            "The model is not calibrated, so it rules out no material. Most probable: lactose (60.0 %).",
        ),
        ({"is_known": False}, "The image is unlike all training images, so the model gives no answer."),
    ],
)
def test_the_lead_says_what_the_heading_means(page: PageBench, other: dict[str, Any], lead: str) -> None:
    assert page.call("writeLead", build_answer(**other)) == lead


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (1, "100 %"),
        (0.9996, ">99.9 %"),
        (0.9994, "99.9 %"),
        (0.5, "50.0 %"),
        (0.0005, "0.1 %"),
        (0.0004, "<0.1 %"),
        (0, "0 %"),
    ],
)
def test_only_all_and_nothing_are_shown_as_such(page: PageBench, share: float, shown: str) -> None:
    assert page.call("percent", share) == shown


def test_each_number_is_explained_in_a_sentence(page: PageBench) -> None:
    facts = {name: (value, sentence) for name, value, sentence in page.call("listFacts", build_answer())}
    assert facts["Possible materials"] == (
        "lactose",
        "Chosen to include the true material for 90 % of images like the training images (calibrated on 20 images).",
    )
    assert facts["Agreement"][0] == "80.0 %"
    assert facts["Spread"][0] == "12.0 percentage points"
    assert facts["Distance to the training images"][0] == "0.750 times the limit"
    assert facts["Pixel size"] == ("100.0 nm", "It is like that of training images.")
    assert facts["Answered by"] == ("powders, version 1", "")
    assert all(sentence.endswith(".") for name, (_, sentence) in facts.items() if name != "Answered by")


def test_nothing_is_promised_of_an_unknown_material(page: PageBench) -> None:
    facts = page.call("listFacts", build_answer(is_known=False, novelty=3e5))
    assert [name for name, *_ in facts] == ["Distance to the training images", "Pixel size", "Tiles", "Answered by"]
    assert facts[0][1] == "more than 1000 times the limit"


def test_a_model_of_before_is_shown_without_what_it_does_not_say(page: PageBench) -> None:
    old = {
        name: value
        for name, value in build_answer(novelty=None, model_name=None).items()
        if name != "is_training_image"
    }
    assert page.call("findDoubts", old) == []
    assert [name for name, *_ in page.call("listFacts", old)] == [
        "Possible materials",
        "Agreement",
        "Spread",
        "Pixel size",
        "Tiles",
    ]
    assert "a scale of its own" in page.call("writeCaption", old)
    assert "One scale holds for the whole image" in page.call("writeCaption", old | {"image_png": "AA"})


def test_what_needs_a_look_and_why(page: PageBench) -> None:
    assert page.call("findDoubts", build_answer()) == []
    doubtful = build_answer(is_known=False, is_training_image=True, pixel_size="far")
    assert page.call("findDoubts", doubtful) == ["unknown material", "training image", "other pixel size"]
    trusts = [
        page.call("writeTrust", build_answer(**other)) for other in ({}, {"pixel_size": "far"}, {"is_known": False})
    ]
    assert trusts == ["known", "doubt", "unknown"]
    assert page.call(
        "listWarnings", build_answer(is_training_image=True, warnings=["has 2 pages", "page 1 was read"])
    ) == [
        "The model was made from this very image: the answer shows nothing about new images.",
        "The image has 2 pages.",
        "Page 1 was read.",
    ]


def test_the_table_has_the_columns_of_predict_and_no_formulas(page: PageBench) -> None:
    items = [
        {"name": "=1+1/ä.png", "answer": build_answer(prediction_set=["lactose", "starch"], warnings=['a "b", c'])},
        {"name": "torn.png", "answer": None, "error": "no image"},
        {"name": "late.png", "answer": None, "error": None},
    ]
    text = page.call("writeCsv", items)
    assert text.startswith("\ufeff")
    good, torn, late = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    assert [name for name in good if name in CSV_COLUMNS] == list(CSV_COLUMNS)
    assert (good["image"], good["answer"], good["label"]) == ("'=1+1/ä.png", "lactose or starch", "lactose")
    assert (good["prediction_set"], good["warnings"]) == ('["lactose","starch"]', '["a \\"b\\", c"]')
    assert (good["p_starch"], good["model"], good["is_known"]) == ("0.250000", "models:/powders/1", "true")
    assert (torn["label"], torn["error"], late["error"]) == ("", "no image", "not asked")
