"""What a request may be: a column of base64 files, and five parameters. Everything else is refused in one sentence.

A sentence names the row, counted from 0 as in the request's list, and the reason. It never holds the content of the
request, a path or a stack trace.
"""

import base64
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd

from sem_search.deployment.request_limits import MAX_REQUEST_MEGAPIXELS, MAX_ROWS
from sem_search.errors import DataError, RefusedRequestError, SettingsError
from sem_search.evaluation.conformal import CoverageOf
from sem_search.micrographs.reading.micrograph import Micrograph

IMAGE_COLUMN = "image"

DEFAULT_COVERAGE = 0.9
"""Of prediction sets: the usual choice, and one that 9 images to calibrate on can keep."""

MAX_LISTED = 5
"""Bad rows that one message lists."""

SHOWN_NAME = "the file"
"""What readers call a picture that came without a name; the row stands in its place in the end."""

WITHOUT_SPACES = dict.fromkeys(map(ord, string.whitespace))

NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")

ON_ERROR_WORDS = ("refuse", "report")

Reader = Callable[..., Micrograph]
"""`read(content, name=...)`: raises DataError with a message that begins with the name."""


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What the caller asked for."""

    explain: bool = False
    """Add the Grad-CAM overlay of each image."""
    tiles: bool = False
    """Add the answer of each tile."""
    on_error: str = "refuse"
    """`refuse`: one bad row refuses the request. `report`: its row says why, the others are answered."""
    coverage: float = DEFAULT_COVERAGE
    """Share of images whose prediction set shall hold the true class, in (0, 1)."""
    coverage_of: CoverageOf = "images"
    """Of which images it is the share: of all, or of those of each class."""


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be answered."""

    row: int
    reason: str


def read_options(params: Mapping[str, Any] | None) -> RequestOptions:
    """Return the request's parameters.

    Raises:
        SettingsError: A value is not what the parameter takes.
    """
    given = dict(params or {})
    for name in ("explain", "tiles"):
        value = given.get(name, False)
        if not isinstance(value, bool):
            raise SettingsError(f"Parameter {name} must be true or false, got {_describe_value(value)}.")
    for name, words in (("on_error", ON_ERROR_WORDS), ("coverage_of", get_args(CoverageOf))):
        value = given.get(name, words[0])
        if value not in words:
            raise SettingsError(f"Parameter {name} must be one of {', '.join(words)}, got {_describe_value(value)}.")
    coverage = given.get("coverage", DEFAULT_COVERAGE)
    if isinstance(coverage, bool) or not isinstance(coverage, int | float) or not 0 < coverage < 1:
        raise SettingsError(
            f"Parameter coverage must be a number above 0 and below 1, got {_describe_value(coverage)}."
        )
    return RequestOptions(**{**given, "coverage": float(coverage)})


def read_rows(frame: pd.DataFrame, *, read: Reader) -> list[Micrograph | BadRow]:
    """Return the micrograph of each row, or why there is none.

    Args:
        frame: The request, with the column `image`.
        read: Decodes one file.

    Raises:
        DataError: There is no such column, no row, or more than can be answered at once.
    """
    find_image_column(list(frame.columns))
    values = frame[IMAGE_COLUMN].tolist()
    check_count(values, max_rows=MAX_ROWS)
    files = (decode_cell(row, value) for row, value in enumerate(values))
    return read_images(files, n_rows=len(values), read=read, max_megapixels=MAX_REQUEST_MEGAPIXELS)


def find_image_column(columns: Sequence[Any]) -> int:
    """Return the place of the image column among others; a request without one is a DataError."""
    if IMAGE_COLUMN not in columns:
        found = ", ".join(repr(str(name)[:40]) for name in columns[:MAX_LISTED]) or "none"
        raise DataError(f"The request has no column '{IMAGE_COLUMN}' (columns found: {found}).")
    return columns.index(IMAGE_COLUMN)


def check_count(cells: Sequence[Any], *, max_rows: int) -> None:
    """Refuse, with a DataError, a request that holds no image or too many."""
    if not cells:
        raise DataError(f"The request holds no image: give at least one row with the column '{IMAGE_COLUMN}'.")
    if len(cells) > max_rows:
        raise RefusedRequestError(
            f"The request holds {len(cells)} images, and at most {max_rows} are answered at once: send them in parts.",
            status=413,
        )


