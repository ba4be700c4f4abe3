"""The package's public functions: what they load, what they return, and that they keep quiet."""

import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from mlflow.tracking import MlflowClient

import sem_search as ss
from sem_search.errors import DataError, ModelNotFoundError, NotComparableError, SettingsError, StudyMismatchError
from sem_search.search import api
from sem_search.settings import AS_THE_PAPER
from sem_search.tracking.entries.types import FigureArtifact, Picture
from sem_search.tracking.mlflow.files import read_text_artifact

HEAVY = ("tensorflow", "keras", "mlflow", "optuna", "matplotlib", "sklearn", "pandas", "scipy", "numpy", "click")
NEVER_FOR_IMAGES = ("tensorflow", "keras", "mlflow", "optuna", "matplotlib", "sklearn")

FUNCTIONS = [name for name in ss.__all__ if name.islower()]

SETTINGS: dict[str, Any] = {
    "backbone": "tiny",
    "weights": "random",
    "tile_px": 48,
    "folds": 3,
    "epochs": 2,
    "patience": 1,
    **AS_THE_PAPER,
    "learning_rates": (0.1,),
    "batch_sizes": (8,),
    "pruner": "none",
    "precision": "float32",
    "threads": 1,
}


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_folder: Path,
    cache: Path,
    make_mlflow_store: Callable[[Path], str],
) -> Iterator[Path]:
    """The folder in which a user works: its name has a space and an umlaut, and `micrographs` has three materials."""
    place = tmp_path_factory.mktemp("a user") / "Proben für heute"
    (place / "micrographs").mkdir(parents=True)
    for material, texture in {"lactose": "blobs", "mannitol": "grains", "starch": "stripes"}.items():
        (place / "micrographs" / material).symlink_to(tiny_folder / texture, target_is_directory=True)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(place))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in ("prepare.prepared_search", "commands.lots"):
            patch.setattr(f"sem_search.search.{command}.configure_tensorflow", lambda **_: None)
        yield place
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def study(home: Path) -> ss.Study:
    """A finished study, the one of the examples."""
    return ss.search("micrographs", **SETTINGS, study="excipients", model_name="excipients")


def run_python(code: str) -> str:
    """Return what a new process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_loads_no_heavy_library() -> None:
    assert run_python(f"import sys, sem_search; print([name for name in {HEAVY!r} if name in sys.modules])") == "[]"


def test_images_are_read_and_inspected_without_tensorflow(tiny_folder: Path) -> None:
    code = (
        f"import sys, sem_search as ss; found = ss.inspect(ss.read_catalogue({str(tiny_folder)!r}, tile_px=48)); "
        f"print(len(found.catalogue.records), [name for name in {NEVER_FOR_IMAGES!r} if name in sys.modules])"
    )
    assert run_python(code) == "15 []"


def test_the_package_shows_its_public_names_and_no_other() -> None:
    assert dir(ss) == sorted([*ss.__all__, "__version__"])
    assert all(callable(getattr(ss, name)) for name in ss.__all__)
    assert ss.search.__call__.__doc__ == api.search.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        ss.serach  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_is_complete_and_its_example_is_true(name: str, home: Path, study: ss.Study) -> None:
    """An example that prints more than it shows fails, so this also holds the functions to keeping quiet."""
    function = getattr(api, name)
    assert all((function.__doc__ or "").count(part) == 1 for part in ("Args:", "Returns:", "Raises:"))
    takes_settings = ("read_catalogue", "inspect", "search", "lots", "lots_reference")
    quick = {one: partial(getattr(ss, one), **SETTINGS) for one in takes_settings}
    shown = SimpleNamespace(**{**{one: getattr(ss, one) for one in FUNCTIONS}, **quick})
    (example,) = doctest.DocTestFinder().find(function, name, globs={"ss": shown, "study": study})
    told: list[str] = []
    assert example.examples
    assert doctest.DocTestRunner().run(example, out=told.append).failed == 0, "".join(told)


def test_a_catalogue_and_its_findings_are_tables(home: Path) -> None:
    catalogue = ss.read_catalogue("micrographs", tile_px=48)
    assert len(catalogue.table) == 15
    assert "<table" in catalogue._repr_html_()
    assert re.fullmatch(r"<Catalogue of \d+ images in 3 classes>", repr(catalogue))
    found, same = ss.inspect(catalogue, folds=3, tile_px=48), ss.inspect(home / "micrographs", folds=3, tile_px=48)
    assert list(found.table.columns) == ["severity", "kind", "message"]
    assert found.table.equals(same.table)
    assert "<html" in found._repr_html_()
    assert len(repr(found)) < 100 and str(found) == found.to_text()


@pytest.mark.parametrize("setting", [{"exclude": "starch"}, {"crop_bottom_px": 4}])
def test_a_setting_of_reading_comes_too_late_for_a_catalogue(home: Path, setting: dict[str, Any]) -> None:
    read = ss.read_catalogue("micrographs", tile_px=48)
    with pytest.raises(SettingsError, match=f"{next(iter(setting))}: .* Give it to read_catalogue"):
        ss.inspect(read, tile_px=48, **setting)


def test_a_study_has_its_trials_its_predictions_and_its_report(study: ss.Study) -> None:
    assert study.best["validation_f_measure"] == study.trials["validation_f_measure"].max()
    assert set(study.predictions["split"]) == {"validation", "test"}
    assert (study.predictions["split"] == "test").sum() == 15
    assert len(study.tile_predictions) == 4 * len(study.predictions)
    assert set(study.figures) == {"grid", "confusion_tiles", "confusion_images", "indices", "training_curves"}
    assert "<html" in study.report
    file = Path("studies/excipients/report.html")
    file.write_text("beside the folds", encoding="utf-8")
    assert replace(study).report == "beside the folds"
    file.unlink()
    assert replace(study).report == study.report, "from MLflow"
    assert "excipients" in study._repr_html_()
    assert repr(study).startswith("<Study excipients: winner ") and study.model_uri in repr(study)


def test_a_kit_is_made_of_what_the_study_and_its_run_hold(
    home: Path, study: ss.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures are drawn in the tests of `tracking/figures`."""
    monkeypatch.setattr(FigureArtifact, "picture", Picture(content=b"", width_in=1.0, media_type="image/png"))
    folder = study.write_kit("for a paper")
    assert folder == home / "for a paper"
    assert sum(path.is_file() for path in folder.rglob("*")) == 57
    methods = (folder / "methods.md").read_text("utf-8")
    logged = json.loads(read_text_artifact(run_id=study.run_id, path="study/versions.json"))
    assert f"TensorFlow {logged['tensorflow']} [@abadi2016]" in methods
    assert "was chosen: learning rate 0.1, batch size 8." in methods


