import base64
import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc.scoring_server import invocations
from PIL import Image

from sem_search.deployment.classifier.classifier import MicrographClassifier
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.package.writing import ClassifierParts, write_model_folder
from sem_search.evaluation.calibration import apply_temperature
from sem_search.evaluation.metrics import combine_tiles
from sem_search.micrographs.reading.micrograph import read_micrograph
from sem_search.micrographs.tiles import cut_tiles
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import cut_network
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings
from sem_search.transfer.views import VIEWS, turn_tiles

ANSWER = [
    *("label", "probability", "probabilities", "prediction_set", "coverage"),
    *(
        "n_calibration_images",
        "n_calibration_groups",
        "is_known",
        "novelty",
        "novelty_threshold",
        "is_training_image",
        "agreement",
        "spread",
        "pixel_size_nm",
        "pixel_size",
        "n_tiles",
        "warnings",
    ),
]
NAMES = ["model_name", "model_version"]


def ask(served: PyFuncModel, body: Any, *, content_type: str = "application/json") -> tuple[int, str]:
    """Return status and body as MLflow's server would send them, without its socket."""
    data = body if isinstance(body, str) else json.dumps(body)
    try:
        response = invocations(data, content_type, served, served.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), error.serialize_as_json()
    return response.status, response.response


def records(*cells: Any, **params: Any) -> dict[str, Any]:
    return {"dataframe_records": [{"image": cell} for cell in cells]} | ({"params": params} if params else {})


@pytest.fixture(scope="module")
def text(pictures: Any) -> str:
    return pictures.to_text(pictures.draw())


def test_one_answer_per_image_in_order(served: PyFuncModel, pictures: Any, parts: ClassifierParts) -> None:
    texts = [pictures.to_text(pictures.draw(*shape, seed=seed)) for seed, shape in enumerate([(70, 100), (32, 33)])]
    answers = served.predict(pd.DataFrame({"image": texts}))
    assert list(answers.columns) == ANSWER + NAMES
    assert answers["n_tiles"].tolist() == [6, 1]
    for row in answers.to_dict("records"):
        assert list(row["probabilities"]) == list(parts.description.class_names)
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]
    assert json.loads(ask(served, records(*texts))[1])["predictions"] == answers.to_dict("records")


def make_files(pictures: Any) -> dict[str, bytes]:
    grey = pictures.draw()
    sixteen = io.BytesIO()
    Image.fromarray(grey.astype(np.uint16) * 257).save(sixteen, format="TIFF")
    colour = np.repeat(grey[..., None], 3, axis=-1)
    return {
        "PNG": pictures.encode(grey),
        "BMP": pictures.encode(grey, "BMP"),
        "TIFF": pictures.encode(grey, "TIFF"),
        "16-bit TIFF": sixteen.getvalue(),
        "colour PNG": pictures.encode(colour),
    }


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "16-bit TIFF", "colour PNG"])
def test_every_lossless_format_gets_the_same_answer(served: PyFuncModel, pictures: Any, kind: str) -> None:
    files = make_files(pictures)
    frame = pd.DataFrame({"image": [base64.b64encode(files[name]).decode() for name in ("PNG", kind)]})
    one, other = served.predict(frame)["probabilities"]
    assert other == pytest.approx(one, abs=1e-6)


@pytest.mark.parametrize("prefix", ["data:image/png;base64,", "data:application/octet-stream;base64,"])
def test_data_url_prefix(served: PyFuncModel, text: str, prefix: str) -> None:
    plain, prefixed = served.predict(pd.DataFrame({"image": [text, prefix + text]}))["probability"]
    assert plain == pytest.approx(prefixed, abs=1e-9)


def test_several_pages_are_a_warning_in_the_answer(served: PyFuncModel, pictures: Any) -> None:
    pages = [Image.fromarray(pictures.draw(seed=seed)) for seed in (0, 1)]
    buffer = io.BytesIO()
    pages[0].save(buffer, format="TIFF", save_all=True, append_images=pages[1:])
    answers = served.predict(pd.DataFrame({"image": [base64.b64encode(buffer.getvalue()).decode()]}))
    assert "page" in answers["warnings"][0][0]


def test_explain_adds_the_micrograph_and_its_overlay(served: PyFuncModel, text: str) -> None:
    answers = served.predict(pd.DataFrame({"image": [text, text]}), params={"explain": True})
    assert list(answers.columns) == [*ANSWER, "image_png", "overlay_png", *NAMES]
    for column, mode in (("image_png", "L"), ("overlay_png", "RGB")):
        with Image.open(io.BytesIO(base64.b64decode(answers[column][0]))) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (100, 70))


