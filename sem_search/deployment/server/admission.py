"""What a request may be: JSON or CSV of one shape of table, small enough to be answered.

A body is counted before it is read, read within limits, and each picture in it is taken out of its base64 once. The
model, not this module, decides whether an image can be answered.
"""

import io
import json
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
from pandas.errors import EmptyDataError

from sem_search.deployment.pyfunc.requests import (
    IMAGE_COLUMN,
    BadRow,
    RequestOptions,
    check_count,
    decode_cell,
    find_image_column,
    read_options,
)
from sem_search.deployment.request_limits import RequestLimits
from sem_search.deployment.server.intake import SMALL_BYTES
from sem_search.errors import DataError, RefusedRequestError, get_first_line
from sem_search.micrographs.reading.sizes import read_pixel_count

TOO_LARGE, UNSUPPORTED = 413, 415

JSON_TYPE, CSV_TYPE = "application/json", "text/csv"

TABLE_KEYS = ("dataframe_records", "dataframe_split", "inputs", "instances")
"""The four shapes of a table that MLflow's server takes; a request has exactly one."""

PARAMS_KEY = "params"

PARAM_NAMES = tuple(field.name for field in fields(RequestOptions))

QUESTION_MARKS = bytes(range(128)) + b"?" * 128
"""What becomes of each byte of a large text."""

SEPARATORS = {JSON_TYPE: (b",", b"[", b"{"), CSV_TYPE: (b",", b"\n", b"\r")}
"""Each value has one of these before it. Base64 has none of them, so that pictures count for nothing."""


@dataclass(frozen=True, kw_only=True)
class AdmittedRequest:
    """A request that may be answered."""

    files: tuple[bytes | BadRow, ...]
    """The picture file of each row, not decoded, or why there is none."""
    options: RequestOptions
    megapixels: float
    """Of all pictures together, as their headers state them."""


def admit_request(body: bytes | bytearray, *, content_type: str, limits: RequestLimits) -> AdmittedRequest:
    """Return what a request asks.

    Args:
        body: As it came, not longer than `limits.max_bytes`.
        content_type: The header, `application/json` or `text/csv`.
        limits: How much may be asked for.

    Raises:
        DataError: It is no such request; one sentence, which names the row where one is at fault.
        RefusedRequestError: It is of another type, or too large; with the HTTP status.
        SettingsError: A parameter has a value that it cannot take.
    """
    kind = _read_content_type(content_type)
    _check_elements(body, kind=kind, limits=limits)
    cells, params = _read_csv(body) if kind == CSV_TYPE else _read_json(body)
    options = _read_params(params)
    check_count(cells, max_rows=limits.max_rows)
    # No picture has other characters than those of ASCII: texts that are four times as wide are not worked on.
    plain = (_to_ascii(cell) if isinstance(cell, str) else cell for cell in cells)
    files = [decode_cell(row, cell) for row, cell in enumerate(plain)]
    megapixels = _check_pixels(files, limits=limits, is_reported=options.on_error == "report")
    return AdmittedRequest(files=tuple(files), options=options, megapixels=megapixels)


