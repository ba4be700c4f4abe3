"""The classifier as MLflow serves it: a thin shell that turns a request into images, and answers into a table.

MLflow's server sends the stack trace of any exception to the caller, except of its own `MlflowException`. So nothing
else leaves `predict`: what the caller did wrong is a 400 with one sentence; what went wrong here is a 500 without
details, which are in the server's log.
"""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from mlflow.utils.yaml_utils import read_yaml

from sem_search.deployment.classifier.classifier import NO_DEADLINE, Deadline, ImageAnswer
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.pyfunc.answers import ServedName, describe_answers
from sem_search.deployment.pyfunc.requests import BadRow, RequestOptions, check_rows, read_options, read_rows
from sem_search.errors import InputError
from sem_search.micrographs.reading.micrograph import Micrograph

MODEL_FOLDER = "classifier"
"""Name of the one artifact: the model folder."""

TIMEOUT_VARIABLE = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
"""MLflow sets it for its servers: seconds after which a request is answered with 504, while its thread goes on."""

USED_SHARE = 0.9
"""Of that time: the caller then gets a reason, and the thread ends."""

AT_ONCE = 2
"""Requests that a process works on at the same time: while the network is busy with one, the pictures of the next are
decoded. More would only hold more pictures in memory."""

_logger = logging.getLogger(__name__)


class ServedClassifier(PythonModel):
    """Whole micrographs as base64 in, one answer per micrograph out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model and answer once, so that the first request is as quick as the others."""
        folder = Path(context.artifacts[MODEL_FOLDER])
        self.classifier = read_classifier(folder)
        self.served_name = read_served_name(folder.parents[1])
        self.turns = threading.BoundedSemaphore(AT_ONCE)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer one request.

        Args:
            context: Not used; MLflow gives it.
            model_input: Column `image`: base64 of a file as it came, with or without a data-URL prefix.
            params: `explain` adds the columns `image_png` and `overlay_png`; `tiles` adds the column `tiles`;
                `on_error="report"` adds the column `error` and answers the other rows, where otherwise a bad row
                refuses the request; `coverage` is that of the prediction sets, `coverage_of`
                says of which images.

        Returns:
            One row per image, see `docs/serving.md`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE, which is HTTP 400, names the row and the reason;
                INTERNAL_ERROR, which is HTTP 500, if the classifier itself failed.
        """
        with _hide_details():
            options, deadline = read_options(params), _start_deadline()
            with _take_turn(self.turns, deadline=deadline):
                rows = read_rows(model_input, read=self.classifier.read)
                if options.on_error == "refuse":
                    check_rows(rows)
                return self._answer(rows, options=options, deadline=deadline)

    def _answer(
        self, rows: Sequence[Micrograph | BadRow], *, options: RequestOptions, deadline: Deadline
    ) -> pd.DataFrame:
        """Return the table of answers, one row for each row of the request, in its order."""
        classifier, images = self.classifier, [row.pixels for row in rows if isinstance(row, Micrograph)]
        answers: Iterable[ImageAnswer] = (
            (classifier.explain(image, deadline=deadline) for image in images)
            if options.explain
            else classifier.classify(images, deadline=deadline)
        )
        records = describe_answers(
            answers, rows=rows, classifier=classifier, options=options, served_name=self.served_name
        )
        # Columns of objects: pandas would turn a missing number into NaN, which is no JSON.
        return pd.DataFrame(
            {name: pd.Series([record[name] for record in records], dtype=object) for name in records[0]}
        )


def read_served_name(model_folder: Path) -> ServedName:
    """Return what the registry calls the model in a folder, by the note that MLflow writes beside it."""
    if not (model_folder / REGISTERED_MODEL_META_FILE_NAME).is_file():
        return ServedName()
    note = read_yaml(str(model_folder), REGISTERED_MODEL_META_FILE_NAME)  # type: ignore[no-untyped-call]
    return ServedName(name=str(note["model_name"]), version=str(note["model_version"]))


def _start_deadline() -> Deadline:
    """Return until when an answer is waited for: a little less than a server's time limit; for ever without one."""
    limit_s = os.environ.get(TIMEOUT_VARIABLE, "")
    return Deadline.start(USED_SHARE * int(limit_s)) if limit_s.isdecimal() and int(limit_s) else NO_DEADLINE


@contextmanager
def _take_turn(turns: threading.BoundedSemaphore, *, deadline: Deadline) -> Iterator[None]:
    """Wait until fewer than AT_ONCE requests are under way, as long as there is time."""
    if not turns.acquire(timeout=min(deadline.left_s, threading.TIMEOUT_MAX)):
        deadline.check()
    try:
        yield
    finally:
        turns.release()


@contextmanager
def _hide_details() -> Iterator[None]:
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
