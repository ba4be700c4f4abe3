"""The model of a run, whatever it is called."""

import time

import pytest
from mlflow.entities import LoggedModelOutput
from mlflow.tracking import MlflowClient

from sem_search.errors import ModelNotFoundError
from sem_search.tracking.mlflow.models import find_model_uri


@pytest.mark.parametrize("name", ["vgg16-lr1e-02-bs16", "classifier"])
def test_a_model_is_found_by_its_run(client: MlflowClient, run_id: str, name: str) -> None:
    experiment = client.get_run(run_id).info.experiment_id
    for each in ("an earlier one", name):
        model = client.create_logged_model(experiment, name=each, source_run_id=run_id)
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        time.sleep(0.002)  # MLflow counts milliseconds
    assert find_model_uri(run_id) == f"runs:/{run_id}/{name}"


def test_a_run_without_a_model_is_refused(client: MlflowClient, run_id: str) -> None:
    with pytest.raises(ModelNotFoundError, match="its trial was not finished"):
        find_model_uri(run_id)
