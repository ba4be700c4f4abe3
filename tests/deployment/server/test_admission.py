"""What the front lets through, and in what words it refuses the rest."""

import base64
import io
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.admission import admit_request
from sem_search.errors import RefusedRequestError

LIMITS = RequestLimits(max_rows=5, max_image_megapixels=0.01, max_request_megapixels=0.015)
PARAMS = ("explain", "on_error", "coverage")


def encode(height_px: int = 20, width_px: int = 30) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height_px, width_px), dtype=np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


GOOD = encode()


def admit(request: Any, content_type: str = "application/json") -> dict[str, Any]:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    admitted = admit_request(body, content_type=content_type, limits=LIMITS, param_names=PARAMS)
    passed_on: dict[str, Any] = json.loads(admitted.body)
    assert admitted.n_rows == len(passed_on["dataframe_split"]["data"])
    return passed_on


def get_cells(passed_on: dict[str, Any]) -> list[Any]:
    assert passed_on["dataframe_split"]["columns"] == ["image"]
    return [row[0] for row in passed_on["dataframe_split"]["data"]]


@pytest.mark.parametrize(
    "request_body",
    [
        {"dataframe_records": [{"image": GOOD}, {"image": "x"}]},
        {"dataframe_records": [{"operator": "me", "image": GOOD}, {"image": "x", "a": {"b": 1}}]},
        {"dataframe_split": {"columns": ["image"], "data": [[GOOD], ["x"]]}},
        {"dataframe_split": {"index": [7, 8], "columns": ["n", "image"], "data": [[1, GOOD], [2, "x"]]}},
        {"inputs": {"image": [GOOD, "x"]}},
        {"inputs": [GOOD, "x"]},
        {"instances": [{"image": GOOD}, {"image": "x"}]},
        {"instances": [GOOD, "x"]},
        f"image,n\n{GOOD},1\nx,2\n".encode(),
        f'\ufeff"image"\r\n"{GOOD}"\r\n\r\nx\r\n'.encode(),
    ],
    ids=[
        "records",
        "records with more columns",
        "split",
        "split with more columns",
        "inputs by column",
        "inputs as a list",
        "instances",
        "instances as a list",
        "CSV",
        "CSV of a spreadsheet",
    ],
)
def test_every_shape_of_a_table_is_passed_on_alike(request_body: Any) -> None:
    content_type = "text/csv; charset=utf-8" if isinstance(request_body, bytes) else "application/json"
    assert get_cells(admit(request_body, content_type)) == [GOOD, "x"]


def test_params_are_passed_on() -> None:
    params = {"explain": True, "on_error": "report", "coverage": 0.8}
    assert admit({"inputs": [GOOD], "params": params})["params"] == params
    assert admit({"inputs": [GOOD], "params": None})["params"] == {}


@pytest.mark.parametrize(
    ("cell", "simple"),
    [
        (None, None),
        (float("nan"), None),
        (3, 3),
        (True, True),
        ([[1] * 9], []),
        ({"a": {}}, {}),
        (10**30, 2.0**63),
        ("ab\ud800c", "ab?c"),
    ],
)
def test_what_is_no_text_is_passed_on_as_little_more_than_its_type(cell: Any, simple: Any) -> None:
    (found,) = get_cells(admit({"dataframe_split": {"columns": ["image"], "data": [[cell]]}}))
    assert found == simple
    assert type(found) is type(simple)


