"""The table of predictions as a file: columns that are promised, in CSV, JSON or Parquet."""

import csv
import json
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, TextIO, get_args

import pyarrow as pa
from pyarrow import parquet

from sem_search.errors import SettingsError
from sem_search.terminal import protect_cell, show_controls

TableFormat = Literal["csv", "json", "parquet"]

CSV_COLUMNS = (
    *("image", "label", "probability", "prediction_set", "coverage", "is_known", "novelty", "novelty_threshold"),
    *("is_training_image", "agreement", "spread", "pixel_size_nm", "pixel_size", "n_tiles"),
    *("model", "warnings", "error"),
)
"""Followed by `p_<class>` for each class, in sorted order. JSON and Parquet have the same names."""

CLASS_PREFIX = "p_"

LISTS = ("prediction_set", "warnings")
"""Columns of several texts: a JSON list in CSV, lists in JSON and Parquet."""

ROUNDED = ("probability", "agreement", "spread")
"""Given with six digits in CSV: further ones differ between processors."""

PARQUET_TYPES = {
    **dict.fromkeys(CSV_COLUMNS, pa.string()),
    **dict.fromkeys(LISTS, pa.list_(pa.string())),
    **dict.fromkeys(
        ("probability", "coverage", "novelty", "novelty_threshold", "agreement", "spread", "pixel_size_nm"),
        pa.float64(),
    ),
    **dict.fromkeys(("is_known", "is_training_image"), pa.bool_()),
    "n_tiles": pa.int64(),
}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One line of the table: what the model answered, see `docs/serving.md`, or why there is no answer."""

    image: str
    model: str
    """Which version answered."""
    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] | None = None
    prediction_set: tuple[str, ...] = ()
    coverage: float | None = None
    is_known: bool | None = None
    novelty: float | None = None
    novelty_threshold: float | None = None
    is_training_image: bool | None = None
    agreement: float | None = None
    spread: float | None = None
    pixel_size_nm: float | None = None
    pixel_size: str | None = None
    n_tiles: int = 0
    warnings: tuple[str, ...] = ()
    error: str | None = None
    """Why there is no answer."""

    @classmethod
    def build(cls, values: Mapping[str, Any]) -> Self:
        """Return a line from values by name, as JSON or a table holds them; other names are left out."""
        names = {field.name for field in fields(cls)}
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in names
        }
        return cls(**known)


def choose_format(given: str | None, *, output: Path | None) -> TableFormat:
    """Return the format that was given, else that of the file's name, else CSV.

    Raises:
        SettingsError: Parquet was asked for without a file to write it to.
    """
    suffix = output.suffix.lower().removeprefix(".") if output is not None else ""
    formats: tuple[TableFormat, ...] = get_args(TableFormat)
    chosen = next((known for known in formats if known == (given or suffix)), formats[0])
    if chosen == "parquet" and output is None:
        raise SettingsError("format=parquet needs a file to write: give output=FILE.parquet.")
    return chosen


def write_predictions(
    predictions: Iterable[Prediction],
    *,
    class_names: Sequence[str],
    output: Path | None,
    output_format: TableFormat,
) -> tuple[Prediction, ...]:
    """Write predictions as they come.

    Args:
        predictions: In the order of the lines.
        class_names: The model's classes.
        output: A file, there in full or not at all; None is standard output.
        output_format: csv has columns as CSV_COLUMNS says; json is a list of records; parquet needs a file.

    Returns:
        The predictions without an answer.
    """
    failed: list[Prediction] = []

    def keep_failed() -> Iterator[Prediction]:
        """Yield the predictions as they come; those without an answer are remembered."""
        for prediction in predictions:
            if prediction.error is not None:
                failed.append(prediction)
            yield prediction

    if output_format == "parquet" and output is not None:
        with _replace_when_whole(output) as path:
            _write_parquet(keep_failed(), class_names=class_names, path=path)
        return tuple(failed)
    with _open(output) as file:
        if output_format == "csv":
            _write_csv(keep_failed(), class_names=class_names, file=file)
        else:
            _write_json(keep_failed(), file=file)
    return tuple(failed)


def _write_csv(predictions: Iterable[Prediction], *, class_names: Sequence[str], file: "TextIO | _Terminal") -> None:
    columns = [*CSV_COLUMNS, *(CLASS_PREFIX + name for name in class_names)]
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    for prediction in predictions:
        row = flatten_prediction(prediction)
        writer.writerow({name: protect_cell(_to_text(value, name=name)) for name, value in row.items()})
        file.flush()


def flatten_prediction(prediction: Prediction) -> dict[str, Any]:
    """Return one row, each class's probability in a column of its own."""
    row = {name: getattr(prediction, name) for name in CSV_COLUMNS}
    return row | {CLASS_PREFIX + name: value for name, value in (prediction.probabilities or {}).items()}


def _to_text(value: Any, *, name: str) -> Any:
    if name in LISTS:
        return json.dumps(value, ensure_ascii=False) if value else ""  # names may hold any sign that could part them
    if name in ROUNDED or name.startswith(CLASS_PREFIX):
        return None if value is None else f"{value:.6f}"
    return str(value).lower() if isinstance(value, bool) else value


def _write_json(predictions: Iterable[Prediction], *, file: "TextIO | _Terminal") -> None:
    """Write a list with one record per line."""
    file.write("[")
    for index, prediction in enumerate(predictions):
        file.write(",\n " if index else "\n ")
        json.dump(asdict(prediction), file, ensure_ascii=False)
        file.flush()
    file.write("\n]\n")


def _write_parquet(predictions: Iterable[Prediction], *, class_names: Sequence[str], path: Path) -> None:
    types = PARQUET_TYPES | {CLASS_PREFIX + name: pa.float64() for name in class_names}
    rows = [
        {name: _to_list(value) for name, value in flatten_prediction(prediction).items()} for prediction in predictions
    ]
    parquet.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))), path)


def _to_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class _Terminal:
    """Standard output that a person looks at: control characters are spelt out, see `terminal`."""

    def write(self, text: str) -> int:
        """Write a text to standard output; return the number of characters."""
        return sys.stdout.write(show_controls(text))

    def flush(self) -> None:
        """Flush standard output."""
        sys.stdout.flush()


@contextmanager
def _open(output: Path | None) -> Iterator[TextIO | _Terminal]:
    """Give standard output, or a file that takes its place only when all is written."""
    if output is None:
        yield _Terminal() if sys.stdout.isatty() else sys.stdout
        return
    with _replace_when_whole(output) as path, path.open("w", encoding="utf-8", newline="") as file:
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
