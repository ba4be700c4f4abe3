"""The table of predictions as a file: columns that are promised, in CSV, Excel, JSON or Parquet."""

import csv
import json
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, TextIO, get_args, get_type_hints

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from sem_search.errors import SettingsError
from sem_search.terminal import protect_cell, show_controls

TableFormat = Literal["csv", "json", "parquet", "xlsx"]
FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)
BINARY_FORMATS: tuple[TableFormat, ...] = ("parquet", "xlsx")
"""They need a file."""

UNKNOWN = "unknown"
"""The label of an image that is unlike all training images."""

CLASS_PREFIX = "p_"

LISTS = ("prediction_set", "warnings")
"""Columns of several texts: a JSON list in CSV and Excel, lists in JSON and Parquet."""

ROUNDED = ("probability", "agreement", "spread")
"""Given with six decimals in CSV: further ones differ between processors. Other numbers have six digits."""

CSV_ENCODING = "utf-8-sig"
"""Of files: Excel reads a CSV without the mark at its beginning in a code page of its own, and garbles "Köln"."""

ARROW_TYPES = {
    float | None: pa.float64(),
    bool | None: pa.bool_(),
    int: pa.int64(),
    tuple[str, ...]: pa.list_(pa.string()),
}
"""Of columns in Parquet; others are strings."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One line of the table: what the model answered, see `docs/serving.md`, or why there is no answer.

    The fields are in the order of the columns.
    """

    image: str
    label: str | None = None
    """The most probable class, or `UNKNOWN`."""
    is_known: bool | None = None
    nearest: str | None = None
    """The most probable class of an image that is unknown."""
    probability: float | None = None
    """Of the most probable class."""
    probabilities: Mapping[str, float] | None = None
    prediction_set: tuple[str, ...] = ()
    coverage: float | None = None
    novelty: float | None = None
    novelty_threshold: float | None = None
    is_training_image: bool | None = None
    agreement: float | None = None
    spread: float | None = None
    pixel_size_nm: float | None = None
    pixel_size: str | None = None
    n_tiles: int = 0
    model: str
    """Which version answered."""
    warnings: tuple[str, ...] = ()
    error: str | None = None
    """Why there is no answer."""

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        """Return a line from values by name, as an answer or a table holds them; other names are left out.

        What a model names as the label of an unknown image is only the nearest class that it knows.
        """
        names = {field.name for field in fields(cls)}
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in names
        }
        if known.get("is_known") is False and known.get("nearest") is None:
            known |= {"nearest": known.get("label"), "label": UNKNOWN}
        return cls(**known)


CSV_COLUMNS = tuple(field.name for field in fields(Prediction) if field.name != "probabilities")
"""Followed by `p_<class>` for each class, in sorted order. The other formats have the same names."""


def choose_format(given: str | None, *, output: Path | None) -> TableFormat:
    """Return the format that was given, else that of the file's name, else CSV.

    Raises:
        SettingsError: There is no such format, the file's name ends as that of another one, or a file is needed.
    """
    suffix = output.suffix.lower().removeprefix(".") if output is not None else ""
    wanted = given or suffix or FORMATS[0]
    chosen = next((known for known in FORMATS if known == wanted), None)
    if chosen is None:
        if given:
            raise SettingsError(f"format={wanted}: no table can be written so; choose one of {', '.join(FORMATS)}.")
        endings = ", ".join(f".{known}" for known in FORMATS)
        raise SettingsError(
            f"output={output}: no table can be written as .{wanted}; end the name with one of {endings}, or give the "
            "format as well."
        )
    if suffix in FORMATS and suffix != chosen:
        raise SettingsError(f"output={output} contradicts format={chosen}: leave one of the two out.")
    if chosen in BINARY_FORMATS and output is None:
        raise SettingsError(f"format={chosen} needs a file to write: give output=FILE.{chosen}.")
    return chosen


@dataclass(frozen=True, kw_only=True)
class WrittenTable:
    """What a table of predictions holds."""

    failed: tuple[Prediction, ...]
    """Those without an answer."""
    n_unknown: int
    n_training: int
    """Images that the model learnt from."""


