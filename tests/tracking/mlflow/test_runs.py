"""Study runs: opened once, ended truthfully, and what a dead search left behind is gathered."""

import importlib.util
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, UNAUTHENTICATED
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sem_search.errors import DataError, SettingsError
from sem_search.tracking.entries.types import TextArtifact
from sem_search.tracking.mlflow.log import end_run, log_entries, open_child_run
from sem_search.tracking.mlflow.names import TAG_SUPERSEDED_BY
from sem_search.tracking.mlflow.own_runs import EXPERIMENT, ID_VARIABLE, RUN_ID_VARIABLE, describe_run
from sem_search.tracking.mlflow.runs import (
    adopt_trial_runs,
    check_run_is_known,
    create_store,
    describe_trial,
    explain_artifact_store,
    find_unfinished_runs,
    has_finished,
    open_side_run,
    open_study_run,
    supersede_run,
)


@pytest.fixture(autouse=True)
def store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_mlflow_store: Callable[[Path], str]
) -> Iterator[MlflowClient]:
    monkeypatch.delenv(RUN_ID_VARIABLE, raising=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    experiment = MlflowClient().create_experiment("runs", artifact_location=str(tmp_path / "artifacts"))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)  # MLflow sets it; this way it is gone afterwards
    mlflow.set_experiment(experiment_id=experiment)
    yield MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (ValueError, "FAILED")],
)
def test_a_study_run_ends_as_it_ended(store: MlflowClient, error: type[BaseException] | None, status: str) -> None:
    run_id = ""
    try:
        with open_study_run(study="a", process="me") as run_id:
            assert store.get_run(run_id).info.status == "RUNNING"
            if error is not None:
                raise error
    except (KeyboardInterrupt, SystemExit, ValueError):
        assert error is not None
    assert store.get_run(run_id).info.status == status