REFUSED: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{bad", 400, r"not valid JSON \(Expecting property name.* at character 1\)"),
    "empty body": (b"", 400, "not valid JSON"),
    "no UTF-8": (b'{"inputs": ["\xff"]}', 400, r"not UTF-8 \(byte 13\)"),
    "nested too deeply": (b'{"inputs":' + b"[" * 100_000, 400, "nested too deeply"),
    "number of too many digits": (b'{"inputs": [' + b"9" * 5000 + b"]}", 400, "too many digits"),
    "a list": ([1], 400, "JSON object with one of .*got a list"),
    "no table": ({"params": {}}, 400, "exactly one of .*got none of them"),
    "two tables": ({"inputs": [], "instances": []}, 400, "exactly one of .*got inputs, instances"),
    "params as a list": ({"inputs": [GOOD], "params": [1]}, 400, "'params' must be a JSON object, got a list"),
    "unknown parameter": ({"inputs": [GOOD], "params": {"explian": True}}, 400, "no parameter 'explian'; .*explain"),
    "parameter as a list": ({"inputs": [GOOD], "params": {"explain": [1]}}, 400, "Parameter explain has a value"),
    "long parameter": ({"inputs": [GOOD], "params": {"on_error": "x" * 101}}, 400, "Parameter on_error has a value"),
    "parameter of many digits": ({"inputs": [GOOD], "params": {"coverage": 10**30}}, 400, "Parameter coverage has"),
    "infinite parameter": ({"inputs": [GOOD], "params": {"coverage": float("inf")}}, 400, "coverage must be a finite"),
    "no rows": ({"inputs": []}, 400, "holds no image"),
    "no records": ({"dataframe_records": []}, 400, "holds no image"),
    "no data": ({"dataframe_split": {"columns": ["image"], "data": []}}, 400, "holds no image"),
    "records of other columns": ({"dataframe_records": [{"img": "a"}]}, 400, r"no column 'image' .*'img'"),
    "records without columns": ({"dataframe_records": [{}]}, 400, r"no column 'image' \(columns found: none\)"),
    "records that are none": ({"dataframe_records": [{"image": GOOD}, 3]}, 400, "Row 1 .*must be a JSON object"),
    "records as an object": ({"dataframe_records": {"image": [GOOD]}}, 400, "must be a list, got a dict"),
    "split as a list": ({"dataframe_split": []}, 400, "the lists 'columns' and 'data'"),
    "split of other columns": ({"dataframe_split": {"columns": ["a"], "data": []}}, 400, "no column 'image'"),
    "ragged split": ({"dataframe_split": {"columns": ["image"], "data": [[GOOD], []]}}, 400, "Row 1 .*1 value"),
    "inputs of other columns": ({"inputs": {"img": [GOOD]}}, 400, "no column 'image'"),
    "too many rows": ({"inputs": ["x"] * 10_000}, 413, "holds 10000 images, and at most 5"),
    "image too large": ({"inputs": ["x", encode(200, 100)]}, 413, r"Row 1 .*has 0.02 megapixels, and at most 0.01"),
    "images too large": ({"inputs": [encode(90, 100)] * 2}, 413, "first 2 of 2 images have 0.018 .*at most 0.015"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind: str) -> None:
    request, status, message = REFUSED[kind]
    with pytest.raises(RefusedRequestError, match=message) as caught:
        admit(request)
    assert caught.value.status == status
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no column 'image'"),
        (b"img\nx\n", r"no column 'image' \(columns found: 'img'\)"),
        (b"image\n", "holds no image"),
        (b"image\n" + b"x\n" * 10_000, "more than 5 images, and at most 5"),
        (b'image\n"x', "not valid CSV .line 2"),
        (b"image\n\xff", "not UTF-8"),
    ],
)
def test_what_is_refused_of_a_csv(body: bytes, message: str) -> None:
    with pytest.raises(RefusedRequestError, match=message):
        admit(body, "text/csv")


@pytest.mark.parametrize(
    ("content_type", "message"),
    [
        ("", "application/json or text/csv"),
        ("application/vnd.apache.parquet", "got 'application/vnd.apache.parquet'"),
        ("text/plain", "got 'text/plain'"),
        ("application/json; charset=latin-1", "in UTF-8, got charset 'latin-1'"),
    ],
)
def test_other_content_types_are_refused(content_type: str, message: str) -> None:
    with pytest.raises(RefusedRequestError, match=message) as caught:
        admit({"inputs": [GOOD]}, content_type)
    assert caught.value.status == 415


def test_one_large_image_is_left_to_the_model_where_errors_are_reported() -> None:
    request = {"inputs": [encode(200, 100), GOOD], "params": {"on_error": "report"}}
    assert len(get_cells(admit(request))) == 2
    with pytest.raises(RefusedRequestError, match="first 3 of 3"):
        admit({"inputs": [encode(200, 100)] + [encode(90, 100)] * 2, "params": {"on_error": "report"}})