def write_predictions(
    predictions: Iterable[Prediction], *, class_names: Sequence[str], output: Path | None, output_format: TableFormat
) -> WrittenTable:
    """Write predictions as they come.

    Args:
        predictions: In the order of the lines.
        class_names: The model's classes.
        output: A file, there in full or not at all; None is standard output.
        output_format: csv has columns as CSV_COLUMNS says; json is a list of records; parquet and xlsx need a file.
    """
    failed: list[Prediction] = []
    n_unknown = n_training = 0

    def note() -> Iterator[Prediction]:
        """Yield the predictions as they come."""
        nonlocal n_unknown, n_training
        for prediction in predictions:
            if prediction.error is not None:
                failed.append(prediction)
            n_unknown += prediction.label == UNKNOWN
            n_training += bool(prediction.is_training_image)
            yield prediction

    if output_format in BINARY_FORMATS and output is not None:
        write = _write_parquet if output_format == "parquet" else _write_xlsx
        with _replace_when_whole(output) as path:
            write(note(), class_names=class_names, path=path)
    else:
        with _open(output, encoding=CSV_ENCODING if output_format == "csv" else "utf-8") as file:
            if output_format == "csv":
                _write_csv(note(), class_names=class_names, file=file)
            else:
                _write_json(note(), file=file)
    return WrittenTable(failed=tuple(failed), n_unknown=n_unknown, n_training=n_training)


def _write_csv(predictions: Iterable[Prediction], *, class_names: Sequence[str], file: "TextIO | _Terminal") -> None:
    writer = csv.DictWriter(file, list_columns(class_names), lineterminator="\n")
    writer.writeheader()
    for prediction in predictions:
        row = flatten_prediction(prediction)
        writer.writerow({name: _to_text(value, name=name) for name, value in row.items()})
        file.flush()


def list_columns(class_names: Sequence[str]) -> list[str]:
    """Return the names of all columns of a table."""
    return [*CSV_COLUMNS, *(CLASS_PREFIX + name for name in class_names)]


def flatten_prediction(prediction: Prediction) -> dict[str, Any]:
    """Return one row, each class's probability in a column of its own."""
    row = {name: getattr(prediction, name) for name in CSV_COLUMNS}
    return row | {CLASS_PREFIX + name: value for name, value in (prediction.probabilities or {}).items()}


def _to_text(value: Any, *, name: str) -> Any:
    """Return the value of a cell: numbers with the digits that mean something, no text that would be computed."""
    if name in LISTS:
        return json.dumps(value, ensure_ascii=False) if value else ""  # names may hold any sign that could part them
    if isinstance(value, float):
        return f"{value:.6f}" if name in ROUNDED or name.startswith(CLASS_PREFIX) else f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else protect_cell(value)


def _write_json(predictions: Iterable[Prediction], *, file: "TextIO | _Terminal") -> None:
    """Write a list with one record per line."""
    file.write("[")
    for index, prediction in enumerate(predictions):
        file.write(",\n " if index else "\n ")
        json.dump(asdict(prediction), file, ensure_ascii=False)
        file.flush()
    file.write("\n]\n")


def _write_xlsx(predictions: Iterable[Prediction], *, class_names: Sequence[str], path: Path) -> None:
    """Write one sheet whose head and first column stay in sight; numbers are numbers in whatever language Excel has."""
    rows = [
        {name: _to_excel(value, name=name) for name, value in flatten_prediction(prediction).items()}
        for prediction in predictions
    ]
    table = pd.DataFrame(rows, columns=list_columns(class_names)).rename(columns=show_controls)
    with path.open("wb") as file:
        table.to_excel(file, engine="openpyxl", sheet_name="predictions", index=False, freeze_panes=(1, 1))


def _to_excel(value: Any, *, name: str) -> Any:
    """Return the value of a cell; Excel knows no control characters."""
    if value is None or isinstance(value, int):
        return value
    text = _to_text(value, name=name)
    return float(text) if isinstance(value, float) else show_controls(text) or None


def _write_parquet(predictions: Iterable[Prediction], *, class_names: Sequence[str], path: Path) -> None:
    hints = get_type_hints(Prediction)
    types = {name: ARROW_TYPES.get(hints.get(name, float | None), pa.string()) for name in list_columns(class_names)}
    rows = [flatten_prediction(prediction) for prediction in predictions]
    parquet.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))), path)


class _Terminal:
    """Standard output that a person looks at: control characters are spelt out, see `terminal`."""

    def write(self, text: str) -> int:
        """Write a text to standard output; return the number of characters."""
        return sys.stdout.write(show_controls(text))

    def flush(self) -> None:
        """Flush standard output."""
        sys.stdout.flush()


@contextmanager
def _open(output: Path | None, *, encoding: str) -> Iterator[TextIO | _Terminal]:
    """Give standard output, or a file that takes its place only when all is written."""
    if output is None:
        yield _Terminal() if sys.stdout.isatty() else sys.stdout
        return
    with _replace_when_whole(output) as path, path.open("w", encoding=encoding, newline="") as file:
        yield file


@contextmanager
def _replace_when_whole(output: Path) -> Iterator[Path]:
    """Give the path of a file beside the output, which takes its place if all goes well."""
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_name(f".{output.name}.{uuid.uuid4().hex}")
    try:
        yield path
        path.replace(output)
    finally:
        path.unlink(missing_ok=True)
