import base64
import time
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sem_search.deployment.pyfunc import requests as image_requests
from sem_search.deployment.pyfunc.requests import (
    BadRow,
    RequestOptions,
    check_rows,
    decode_base64,
    read_options,
    read_rows,
)
from sem_search.errors import DataError, SettingsError, UnreadableImageError
from sem_search.micrographs.reading.instruments import InstrumentMetadata
from sem_search.micrographs.reading.micrograph import Micrograph

CONTENT = bytes(range(256))
TEXT = base64.b64encode(CONTENT).decode()


def read(content: bytes, *, name: str) -> Micrograph:
    if content == b"bad":
        raise UnreadableImageError(f"{name}: is not a picture.")
    pixels = np.zeros((1000, 1000), dtype=np.float32)
    return Micrograph(
        pixels=pixels,
        original=pixels,
        metadata=InstrumentMetadata(),
        bit_depth=8,
        file_height_px=1,
        mode="L",
    )


def column(*values: Any) -> pd.DataFrame:
    return pd.DataFrame({"image": pd.Series(values, dtype=object)})


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/tiff;name=a.tif;BASE64,{TEXT}",
        f"data:;base64,{TEXT}",
        base64.encodebytes(CONTENT).decode(),
        f"  {TEXT}\r\n",
    ],
    ids=["plain", "data URL", "data URL with name", "data URL without type", "with line breaks", "with spaces"],
)
def test_decode_base64(text: str) -> None:
    assert decode_base64(text) == CONTENT


def test_many_short_lines_take_no_more_memory_than_the_text_itself() -> None:
    content = bytes(300_000)
    text = " ".join(base64.b64encode(content[at : at + 3]).decode() for at in range(0, len(content), 3))
    tracemalloc.start()
    try:
        assert decode_base64(text) == content
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * len(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("data:image/png;base64,", "is empty"),
        ("not base64!", "'!' at position"),
        ("/etc/passwd.png", "'.' at position 11"),
        ("A-_/", "'-' at position 1"),
        ("ÄÖÜ=", "'Ä' at position 0"),
        (TEXT[:-1], "343 characters, not a multiple of four"),
        ("AA=AAAAA", "'=' before the end"),
        ("data:image/png,rawbytes", "data URL without base64"),
        ("data:image/png;base64", "data URL without base64"),
        (None, r"nothing \(null\)"),
        (float("nan"), r"nothing \(null\)"),
        (pd.NaT, r"nothing \(null\)"),
        (3, "the int 3"),
        (2.5, r"the float 2\.5"),
        (True, "the bool True"),
        (b"bytes", "type bytes"),
        ([TEXT], "type list"),
        ({"a": 1}, "type dict"),
    ],
)
def test_what_is_no_base64_is_named(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_base64(value)


def test_a_message_shows_no_content() -> None:
    with pytest.raises(DataError) as caught:
        decode_base64("secret" * 1000 + "!")
    assert "secret" not in str(caught.value)


def test_read_rows_keeps_order_and_names_rows() -> None:
    frame = column(TEXT, "?", base64.b64encode(b"bad").decode(), None)
    rows = read_rows(frame, read=read)
    assert isinstance(rows[0], Micrograph)
    assert [row.row for row in rows[1:]] == [1, 2, 3]
    assert rows[2] == BadRow(row=2, reason="is not a picture")
    with pytest.raises(DataError) as caught:
        check_rows(rows)
    message = str(caught.value)
    assert message.startswith("3 of 4 images cannot be answered (rows are counted from 0): row 1: is not valid base64")
    assert "; row 2: is not a picture; row 3: holds nothing (null)" in message


def test_check_rows_lists_the_first_bad_rows_only() -> None:
    with pytest.raises(DataError, match=r"row 4: no; and 2 more\.$"):
        check_rows([BadRow(row=row, reason="no") for row in range(7)])


def test_good_rows_pass() -> None:
    check_rows(read_rows(column(TEXT, TEXT), read=read))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"img": ["a"]}), r"no column 'image' \(columns found: 'img'\)"),
        (pd.DataFrame(), r"no column 'image' \(columns found: none\)"),
        (pd.DataFrame({"image": []}), "holds no image"),
        (column(*["" for _ in range(1001)]), "holds 1001 images, and at most 1000"),
    ],
)
def test_requests_that_are_refused_whole(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows(frame, read=read)


def test_too_many_pixels_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_requests, "MAX_REQUEST_MEGAPIXELS", 2.5)
    assert len(read_rows(column(TEXT, TEXT), read=read)) == 2
    with pytest.raises(DataError, match=r"first 3 of 4 images have 3 megapixels together, and at most 2\.5"):
        read_rows(column(TEXT, TEXT, TEXT, TEXT), read=read)


def test_large_files_cost_milliseconds() -> None:
    text = base64.b64encode(bytes(30_000_000)).decode()
    begin = time.process_time()
    decode_base64(text)
    with pytest.raises(DataError, match="not a multiple of four"):
        decode_base64(text[:-1])
    assert time.process_time() - begin < 5, "a loop over the characters would take much longer"


def test_one_image_is_bounded_by_the_reader_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_requests, "MAX_REQUEST_MEGAPIXELS", 0.5)
    assert len(read_rows(column(TEXT), read=read)) == 1


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        (None, RequestOptions()),
        ({}, RequestOptions()),
        (
            {"explain": True, "tiles": True, "on_error": "report"},
            RequestOptions(explain=True, tiles=True, on_error="report"),
        ),
    ],
)
def test_read_options(params: dict[str, Any] | None, wanted: RequestOptions) -> None:
    assert read_options(params) == wanted


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"explain": None}, r"explain must be true or false, got nothing \(null\)"),
        ({"tiles": "yes"}, "tiles must be true or false, got the text 'yes'"),
        ({"explain": 1}, "explain must be true or false, got the int 1"),
        ({"on_error": "ignore"}, "on_error must be one of refuse, report, got the text 'ignore'"),
        ({"on_error": None}, "on_error must be one of"),
        ({"coverage_of": "tiles"}, "coverage_of must be one of images, class, got the text 'tiles'"),
    ],
)
def test_options_that_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_options(params)