def test_a_study_has_its_baselines_and_one_of_before_has_none(study: ss.Study, tmp_path: Path) -> None:
    table = study.baselines
    assert table.columns.tolist()[:4] == ["baseline", "figure", "winner", "value"]
    assert list(dict.fromkeys(table["baseline"])) == ["largest_class", "metadata", "logistic_training", "logistic_all"]
    of_tiles = table[table["figure"] == "f_measure"]
    assert of_tiles["winner"].to_numpy() == pytest.approx(study.best["test_f_measure"])
    before = replace(study, settings=study.settings.model_copy(update={"study_folder": str(tmp_path)}))
    assert before.baselines.columns.tolist() == table.columns.tolist()
    assert len(before.baselines) == 0


def test_a_study_has_its_doubtful_labels_with_the_sentence_about_chance(study: ss.Study) -> None:
    doubtful = study.doubtful_labels
    wrong = study.predictions.query("split == 'test' and predicted != true")
    assert set(doubtful["image_id"]) <= set(wrong["image_id"])
    assert doubtful["probability_of_label"].is_monotonic_increasing
    assert doubtful.attrs["chance"].startswith(f"{len(doubtful)} of {len(study.outcome.tiles.image_ids)} labels ")
    assert "Doubtful labels" in study.report


def test_a_loaded_study_is_the_one_that_was_searched(study: ss.Study) -> None:
    loaded = ss.load_study("excipients")
    assert loaded.trials.equals(study.trials)
    assert loaded.baselines.equals(study.baselines)
    assert (loaded.run_id, loaded.model_uri) == (study.run_id, study.model_uri)


def test_an_audit_shows_itself(study: ss.Study) -> None:
    assert ss.audit(study, questions=["metadata"])._repr_html_().startswith("<pre>Audit of study excipients")


def test_studies_are_compared_figure_by_figure(study: ss.Study) -> None:
    other = ss.search("micrographs", **{**SETTINGS, "learning_rates": (0.01,)}, study="other")
    compared = ss.compare(study, other)
    assert compared.table["figure"].tolist() == [name for name, _ in compared.rows]


