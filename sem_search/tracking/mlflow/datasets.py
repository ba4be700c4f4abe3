"""The data of a run, as MLflow names, shows and filters them: one data set for each role that images have.

Over the folds every image is in each role: tested once, validated once, trained on in all other folds. So the three
data sets of a run hold the same images. Equal data have equal digests but for the role at their end, in every study.
"""

import json
from collections.abc import Mapping

import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from sem_search.secrets import mask_secrets

Datasets = Mapping[str, Dataset]
"""By role, which MLflow calls context."""

ROLES = ("training", "validation", "test")

DIGEST_LENGTH = 12
"""Characters of a catalogue's hash in a digest: enough to tell data apart, and few enough to see the role in lists."""

TYPES = {"b": DataType.boolean, "i": DataType.long, "u": DataType.long, "f": DataType.double}
"""MLflow's types by NumPy's kinds; what is neither number nor truth value counts as text."""

DOUBLED = ("UniqueViolation", "UNIQUE constraint", "Duplicate entry")
"""What PostgreSQL, SQLite and MySQL say of a row that another process has just written; MLflow looks, then writes."""


def build_datasets(frame: pd.DataFrame, *, name: str, digest: str, source: str) -> Datasets:
    """Return the data set of each role.

    The schema is read off the column types. MLflow's own inference gives up on columns that hold tuples or nothing,
    and warns of every whole number.

    Args:
        frame: One row per image.
        name: Name of the data set.
        digest: Content hash of the catalogue.
        source: Folder or file that the data came from, or what else they are.
    """
    types = {str(name): TYPES.get(column.dtype.kind, DataType.string) for name, column in frame.items()}
    schema = Schema([ColSpec(kind, name=name, required=False) for name, kind in types.items()])
    return {
        role: Dataset(
            name=name,
            digest=f"{digest[:DIGEST_LENGTH]}-{role}",
            source_type="local",
            source=json.dumps({"uri": mask_secrets(source)}),
            schema=json.dumps({"mlflow_colspec": schema.to_dict()}),
            profile=json.dumps({"num_rows": len(frame), "num_elements": int(frame.size)}),
        )
        for role in ROLES
    }


def log_datasets(datasets: Datasets, *, run_id: str) -> None:
    """Name the data of a run, as `mlflow.log_input` does: the UI then shows and filters runs by data set."""
    inputs = [
        DatasetInput(dataset=dataset, tags=[InputTag(key=MLFLOW_DATASET_CONTEXT, value=role)])
        for role, dataset in datasets.items()
    ]
    client = MlflowClient()
    try:
        client.log_inputs(run_id, datasets=inputs)
    except MlflowException as error:
        if not any(words in str(error) for words in DOUBLED):
            raise
        client.log_inputs(run_id, datasets=inputs)  # another search has just named the same data: now they are known
