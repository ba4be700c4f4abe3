"""A search: what is refused before what, what it shows, and what it takes over."""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from sem_search.errors import ClassTooSmallError, DataError, SettingsError, StudyMismatchError, WeightsError
from sem_search.heads import Head
from sem_search.search import attempt
from sem_search.search.commands import search as search_room
from sem_search.search.commands.search import run_search
from sem_search.search.prepare import network as network_module
from sem_search.search.prepare import prepared_search as prepare_room
from sem_search.search.prepare.duration import Duration
from sem_search.search.prepare.study_folder import get_study_folder
from sem_search.search.trials.attributes import RUN_ID, SETTINGS, STUDY_RUN_ID
from sem_search.search.trials.ranks import enqueue_rank
from sem_search.search.trials.space import suggest_cell
from sem_search.settings import SearchSettings
from sem_search.tracking.mlflow.runs import describe_trial
from sem_search.transfer.trunk import Computation, list_computations, set_computation
from tests.search.commands.stopped import BEGINS, StoppedError, begin, change, list_warnings


@pytest.mark.parametrize(
    ("changes", "error", "steps"),
    [
        ({"study": "a/b", "weights": "no/such.h5"}, StudyMismatchError, []),
        ({"weights": "no/such.h5", "data": "no/such"}, WeightsError, []),
        ({"data": "no/such"}, DataError, ["prepare_data"]),
        ({"weights": "damaged.h5"}, WeightsError, [*BEGINS][:3]),
    ],
)
def test_wrong_input_is_refused_as_early_as_it_can_be_and_leaves_nothing_behind(
    asked: SearchSettings,
    tmp_path: Path,
    begun: list[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    error: type[Exception],
    steps: list[str],
) -> None:
    Path("damaged.h5").write_bytes(b"no weights")
    monkeypatch.setattr(network_module, "render_calibration_tiles", lambda _: None)
    with pytest.raises(error):
        run_search(change(asked, **changes))
    assert begun == steps
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.h5"]


@pytest.mark.parametrize(("n_left", "option"), [(2, "--exclude blobs"), (4, "--folds 4")])
def test_a_class_that_is_too_small_is_answered_with_the_command_to_type(
    asked: SearchSettings, tmp_path: Path, n_left: int, option: str
) -> None:
    folder = shutil.copytree(asked.data, tmp_path / "data")
    for number in range(n_left, 5):
        (folder / "blobs" / f"{number}.png").unlink()
    with pytest.raises(ClassTooSmallError) as caught:
        run_search(change(asked, data=str(folder), folds=5))
    command = str(caught.value).split(" For example:\n  ")[1]
    assert f"search --data {folder}" in command
    assert option in command


def test_where_nothing_but_images_helps_no_command_is_shown(asked: SearchSettings, tmp_path: Path) -> None:
    folder = shutil.copytree(asked.data, tmp_path / "data")
    for name in ("blobs", "grains"):
        for number in range(3):
            (folder / name / f"{number}.png").unlink()
    with pytest.raises(ClassTooSmallError) as caught:
        run_search(change(asked, data=str(folder), folds=5))
    assert "For example" not in str(caught.value)


def test_one_picture_under_two_labels_stops_a_search_before_anything_is_computed(
    asked: SearchSettings, tmp_path: Path, begun: list[str]
) -> None:
    folder = shutil.copytree(asked.data, tmp_path / "data")
    shutil.copyfile(folder / "blobs" / "0.png", folder / "stripes" / "copy.png")
    wrong = change(asked, data=str(folder))
    with pytest.raises(DataError, match="allow_errors=label_conflict"):
        run_search(wrong)
    assert begun == ["prepare_data"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.usefixtures("cache")
def test_a_study_of_other_settings_is_refused_before_any_store_is_opened(
    asked: SearchSettings, begun: list[str], stopped: dict[str, Any]
) -> None:
    begin(change(asked, study="mine"))
    begun.clear()
    before = sorted(Path("studies").rglob("*"))
    with pytest.raises(StudyMismatchError, match="epochs was 3 and is now 9"):
        run_search(change(asked, study="mine", epochs=9))
    assert "create_store" not in begun
    assert sorted(Path("studies").rglob("*")) == before


@pytest.mark.usefixtures("cache", "begun")
def test_a_study_is_begun_with_its_settings_and_its_run(
    asked: SearchSettings, stopped: dict[str, Any], tracking: MlflowClient
) -> None:
    begin(asked)
    study, objective = stopped["study"], stopped["objective"]
    assert study.get_trials() == []
    assert SearchSettings.model_validate_json(study.user_attrs[SETTINGS]) == asked
    run = tracking.get_run(study.user_attrs[STUDY_RUN_ID])
    assert objective.log.study_run_id == run.info.run_id
    assert objective.log.is_search
    assert run.info.status == "FAILED"
    assert run.data.params["backbone"] == "tiny"
    assert run.data.params["weights_used"] == "random"
    assert get_study_folder(asked, name=study.study_name).is_dir()


@pytest.mark.usefixtures("cache", "begun", "tracking")
def test_the_time_is_told_until_there_is_a_result(
    asked: SearchSettings,
    stopped: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = Duration(features_s=10, heads_s=60, most_heads_s=60, rest_s=20)
    monkeypatch.setattr(attempt, "estimate_duration", lambda _prepared: told)
    for _ in range(2):
        begin(asked)
        assert capsys.readouterr().err.count("This search will take about 1 min 30 s") == 1
    study = stopped["study"]
    enqueue_rank(study, rank=0, settings=asked)
    trial = study.ask()
    suggest_cell(trial, settings=asked)
    study.tell(trial, 0.5)
    begin(asked)
    assert "will take" not in capsys.readouterr().err


@pytest.mark.usefixtures("cache", "begun")
@pytest.mark.parametrize("is_from_mlflow_run", [False, True])
def test_what_a_dead_search_left_is_taken_over(
    asked: SearchSettings,
    stopped: dict[str, Any],
    tracking: MlflowClient,
    dead_process: str,
    monkeypatch: pytest.MonkeyPatch,
    is_from_mlflow_run: bool,
) -> None:
    """The study's run goes on; where `mlflow run` has opened another, that one takes over, and the earlier says so."""
    begin(asked)
    study = stopped["study"]
    old = study.user_attrs[STUDY_RUN_ID]
    tracking.set_tag(old, "sem_search.process", dead_process)
    tracking.update_run(old, status="RUNNING")
    tags = describe_trial(study=study.study_name, cell="cell", process=dead_process)
    trial_run = tracking.create_run(
        tracking.get_run(old).info.experiment_id, tags={"mlflow.parentRunId": old, **tags}
    ).info.run_id
    cut_off = tracking.create_run(tracking.get_run(old).info.experiment_id, tags=tags).info.run_id
    tracking.set_terminated(trial_run)
    enqueue_rank(study, rank=0, settings=asked)
    trial = study.ask()
    suggest_cell(trial, settings=asked)
    trial.set_user_attr(RUN_ID, trial_run)
    study.tell(trial, 0.5)

    if is_from_mlflow_run:
        opened = tracking.create_run(tracking.get_run(old).info.experiment_id).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", opened)
    begin(asked)
    new = stopped["study"].user_attrs[STUDY_RUN_ID]
    assert new == (opened if is_from_mlflow_run else old)
    earlier = tracking.get_run(old)
    if is_from_mlflow_run:
        assert earlier.info.status == "KILLED"
        assert earlier.info.run_name == f"{study.study_name} (earlier)"
        assert new in earlier.data.tags["mlflow.note.content"]
    assert earlier.data.tags.get("sem_search.superseded_by") == (new if is_from_mlflow_run else None)
    assert tracking.get_run(trial_run).data.tags["mlflow.parentRunId"] == new
    assert tracking.get_run(cut_off).data.tags["sem_search.superseded_by"] == new


@pytest.mark.parametrize(
    ("preset", "heads", "cells", "has_hint"),
    [
        ("standard", ("finetune",), "4 cells of tiny (learning rate x batch size), 3 folds, at most 3 epochs", False),
        (
            "quick",
            ("linear", "finetune"),
            "5 cells of tiny (linear head and learning rate x batch size), 3 folds, at most 3 epochs",
            True,
        ),
        ("standard", ("linear",), "1 cell of tiny (linear head), 3 folds", False),
    ],
)
def test_the_first_line_tells_preset_and_size(
    asked: SearchSettings, begun: list[str], preset: str, heads: tuple[Head, ...], cells: str, has_hint: bool
) -> None:
    shown: list[str] = []
    with pytest.raises(DataError):
        run_search(change(asked, data="no/such", preset=preset, heads=heads), show=shown.append)
    assert shown[0].startswith(f"Preset {preset}: {cells}; data=no/such.")
    assert ("preset=standard searches the paper's whole grid" in shown[0]) is has_hint


@pytest.mark.usefixtures("cache", "begun")
def test_what_was_found_in_the_data_is_told_and_notes_are_not(
    asked: SearchSettings, stopped: dict[str, Any], tiny_folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    folder = Path(shutil.copytree(tiny_folder, Path.cwd() / "data"))
    shutil.copyfile(folder / "blobs" / "0.png", folder / "stripes" / "copy.png")
    shown: list[str] = []
    begin(change(asked, data=str(folder), allow_errors=("label_conflict",)), show=shown.append)
    assert shown[1:3] == [
        "16 images of 3 classes, 64 tiles.",
        "tiny has the weights 'random'; engine=tensorflow precision=float32.",
    ]
    assert shown[3].startswith("The features of 64 tiles take ")
    begin(change(asked, data=str(folder), allow_errors=("label_conflict",)), show=shown.append)
    assert shown[4].startswith("Study ") and ": its finished folds lie in " in shown[4]
    assert len(shown) == 5 + 4, "no word on the disk where the features are there"
    assert shown[8] == shown[4]
    warned = list_warnings(recwarn)
    assert any(re.match("Allowed error: The same place is in 2 classes.*stripes/copy.png", text) for text in warned)
    assert not any("The session is told for no image" in text for text in warned)


EXACT = Computation(engine="tensorflow", precision="float32")
ROUNDED = Computation(engine="tensorflow", precision="bfloat16")
ON_ONNXRUNTIME = Computation(engine="onnxruntime", precision="float32")


@pytest.mark.usefixtures("cache", "begun")
@pytest.mark.parametrize("study", [None, "mine"])
@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (ROUNDED, EXACT, "precision was 'bfloat16' and is now 'float32'"),
        (EXACT, ON_ONNXRUNTIME, "engine was None and is now 'onnxruntime'"),
        (ON_ONNXRUNTIME, EXACT, "engine was 'onnxruntime' and is now None"),
    ],
)
def test_a_search_goes_on_with_the_engine_and_the_precision_that_its_study_was_begun_with(
    asked: SearchSettings,
    stopped: dict[str, Any],
    network,
    monkeypatch: pytest.MonkeyPatch,
    study: str | None,
    before: Computation,
    after: Computation,
    difference: str,
) -> None:
    measured = before

    def prepare(settings: SearchSettings) -> object:
        possible = list_computations(engine=settings.engine, precision=settings.precision)
        computation = measured if len(possible) > 1 else possible[0]
        return dataclasses.replace(network, cut=set_computation(network.cut, computation=computation))

    monkeypatch.setattr(prepare_room, "prepare_network", prepare)
    asked = change(asked, study=study, engine="auto")
    begin(asked)
    first = stopped["objective"].prepared
    measured = after
    shown: list[str] = []
    begin(asked, show=shown.append)
    again = stopped["objective"].prepared
    assert (again.name, again.network.computation) == (first.name, before)
    assert f"The study was begun with {before}; it goes on with that." in shown
    assert again.fingerprint == first.fingerprint
    with pytest.raises(StudyMismatchError if study else StoppedError, match=difference if study else None):
        run_search(change(asked, engine=after.engine, precision=after.precision))
    if study is None:
        assert stopped["objective"].prepared.name != first.name, "what is asked for by name is another study"
        begin(asked)
        assert stopped["objective"].prepared.network.computation == after, "both are there: the one measured"


def test_a_cluster_that_does_not_answer_is_refused_before_a_run_is_opened(
    asked: SearchSettings, begun: list[str], stopped: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sem_search.search.cluster.client.CONNECT_S", 0.5)
    monkeypatch.setattr(attempt, "open_study_run", lambda **_: pytest.fail("a run was opened"))
    monkeypatch.setattr(attempt, "open_study", lambda *_, **__: pytest.fail("a study was made"))
    with pytest.raises(SettingsError, match=r"cluster=tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        run_search(change(asked, cluster="tcp://127.0.0.1:9", shared=str(cache / "shared")))


@pytest.mark.parametrize(
    ("is_from_mlflow_run", "storage", "is_told"),
    [
        (True, "postgresql://me:s3cret@host/x", True),
        (False, "postgresql://me:s3cret@host/x", False),
        (True, "postgresql://me:s3cret/s3cret@host/x", True),
        (True, "postgresql://me:s3cret s3cret@host/x", True),
        (True, "postgresql://me@host/x?sslpassword=s3cret", True),
        (True, "postgresql://me@host/x", False),
    ],
)
def test_a_password_that_mlflow_run_has_logged_is_told(
    asked: SearchSettings,
    begun: list[str],
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
    is_from_mlflow_run: bool,
    storage: str,
    is_told: bool,
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    if is_from_mlflow_run:
        monkeypatch.setenv("MLFLOW_RUN_ID", "a run")
    monkeypatch.setattr(search_room, "check_storage", lambda *_, **__: None)
    with pytest.raises(DataError):
        run_search(change(asked, data="no/such", storage=storage))
    warned = list_warnings(recwarn)
    assert ["give it as PGPASSWORD" in text for text in warned] == [True] * is_told
    assert not any("s3cret" in text for text in warned)


def test_a_password_of_shared_storage_that_mlflow_run_has_logged_is_told(
    asked: SearchSettings, begun: list[str], recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "a run")
    with pytest.raises(DataError):
        run_search(change(asked, data="no/such", shared="ftp://me:s3 cret@host/folder"))
    (warned,) = list_warnings(recwarn)
    assert "mlflow run has logged shared, with its password" in warned
    assert "cret" not in warned