def test_a_model_answers_images(study: ss.Study) -> None:
    model = ss.load_model(study.model_uri)
    answers = model.predict(Path("micrographs", "lactose"))
    assert len(answers) == 5
    assert answers["error"].isna().all()
    assert answers["model"].unique().tolist() == [study.model_uri]
    again = model.predict([str(Path("micrographs", "lactose", "0.png"))])
    assert again["label"][0] == answers["label"][0]


@pytest.mark.parametrize("changes", [{}, {"threads": 2}])
def test_the_same_search_again_makes_no_second_run_and_leaves_the_first_as_it_ended(
    study: ss.Study, changes: dict[str, Any]
) -> None:
    store = MlflowClient()
    before = store.get_run(study.run_id)
    for _ in range(2):
        again = ss.search("micrographs", **{**SETTINGS, **changes}, study="excipients", model_name="excipients")
        assert again.run_id == study.run_id
    assert again.model_uri == study.model_uri
    runs = store.search_runs(
        [before.info.experiment_id], "tags.`sem_search.kind` = 'study' AND tags.`sem_search.study` = 'excipients'"
    )
    assert [run.info.run_id for run in runs] == [study.run_id]
    after = runs[0]
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    assert after.data.metrics == before.data.metrics
    assert len(after.inputs.dataset_inputs) == len(before.inputs.dataset_inputs)
    assert "<html" in again.report


def test_a_search_that_was_stopped_while_it_concluded_ends_its_run(study: ss.Study) -> None:
    store = MlflowClient()
    store.update_run(study.run_id, status="KILLED")
    again = ss.search("micrographs", **SETTINGS, study="excipients", model_name="excipients")
    assert again.run_id == study.run_id
    assert store.get_run(study.run_id).info.status == "FINISHED"


def test_lots_are_tested(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [home / "micrographs" / name for name in ("lactose", "starch")]
    found = ss.lots(*folders, backbone="tiny", weights="random", tile_px=48, threads=1)
    assert found.table[["first", "second"]].to_numpy().tolist() == [["lactose", "starch"]]
    assert "lactose and starch differ" in found._repr_html_()
    assert list(tmp_path.iterdir()) == [], "nothing is written that was not asked for"


@pytest.mark.parametrize(
    ("ask", "error", "match"),
    [
        (lambda: ss.search("no/such"), DataError, "there is no such folder or CSV file here"),
        (lambda: ss.search("demo", epochz=1), SettingsError, "epochz"),
        (lambda: ss.read_catalogue("no/such"), DataError, "there is no such folder"),
        (lambda: ss.inspect("no/such"), DataError, "there is no such folder"),
        (lambda: ss.lots("a", "b", output=os.devnull), SettingsError, "null cannot be written .*--output"),
        (lambda: ss.load_study("mine"), SettingsError, "there is no such file here"),
        (lambda: ss.load_model("models:/none/1"), ModelNotFoundError, "none"),
        (lambda: ss.lots("no/such", "neither"), DataError, "no/such"),
        (lambda: ss.lots("a"), SettingsError, "1 folder and no reference"),
        (lambda: ss.lots("a", "b", margin=2.0), SettingsError, "margin= only then"),
        (lambda: ss.lots("a", "b", reference="kept"), SettingsError, "2 folders and a reference"),
        (lambda: ss.lots("a", reference="no/such"), DataError, "no/such holds no lots.npz"),
    ],
)
def test_wrong_input_is_one_of_the_package_s_errors(
    ask: Any, error: type[ss.SemSearchError], match: str, tracking: object, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=match):
        ask()


def test_studies_of_two_storages_are_not_compared(study: ss.Study) -> None:
    elsewhere = replace(study, settings=study.settings.model_copy(update={"storage": "sqlite:///other.db"}))
    with pytest.raises(NotComparableError, match="lie in different storages"):
        ss.compare(study, elsewhere)


def test_studies_that_were_moved_are_compared_where_they_were_loaded_from(
    study: ss.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(
        "sem_search.search.commands.compare.run_comparison",
        lambda *_, study_folder, **__: asked.append(study_folder),
    )
    moved = replace(study, settings=study.settings.model_copy(update={"study_folder": "moved"}))
    ss.compare(moved, moved)
    ss.compare(moved, study)
    assert asked == ["moved", None]


def test_a_study_of_other_settings_is_refused(study: ss.Study) -> None:
    with pytest.raises(StudyMismatchError, match="seed was 0 and is now 1"):
        ss.search("micrographs", **{**SETTINGS, "seed": 1}, study="excipients")


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
