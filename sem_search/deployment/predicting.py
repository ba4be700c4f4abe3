"""Files and folders of micrographs classified with a registered model: one line per image.

The model is asked exactly as its server would be, through MLflow and base64, so that a table and a server agree. An
image that cannot be read gets a line that says why; the others are answered.
"""

import base64
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TextIO

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc import load_model as load_pyfunc
from tqdm import tqdm

from sem_search.deployment.image_requests import IMAGE_COLUMN
from sem_search.deployment.prediction_tables import Prediction, write_predictions
from sem_search.deployment.registry import resolve_model_uri
from sem_search.errors import DataError, ModelNotFoundError
from sem_search.micrographs.listing import PICTURE_SUFFIXES

EXIT_UNREADABLE = 2
"""The exit code of a command whose input was wrong; every readable image was answered all the same."""

BATCH_IMAGES = 8
BATCH_BYTES = 32_000_000
"""A batch ends with whichever comes first: what is read ahead stays small."""

MAX_FILE_BYTES = 1_000_000_000
"""More than 100 megapixels of uncompressed 16-bit colour: no micrograph that a classifier would take."""

LISTED = 5
"""Unreadable images that the summary names; the table has them all."""


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """A file to be classified."""

    path: Path
    shown_name: str
    """What the table calls it: the path as it was given, or below the folder that was given."""


def predict_images(
    images: Sequence[Path],
    *,
    model_uri: str,
    output: Path | None = None,
    output_format: Literal["csv", "json"] = "csv",
    explain_folder: Path | None = None,
) -> int:
    """Classify whole micrographs and write a table with one line per image.

    Args:
        images: Files, and folders that are searched for pictures.
        model_uri: `models:/<name>@<alias>`, `models:/<name>/<version>`, `runs:/<run id>/<name>` or a model's folder.
        output: File to write, there in full or not at all; None writes to standard output.
        output_format: csv: `image,label,probability,n_tiles,model,warnings,error` and `p_<class>` for each class;
            json: a list of records.
        explain_folder: Where to write Grad-CAM overlays, as `<image>.png`; None writes none.

    Returns:
        The exit code: 0, or 2 if an image could not be read (its line says why).

    Raises:
        DataError: There is no picture in what was given.
        ModelNotFoundError: There is no such model.
    """
    found = find_images(images)
    exact_uri = resolve_model_uri(model_uri)
    model = load_model(exact_uri)
    class_names = _get_class_names(model, model_uri=exact_uri)
    predictions = _iter_predictions(found, model=model, model_uri=exact_uri, explain_folder=explain_folder)
    with tqdm(predictions, total=len(found), unit="image", disable=not sys.stderr.isatty()) as bar:
        failed = write_predictions(bar, class_names=class_names, output=output, output_format=output_format)
    _summarise(failed, n_images=len(found), stream=sys.stderr)
    return EXIT_UNREADABLE if failed else 0


def find_images(images: Sequence[Path]) -> tuple[FoundImage, ...]:
    """Return the picture files among files and below folders, each once, in the order given.

    Files are taken whatever their name; in folders, hidden files and what is no picture by its suffix are left out.

    Raises:
        DataError: A path does not exist, or there is no picture at all.
    """
    found: dict[Path, FoundImage] = {}
    for given in images:
        if not given.exists():
            raise DataError(f"{given} does not exist: give micrographs, or folders that hold some.")
        for path in _list_folder(given) if given.is_dir() else [given]:
            found.setdefault(path.resolve(), FoundImage(path=path, shown_name=path.as_posix()))
    if not found:
        raise DataError(
            f"There is no picture in {', '.join(map(str, images)) or 'nothing'}: "
            f"files with these suffixes are taken: {', '.join(sorted(PICTURE_SUFFIXES))}."
        )
    return tuple(found.values())


def load_model(model_uri: str) -> PyFuncModel:
    """Load a classifier into this process, which goes on with its own sem_search.

    MLflow puts the model's copy of this package first on the path. It would not be imported here, where sem_search
    already is, but processes started from here inherit the path: it is put back.

    Raises:
        ModelNotFoundError: There is no such model, or it cannot be loaded.
    """
    path_before = list(sys.path)
    try:
        model = load_pyfunc(model_uri)
    except (MlflowException, OSError) as error:
        raise ModelNotFoundError(f"Model {model_uri!r} cannot be loaded: {_shorten(error)}") from error
    finally:
        sys.path[:] = path_before
    return model


