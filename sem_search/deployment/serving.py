"""The classifier as MLflow serves it: a thin shell that turns a request into images, and answers into a table.

MLflow's server sends the stack trace of any exception to the caller, except of its own `MlflowException`. So nothing
else leaves `predict`: what the caller did wrong is a 400 with one sentence; what went wrong here is a 500 without
details, which are in the server's log.
"""

import base64
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from sem_search.deployment.classifier import ImageAnswer, MicrographClassifier
from sem_search.deployment.image_requests import (
    BadRow,
    RequestOptions,
    check_rows,
    read_options,
    read_rows,
)
from sem_search.deployment.loading import read_classifier
from sem_search.errors import InputError
from sem_search.micrographs.reading import Micrograph

MODEL_FOLDER = "classifier"
"""Name of the one artifact: the model folder."""

_logger = logging.getLogger(__name__)


class ServedClassifier(PythonModel):
    """Whole micrographs as base64 in, one answer per micrograph out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model and answer once, so that the first request is as quick as the others."""
        self.classifier = read_classifier(Path(context.artifacts[MODEL_FOLDER]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer one request.

        Args:
            context: Not used; MLflow gives it.
            model_input: Column `image`: base64 of a file as it came, with or without a data-URL prefix.
            params: `explain` adds the column `overlay_png`; `tiles` adds the column `tiles`; `on_error="report"` adds
                the column `error` and answers the other rows, where otherwise a bad row refuses the request.

        Returns:
            One row per image: label, probability, probabilities (class -> p), n_tiles, warnings.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, which is HTTP 400, names the row and the reason;
                INTERNAL_ERROR, which is HTTP 500, if the classifier itself failed.
        """
        with _speak_plainly():
            options = read_options(params)
            rows = read_rows(model_input, read=self.classifier.read)
            if options.on_error == "refuse":
                check_rows(rows)
            return answer_rows(self.classifier, rows=rows, options=options)


def answer_rows(
    classifier: MicrographClassifier, *, rows: Sequence[Micrograph | BadRow], options: RequestOptions
) -> pd.DataFrame:
    """Return the table of answers, one row for each row of the request, in its order."""
    images = [row.pixels for row in rows if isinstance(row, Micrograph)]
    if options.explain:
        answers = iter([classifier.explain(image) for image in images])
    else:
        answers = iter(classifier.classify(images))
    class_names = classifier.description.class_names
    records = [
        _describe_bad_row(row, options=options)
        if isinstance(row, BadRow)
        else _describe_answer(next(answers), micrograph=row, class_names=class_names, options=options)
        for row in rows
    ]
    # Columns of objects: pandas would turn a missing number into NaN, which is no JSON.
    columns = list(records[0])
    return pd.DataFrame({name: pd.Series([record[name] for record in records], dtype=object) for name in columns})


def _describe_answer(
    answer: ImageAnswer, *, micrograph: Micrograph, class_names: Sequence[str], options: RequestOptions
) -> dict[str, Any]:
    record = _describe_probabilities(answer.probabilities, class_names=class_names) | {
        "n_tiles": len(answer.corners),
        "warnings": list(micrograph.warnings),
    }
    if options.explain and answer.overlay_png is not None:
        record["overlay_png"] = base64.b64encode(answer.overlay_png).decode("ascii")
    if options.tiles:
        record["tiles"] = [
            {"top_px": top, "left_px": left, **_describe_probabilities(tile, class_names=class_names)}
            for tile, (top, left) in zip(answer.tile_probabilities, answer.corners, strict=True)
        ]
    return record | ({"error": None} if options.on_error == "report" else {})


def _describe_probabilities(probabilities: Any, *, class_names: Sequence[str]) -> dict[str, Any]:
    """Return label, probability and probabilities of one image or tile, as plain Python values."""
    values = [float(value) for value in probabilities]
    best = int(probabilities.argmax())
    return {
        "label": class_names[best],
        "probability": values[best],
        "probabilities": dict(zip(class_names, values, strict=True)),
    }


def _describe_bad_row(row: BadRow, *, options: RequestOptions) -> dict[str, Any]:
    record: dict[str, Any] = {"label": None, "probability": None, "probabilities": None, "n_tiles": 0, "warnings": []}
    if options.explain:
        record["overlay_png"] = None
    if options.tiles:
        record["tiles"] = []
    return record | {"error": row.reason}


@contextmanager
def _speak_plainly() -> Iterator[None]:
    """Let nothing out but an MlflowException with one sentence."""
    try:
        yield
    except MlflowException:
        raise
    except InputError as error:
        raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
    except Exception as error:
        _logger.exception("The classifier failed on a request.")
        raise MlflowException(
            f"The classifier failed on this request ({type(error).__name__}). The server's log says why.",
            error_code=INTERNAL_ERROR,
        ) from None
