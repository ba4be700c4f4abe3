"""The data of a run as MLflow names them, against a real store."""

import json

import mlflow.data
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sem_search.tracking.mlflow.datasets import build_datasets, log_datasets
from sem_search.tracking.mlflow.log import open_child_run


def test_a_run_names_its_data_in_each_role(client: MlflowClient, run_id: str, recwarn: pytest.WarningsRecorder) -> None:
    frame = pd.DataFrame(
        {
            "image_id": ["fine/0.png", "rough/ü.png"],
            "width_px": np.array([640, 640]),
            "pixel_size_nm": [None, 12.5],
            "session": [None, None],
            "warnings": [("two pages",), ()],
            "is_grey": [True, False],
        }
    )
    log_datasets(build_datasets(frame, name="lung cells", digest="ab" * 32, source="/data/lung"), run_id=run_id)
    inputs = {tag.value: one for one in client.get_run(run_id).inputs.dataset_inputs for tag in one.tags}
    assert {role: (one.dataset.name, one.dataset.digest) for role, one in inputs.items()} == {
        role: ("lung cells", f"{'ab' * 6}-{role}") for role in ("training", "validation", "test")
    }
    logged = inputs["test"]
    assert [tag.key for tag in logged.tags] == ["mlflow.data.context"]
    columns = json.loads(logged.dataset.schema)["mlflow_colspec"]
    assert [column["type"] for column in columns] == ["string", "long", "double", "string", "string", "boolean"]
    assert json.loads(logged.dataset.profile) == {"num_rows": 2, "num_elements": 12}
    assert mlflow.data.get_source(logged.dataset).uri == "/data/lung"
    assert not [warning for warning in recwarn if "integer" in str(warning.message).lower()]


def test_runs_can_be_found_by_their_data(client: MlflowClient, run_id: str) -> None:
    frame = pd.DataFrame({"image_id": ["a"]})
    log_datasets(build_datasets(frame, name="rare data", digest="0" * 64, source="demo"), run_id=run_id)
    experiment_id = client.get_run(run_id).info.experiment_id
    found = client.search_runs([experiment_id], filter_string="dataset.name = 'rare data'")
    assert [run.info.run_id for run in found] == [run_id]


def name_data(run: str) -> None:
    log_datasets(build_datasets(pd.DataFrame({"image": ["a"]}), name="d", digest="0" * 64, source="s"), run_id=run)


def test_two_searches_that_name_the_same_data_at_once_both_do(
    client: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow looks whether it knows the data, then writes; the other search is quicker here, in between."""
    other = open_child_run(parent_run_id=run_id, name="other", tags={})
    log_inputs, refusals = MlflowClient.log_inputs, []

    def lose(store: MlflowClient, run: str, **inputs: object) -> None:
        log_inputs(store, other if not refusals else run, **inputs)  # type: ignore[arg-type]
        if not refusals:
            refusals.append(MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name"))
            raise refusals[0]

    monkeypatch.setattr(MlflowClient, "log_inputs", lose)
    name_data(run_id)
    assert refusals
    for run in (run_id, other):
        assert [one.dataset.name for one in client.get_run(run).inputs.dataset_inputs] == ["d", "d", "d"]


def test_data_that_mlflow_refuses_for_another_reason_are_an_error(
    client: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refuse(store: MlflowClient, run: str, **inputs: object) -> None:
        calls.append(run)
        raise MlflowException("no such run")

    monkeypatch.setattr(MlflowClient, "log_inputs", refuse)
    with pytest.raises(MlflowException, match="no such run"):
        name_data(run_id)
    assert calls == [run_id]