def test_tiles_adds_the_answer_of_each_tile(served: PyFuncModel, text: str, parts: ClassifierParts) -> None:
    answers = served.predict(pd.DataFrame({"image": [text]}), params={"tiles": True})
    tiles = answers["tiles"][0]
    assert [(tile["top_px"], tile["left_px"]) for tile in tiles][:4] == [(0, 0), (0, 32), (0, 64), (32, 0)]
    probabilities = np.array([list(tile["probabilities"].values()) for tile in tiles])
    _, combined = combine_tiles(probabilities, image_of_tile=np.zeros(len(tiles), dtype=np.int64))
    calibrated = apply_temperature(combined, temperature=parts.calibration.temperature)
    assert list(answers["probabilities"][0].values()) == pytest.approx(calibrated[0], abs=1e-9)


def test_on_error_report_answers_the_other_rows(served: PyFuncModel, text: str) -> None:
    status, body = ask(served, records(text, "no!", None, text, on_error="report", explain=True, tiles=True))
    assert status == 200
    first, second, third, fourth = json.loads(body)["predictions"]
    assert first["error"] is None
    assert first["label"] == fourth["label"]
    assert second["error"].startswith("is not valid base64 (character '!' at position 2)")
    assert third["error"].startswith("holds nothing (null)")
    assert (second["label"], second["probability"], second["overlay_png"], second["n_tiles"]) == (None, None, None, 0)


