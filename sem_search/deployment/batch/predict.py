"""Files and folders of micrographs classified with a registered model: one line per image.

The model is asked exactly as its server would be, through MLflow and base64, so that a table and a server agree. An
image that cannot be read gets a line that says why; the others are answered. A run that is stopped goes on when the
same command is given again.
"""

import base64
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode
from mlflow.pyfunc import PyFuncModel
from mlflow.pyfunc import load_model as load_pyfunc

from sem_search.deployment.batch.resume import PredictionJournal
from sem_search.deployment.batch.table import Prediction, WrittenTable, choose_format, write_predictions
from sem_search.deployment.monitoring.journal import AnswerJournal, check_registered, describe_answer
from sem_search.deployment.pyfunc.requests import DEFAULT_COVERAGE, IMAGE_COLUMN
from sem_search.deployment.registry import complete_model_uri, read_headline, resolve_model_uri
from sem_search.deployment.registry.contents import borrow_model
from sem_search.errors import DataError, ModelNotFoundError, SettingsError
from sem_search.micrographs.images import PICTURE_SUFFIXES
from sem_search.progress import iter_measured
from sem_search.terminal import show_line, show_surrogates
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.links import format_links, link_run
from sem_search.tracking.mlflow.own_runs import log_to_own_run
from sem_search.words import count, name_some

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
    model_uri: str | None = None,
    output: Path | None = None,
    output_format: str | None = None,
    explain_folder: Path | None = None,
    coverage: float = DEFAULT_COVERAGE,
    journal: str | None = None,
) -> int:
    """Classify whole micrographs and write a table with one line per image.

    Args:
        images: Files, and folders that are searched for pictures.
        model_uri: `models:/<name>@<alias>`, `models:/<name>/<version>`, `runs:/<run id>/<name>` or a model's folder;
            None is the champion of the only model that has one.
        output: File to write, there in full or not at all; None writes to standard output.
        output_format: `csv`, `xlsx`, `json` or `parquet`, see `batch.table`; None takes it from the file's name.
        explain_folder: Where to write Grad-CAM overlays, as `<image>.png`; None writes none.
        coverage: Of the prediction sets, in (0, 1).
        journal: File, or URL of a database, to which each new answer is added, see `monitoring.journal`.

    Returns:
        The exit code: 0, or 2 if an image could not be read (its line says why).

    Raises:
        DataError: There is no picture in what was given.
        ModelNotFoundError: There is no such model.
        SettingsError: The coverage is not in (0, 1), the table or the journal cannot be written so, or there is a
            journal, and the model is not registered.
    """
    check_coverage(coverage)
    chosen = choose_format(output_format, output=output)
    found = find_images(images)
    exact_uri = resolve_model_uri(complete_model_uri(model_uri))
    headline = read_headline(exact_uri)
    answers = None if journal is None else _open_answers(journal, model_uri=exact_uri)
    model = load_model(exact_uri)
    class_names = _get_class_names(model, model_uri=exact_uri)
    question = Question(model_uri=exact_uri, explain_folder=explain_folder, coverage=coverage)
    done = PredictionJournal(output, question=question.to_json())
    predictions = iter_predictions(found, model=model, question=question, journal=done, answers=answers)
    shown = iter_measured(predictions, label="Classified", total=len(found), unit="images", is_shown=output is not None)
    with _explain_resume(done, output=output):
        written = write_predictions(shown, class_names=class_names, output=output, output_format=chosen)
    done.remove()
    _summarise(written, n_images=len(found), model_uri=exact_uri, headline=headline)
    _log_predictions(output, images=images, model_uri=exact_uri)
    return EXIT_UNREADABLE if written.failed else 0


def _open_answers(journal: str, *, model_uri: str) -> AnswerJournal:
    """Return the journal that answers of a registered model are added to."""
    check_registered(model_uri)
    return AnswerJournal.open(journal)


