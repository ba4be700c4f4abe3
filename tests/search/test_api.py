"""The package's public functions: what they return, and that they keep quiet."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import sem_search as ss
from sem_search.errors import DataError, ModelNotFoundError, NotComparableError, SettingsError, StudyMismatchError
from sem_search.search import api
from sem_search.search.results.study_result import Study

HEAVY = ("tensorflow", "keras", "mlflow", "optuna", "matplotlib", "sklearn", "pandas", "scipy", "numpy", "click")

SETTINGS: dict[str, Any] = {
    "backbone": "tiny",
    "weights": "random",
    "tile_px": 48,
    "folds": 3,
    "epochs": 2,
    "patience": 1,
    "learning_rates": (0.1,),
    "batch_sizes": (8,),
    "pruner": "none",
    "precision": "float32",
    "threads": 1,
}


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = f"import sys, sem_search; print([name for name in {HEAVY!r} if name in sys.modules], dir(sem_search)[-1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")


def test_every_public_name_is_there_and_no_other() -> None:
    assert set(ss.__all__) <= set(dir(ss))
    for name in ss.__all__:
        assert callable(getattr(ss, name))
        assert (getattr(api, name).__doc__ or "").count("Args:") == 1
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        ss.serach  # noqa: B018


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """The images, in a folder whose name has a space and an umlaut."""
    place = tmp_path_factory.mktemp("a user") / "Proben für heute"
    place.symlink_to(tiny_folder, target_is_directory=True)
    return place


@pytest.fixture
def study(folder: Path, tracking: object, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A finished study in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sem_search.search.prepare.prepared_search.configure_tensorflow", lambda **_: None)
    return ss.search(folder, **SETTINGS, study="mine")


def test_a_catalogue_and_its_findings_are_tables(folder: Path) -> None:
    catalogue = ss.read_catalogue(folder, tile_px=48)
    assert len(catalogue.table) == 15
    assert "<table" in catalogue._repr_html_()
    found, same = ss.inspect(catalogue, folds=3, tile_px=48), ss.inspect(folder, folds=3, tile_px=48)
    assert list(found.table.columns) == ["severity", "kind", "message"]
    assert found.table.equals(same.table)
    assert "<html" in found._repr_html_()


def test_a_study_from_images_to_answers(
    study: Study, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is searched, loaded again, audited, compared and served is one and the same study."""
    assert capsys.readouterr().out == ""
    assert study.best["validation_f_measure"] == study.trials["validation_f_measure"].max()
    assert set(study.predictions["split"]) == {"validation", "test"}
    assert (study.predictions["split"] == "test").sum() == 15
    assert len(study.tile_predictions) == 4 * len(study.predictions)
    assert set(study.figures) == {"grid", "confusion_tiles", "confusion_images", "indices", "training_curves"}
    assert "<html" in study.report
    file = Path("studies/mine/report.html")
    file.write_text("beside the folds", encoding="utf-8")
    assert replace(study).report == "beside the folds"
    file.unlink()
    assert replace(study).report == study.report, "from MLflow"
    assert "mine" in study._repr_html_()

    loaded = ss.load_study("mine")
    assert loaded.trials.equals(study.trials)
    assert loaded.run_id == study.run_id

    audit = ss.audit(loaded, questions=["metadata"])
    assert audit.table["name"].tolist()[0] == "as measured"
    assert audit._repr_html_().startswith("<pre>Audit of study mine")

    other = ss.search(folder, **{**SETTINGS, "learning_rates": (0.01,)}, study="other")
    compared = ss.compare(study, other)
    assert len(compared.table) == len(compared.rows)

    answers = ss.load_model(study.model_uri).predict(folder / "blobs")
    assert len(answers) == 5
    assert answers["error"].isna().all()
    assert answers["model"].unique().tolist() == [study.model_uri]
    again = ss.load_model(loaded.model_uri).predict([str(folder / "blobs" / "0.png")])
    assert again["label"][0] == answers["label"][0]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("changes", [{}, {"threads": 2}])
def test_the_same_search_again_makes_no_second_run_and_leaves_the_first_as_it_ended(
    study: Study, folder: Path, tracking: MlflowClient, changes: dict[str, Any]
) -> None:
    before = tracking.get_run(study.run_id)
    for _ in range(2):
        again = ss.search(folder, **{**SETTINGS, **changes}, study="mine")
        assert again.run_id == study.run_id
    assert again.model_uri == study.model_uri
    runs = tracking.search_runs([before.info.experiment_id], "tags.`sem_search.kind` = 'study'")
    assert [run.info.run_id for run in runs] == [study.run_id]
    after = runs[0]
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    assert after.data.metrics == before.data.metrics
    assert len(after.inputs.dataset_inputs) == len(before.inputs.dataset_inputs)
    assert "<html" in again.report


def test_lots_are_tested(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sem_search.search.commands.lots.configure_tensorflow", lambda **_: None)
    found = ss.lots(folder / "blobs", folder / "stripes", backbone="tiny", weights="random", tile_px=48, threads=1)
    assert found.table[["first", "second"]].to_numpy().tolist() == [["blobs", "stripes"]]
    assert "blobs and stripes differ" in found._repr_html_()
    assert list(tmp_path.iterdir()) == [], "nothing is written that was not asked for"


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda: ss.search("no/such"), DataError, "there is no such folder or CSV file here"),
        (lambda: ss.search("demo", epochz=1), SettingsError, "epochz"),
        (lambda: ss.read_catalogue("no/such"), DataError, "there is no such folder"),
        (lambda: ss.inspect("no/such"), DataError, "there is no such folder"),
        (lambda: ss.load_study("mine"), SettingsError, "there is no such file here"),
        (lambda: ss.load_model("models:/none/1"), ModelNotFoundError, "none"),
        (lambda: ss.lots("no/such", "neither"), DataError, "no/such"),
    ],
)
def test_wrong_input_is_one_of_the_package_s_errors(
    ask: Any, error: type[Exception], match: str, tracking: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=match):
        ask()


def test_studies_of_two_storages_are_not_compared(study: Study) -> None:
    elsewhere = Study(
        settings=study.settings.model_copy(update={"storage": "sqlite:///other.db"}),
        outcome=study.outcome,
        run_id=study.run_id,
        model_uri=study.model_uri,
    )
    with pytest.raises(NotComparableError, match="lie in different storages"):
        ss.compare(study, elsewhere)


def test_studies_that_were_moved_are_compared_where_they_were_loaded_from(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        "sem_search.search.api.run_comparison", lambda *_, study_folder, **__: asked.append(study_folder)
    )
    moved = replace(study, settings=study.settings.model_copy(update={"study_folder": "moved"}))
    ss.compare(moved, moved)
    ss.compare(moved, study)
    assert asked == ["moved", None]


def test_a_study_of_other_settings_is_refused(study: Study, folder: Path) -> None:
    with pytest.raises(StudyMismatchError, match="seed was 0 and is now 1"):
        ss.search(folder, **{**SETTINGS, "seed": 1}, study="mine")


def test_the_store_lies_in_the_folder_where_the_user_works_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow by itself would make an empty folder of the percent-encoded name beside it."""
    (tmp_path / "Proben für heute").mkdir()
    monkeypatch.chdir(tmp_path / "Proben für heute")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    with pytest.raises(SettingsError):
        ss.load_study("mine")
    assert os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/Proben für heute/mlflow.db"
