"""The table of predictions as a file: columns that are promised, written while images are still being classified."""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

CSV_COLUMNS = ("image", "label", "probability", "n_tiles", "model", "warnings", "error")
"""Followed by `p_<class>` for each class, in sorted order."""

CLASS_PREFIX = "p_"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One line of the table."""

    image: str
    model: str
    """Which version answered."""
    label: str | None
    probability: float | None
    probabilities: Mapping[str, float] | None
    n_tiles: int
    warnings: tuple[str, ...]
    error: str | None
    """Why there is no answer."""


def write_predictions(
    predictions: Iterable[Prediction],
    *,
    class_names: Sequence[str],
    output: Path | None,
    output_format: Literal["csv", "json"],
) -> tuple[Prediction, ...]:
    """Write predictions as they come.

    Args:
        predictions: In the order of the lines.
        class_names: The model's classes.
        output: A file, there in full or not at all; None is standard output.
        output_format: csv has columns as CSV_COLUMNS says; json is a list of records.

    Returns:
        The predictions without an answer.
    """
    failed: list[Prediction] = []

    def keep_failed() -> Iterator[Prediction]:
        for prediction in predictions:
            if prediction.error is not None:
                failed.append(prediction)
            yield prediction

    with _open(output) as file:
        if output_format == "csv":
            _write_csv(keep_failed(), class_names=class_names, file=file)
        else:
            _write_json(keep_failed(), file=file)
    return tuple(failed)


def _write_csv(predictions: Iterable[Prediction], *, class_names: Sequence[str], file: TextIO) -> None:
    writer = csv.DictWriter(file, [*CSV_COLUMNS, *(CLASS_PREFIX + name for name in class_names)], lineterminator="\n")
    writer.writeheader()
    for prediction in predictions:
        writer.writerow(_describe(prediction))
        file.flush()


def _describe(prediction: Prediction) -> dict[str, Any]:
    probabilities = prediction.probabilities or {}
    return {
        "image": prediction.image,
        "label": prediction.label,
        "probability": _round(prediction.probability),
        "n_tiles": prediction.n_tiles,
        "model": prediction.model,
        "warnings": "; ".join(prediction.warnings),
        "error": prediction.error,
        **{CLASS_PREFIX + name: _round(value) for name, value in probabilities.items()},
    }


def _round(value: float | None) -> str | None:
    """Return a probability with six digits: further ones differ between processors."""
    return None if value is None else f"{value:.6f}"


def _write_json(predictions: Iterable[Prediction], *, file: TextIO) -> None:
    """Write a list with one record per line."""
    file.write("[")
    for index, prediction in enumerate(predictions):
        file.write(",\n " if index else "\n ")
        json.dump(asdict(prediction), file, ensure_ascii=False)
        file.flush()
    file.write("\n]\n")


@contextmanager
def _open(output: Path | None) -> Iterator[TextIO]:
    """Give standard output, or a file that takes its place only when all is written."""
    if output is None:
        yield sys.stdout
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        Path(name).chmod(0o666 & ~_get_umask())
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _get_umask() -> int:
    """Return the process's file mask: temporary files are private, the table is not."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