def check_coverage(coverage: float) -> None:
    """Raise SettingsError unless prediction sets can have this coverage."""
    if not 0 < coverage < 1:
        raise SettingsError(f"coverage={coverage:g} must lie above 0 and below 1.")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What the model is asked of each image."""

    model_uri: str
    """Of exactly one version."""
    explain_folder: Path | None
    coverage: float

    def to_json(self) -> dict[str, Any]:
        """Return what must be equal for an earlier answer to be taken over."""
        return {
            "model": self.model_uri,
            "explain": None if self.explain_folder is None else str(self.explain_folder.absolute()),
            "coverage": self.coverage,
        }


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
            found.setdefault(path.resolve(), FoundImage(path=path, shown_name=show_surrogates(path.as_posix())))
    if not found:
        raise DataError(
            f"There is no picture in {', '.join(map(str, images)) or 'nothing'}: "
            f"files with these suffixes are taken: {', '.join(sorted(PICTURE_SUFFIXES))}."
        )
    return tuple(found.values())


def load_model(model_uri: str) -> PyFuncModel:
    """Load a classifier into this process, which goes on with its own sem_search.

    Its files are compared with what the registry holds before anything of them is run.

    MLflow puts the model's copy of this package first on the path. It would not be imported here, where sem_search
    already is, but processes started from here inherit the path: it is restored.

    Raises:
        ModelNotFoundError: There is no such model, or it cannot be loaded.
        StoreError: A file is not what was registered.
    """
    path_before = list(sys.path)
    try:
        with borrow_model(model_uri) as folder:
            model = load_pyfunc(str(folder))
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


@contextmanager
def _explain_resume(journal: PredictionJournal, *, output: Path | None) -> Iterator[None]:
    """Print how many answers of an earlier run are used, and how to go on if this one is stopped."""
    if journal.n_known:
        print(f"{journal.n_known} images were answered before; they are not computed again.", file=sys.stderr)
    try:
        yield
    except KeyboardInterrupt:
        if output is not None:
            print("The answers so far are stored: the same command goes on from there.", file=sys.stderr)
        raise


def iter_predictions(
    found: Sequence[FoundImage],
    *,
    model: PyFuncModel,
    question: Question,
    journal: PredictionJournal,
    answers: AnswerJournal | None = None,
) -> Iterator[Prediction]:
    """Yield a prediction for each image, in order; those that the journal knows are not computed again.

    Args:
        found: The images.
        model: Loaded from the registry.
        question: What the model is asked of each image.
        journal: Stores each answer, and knows those of a run that was stopped.
        answers: The laboratory's journal, in which each new answer is written.
    """
    overlay_names = _name_overlays(found)
    known = [(image, journal.get(image.path, shown_name=image.shown_name)) for image in found]
    for is_known, pairs in groupby(known, key=lambda pair: pair[1] is not None):
        if is_known:
            yield from (prediction for _, prediction in pairs if prediction is not None)
            continue
        for batch in _iter_batches([image for image, _ in pairs]):
            predicted = _predict_batch(
                batch, model=model, question=question, overlay_names=overlay_names, answers=answers
            )
            for image, prediction in predicted:
                journal.add(prediction, path=image.path)
                yield prediction


def _predict_batch(
    batch: Sequence[FoundImage],
    *,
    model: PyFuncModel,
    question: Question,
    overlay_names: dict[Path, str],
    answers: AnswerJournal | None,
) -> Iterator[tuple[FoundImage, Prediction]]:
    """Yield each image with its prediction; its overlay and its row in the journal are written before."""
    folder = question.explain_folder
    params = {"explain": folder is not None, "on_error": "report", "coverage": question.coverage}
    contents = [_read(image.path) for image in batch]
    cells = [base64.b64encode(some).decode("ascii") if isinstance(some, bytes) else "" for some in contents]
    begun_s = time.perf_counter()
    given = _ask(model, cells, params=params)
    if answers is not None:
        duration_ms = 1000 * (time.perf_counter() - begun_s) / len(batch)
        read = model.unwrap_python_model().classifier.read  # type: ignore[no-untyped-call]
        answers.write(
            [
                describe_answer(answer, micrograph=read(content, name=image.shown_name), duration_ms=duration_ms)
                for image, content, answer in zip(batch, contents, given, strict=True)
                if answer["error"] is None
            ]
        )
    for image, content, answer in zip(batch, contents, given, strict=True):
        if folder is not None and answer["overlay_png"] is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / overlay_names[image.path]).write_bytes(base64.b64decode(answer["overlay_png"]))
        error = answer["error"] if isinstance(content, bytes) else content
        line = {**answer, "image": image.shown_name, "model": question.model_uri, "error": error}
        yield image, Prediction.build(line)  # what an older model does not answer stays empty


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
    """Return a file name for each overlay: the image's own; where others share it, with folders, ending or a number."""
    choices = {image.path: _list_overlay_names(image) for image in found}
    counts = Counter(name.casefold() for names in choices.values() for name in names)
    taken, chosen = set(counts), {}
    for place, (path, names) in enumerate(choices.items()):
        numbered = (f"{number}_{names[0]}" for number in itertools.count(place))
        own = next((name for name in names if counts[name.casefold()] == 1), None)
        chosen[path] = own or next(name for name in numbered if name.casefold() not in taken)
        taken.add(chosen[path].casefold())
    return chosen


def _list_overlay_names(image: FoundImage) -> tuple[str, ...]:
    """Return the names that an overlay may have, the best first."""
    path = PurePosixPath(image.shown_name)
    parts = [part for part in path.parent.parts if part not in ("/", "..", ".")]
    folders = ["_".join([*parts[len(parts) - n :], ""]) for n in range(len(parts) + 1)]
    stems = (path.stem, f"{path.stem}_{path.suffix.removeprefix('.')}")
    return tuple(f"{folder}{stem}.png" for stem in stems for folder in folders)


def _log_predictions(output: Path | None, *, images: Sequence[Path], model_uri: str) -> None:
    """Put the table, if it is a file, into the run that `mlflow run` has opened, if there is one."""
    if output is None:
        return
    tags = Tags(values={"sem_search.model": model_uri})
    name = f"predictions of {name_some([show_surrogates(path.name) for path in images])}"
    run_id = log_to_own_run([tags], kind="predictions", name=name)
    if run_id is not None:
        MlflowClient().log_artifact(run_id, str(output))
        print(format_links({"predictions": link_run(run_id, artifact=output.name)}), file=sys.stderr)


def _summarise(written: WrittenTable, *, n_images: int, model_uri: str, headline: str | None) -> None:
    """Print how many images were answered and by which version, and name the first ones that were not."""
    failed = written.failed
    n_classified = n_images - len(failed)
    print(f"{n_classified} of {n_images} images classified by {model_uri}.", file=sys.stderr)
    if headline is not None:
        print(f"  How good it is, measured in its study: {headline}.", file=sys.stderr)
    if written.n_training:
        learnt = count(written.n_training, "image")
        print(f"  The model learnt from {learnt} of these: a right answer there proves nothing.", file=sys.stderr)
    if written.n_unknown:
        print(
            f"  {written.n_unknown} of them are unknown: unlike all training images of this version. If they should be "
            "known, is it the right model?",
            file=sys.stderr,
        )
    for prediction in failed[:LISTED]:
        print(show_line(f"  {prediction.image}: {prediction.error}"), file=sys.stderr)
    if len(failed) > LISTED:
        print(f"  and {len(failed) - LISTED} more; see the column 'error'.", file=sys.stderr)