def _read_content_type(content_type: str) -> str:
    """Return the media type of a request that can be read."""
    kind, *parameters = [part.strip().lower() for part in content_type.split(";")]
    charsets = [part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")]
    if kind not in (JSON_TYPE, CSV_TYPE):
        raise RefusedRequestError(
            f"Requests are {JSON_TYPE} or {CSV_TYPE}, by the header Content-Type; got {kind[:60]!r}.",
            status=UNSUPPORTED,
        )
    if charsets and charsets[0] not in ("utf-8", "utf8"):
        raise RefusedRequestError(f"Requests are in UTF-8, got charset {charsets[0][:30]!r}.", status=UNSUPPORTED)
    return kind


def _check_elements(body: bytes | bytearray, *, kind: str, limits: RequestLimits) -> None:
    """Refuse a body of too many small values before it is read, which would take many times its size."""
    n_elements = sum(body.count(separator) for separator in SEPARATORS[kind])
    if n_elements > limits.max_elements:
        raise RefusedRequestError(
            f"The request holds {n_elements} commas, {'line ends' if kind == CSV_TYPE else 'brackets'} and the like, "
            f"and at most {limits.max_elements} are read: send fewer images at once, and no columns beside "
            f"'{IMAGE_COLUMN}'.",
            status=TOO_LARGE,
        )


def _decode(body: bytes | bytearray) -> str:
    """Return the text of a body.

    One wide character makes a text four times as long in memory, and all that is cut from it: in a large one they give
    way to question marks, since no picture has any.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"The request is not UTF-8 (byte {error.start}): send JSON or CSV with the file in base64, not the file."
        ) from error
    return text if len(body) <= SMALL_BYTES else _to_ascii(text)


def _to_ascii(text: str) -> str:
    return text if text.isascii() else text.encode("ascii", "replace").decode("ascii")


def _read_json(body: bytes | bytearray) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the image cells and the parameters of a JSON request."""
    try:
        request = json.loads(_decode(body))
    except json.JSONDecodeError as error:
        raise DataError(f"The request is not valid JSON ({error.msg} at character {error.pos}).") from error
    except (RecursionError, ValueError) as error:
        raise DataError(
            "The request is not valid JSON (it is nested too deeply, or holds a number of too many digits)."
        ) from error
    if not isinstance(request, dict):
        raise DataError(
            f"The request must be a JSON object with one of {', '.join(TABLE_KEYS)}, got a {type(request).__name__}."
        )
    given = [key for key in TABLE_KEYS if key in request]
    if len(given) != 1:
        found = ", ".join(given) or "none of them"
        raise DataError(f"The request must hold exactly one of {', '.join(TABLE_KEYS)}, got {found}.")
    params = {} if request.get(PARAMS_KEY) is None else request[PARAMS_KEY]
    if not isinstance(params, dict):
        raise DataError(f"'{PARAMS_KEY}' must be a JSON object, got a {type(params).__name__}.")
    read = _read_split if given[0] == "dataframe_split" else _read_values
    return read(request[given[0]], key=given[0]), params


def _read_split(table: Any, *, key: str) -> Sequence[Any]:
    """Return the image cells of `{"columns": [...], "data": [[...], ...]}`."""
    columns, data = (table.get("columns"), table.get("data")) if isinstance(table, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(data, list):
        raise DataError(f"'{key}' must be a JSON object with the lists 'columns' and 'data'.")
    at = find_image_column(columns)
    for row, values in enumerate(data):
        if not isinstance(values, list) or len(values) != len(columns):
            raise DataError(f"Row {row} of '{key}' (counted from 0) must be a list of {len(columns)} value(s).")
    return [values[at] for values in data]


def _read_values(table: Any, *, key: str) -> Sequence[Any]:
    """Return the image cells of a list of records, a list of images, or `{"image": [...]}`."""
    if isinstance(table, dict) and key == "inputs":
        find_image_column(list(table))
        cells = table[IMAGE_COLUMN]
        return cells if isinstance(cells, list) else [cells]
    if not isinstance(table, list):
        raise DataError(f"'{key}' must be a list, got a {type(table).__name__}.")
    records = [row for row in table if isinstance(row, dict)]
    if records and not any(IMAGE_COLUMN in record for record in records):
        find_image_column(list(records[0]))
    for row, value in enumerate(table):
        if not isinstance(value, dict) and key == "dataframe_records":
            raise DataError(
                f"Row {row} of '{key}' (counted from 0) must be a JSON object with the key '{IMAGE_COLUMN}'."
            )
    return [row.get(IMAGE_COLUMN) if isinstance(row, dict) else row for row in table]


def _read_csv(body: bytes | bytearray) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the image cells of a CSV request, which has no parameters.

    pandas reads it, as in MLflow's server: it is quick, and lets other threads go on meanwhile.
    """
    names: dict[Any, None] = {}

    def is_image(name: Any) -> bool:
        names[name] = None
        return bool(name == IMAGE_COLUMN)

    content = body.removeprefix(BOM_UTF8)
    if len(content) > SMALL_BYTES and not content.isascii():
        content = content.translate(QUESTION_MARKS)  # as in `_decode`
    try:
        table = pd.read_csv(io.BytesIO(content), usecols=is_image, dtype=str, na_filter=False, index_col=False)
    except UnicodeDecodeError as error:
        raise DataError(f"The request is not UTF-8 ({error.reason}).") from error
    except EmptyDataError:
        table = pd.DataFrame()
    except ValueError as error:
        raise DataError(f"The request is not valid CSV ({get_first_line(error)}).") from error
    find_image_column(list(names))
    return table[IMAGE_COLUMN].tolist(), {}


def _read_params(params: Mapping[str, Any]) -> RequestOptions:
    unknown = [name for name in params if name not in PARAM_NAMES]
    if unknown:
        raise DataError(f"There is no parameter {unknown[0][:60]!r}; the model knows {', '.join(PARAM_NAMES)}.")
    return read_options(params)


def _check_pixels(files: list[bytes | BadRow], *, limits: RequestLimits, is_reported: bool) -> float:
    """Return the megapixels of all pictures, by their headers; refuse a request that has too many.

    With `on_error=report`, a picture that is too large gives way, in the list, to the reason why it is not taken.
    """
    megapixels = 0.0
    for row, file in enumerate(files):
        size = 0.0 if isinstance(file, BadRow) else (read_pixel_count(file) or 0) / 1e6
        if size > limits.max_image_megapixels:
            reason = f"the image has {size:.3g} megapixels, and at most {limits.max_image_megapixels:g} are taken"
            if not is_reported:
                message = f"Row {row} (counted from 0): {reason}: cut or shrink it."
                raise RefusedRequestError(message, status=TOO_LARGE)
            files[row] = BadRow(row=row, reason=f"{reason}: cut or shrink it")
            continue
        megapixels += size
        if megapixels > limits.max_request_megapixels and row > 0:
            raise RefusedRequestError(
                f"The first {row + 1} of {len(files)} images have {megapixels:.3g} megapixels together, and at most "
                f"{limits.max_request_megapixels:g} are answered at once: send them in parts.",
                status=TOO_LARGE,
            )
    return megapixels
