"""What a request may be, and in what words the rest is refused."""

import base64
import io
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sem_search.deployment.pyfunc.requests import BadRow, RequestOptions
from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.admission import AdmittedRequest, admit_request
from sem_search.errors import DataError, InputError, RefusedRequestError

LIMITS = RequestLimits(max_rows=5, max_image_megapixels=0.01, max_request_megapixels=0.015)


def encode(height_px: int = 20, width_px: int = 30) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height_px, width_px), dtype=np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


GOOD = encode()


GOOD_FILE = base64.b64decode(GOOD)


def admit(request: Any, content_type: str = "application/json") -> AdmittedRequest:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return admit_request(body, content_type=content_type, limits=LIMITS)


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
def test_every_shape_of_a_table_is_read_alike(request_body: Any) -> None:
    content_type = "text/csv; charset=utf-8" if isinstance(request_body, bytes) else "application/json"
    good, bad = admit(request_body, content_type).files
    assert good == GOOD_FILE
    assert isinstance(bad, BadRow)
    assert (bad.row, "not valid base64 (1 characters" in bad.reason) == (1, True)


def test_params_become_options() -> None:
    params = {"explain": True, "on_error": "report", "coverage": 0.8}
    assert admit({"inputs": [GOOD], "params": params}).options == RequestOptions(**params)
    assert admit({"inputs": [GOOD], "params": None}).options == RequestOptions()


def test_pixels_are_counted_by_the_headers() -> None:
    assert admit({"inputs": [GOOD, "x", GOOD]}).megapixels == pytest.approx(2 * 20 * 30 / 1e6)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (None, "nothing (null)"),
        (float("nan"), "nothing (null)"),
        (3, "the int 3"),
        (True, "the bool True"),
        ([[1] * 9], "a value of type list"),
        ({"a": {}}, "a value of type dict"),
        (10**30, "the int 1000"),
        ("ab\ud800c", "character '?' at position 2"),
    ],
)
def test_what_is_no_text_is_a_bad_row(cell: Any, reason: str) -> None:
    (found,) = admit({"dataframe_split": {"columns": ["image"], "data": [[cell]]}}).files
    assert isinstance(found, BadRow)
    assert reason in found.reason


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
    "params as an empty list": ({"inputs": [GOOD], "params": []}, 400, "'params' must be a JSON object, got a list"),
    "unknown parameter": ({"inputs": [GOOD], "params": {"explian": True}}, 400, "no parameter 'explian'; .*explain"),
    "parameter as a list": (
        {"inputs": [GOOD], "params": {"explain": [1]}},
        400,
        "Parameter explain must be true or false, got a value of type list",
    ),
    "long parameter": (
        {"inputs": [GOOD], "params": {"on_error": "x" * 101}},
        400,
        "Parameter on_error must be one of refuse, report, got the text 'x{20}'",
    ),
    "parameter of many digits": (
        {"inputs": [GOOD], "params": {"coverage": 10**30}},
        400,
        "Parameter coverage must be a number above 0 and below 1, got the int",
    ),
    "infinite parameter": (
        {"inputs": [GOOD], "params": {"coverage": float("inf")}},
        400,
        "coverage must be a number above 0 and below 1, got the float inf",
    ),
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
    with pytest.raises(InputError, match=message) as caught:
        admit(request)
    assert getattr(caught.value, "status", 400) == status
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no column 'image'"),
        (b"img\nx\n", r"no column 'image' \(columns found: 'img'\)"),
        (b"image\n", "holds no image"),
        (b"image\n" + b"x\n" * 10_000, "holds 10000 images, and at most 5"),
        (b'image\n"x', "not valid CSV .*EOF inside string"),
        (b"image\n\xff", "not UTF-8"),
    ],
)
def test_what_is_refused_of_a_csv(body: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
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


def test_one_large_image_is_a_bad_row_where_errors_are_reported() -> None:
    large, good = admit({"inputs": [encode(200, 100), GOOD], "params": {"on_error": "report"}}).files
    assert large == BadRow(row=0, reason="the image has 0.02 megapixels, and at most 0.01 are taken: cut or shrink it")
    assert good == GOOD_FILE
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
    assert admit_request(body, content_type="application/json", limits=limits).files[2:]
    with pytest.raises(RefusedRequestError, match="holds 6 commas"):
        admit_request(body[:-1] + b', "y": 1}', content_type="application/json", limits=limits)
    csv_body = b"image,a\nx,1\ny,2"
    assert admit_request(csv_body, content_type="text/csv", limits=limits).files[1:]
    with pytest.raises(RefusedRequestError, match="holds 6 commas, line ends"):
        admit_request(csv_body + b"\n", content_type="text/csv", limits=limits)


def test_the_largest_request_that_is_allowed_is_far_from_that_limit() -> None:
    limits = RequestLimits()
    records = [{"image": "AAAA", "operator": "me", "place": [1, 2]} for _ in range(limits.max_rows)]
    body = json.dumps({"dataframe_records": records}).encode()
    assert len(admit_request(body, content_type="application/json", limits=limits).files) == limits.max_rows


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
        (found,) = admit(body, content_type).files
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, BadRow)
    assert f"character '?' at position {LONG}" in found.reason
    assert peak_bytes < 8 * len(body)


def test_a_large_csv_of_a_spreadsheet_is_read() -> None:
    (found,) = admit("\ufeffimage,operator\r\n".encode() + b"A" * LONG + ",Jürgen\r\n".encode(), "text/csv").files
    assert found == bytes(LONG // 4 * 3)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "end"])
def test_lines_of_a_csv_end_as_any_system_ends_them(end: str, last: str) -> None:
    text = end.join(["image,n", "AAAA,1", "", f'"AA{end}AA",2', "\x0b\u2028w,3"]) + (end if last else "")
    first, second, third = admit(text.encode(), "text/csv").files
    assert first == second == bytes(3)
    assert isinstance(third, BadRow)
    assert "character '?' at position 0" in third.reason
