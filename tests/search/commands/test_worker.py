"""A worker: what it takes from the study, what is other on its machine, and what is refused."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from optuna import delete_study

from sem_search.errors import SettingsError, StudyMismatchError
from sem_search.search import attempt
from sem_search.search.commands import worker as worker_room
from sem_search.search.commands.worker import run_worker
from sem_search.search.folds.train import LocalFolds
from sem_search.search.prepare import prepared_search as prepare_room
from sem_search.search.trials.attributes import SETTINGS, STUDY_RUN_ID
from sem_search.search.trials.study import open_study
from sem_search.settings import SearchSettings
from sem_search.transfer.engine import Engine
from tests.search.commands.stopped import StoppedError, begin, change, list_warnings


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_helps_with_the_study_s_own_settings(
    asked: SearchSettings, stopped: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(change(asked, study="mine"))
    run_id = stopped["study"].user_attrs[STUDY_RUN_ID]
    threads: list[int] = []
    shown: list[str] = []
    monkeypatch.setattr(
        prepare_room, "configure_tensorflow", lambda *, threads, seed, told=threads: told.append(threads)
    )
    with pytest.raises(StoppedError):
        run_worker("mine", storage=asked.storage)
    objective = stopped["objective"]
    assert objective.prepared.settings == change(asked, study="mine")
    assert objective.log.study_run_id == run_id
    assert not objective.log.is_search, "what was left out is logged by the search"
    monkeypatch.setattr(attempt, "work", lambda *_, **__: None)
    run_worker("mine", storage=asked.storage, changes={"threads": 3}, show=shown.append)
    assert threads == [asked.threads, 3]
    assert shown == ["No cell of study 'mine' is left to claim."]


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_of_another_machine_is_told_where_things_are_and_what_follows_if_it_is_not(
    asked: SearchSettings,
    stopped: dict[str, Any],
    tiny_folder: Path,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    begin(change(asked, study="mine"))
    moved = str(shutil.copytree(tiny_folder, Path.cwd() / "moved"))
    given = {"data": moved, "study_folder": str(tmp_path / "mine")}
    with pytest.raises(StoppedError):
        run_worker("mine", storage=asked.storage, changes=given)
    (warned,) = list_warnings(recwarn)
    assert "the search's finished folds are not to be seen here" in warned
    recwarn.clear()
    settings = stopped["objective"].prepared.settings
    assert (settings.data, settings.study_folder, settings.shared) == (moved, str(tmp_path / "mine"), None)
    with pytest.raises(StoppedError):
        run_worker("mine", storage=asked.storage, changes={**given, "shared": str(tmp_path / "shared")})
    assert not list_warnings(recwarn)
    assert stopped["objective"].prepared.store.shared.url == str(tmp_path / "shared")
    assert isinstance(stopped["objective"].source, LocalFolds), "a worker trains by itself"


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_is_asked_for_shared_storage_whose_password_is_not_kept(
    asked: SearchSettings, stopped: dict[str, Any], tmp_path: Path
) -> None:
    begin(change(asked, study="mine"))
    kept = change(asked, study="mine", shared="ftp://me:s3cret@host/folder").without_passwords
    stopped["study"].set_user_attr(SETTINGS, kept.model_dump_json())
    with pytest.raises(SettingsError, match=r"shared=ftp://me:\*\*\*@host/folder has a password, .* give --shared"):
        run_worker("mine", storage=asked.storage)
    with pytest.raises(StoppedError):
        run_worker("mine", storage=asked.storage, changes={"shared": str(tmp_path / "shared")})


@pytest.mark.usefixtures("cache", "begun")
@pytest.mark.parametrize("engine", ["tensorflow", "onnxruntime"])
def test_a_worker_computes_with_the_engine_and_the_precision_that_the_search_has_chosen(
    asked: SearchSettings, stopped: dict[str, Any], network, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    seen: list[tuple[str, str]] = []
    chosen = dataclasses.replace(network, cut=dataclasses.replace(network.cut, engine=engine))
    monkeypatch.setattr(prepare_room, "prepare_network", lambda now: seen.append((now.engine, now.precision)) or chosen)
    begin(change(asked, study="mine", engine="auto"))
    with pytest.raises(StoppedError):
        run_worker("mine", storage=asked.storage)
    assert seen == [("auto", "auto"), (engine, "float32")]


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_that_logs_elsewhere_is_refused(
    asked: SearchSettings, stopped: dict[str, Any], tracking: MlflowClient, make_mlflow_store, tmp_path: Path
) -> None:
    begin(change(asked, study="mine"))
    before = mlflow.get_tracking_uri()
    (tmp_path / "other").mkdir()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path / "other"))
    try:
        with pytest.raises(SettingsError, match=r"MLFLOW_TRACKING_URI=.*does not hold the study's run"):
            run_worker("mine", storage=asked.storage)
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_whose_data_have_changed_is_refused(
    asked: SearchSettings, stopped: dict[str, Any], tiny_folder: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, Path.cwd() / "data"))
    begin(change(asked, study="mine", data=str(folder)))
    (folder / "blobs" / "0.png").unlink()
    stopped.clear()
    with pytest.raises(StudyMismatchError, match=r"data was .* and is now .*A worker needs the search's own images"):
        run_worker("mine", storage=asked.storage)
    for file in (folder / "blobs").iterdir():
        file.unlink()
    with pytest.raises(StudyMismatchError, match=r"does not see what the search saw: .* give --data as this machine"):
        run_worker("mine", storage=asked.storage)
    assert stopped == {}


def test_a_worker_without_a_study_is_refused(asked: SearchSettings) -> None:
    open_study(asked, name="other", fingerprint={})
    with pytest.raises(StudyMismatchError, match="there are: other"):
        run_worker("mine", storage=asked.storage)


@pytest.mark.usefixtures("cache", "begun")
@pytest.mark.parametrize("is_file_there", [False, True])
def test_a_worker_may_wait_for_its_study(
    asked: SearchSettings,
    stopped: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    is_file_there: bool,
) -> None:
    """It looks again and again, says once what it waits for, and helps when a search has begun."""
    looks: list[float] = []
    shown: list[str] = []

    def begin_meanwhile(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            open_study(asked, name="mine", fingerprint={})  # which a search has not signed yet
            delete_study(study_name="mine", storage=asked.storage)
        if len(looks) == 3:
            begin(change(asked, study="mine"))

    if is_file_there:
        open_study(asked, name="other", fingerprint={})
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(
        worker_room, "time", SimpleNamespace(sleep=begin_meanwhile, monotonic=lambda: float(next(clock)))
    )
    with pytest.raises(StoppedError):
        run_worker("mine", storage=asked.storage, wait_s=100.0, show=shown.append)
    assert len(looks) == 3
    assert stopped["study"].study_name == "mine"
    assert shown == ["Waiting for a search to begin study 'mine', at most 100 s ..."]


def test_a_worker_does_not_wait_for_ever(asked: SearchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(
        worker_room, "time", SimpleNamespace(sleep=lambda _: None, monotonic=lambda: float(next(clock)))
    )
    with pytest.raises(SettingsError, match="there is no such file here"):
        run_worker("mine", storage=asked.storage, wait_s=9.0)
    open_study(asked, name="mine", fingerprint={})
    with pytest.raises(StudyMismatchError, match="has no settings yet"):
        run_worker("mine", storage=asked.storage, wait_s=9.0)