HUGE = 2_000_000
"""Bytes of bodies that a careless reader turns into a hundred megabytes."""

WIDE: dict[str, tuple[bytes, str]] = {
    "lists": (b'{"instances":[' + b"[]," * (HUGE // 3) + b"0]}", "application/json"),
    "objects": (b'{"instances":[' + b"{}," * (HUGE // 3) + b"0]}", "application/json"),
    "records": (b'{"instances":[' + b'{"image":0},' * (HUGE // 12) + b"0]}", "application/json"),
    "texts": (b'{"instances":[' + b'"a",' * (HUGE // 4) + b"0]}", "application/json"),
    "numbers": (b'{"instances":[' + b"1," * (HUGE // 2) + b"0]}", "application/json"),
    "keys": (b'{"instances":[{' + b'"a":0,' * (HUGE // 6) + b'"b":0}]}', "application/json"),
    "nested": (b'{"instances":' + b"[" * HUGE, "application/json"),
    "CSV of commas": (b"image" + b"," * HUGE + b"\nx\n", "text/csv"),
    "CSV of lines": (b"image\n" + b"\n" * HUGE, "text/csv"),
    "CSV of old lines": (b"image\r" + b"\r" * HUGE, "text/csv"),
}


@pytest.mark.parametrize("kind", WIDE)
def test_many_small_values_are_refused_before_they_are_read(kind: str) -> None:
    body, content_type = WIDE[kind]
    tracemalloc.start()
    try:
        with pytest.raises(RefusedRequestError, match=r"holds \d+ commas, .* and at most 101000 are read") as caught:
            admit(body, content_type)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
    assert peak_bytes < len(body) / 10


def test_so_many_values_are_read_and_not_one_more() -> None:
    limits = RequestLimits(max_elements=5)
    body = b'{"inputs": ["a", "b", "c"], "x": 1}'
    assert body.count(b",") + body.count(b"[") + body.count(b"{") == 5
    assert admit_request(body, content_type="application/json", limits=limits, param_names=()).n_rows == 3
    with pytest.raises(RefusedRequestError, match="holds 6 commas"):
        admit_request(body[:-1] + b', "y": 1}', content_type="application/json", limits=limits, param_names=())
    csv_body = b"image,a\nx,1\ny,2"
    assert admit_request(csv_body, content_type="text/csv", limits=limits, param_names=()).n_rows == 2
    with pytest.raises(RefusedRequestError, match="holds 6 commas, line ends"):
        admit_request(csv_body + b"\n", content_type="text/csv", limits=limits, param_names=())


def test_the_largest_request_that_is_allowed_is_far_from_that_limit() -> None:
    limits = RequestLimits()
    records = [{"image": "AAAA", "operator": "me", "place": [1, 2]} for _ in range(limits.max_rows)]
    body = json.dumps({"dataframe_records": records}).encode()
    assert admit_request(body, content_type="application/json", limits=limits, param_names=()).n_rows == limits.max_rows


LONG = 4_000_000

LARGE: dict[str, tuple[bytes, str]] = {
    "as it is": (b'{"inputs": ["' + b"A" * LONG + "\U0001f600".encode() + b'"]}', "application/json"),
    "escaped": (b'{"inputs": ["' + b"A" * LONG + rb'\ud83d\ude00"]}', "application/json"),
    "CSV": (b"image\n" + b"A" * LONG + "\U0001f600".encode(), "text/csv"),
}


@pytest.mark.parametrize("kind", LARGE)
def test_one_wide_character_does_not_make_a_large_request_many_times_as_large(kind: str) -> None:
    body, content_type = LARGE[kind]
    tracemalloc.start()
    try:
        (cell,) = get_cells(admit(body, content_type))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cell.isascii()
    assert len(cell) == LONG + 1
    assert peak_bytes < 8 * len(body)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "end"])
def test_lines_of_a_csv_end_as_any_system_ends_them(end: str, last: str) -> None:
    text = end.join(["image,n", "x,1", "", f'"y{end}z",2', "\x0b\u2028w,3"]) + (end if last else "")
    assert get_cells(admit(text.encode(), "text/csv")) == ["x", f"y{end}z", "\x0b?w"]
