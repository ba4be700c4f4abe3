"""The main act's edges: what is refused before what, how it is interrupted, what it says, and what it takes over."""

import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import pytest
from mlflow.tracking import MlflowClient
from optuna import delete_study
from optuna.trial import TrialState

from sem_search.errors import DataError, SettingsError, StudyMismatchError, WeightsError
from sem_search.search.commands import search as run_module
from sem_search.search.commands.search import run_search, run_worker
from sem_search.search.prepare import network as network_module
from sem_search.search.prepare.data import PreparedData, prepare_data
from sem_search.search.prepare.prepared_search import get_study_folder
from sem_search.search.trials.study import RUN_ID, SETTINGS, STUDY_RUN_ID, open_study
from sem_search.settings import SearchSettings
from sem_search.tracking.mlflow.runs import describe_trial
from sem_search.transfer.precision import set_precision

BEGINS = ("prepare_data", "configure_tensorflow", "prepare_network", "create_store", "compute_features")
"""What a search does, in this order, before it trains."""


class StoppedError(Exception):
    """Raised where a test has seen enough."""


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """Puts back what SIGTERM does."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that a search has begun; TensorFlow's threads stay as they are."""
    steps: list[str] = []

    def watch(name: str) -> None:
        real = getattr(run_module, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            steps.append(name)
            return None if name == "configure_tensorflow" else real(*args, **kwargs)

        monkeypatch.setattr(run_module, name, step)

    for name in BEGINS:
        watch(name)
    return steps


@pytest.fixture
def asked(settings: SearchSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchSettings:
    """The settings of a search that works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return settings.model_copy(update={"study_folder": "studies", "storage": "sqlite:///optuna.db"})


def change(asked: SearchSettings, **changes: Any) -> SearchSettings:
    return asked.model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "error", "steps"),
    [
        ({"study": "a/b", "weights": "no/such.h5"}, StudyMismatchError, []),
        ({"weights": "no/such.h5", "data": "no/such"}, WeightsError, []),
        ({"data": "no/such"}, DataError, BEGINS[:1]),
        ({"weights": "damaged.h5"}, WeightsError, BEGINS[:3]),
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
    assert tuple(begun) == tuple(steps)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.h5"]


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


@pytest.fixture
def stopped(
    settings: SearchSettings, monkeypatch: pytest.MonkeyPatch, data: PreparedData, network, tracking: MlflowClient
) -> dict[str, Any]:
    """What a search comes to `work` with; there it is stopped. The session's data and network are not made anew."""
    seen: dict[str, Any] = {}

    def work(study: optuna.Study, **arguments: Any) -> None:
        seen.update(study=study, **arguments)
        raise StoppedError

    monkeypatch.setattr(run_module, "work", work)
    monkeypatch.setattr(
        run_module, "prepare_data", lambda now: data if now.data == settings.data else prepare_data(now)
    )
    monkeypatch.setattr(run_module, "prepare_network", lambda _: network)
    return seen


def begin(settings: SearchSettings) -> None:
    with pytest.raises(StoppedError):
        run_search(settings)


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
def test_every_cell_waits_in_a_study_that_is_signed(
    asked: SearchSettings, stopped: dict[str, Any], tracking: MlflowClient
) -> None:
    begin(asked)
    study, objective = stopped["study"], stopped["objective"]
    assert len(study.get_trials(states=(TrialState.WAITING,))) == 4
    assert SearchSettings.model_validate_json(study.user_attrs[SETTINGS]) == asked
    run = tracking.get_run(study.user_attrs[STUDY_RUN_ID])
    assert objective.study_run_id == run.info.run_id
    assert run.info.status == "FAILED"
    assert run.data.params["backbone"] == "tiny"
    assert run.data.tags["sem_search.weights_used"] == "random"
    assert get_study_folder(asked, name=study.study_name).is_dir()


@pytest.mark.usefixtures("cache", "begun")
def test_what_a_dead_search_left_is_taken_over(
    asked: SearchSettings, stopped: dict[str, Any], tracking: MlflowClient, dead_process: str
) -> None:
    begin(asked)
    study = stopped["study"]
    old = study.user_attrs[STUDY_RUN_ID]
    tracking.set_tag(old, "sem_search.process", dead_process)
    tracking.update_run(old, status="RUNNING")
    tags = describe_trial(study=study.study_name, cell="cell", process=dead_process)
    trial_run = tracking.create_run(
        tracking.get_run(old).info.experiment_id, tags={"mlflow.parentRunId": old, **tags}
    ).info.run_id
    trial = study.ask()
    trial.set_user_attr(RUN_ID, trial_run)
    study.tell(trial, 0.5)

    begin(asked)
    new = stopped["study"].user_attrs[STUDY_RUN_ID]
    assert new != old
    superseded = tracking.get_run(old)
    assert superseded.info.status == "KILLED"
    assert superseded.data.tags["sem_search.superseded_by"] == new
    assert tracking.get_run(trial_run).data.tags["mlflow.parentRunId"] == new
    assert len(stopped["study"].get_trials()) == 4, "no cell is queued twice"


@pytest.mark.usefixtures("cache", "begun")
def test_sigterm_ends_a_search_as_ctrl_c_does(
    asked: SearchSettings, stopped: dict[str, Any], tracking: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(study: optuna.Study, **_: Any) -> None:
        stopped["study"] = study
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("SIGTERM was not heard")

    monkeypatch.setattr(run_module, "work", work)
    with pytest.raises(KeyboardInterrupt):
        run_search(asked)
    assert tracking.get_run(stopped["study"].user_attrs[STUDY_RUN_ID]).info.status == "KILLED"


@pytest.mark.parametrize(("preset", "has_hint"), [("standard", False), ("quick", True)])
def test_the_first_line_tells_preset_and_size(
    asked: SearchSettings, begun: list[str], capsys: pytest.CaptureFixture[str], preset: str, has_hint: bool
) -> None:
    with pytest.raises(DataError):
        run_search(change(asked, data="no/such", preset=preset))
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"Preset {preset}: 4 cells of tiny (learning rate x batch size), 3 folds, at most 3 epochs; data=no/such."
    )
    assert ("preset=standard searches the paper's whole grid" in printed) is has_hint


@pytest.mark.usefixtures("cache", "begun")
def test_what_was_found_in_the_data_is_told_and_notes_are_not(
    asked: SearchSettings, stopped: dict[str, Any], tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_folder, Path.cwd() / "data"))
    shutil.copyfile(folder / "blobs" / "0.png", folder / "stripes" / "copy.png")
    begin(change(asked, data=str(folder), allow_errors=("label_conflict",)))
    printed = capsys.readouterr()
    assert "16 images of 3 classes, 64 tiles." in printed.out
    assert "tiny has the weights 'random'." in printed.out
    assert "Allowed error: The same place stands in 2 classes" in printed.err
    assert "stripes/copy.png" in printed.err
    assert "The session is told for no image" not in printed.err


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_helps_with_the_study_s_own_settings(
    asked: SearchSettings, stopped: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(change(asked, study="mine"))
    run_id = stopped["study"].user_attrs[STUDY_RUN_ID]
    threads: list[int] = []
    monkeypatch.setattr(run_module, "configure_tensorflow", lambda *, threads, seed, told=threads: told.append(threads))
    with pytest.raises(StoppedError):
        run_worker(study="mine", storage=asked.storage, threads=None)
    objective = stopped["objective"]
    assert objective.prepared.settings == change(asked, study="mine")
    assert objective.study_run_id == run_id
    monkeypatch.setattr(run_module, "work", lambda *_, **__: None)
    run_worker(study="mine", storage=asked.storage, threads=3)
    assert threads == [asked.threads, 3]
    assert "No cell of study 'mine' is left to claim." in capsys.readouterr().out


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_of_another_machine_is_told_where_things_are_and_what_follows_if_it_is_not(
    asked: SearchSettings,
    stopped: dict[str, Any],
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin(change(asked, study="mine"))
    moved = str(shutil.copytree(tiny_folder, Path.cwd() / "moved"))
    given = {"data": moved, "study_folder": str(tmp_path / "mine")}
    capsys.readouterr()
    with pytest.raises(StoppedError):
        run_worker(study="mine", storage=asked.storage, threads=None, **given)
    assert "the search's finished folds are not to be seen here" in capsys.readouterr().err
    settings = stopped["objective"].prepared.settings
    assert (settings.data, settings.study_folder, settings.shared) == (moved, str(tmp_path / "mine"), None)
    with pytest.raises(StoppedError):
        run_worker(study="mine", storage=asked.storage, threads=None, **given, shared=str(tmp_path / "shared"))
    assert "are not to be seen here" not in capsys.readouterr().err
    assert stopped["objective"].prepared.store.shared.url == str(tmp_path / "shared")
    assert stopped["objective"].source is None, "a worker trains by itself"


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_is_asked_for_shared_storage_whose_password_is_not_kept(
    asked: SearchSettings, stopped: dict[str, Any], tmp_path: Path
) -> None:
    begin(change(asked, study="mine"))
    kept = change(asked, study="mine", shared="ftp://me:s3cret@host/folder").without_passwords
    stopped["study"].set_user_attr(SETTINGS, kept.model_dump_json())
    with pytest.raises(SettingsError, match=r"shared=ftp://me:\*\*\*@host/folder has a password, .* give --shared"):
        run_worker(study="mine", storage=asked.storage, threads=None)
    with pytest.raises(StoppedError):
        run_worker(study="mine", storage=asked.storage, threads=None, shared=str(tmp_path / "shared"))


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_computes_in_the_precision_that_the_search_has_chosen(
    asked: SearchSettings, stopped: dict[str, Any], network, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(change(asked, study="mine"))
    seen: list[str] = []
    monkeypatch.setattr(run_module, "prepare_network", lambda now: seen.append(now.precision) or network)
    with pytest.raises(StoppedError):
        run_worker(study="mine", storage=asked.storage, threads=None)
    assert (asked.precision, seen) == ("auto", ["float32"])


@pytest.mark.usefixtures("cache", "begun")
@pytest.mark.parametrize("study", [None, "mine"])
def test_a_search_goes_on_in_the_precision_that_its_study_was_begun_with(
    asked: SearchSettings, stopped: dict[str, Any], network, monkeypatch: pytest.MonkeyPatch, study: str | None
) -> None:
    measured = "bfloat16"

    def prepare(settings: SearchSettings) -> object:
        precision = measured if settings.precision == "auto" else settings.precision
        return dataclasses.replace(network, cut=set_precision(network.cut, precision=precision))

    monkeypatch.setattr(run_module, "prepare_network", prepare)
    begin(change(asked, study=study))
    first = stopped["objective"].prepared
    measured = "float32"
    begin(change(asked, study=study))
    again = stopped["objective"].prepared
    assert (again.name, again.network.precision) == (first.name, "bfloat16")
    assert again.fingerprint == first.fingerprint
    with pytest.raises(StudyMismatchError if study else StoppedError, match="precision was" if study else None):
        run_search(change(asked, study=study, precision="float32"))
    if study is None:
        assert stopped["objective"].prepared.name != first.name, "another precision that is asked for is another study"
        begin(asked)
        assert stopped["objective"].prepared.network.precision == "float32", "both are there: the one measured"


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
            run_worker(study="mine", storage=asked.storage, threads=None)
    finally:
        mlflow.set_tracking_uri(before)


def test_a_cluster_that_does_not_answer_is_refused_before_a_run_is_opened(
    asked: SearchSettings, begun: list[str], stopped: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sem_search.search.cluster.dask.CONNECT_S", 0.5)
    monkeypatch.setattr(run_module, "open_study_run", lambda **_: pytest.fail("a run was opened"))
    monkeypatch.setattr(run_module, "open_study", lambda *_, **__: pytest.fail("a study was made"))
    with pytest.raises(SettingsError, match=r"cluster=tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        run_search(change(asked, cluster="tcp://127.0.0.1:9", shared=str(cache / "shared")))


@pytest.mark.usefixtures("cache", "begun")
def test_a_worker_whose_data_have_changed_is_refused(
    asked: SearchSettings, stopped: dict[str, Any], tiny_folder: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, Path.cwd() / "data"))
    begin(change(asked, study="mine", data=str(folder)))
    (folder / "blobs" / "0.png").unlink()
    stopped.clear()
    with pytest.raises(StudyMismatchError, match=r"data was .* and is now .*A worker needs the search's own images"):
        run_worker(study="mine", storage=asked.storage, threads=None)
    for file in (folder / "blobs").iterdir():
        file.unlink()
    with pytest.raises(StudyMismatchError, match=r"does not see what the search saw: .* give --data as this machine"):
        run_worker(study="mine", storage=asked.storage, threads=None)
    assert stopped == {}


def test_a_worker_without_a_study_is_refused(asked: SearchSettings) -> None:
    open_study(asked, name="other", fingerprint={})
    with pytest.raises(StudyMismatchError, match="there are: other"):
        run_worker(study="mine", storage=asked.storage, threads=None)


@pytest.mark.usefixtures("cache", "begun")
@pytest.mark.parametrize("is_file_there", [False, True])
def test_a_worker_may_wait_for_its_study(
    asked: SearchSettings,
    stopped: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_file_there: bool,
) -> None:
    """It looks again and again, says once what it waits for, and helps when a search has begun."""
    looks: list[float] = []

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
        run_module, "time", SimpleNamespace(sleep=begin_meanwhile, monotonic=lambda: float(next(clock)))
    )
    with pytest.raises(StoppedError):
        run_worker(study="mine", storage=asked.storage, threads=None, wait_s=100.0)
    assert len(looks) == 3
    assert stopped["study"].study_name == "mine"
    assert capsys.readouterr().err.count("Waiting for a search to begin study 'mine', at most 100 s ...") == 1


def test_a_worker_does_not_wait_for_ever(asked: SearchSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(run_module, "time", SimpleNamespace(sleep=lambda _: None, monotonic=lambda: float(next(clock))))
    with pytest.raises(SettingsError, match="there is no such file here"):
        run_worker(study="mine", storage=asked.storage, threads=None, wait_s=9.0)
    open_study(asked, name="mine", fingerprint={})
    with pytest.raises(StudyMismatchError, match="is not signed by a search yet"):
        run_worker(study="mine", storage=asked.storage, threads=None, wait_s=9.0)


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
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_from_mlflow_run: bool,
    storage: str,
    is_told: bool,
) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    if is_from_mlflow_run:
        monkeypatch.setenv("MLFLOW_RUN_ID", "a run")
    monkeypatch.setattr(run_module, "check_storage", lambda *_, **__: None)
    with pytest.raises(DataError):
        run_search(change(asked, data="no/such", storage=storage))
    printed = capsys.readouterr().err
    assert ("give it as PGPASSWORD" in printed) is is_told
    assert "s3cret" not in printed


def test_a_password_of_shared_storage_that_mlflow_run_has_logged_is_told(
    asked: SearchSettings, begun: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "a run")
    with pytest.raises(DataError):
        run_search(change(asked, data="no/such", shared="ftp://me:s3 cret@host/folder"))
    printed = capsys.readouterr().err
    assert "mlflow run has logged shared, with its password" in printed
    assert "logged storage" not in printed
    assert "cret" not in printed