def _get_class_names(model: PyFuncModel, *, model_uri: str) -> tuple[str, ...]:
    """Return the model's classes, in the order of its answers."""
    facts = model.metadata.metadata or {}
    if "class_names" not in facts:
        raise ModelNotFoundError(f"Model {model_uri!r} is no classifier of sem_search: its metadata name no classes.")
    return tuple(facts["class_names"])


def _list_folder(folder: Path) -> Iterator[Path]:
    """Yield the pictures below a folder, sorted by path; hidden files and folders are left out."""
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden and not path.is_dir():
            yield path


def _iter_predictions(
    found: Sequence[FoundImage], *, model: PyFuncModel, model_uri: str, explain_folder: Path | None
) -> Iterator[Prediction]:
    """Yield a prediction for each image, in order."""
    params = {"explain": explain_folder is not None, "on_error": "report"}
    overlay_names = _name_overlays(found) if explain_folder is not None else {}
    for batch in _iter_batches(found):
        contents = [_read(image.path) for image in batch]
        cells = [base64.b64encode(some).decode("ascii") if isinstance(some, bytes) else "" for some in contents]
        answers = _ask(model, cells, params=params)
        for image, content, answer in zip(batch, contents, answers, strict=True):
            if explain_folder is not None and answer["overlay_png"] is not None:
                _write_overlay(explain_folder / overlay_names[image.path], answer["overlay_png"])
            yield Prediction(
                image=image.shown_name,
                model=model_uri,
                label=answer["label"],
                probability=answer["probability"],
                probabilities=answer["probabilities"],
                n_tiles=answer["n_tiles"],
                warnings=tuple(answer["warnings"]),
                error=answer["error"] if isinstance(content, bytes) else content,
            )


def _iter_batches(found: Sequence[FoundImage]) -> Iterator[list[FoundImage]]:
    batch: list[FoundImage] = []
    n_bytes = 0
    for image in found:
        batch.append(image)
        n_bytes += image.path.stat().st_size if image.path.exists() else 0
        if len(batch) == BATCH_IMAGES or n_bytes >= BATCH_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _ask(model: PyFuncModel, cells: list[str], *, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the answer to each cell; a batch that is refused as too large is asked in halves."""
    try:
        answers = pd.DataFrame(model.predict(pd.DataFrame({IMAGE_COLUMN: cells}), params=params))
        return [dict(zip(answers.columns, row, strict=True)) for row in answers.itertuples(index=False, name=None)]
    except MlflowException as error:
        if len(cells) == 1 or error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
            raise
    half = len(cells) // 2
    return _ask(model, cells[:half], params=params) + _ask(model, cells[half:], params=params)


def _read(path: Path) -> bytes | str:
    """Return the file's content, or why there is none."""
    try:
        if not path.is_file():  # a pipe would keep its reader waiting for ever
            return "is no file any more, or a link to one that is gone"
        n_bytes = path.stat().st_size
        if n_bytes > MAX_FILE_BYTES:
            return f"has {n_bytes / 1e6:.0f} MB, and at most {MAX_FILE_BYTES / 1e6:.0f} are read: cut the picture"
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _name_overlays(found: Sequence[FoundImage]) -> dict[Path, str]:
    """Return a file name for each overlay: the image's own, with as much of its folders as tells it from the others."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for image in found:
        parts = [part for part in PurePosixPath(image.shown_name).parts if part not in ("/", "..", ".")]
        choices = ["_".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        free = next((name for name in choices if name.casefold() not in taken), f"{len(taken)}_{choices[-1]}")
        taken.add(free.casefold())
        names[image.path] = f"{free}.png"
    return names


def _write_overlay(path: Path, overlay_png: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(overlay_png))


def _summarise(failed: Sequence[Prediction], *, n_images: int, stream: TextIO) -> None:
    """Say how many images were answered, and name the first ones that were not."""
    print(f"{n_images - len(failed)} of {n_images} images classified.", file=stream)
    for prediction in failed[:LISTED]:
        print(f"  {prediction.image}: {prediction.error}", file=stream)
    if len(failed) > LISTED:
        print(f"  and {len(failed) - LISTED} more; see the column 'error'.", file=stream)


def _shorten(error: Exception) -> str:
    """Return the first line of a foreign message."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
