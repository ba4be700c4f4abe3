"""A registered classifier as a notebook has it: images in, a table out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Self

import pandas as pd
from mlflow.pyfunc import PyFuncModel

from sem_search.deployment.batch.predict import Question, check_coverage, find_images, iter_predictions, load_model
from sem_search.deployment.batch.resume import PredictionJournal
from sem_search.deployment.batch.table import flatten_prediction
from sem_search.deployment.pyfunc.requests import DEFAULT_COVERAGE
from sem_search.deployment.registry import complete_model_uri, resolve_model_uri
from sem_search.progress import iter_measured


@dataclass(frozen=True, kw_only=True)
class Model:
    """A classifier of whole micrographs."""

    uri: str
    """Of exactly one version."""
    pyfunc: PyFuncModel = field(repr=False)
    """The model as MLflow loads it."""

    @classmethod
    def load(cls, model_uri: str | None) -> Self:
        """Return a model; see `load_model`, whose errors it raises."""
        uri = resolve_model_uri(complete_model_uri(model_uri))
        return cls(uri=uri, pyfunc=load_model(uri))

    def predict(
        self,
        images: str | PathLike[str] | Sequence[str | PathLike[str]],
        *,
        coverage: float = DEFAULT_COVERAGE,
        explain_folder: str | PathLike[str] | None = None,
    ) -> pd.DataFrame:
        """Return a table with one row for each image; `error` says why one has no answer.

        Args:
            images: Files, and folders that are searched for pictures; one or several.
            coverage: Of the prediction sets, above 0 and below 1.
            explain_folder: Where to write Grad-CAM overlays; None writes none.

        Raises:
            DataError: There is no picture in what was given.
            SettingsError: The coverage is not between 0 and 1.
        """
        check_coverage(coverage)
        given = [images] if isinstance(images, str | PathLike) else images
        found = find_images([Path(one) for one in given])
        folder = None if explain_folder is None else Path(explain_folder)
        question = Question(model_uri=self.uri, explain_folder=folder, coverage=coverage)
        journal = PredictionJournal(None, question=question.to_json())
        predictions = iter_predictions(found, model=self.pyfunc, question=question, journal=journal)
        shown = iter_measured(predictions, label="Classified", total=len(found), unit="images", is_shown=True)
        return pd.DataFrame([flatten_prediction(one) for one in shown])