def decode_cell(row: int, value: object) -> bytes | BadRow:
    """Return the file that a cell of the image column holds, or why it holds none."""
    try:
        return decode_base64(value)
    except DataError as error:
        return BadRow(row=row, reason=str(error))


def read_images(
    files: Iterable[bytes | BadRow], *, n_rows: int, read: Reader, max_megapixels: float
) -> list[Micrograph | BadRow]:
    """Return the micrograph of each file, or why there is none.

    Args:
        files: One for each row, in order.
        n_rows: How many there are.
        read: Decodes one file.
        max_megapixels: Of all images together; a single one has the reader's limit.

    Raises:
        DataError: The images have too many pixels together.
    """
    rows: list[Micrograph | BadRow] = []
    sizes: list[float] = []
    for index, file in enumerate(files):
        row = _read_file(index, file, read=read)
        rows.append(row)
        if isinstance(row, Micrograph):
            sizes.append(row.original.size / 1e6)
        if len(sizes) > 1 and sum(sizes) > max_megapixels:
            raise DataError(
                f"The first {index + 1} of {n_rows} images have {sum(sizes):.0f} megapixels together, and "
                f"at most {max_megapixels:g} are answered at once: send them in parts."
            )
    return rows


def check_rows(rows: Sequence[Micrograph | BadRow]) -> None:
    """Refuse a request with bad rows.

    Raises:
        DataError: There is one; the message lists the first ones with their reasons.
    """
    bad = [row for row in rows if isinstance(row, BadRow)]
    if not bad:
        return
    listed = "; ".join(f"row {some.row}: {some.reason}" for some in bad[:MAX_LISTED])
    more = f"; and {len(bad) - MAX_LISTED} more" if len(bad) > MAX_LISTED else ""
    raise DataError(f"{len(bad)} of {len(rows)} images cannot be answered (rows are counted from 0): {listed}{more}.")


def decode_base64(value: object) -> bytes:
    """Return the file that a cell of the image column holds.

    Args:
        value: Base64 text, with or without line breaks and a data-URL prefix (`data:image/png;base64,`).

    Raises:
        DataError: The cell holds something else; the message says what.
    """
    if not isinstance(value, str):
        raise DataError(f"holds {_describe_value(value)} instead of the base64 text of an image file")
    text = _remove_prefix(value)
    if not text or text.isspace():
        raise DataError("is empty instead of the base64 text of an image file")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:  # seldom: lines are only joined where that is needed, files are large
        text = text.translate(WITHOUT_SPACES)  # not split into words: a large cell of short ones would fill the memory
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(
            f"is not valid base64 ({_explain_base64(text)}): send the file's bytes in standard base64"
        ) from error


def _read_file(index: int, file: bytes | BadRow, *, read: Reader) -> Micrograph | BadRow:
    if isinstance(file, BadRow):
        return file
    try:
        return read(file, name=SHOWN_NAME)
    except DataError as error:
        return BadRow(row=index, reason=str(error).removeprefix(f"{SHOWN_NAME}: ").rstrip("."))


def _remove_prefix(value: str) -> str:
    """Return what follows `data:...;base64,`."""
    if value[:5].lower() != "data:":
        return value
    header, comma, text = value.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise DataError("is a data URL without base64: it must begin with 'data:<type>;base64,'")
    return text


def _explain_base64(text: str) -> str:
    """Return what is wrong with a text that is not base64, without showing more of it than one character."""
    wrong = NOT_BASE64.search(text)
    if wrong is not None:
        return f"character {wrong[0]!r} at position {wrong.start()}"
    if "=" in text.rstrip("="):
        return "'=' before the end"
    return f"{len(text)} characters, not a multiple of four: cut short, or without its padding"


def _describe_value(value: object) -> str:
    """Return a value as part of a sentence: what it is, not all that it holds."""
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return "nothing (null)"
    if isinstance(value, bool | int | float):
        return f"the {type(value).__name__} {value!r:.20}"
    if isinstance(value, str):
        return f"the text {value[:20]!r}"
    return f"a value of type {type(value).__name__}"
