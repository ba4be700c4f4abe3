"""Runs that a command opens for itself: their experiment, their names, and what they say of a failure."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.tracking import MlflowClient

from sem_search.errors import DataError, SettingsError, StoreError
from sem_search.tracking.entries.types import TextArtifact
from sem_search.tracking.mlflow import own_runs
from sem_search.tracking.mlflow.log import end_run
from sem_search.tracking.mlflow.own_runs import (
    EXPERIMENT,
    ID_VARIABLE,
    NAME_VARIABLE,
    RUN_ID_VARIABLE,
    describe_run,
    end_refused_run,
    escape_markdown,
    find_experiment,
    is_in_named_experiment,
    keep_outcome,
    log_to_own_run,
    name_run,
    spare_own_run,
)


@pytest.fixture(autouse=True)
def store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_mlflow_store: Callable[[Path], str]
) -> Iterator[MlflowClient]:
    for name in (RUN_ID_VARIABLE, NAME_VARIABLE, ID_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    client = MlflowClient()
    client.create_experiment("own", artifact_location=str(tmp_path / "artifacts"))
    yield client
    mlflow.set_tracking_uri(before)


@pytest.fixture
def opened(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """The run that `mlflow run` has opened."""
    run_id: str = store.create_run(store.get_experiment_by_name("own").experiment_id).info.run_id
    monkeypatch.setenv(RUN_ID_VARIABLE, run_id)
    return run_id


def test_without_a_named_experiment_there_is_one_made_once(store: MlflowClient) -> None:
    made = find_experiment()
    assert made == find_experiment()
    assert store.get_experiment(made).name == EXPERIMENT


def test_an_experiment_that_another_process_has_just_made_is_used(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store.create_experiment(EXPERIMENT)
    looks = iter([None, store.get_experiment(made)])
    monkeypatch.setattr(own_runs.MlflowClient, "get_experiment_by_name", lambda _self, _name: next(looks))
    assert find_experiment() == made


@pytest.mark.parametrize(
    ("variable", "value", "is_there"),
    [
        (NAME_VARIABLE, "own", True),
        (NAME_VARIABLE, "other", False),
        (ID_VARIABLE, "1", True),
        (ID_VARIABLE, "0", False),
    ],
)
def test_an_experiment_that_the_user_names_is_kept(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, is_there: bool
) -> None:
    own = store.get_experiment_by_name("own").experiment_id
    assert is_in_named_experiment(own)
    monkeypatch.setenv(variable, value)
    assert find_experiment() is None
    assert is_in_named_experiment(own) is is_there


def test_an_experiment_s_id_counts_more_than_a_name(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with MLflow: `mlflow.set_experiment` sets the id, whatever the environment has named before."""
    own = store.get_experiment_by_name("own").experiment_id
    monkeypatch.setenv(NAME_VARIABLE, "other")
    monkeypatch.setenv(ID_VARIABLE, own)
    assert is_in_named_experiment(own)
    assert not is_in_named_experiment("0")


@pytest.mark.parametrize(
    ("error", "what", "said"),
    [
        (DataError("data=a_b: there is no such folder."), "refused", "data=a_b: there is no such folder."),
        (StoreError("no room"), "failed", "no room"),
        (ValueError("storage=postgresql://me:secret@db"), "failed", r"ValueError: storage=postgresql://me:\*\*\*@db"),
    ],
)
def test_a_run_that_was_not_used_says_why(
    store: MlflowClient, opened: str, error: Exception, what: str, said: str
) -> None:
    end_refused_run(error, command="search")
    run = store.get_run(opened)
    assert (run.info.run_name, run.info.status) == (f"search: {what}", "FAILED")
    assert run.data.tags["mlflow.note.content"] == said


def test_a_command_given_by_itself_logs_nothing(store: MlflowClient) -> None:
    end_refused_run(ValueError(), command="search")
    assert log_to_own_run([TextArtifact(path="a.txt", text="a")], kind="inspection", name="inspection of a") is None
    assert store.search_runs(["0", store.get_experiment_by_name("own").experiment_id]) == []


def test_a_store_that_is_gone_does_not_hide_the_error(opened: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_ID_VARIABLE, "0" * 32)
    end_refused_run(ValueError("the error"), command="search")


def test_a_command_s_files_stand_in_the_run_of_mlflow_run(store: MlflowClient, opened: str) -> None:
    entries = [TextArtifact(path="a.txt", text="a")]
    assert log_to_own_run(entries, kind="inspection", name="inspection of a") == opened
    run = store.get_run(opened)
    assert run.info.run_name == "inspection of a"
    assert run.data.tags["sem_search.kind"] == "inspection"
    assert [file.path for file in store.list_artifacts(opened)] == ["a.txt"]


def test_searches_within_a_command_leave_its_run_alone(opened: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError), spare_own_run():
        assert RUN_ID_VARIABLE not in os.environ
        raise DataError("no such folder")
    assert os.environ[RUN_ID_VARIABLE] == opened
    monkeypatch.delenv(RUN_ID_VARIABLE)
    with spare_own_run():
        pass
    assert RUN_ID_VARIABLE not in os.environ


def test_a_name_that_the_user_gave_is_kept(store: MlflowClient, opened: str) -> None:
    store.update_run(opened, name="My look at lot 7")
    name_run(opened, name="inspection of a")
    assert store.get_run(opened).info.run_name == "My look at lot 7"


@pytest.mark.parametrize(("name", "is_kept"), [("honorable-ant-471", False), ("steel-batch-12b", True)])
def test_a_new_run_s_drawn_name_is_replaced_once(store: MlflowClient, opened: str, name: str, is_kept: bool) -> None:
    store.update_run(opened, name=name)
    name_run(opened, name="first")
    assert store.get_run(opened).info.run_name == (name if is_kept else "first")
    store.set_tag(opened, "sem_search.kind", "study")
    store.update_run(opened, name="steel-batch-12")
    name_run(opened, name="again")
    assert store.get_run(opened).info.run_name == "steel-batch-12", "a user has renamed it since"


@pytest.mark.parametrize(
    ("code", "raised", "said"),
    [
        ("TEMPORARILY_UNAVAILABLE", StoreError, "does not answer"),
        ("PERMISSION_DENIED", SettingsError, "the server refused the request"),
        ("INVALID_PARAMETER_VALUE", MlflowException, "as the server says"),
    ],
)
def test_a_store_that_goes_away_in_the_middle_is_one_of_the_package_s_errors(
    store: MlflowClient, opened: str, code: str, raised: type[Exception], said: str
) -> None:
    with pytest.raises(raised, match=said), keep_outcome(opened, end=lambda status: end_run(opened, status=status)):
        raise MlflowException("as the server says", error_code=ErrorCode.Value(code))
    run = store.get_run(opened)
    assert run.info.status == "FAILED"
    assert said in run.data.tags["mlflow.note.content"]


def test_a_description_is_cut_to_what_every_database_keeps(store: MlflowClient, opened: str) -> None:
    describe_run(opened, text="a" * 6000)
    assert len(store.get_run(opened).data.tags["mlflow.note.content"]) == 5000


def test_markdown_shows_a_message_as_it_is() -> None:
    assert escape_markdown("a_b*c `d` <e> [f](g) _h_ __i") == r"a_b\*c \`d\` \<e\> \[f\](g) \_h\_ \__i"
