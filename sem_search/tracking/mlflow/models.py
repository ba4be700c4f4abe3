"""The model of a run: its scores belong to it, and its name says what it is.

Models are named after backbone and cell, as `vgg16-lr1e-02-bs16`. In runs that were logged before they had such names
the model is called `classifier`, so its name is asked for.
"""

from dataclasses import dataclass

from mlflow.tracking import MlflowClient

from sem_search.errors import ModelNotFoundError
from sem_search.tracking.mlflow.datasets import Datasets


@dataclass(frozen=True, kw_only=True)
class ModelLink:
    """The model that a run's scores are of, and the data sets that they were computed on."""

    model_id: str
    datasets: Datasets
    """The name of a score begins with the role of its images."""


def find_model_uri(run_id: str) -> str:
    """Return `runs:/<run id>/<name>` of the model that a run has logged last.

    Raises:
        ModelNotFoundError: It has logged none.
    """
    client = MlflowClient()
    outputs = client.get_run(run_id).outputs
    if outputs is None or not outputs.model_outputs:
        raise ModelNotFoundError(f"Run {run_id} has no model: its trial was not finished.")
    models = [client.get_logged_model(output.model_id) for output in outputs.model_outputs]  # in no order
    return f"runs:/{run_id}/{max(models, key=lambda model: int(model.creation_timestamp)).name}"
