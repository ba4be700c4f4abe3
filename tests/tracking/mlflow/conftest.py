"""A tracking store of its own for each file of tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, make_mlflow_store: Callable[[Path], str]
) -> Iterator[MlflowClient]:
    """A store of its own; the address that was set before is set again afterwards."""
    folder = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(folder))
    client = MlflowClient()
    client.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    yield client
    mlflow.set_tracking_uri(before)


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    experiment = client.get_experiment_by_name("tests")
    return client.create_run(experiment.experiment_id, run_name="a run", tags={"mlflow.user": "somebody"}).info.run_id