def test_how_busy_the_machine_is_is_logged_only_if_it_is_asked_for(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    start_run = mlflow.start_run
    monkeypatch.setattr(
        mlflow, "start_run", lambda **given: asked.append(given.pop("log_system_metrics", None)) or start_run(**given)
    )
    with open_study_run(study="a", process="me"):
        assert asked == [None], "MLflow follows the environment variable"


def test_the_run_of_mlflow_run_is_used_and_hidden_from_later_processes(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = store.create_run(mlflow.tracking.fluent._get_experiment_id())
    monkeypatch.setenv(RUN_ID_VARIABLE, opened.info.run_id)
    with open_study_run(study="a", process="me") as run_id:
        assert run_id == opened.info.run_id
        assert RUN_ID_VARIABLE not in os.environ
    assert store.get_run(run_id).info.run_name == "a"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED", "RUNNING"])
def test_an_earlier_run_that_goes_on_ends_as_this_search_and_forgets_why_it_failed(
    store: MlflowClient, status: str
) -> None:
    with open_study_run(study="a", process="first") as first:
        describe_run(first, text="Said before.")
    store.update_run(first, status=status)
    assert has_finished(first) is (status == "FINISHED")
    with open_study_run(study="a", process="second", earlier_run_id=first) as second:
        assert second == first
        assert store.get_run(first).info.status == "RUNNING"
    run = store.get_run(first)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.note.content"] == ("" if status == "FAILED" else "Said before.")


def test_a_study_s_own_run_that_the_environment_names_does_not_supersede_itself(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_study_run(study="a", process="first") as first:
        pass
    monkeypatch.setenv(RUN_ID_VARIABLE, first)
    with open_study_run(study="a", process="second", earlier_run_id=first) as second:
        assert second == first
    run = store.get_run(first)
    assert (run.info.run_name, run.info.status) == ("a", "FINISHED")
    assert TAG_SUPERSEDED_BY not in run.data.tags


@pytest.mark.parametrize(
    "open_run", [lambda: open_study_run(study="a", process="me"), lambda: open_side_run(kind="lots", name="lots")]
)
def test_the_user_s_own_open_run_is_left_to_the_user(store: MlflowClient, open_run: Callable[[], Any]) -> None:
    with mlflow.start_run() as own:
        with pytest.raises(SettingsError, match=rf"{own.info.run_id} is still active.*mlflow\.end_run\(\)"), open_run():
            pass
        assert store.get_run(own.info.run_id).info.status == "RUNNING"


def test_a_side_run_in_a_deleted_experiment_is_refused(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    name_no_experiment(monkeypatch)
    store.delete_experiment(store.create_experiment(EXPERIMENT))
    with pytest.raises(SettingsError, match="Restore the experiment"), open_side_run(kind="lots", name="lots"):
        pass


def name_no_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the store's fixture has named."""
    monkeypatch.delenv(ID_VARIABLE)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [(None, "FINISHED", None), (KeyboardInterrupt, "KILLED", None), (DataError("why"), "FAILED", "why")],
)
def test_a_side_run_ends_as_it_ended(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, status: str, said: str | None
) -> None:
    name_no_experiment(monkeypatch)
    try:
        with open_side_run(kind="lots", name="lots of a and b") as run_id:
            if error is not None:
                raise error
    except (KeyboardInterrupt, DataError):
        assert error is not None
    run = store.get_run(run_id)
    assert store.get_experiment(run.info.experiment_id).name == EXPERIMENT
    assert (run.info.run_name, run.info.status) == ("lots of a and b", status)
    assert run.data.tags.get("mlflow.note.content") == said
    assert mlflow.active_run() is None


def test_what_a_dead_search_left_running_is_found_and_ended(store: MlflowClient) -> None:
    with open_study_run(study="a", process="first") as first:
        pass
    store.update_run(first, status="RUNNING")
    with open_study_run(study="b", process="other"), open_study_run_beside(study="a") as second:
        assert find_unfinished_runs(study="a", but=second) == {first: "first"}
        supersede_run(first, by=second)
        assert find_unfinished_runs(study="a", but=second) == {}
    ended = store.get_run(first)
    assert ended.info.status == "KILLED"
    assert ended.data.tags[TAG_SUPERSEDED_BY] == second


@pytest.mark.parametrize("name", ["it's", "its", "50 % `x`; --", "x' and tags.`k` = 'y"])
def test_a_study_finds_its_own_runs_whatever_its_name(store: MlflowClient, name: str) -> None:
    opened = {}
    for study in (name, "its" if name != "its" else "it's"):
        with open_study_run(study=study, process=study) as run_id:
            trial = open_child_run(
                parent_run_id=run_id, name="cell", tags=describe_trial(study=study, cell="cell", process=study)
            )
        store.update_run(run_id, status="RUNNING")
        opened[study] = (run_id, trial)
    with open_study_run(study=name, process="second") as second:
        assert find_unfinished_runs(study=name, but=second) == dict.fromkeys(opened[name], name)
        adopt_trial_runs([trial for _, trial in opened.values()], study=name, parent_run_id=second)
        parents = {study: store.get_run(trial).data.tags[MLFLOW_PARENT_RUN_ID] for study, (_, trial) in opened.items()}
        assert parents == {study: second if study == name else run_id for study, (run_id, _) in opened.items()}


def open_study_run_beside(*, study: str):
    """Open another study run while one is active, as a second process would."""
    mlflow.end_run()
    return open_study_run(study=study, process="second")


def test_a_superseded_run_keeps_its_end_and_no_longer_counts(store: MlflowClient) -> None:
    """Ended by Ctrl-C while its results were logged: whoever counts complete trials finds this one once."""
    with open_study_run(study="a", process="me") as study:
        ended, running = (open_child_run(parent_run_id=study, name="cell", tags={}) for _ in range(2))
        store.set_tag(ended, "sem_search.trial_state", "complete")
        store.set_terminated(ended, status="KILLED", end_time=1_700_000_000_000)
        for run in (ended, running):
            supersede_run(run, by=study)
    assert store.get_run(ended).info.end_time == 1_700_000_000_000
    assert store.get_run(ended).data.tags["sem_search.trial_state"] == "superseded"
    assert store.get_run(running).info.status == "KILLED"
    assert "sem_search.trial_state" not in store.get_run(running).data.tags


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            PERMISSION_DENIED,
            r"the server refused the request: the host and port of this URL must stand in .*--allowed-hosts",
        ),
        (
            UNAUTHENTICATED,
            r"the server refused the request: it needs a user name and a password: set MLFLOW_TRACKING_USERNAME",
        ),
    ],
)
def test_a_server_that_refuses_us_is_a_sentence(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, code: int, expected: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("API request failed with error code", error_code=code)

    for name in ("search_experiments", "get_run"):
        monkeypatch.setattr(MlflowClient, name, refuse)
    with pytest.raises(SettingsError, match=expected):
        create_store()
    with pytest.raises(SettingsError, match=expected):
        check_run_is_known("0" * 32)


def test_finished_trials_move_below_the_run_that_goes_on(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once: those that are there already, and another study's, are left alone."""
    told: list[str] = []
    tell = MlflowClient.set_tag

    def watch(client: MlflowClient, run_id: str, key: str, value: str) -> None:
        if key == MLFLOW_PARENT_RUN_ID:
            told.append(run_id)
        tell(client, run_id, key, value)

    monkeypatch.setattr(MlflowClient, "set_tag", watch)
    with open_study_run(study="a", process="me") as first:
        trials = [open_trial(first, study="a") for _ in range(3)]
        other = open_trial(first, study="b")
    with open_study_run(study="a", process="me") as second:
        for _ in range(2):
            adopt_trial_runs({*trials[:2], other}, study="a", parent_run_id=second)
    assert sorted(told) == sorted(trials[:2])
    assert [store.get_run(trial).data.tags[MLFLOW_PARENT_RUN_ID] for trial in (*trials, other)] == [
        second,
        second,
        first,
        first,
    ]
    assert {store.get_run(trial).info.status for trial in trials} == {"FINISHED"}


def open_trial(parent: str, *, study: str) -> str:
    tags = describe_trial(study=study, cell="cell", process="me")
    trial = open_child_run(parent_run_id=parent, name="cell", tags=tags)
    end_run(trial, status="FINISHED")
    return trial


@pytest.fixture
def new_file(store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the tracking store is to be made; nothing is there yet."""
    file = tmp_path / "new.db"
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: f"sqlite:///{file}")
    return file


def test_a_store_that_could_not_be_made_whole_is_not_there(
    new_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in the middle of MLflow's tables; made again, it is as if nothing had been."""
    search = MlflowClient.search_experiments

    def fill_disk(client: MlflowClient, **options: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with sqlite3.connect(tmp_path / ".new.db.1.partial") as connection:  # of a process that was killed
        connection.execute("CREATE TABLE assessments (assessment_id TEXT)")
    monkeypatch.setattr(MlflowClient, "search_experiments", fill_disk)
    with pytest.raises(sqlite3.OperationalError, match="disk is full"):
        create_store()
    assert not new_file.exists()
    monkeypatch.setattr(MlflowClient, "search_experiments", search)
    create_store()
    made = MlflowClient(tracking_uri=f"sqlite:///{new_file}")
    assert [one.name for one in made.search_experiments()] == ["Default"]
    assert sorted(path.name for path in tmp_path.iterdir() if "new.db" in path.name) == [".new.db.1.partial", "new.db"]
    made.create_experiment("mine")
    create_store()
    assert {one.name for one in made.search_experiments()} == {"Default", "mine"}, "one that is there is left as it is"


def test_a_store_that_another_has_made_meanwhile_is_left_as_it_is(
    new_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = MlflowClient.search_experiments

    def be_late(client: MlflowClient, **options: object) -> object:
        new_file.write_text("another's")
        return search(client, **options)

    monkeypatch.setattr(MlflowClient, "search_experiments", be_late)
    create_store()
    assert new_file.read_text() == "another's"
    assert [path.name for path in tmp_path.iterdir() if "new.db" in path.name] == ["new.db"]


@pytest.mark.parametrize("folder", ["My Search ü", "50 %25"])
def test_the_default_store_is_made_in_a_folder_of_any_name(
    store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """MLflow writes its default URI percent-encoded; what is made is the file that it opens."""
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    default = f"sqlite:///{quote(str(tmp_path / folder))}/mlflow.db"
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: default)
    create_store()
    assert [path.name for path in (tmp_path / folder).iterdir()] == ["mlflow.db"]
    assert [one.name for one in MlflowClient(tracking_uri=default).search_experiments()] == ["Default"]


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        ("deleted experiment", "Restore the experiment .*, or set MLFLOW_EXPERIMENT_NAME"),
        ("deleted default experiment", "Restore the experiment .*, or set MLFLOW_EXPERIMENT_NAME"),
        ("unknown experiment", "`77` does not exist in the tracking server. Set MLFLOW_TRACKING_URI, MLFLOW_EXP"),
        ("unknown run", "Run with id=0{32} not found. Unset MLFLOW_RUN_ID"),
        ("deleted run", "in the deleted state. Unset MLFLOW_RUN_ID, or restore the run"),
    ],
)
def test_an_experiment_or_run_that_is_not_there_is_a_sentence(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, harm: str, expected: str
) -> None:
    experiment = os.environ["MLFLOW_EXPERIMENT_ID"]
    if harm == "deleted experiment":
        store.delete_experiment(experiment)
    elif harm == "deleted default experiment":
        store.delete_experiment("0")
        monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", "0")
    elif harm == "unknown experiment":
        monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "77")
    elif harm == "unknown run":
        monkeypatch.setenv(RUN_ID_VARIABLE, "0" * 32)
    else:
        run_id = store.create_run(experiment).info.run_id
        store.delete_run(run_id)
        monkeypatch.setenv(RUN_ID_VARIABLE, run_id)
    with pytest.raises(SettingsError, match=expected), open_study_run(study="a", process="me"):
        pytest.fail("a run was opened")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file://{folder}/mlruns", "Unset MLFLOW_TRACKING_URI for a database in this folder"),
        ("databricks", "Reading Databricks credential .* Log in"),
        ("nonsense://host", "unsupported URI 'nonsense://host'"),
        ("sqlite:///{folder}/text.db", "text.db is no SQLite database"),
        ("sqlite:///{folder}/optuna.db", "MLflow needs one of its own"),
    ],
)
def test_a_store_that_mlflow_cannot_use_is_a_sentence(tmp_path: Path, uri: str, expected: str) -> None:
    (tmp_path / "text.db").write_text("this is no database " * 100)
    with sqlite3.connect(tmp_path / "optuna.db") as connection:  # as Optuna says which version its tables have
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('v3.2.0.a')")
    mlflow.set_tracking_uri(uri.format(folder=tmp_path))
    with pytest.raises(SettingsError, match=expected) as caught:
        create_store()
    assert "\n" not in str(caught.value)