BAD_REQUESTS: dict[str, tuple[Any, str]] = {
    "wrong base64": (records("no!"), r"row 0: is not valid base64 \(character '!' at position 2\)"),
    "a path": (records("/etc/hostname"), r"row 0: is not valid base64"),
    "base64 of text": (records(base64.b64encode(b"hello world").decode()), "row 0: is not an image of a known format"),
    "empty text": (records(""), "row 0: is empty"),
    "null": (records(None), r"row 0: holds nothing \(null\)"),
    "NaN": ('{"dataframe_records": [{"image": NaN}]}', r"row 0: holds nothing \(null\)"),
    "number": (records(3), "row 0: holds the int 3"),
    "numbers": (records(1.5, 3), r"row 0: holds the float 1\.5.*; row 1: holds the float 3\.0"),
    "truth value": (records(True), "row 0: holds the bool True"),
    "list": (records(["a"]), "row 0: holds a value of type list"),
    "object": (records({"a": 1}), "row 0: holds a value of type dict"),
    "too many rows": (records(*["a"] * 1001), "holds 1001 images"),
    "missing column": ({"dataframe_records": [{"img": "a"}]}, r"missing inputs \['image'\].*extra inputs: \['img'\]"),
    "empty list": ({"dataframe_records": []}, r"missing inputs \['image'\]"),
    "empty record": ({"dataframe_records": [{}]}, r"missing inputs \['image'\]"),
    "no rows": ({"dataframe_split": {"columns": ["image"], "data": []}}, "holds no image"),
    "no inputs": ({"inputs": []}, "holds no image"),
    "explain is text": (records("a", explain="yes"), "explain"),
    "explain is a number": (records("a", explain=1), "explain"),
    "explain is null": (records("a", explain=None), r"explain must be true or false, got nothing \(null\)"),
    "on_error unknown": (records("a", on_error="x"), "on_error must be one of refuse, report, got the text 'x'"),
    "params is a list": ({**records("a"), "params": [1]}, "Parameters must be a dictionary"),
    "no JSON": ("{bad", "valid JSON"),
    "JSON list": ("[1]", "JSON dictionary"),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_bad_requests_are_a_clean_400(served: PyFuncModel, kind: str) -> None:
    body, message = BAD_REQUESTS[kind]
    status, answer = ask(served, body)
    assert status == 400
    check_clean(answer)
    assert re.search(message, json.loads(answer)["message"]), answer


BAD_FILES: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "truncated PNG": (lambda pictures: pictures.encode(pictures.draw())[:-400], "row 1: .*(truncated|damaged)"),
    "truncated JPEG": (
        lambda pictures: pictures.encode(pictures.draw(), "JPEG")[:-400],
        "row 1: .*(truncated|damaged)",
    ),
    "truncated TIFF": (lambda pictures: pictures.encode(pictures.draw(), "TIFF")[:-400], "row 1: "),
    "bomb": (lambda pictures: pictures.encode(np.zeros((2000, 2000), np.uint8)), "row 1: .*megapixels"),
    "too small": (lambda pictures: pictures.encode(pictures.draw(20, 90)), "row 1: is 90 x 20 px.*32 x 32 px"),
    "GIF": (lambda pictures: pictures.encode(pictures.draw(), "GIF"), "row 1: is a GIF file"),
    "header only": (lambda pictures: pictures.encode(pictures.draw())[:8], "row 1: "),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_are_a_clean_400_that_names_the_row(served: PyFuncModel, pictures: Any, text: str, kind: str) -> None:
    make_content, message = BAD_FILES[kind]
    status, answer = ask(served, records(text, base64.b64encode(make_content(pictures)).decode()))
    assert status == 400
    check_clean(answer)
    assert re.search(message, json.loads(answer)["message"]), answer


def check_clean(answer: str) -> None:
    """Neither stack trace nor path nor environment."""
    for leak in ("Traceback", "stack_trace", "site-packages", ".py", str(Path.home()), "/tmp", 'File \\"'):
        assert leak not in answer, answer


def test_csv_is_answered_too(served: PyFuncModel, text: str) -> None:
    status, body = ask(served, f"image\n{text}\n", content_type="text/csv")
    assert status == 200
    assert len(json.loads(body)["predictions"]) == 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"image": [1]}), "Incompatible input types for column image"),
        (pd.DataFrame({"picture": ["a"]}), r"missing inputs \['image'\]"),
        (pd.DataFrame({"image": ["a", None]}), r"row 1: holds nothing \(null\)"),
        (pd.DataFrame({"image": [b"bytes"]}), "row 0: holds a value of type bytes"),
        (None, "Expected input to be DataFrame"),
    ],
    ids=["numbers", "other column", "None", "bytes", "nothing"],
)
def test_python_callers_get_the_same_refusals(served: PyFuncModel, frame: Any, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        served.predict(frame)
    assert caught.value.get_http_status_code() == 400


def test_extra_columns_are_ignored(served: PyFuncModel, text: str) -> None:
    assert len(served.predict(pd.DataFrame({"image": [text], "operator": ["me"]}))) == 1


def test_a_failure_of_our_own_is_a_500_without_details(
    served: PyFuncModel, text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail in /srv/secret/file.py")

    monkeypatch.setattr(MicrographClassifier, "classify", fail)
    status, answer = ask(served, records(text))
    assert status == 500
    check_clean(answer)
    assert "secret" not in json.loads(answer)["message"].partition("Error:")[2]
    assert "RuntimeError" in answer
    assert "secret detail" in caplog.text


def test_threads_get_the_answers_of_one_thread(served: PyFuncModel, pictures: Any) -> None:
    frames = [
        pd.DataFrame({"image": [pictures.to_text(pictures.draw(40 + 9 * n, 60 + n, seed=n)) for n in range(1 + m % 3)]})
        for m in range(24)
    ]
    params = [{"explain": m % 4 == 0, "tiles": m % 2 == 0} for m in range(24)]
    wanted = [served.predict(frame, params=some) for frame, some in zip(frames, params, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda pair: served.predict(pair[0], params=pair[1]), zip(frames, params, strict=True)))
    for one, other in zip(found, wanted, strict=True):
        assert one["label"].tolist() == other["label"].tolist()
        assert one["probability"].tolist() == pytest.approx(other["probability"].tolist(), abs=1e-6)
        if "overlay_png" in other:
            assert one["overlay_png"].tolist() == other["overlay_png"].tolist()


@pytest.mark.parametrize("augment", VIEWS)
def test_served_equals_evaluated(
    tiny_folder: Path, make_parts: Callable[..., ClassifierParts], tmp_path: Path, augment: str
) -> None:
    """What the search computes from files, trunk features of all views and fold heads is what is served, to 1e-6."""
    parts = make_parts(tile_px=48, seed=3, augment=augment)
    files = sorted(tiny_folder.rglob("*.png"))[::4]
    tiles = [cut_tiles(read_micrograph(path).pixels, grid=parts.description.grid) for path in files]
    image_of_tile = np.repeat(np.arange(len(files)), [len(some) for some in tiles])
    backbone = get_backbone("tiny")
    features = [
        [
            np.asarray(array)
            for array in keras.tree.flatten(
                parts.trunk(backbone.preprocess(turn_tiles(np.concatenate(tiles), view=view)))
            )
        ]
        for view in range(VIEWS[augment])
    ]
    trainer = HeadTrainer(
        cut_network(backbone.build(tile_px=48)),
        features=features,
        labels=np.zeros(len(image_of_tile), dtype=np.int64),
        groups=[str(image) for image in image_of_tile],
        n_classes=3,
        settings=TrainingSettings(),
        seed=0,
        hidden_units=8,
    )
    every_tile = np.arange(len(image_of_tile))
    of_heads = [trainer.predict(weights, every_tile) for weights in parts.head_weights]
    _, evaluated = combine_tiles(np.concatenate(of_heads), image_of_tile=np.tile(image_of_tile, len(of_heads)))
    write_model_folder(parts, folder=tmp_path / "model")
    classifier = read_classifier(tmp_path / "model")
    answers = classifier.classify([classifier.read(path.read_bytes(), name=path.name).pixels for path in files])
    served = np.stack([answer.probabilities for answer in answers])
    calibrated = apply_temperature(evaluated, temperature=parts.calibration.temperature)
    assert np.abs(served - calibrated).max() < 1e-6