def test_an_artifact_store_that_cannot_be_used_is_a_sentence(store: MlflowClient, tmp_path: Path) -> None:
    """A driver is missing here; a file stands where the folder should be there."""
    (tmp_path / "file").touch()
    for place, expected in (
        ("s3://some-bucket/path", r"artifact store s3://some-bucket/path.* cannot be used: No module named 'boto"),
        (str(tmp_path / "file"), r"artifact store .*file.* cannot be used: .* Make it writable"),
    ):
        if place.startswith("s3") and importlib.util.find_spec("boto3"):
            continue
        experiment = store.create_experiment(place[:2], artifact_location=place)
        run_id = store.create_run(experiment).info.run_id
        with pytest.raises(SettingsError, match=expected), explain_artifact_store(run_id):
            log_entries([TextArtifact(path="a/b.txt", text="b")], run_id=run_id)
        if place.startswith("s3"):
            with pytest.raises(SettingsError, match=r"pip install boto3\. Or set MLFLOW_EXPERIMENT_NAME"):
                check_run_is_known(run_id)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_study_s_run_is_looked_for_without_making_a_store(
    store: MlflowClient, tmp_path: Path, is_there: bool
) -> None:
    with open_study_run(study="a", process="me") as run_id:
        pass
    mlflow.end_run()
    if is_there:
        check_run_is_known(run_id)
        store.delete_run(run_id)
    else:
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/elsewhere.db")
    with pytest.raises(SettingsError, match=r"does not hold the study's run .* in the folder of the search"):
        check_run_is_known(run_id)
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_run_that_is_gone_needs_no_successor(store: MlflowClient) -> None:
    """The tracking store was cleared, or the run deleted, while its trial was interrupted."""
    with open_study_run(study="a", process="me") as study:
        deleted = open_child_run(parent_run_id=study, name="cell", tags={})
        store.delete_run(deleted)
        for run in (deleted, "0" * 32):
            supersede_run(run, by=study)
