import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel
from PIL import Image

from sem_search.deployment.batch import predict as predicting
from sem_search.deployment.batch.predict import FoundImage, find_images, load_model, predict_images
from sem_search.deployment.batch.table import CSV_COLUMNS, WrittenTable
from sem_search.deployment.package.writing import LoggedClassifier
from sem_search.deployment.pyfunc import requests as image_requests
from sem_search.errors import DataError, ModelNotFoundError, SettingsError, StoreError

CLASS_NAMES = ("cellulose", "lactose", "starch")


@pytest.fixture
def folder(tmp_path: Path, pictures: Any) -> Path:
    """Five pictures in two sub-folders, and what is none."""
    for name in ("lot 1", "lot 2"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.png").write_bytes(pictures.encode(pictures.draw(seed=len(name))))
    (tmp_path / "data" / "lot 1" / "B.TIF").write_bytes(pictures.encode(pictures.draw(seed=2), "TIFF"))
    (tmp_path / "data" / "lot 1" / "torn.png").write_bytes(pictures.encode(pictures.draw())[:300])
    (tmp_path / "data" / "lot 2" / "small.bmp").write_bytes(pictures.encode(pictures.draw(20, 20), "BMP"))
    (tmp_path / "data" / "lot 2" / "a.txt").write_text("[SemImageFile]")
    (tmp_path / "data" / ".hidden.png").write_bytes(b"")
    return tmp_path / "data"


@pytest.fixture
def quick_load(served: PyFuncModel, tracking: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading takes seconds, and is tested on its own: the other tests share one model."""
    monkeypatch.setattr(predicting, "load_model", lambda _: served)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_find_images_sorted_and_each_once(folder: Path) -> None:
    found = find_images([folder / "lot 2", folder, folder / "lot 1" / "a.png"])
    names = [image.path.relative_to(folder).as_posix() for image in found]
    assert names == ["lot 2/a.png", "lot 2/small.bmp", "lot 1/B.TIF", "lot 1/a.png", "lot 1/torn.png"]


def test_a_file_is_taken_whatever_its_name(folder: Path) -> None:
    assert [image.path.name for image in find_images([folder / "lot 2" / "a.txt"])] == ["a.txt"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["gone"], "gone does not exist"),
        (["empty"], "no picture in .*empty: files with these suffixes"),
        ([], "nothing"),
    ],
)
def test_nothing_to_classify(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_images([tmp_path / name for name in names])


def test_one_line_per_image_and_exit_code_2(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, quick_load: None, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "predictions.csv"
    assert predict_images([folder], model_uri=logged.model_uri, output=output) == 2
    rows = read_rows(output)
    assert list(rows[0]) == [*CSV_COLUMNS, "p_cellulose", "p_lactose", "p_starch"]
    errors = {Path(row["image"]).name: row["error"] for row in rows if row["error"]}
    assert set(errors) == {"torn.png", "small.bmp"}
    assert "20 x 20 px" in errors["small.bmp"]
    good = [row for row in rows if not row["error"]]
    for row in good:
        assert float(row["probability"]) == max(float(row[f"p_{name}"]) for name in CLASS_NAMES)
    assert {row["model"] for row in rows} == {logged.model_uri}
    told = capsys.readouterr().err
    assert f"3 of 5 images classified by {logged.model_uri}." in told
    assert "measured in its study" not in told, "a model that is not registered has no such sentence"
    assert "torn.png: " in told


def test_the_last_lines_say_what_an_answer_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    written = WrittenTable(failed=(), n_unknown=1, n_training=2)
    headline = "21 of 21 unseen images correctly classified: 100 %. Cannot be judged: the light (1.1)"
    predicting._summarise(written, n_images=4, model_uri="models:/m/1", headline=headline)
    told = capsys.readouterr().err
    assert told.startswith(
        f"4 of 4 images classified by models:/m/1.\n  How good it is, measured in its study: {headline}.\n"
    )
    assert "  The model learnt from 2 images of these: " in told
    assert "  1 of them are unknown: " in told


def test_all_readable_is_exit_code_0_and_json(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, quick_load: None
) -> None:
    output = tmp_path / "p.json"
    files = [folder / "lot 1" / "a.png", folder / "lot 1" / "B.TIF"]
    assert predict_images(files, model_uri=logged.model_uri, output=output, output_format="json") == 0
    assert [record["n_tiles"] for record in json.loads(output.read_text())] == [6, 6]


def test_table_and_server_agree(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, served: Any, quick_load: None, pictures: Any
) -> None:
    import base64

    path = folder / "lot 1" / "a.png"
    predict_images([path], model_uri=logged.model_uri, output=tmp_path / "p.json", output_format="json")
    answer = served.predict(pd.DataFrame({"image": [base64.b64encode(path.read_bytes()).decode()]}))
    (record,) = json.loads((tmp_path / "p.json").read_text())
    assert record["probabilities"] == pytest.approx(answer["probabilities"][0], abs=1e-9)


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["a/02.png", "a/03.tif"], ["02.png", "03.png"]),
        (["a/02.png", "b/02.PNG", "Köln/α.tif"], ["a_02.png", "b_02.png", "α.png"]),
        (["a/02.png", "a/02.tif"], ["02_png.png", "02_tif.png"]),
        (["x/02", "../02", "02"], ["x_02.png", "1_02.png", "2_02.png"]),
        (["a.png", "x/a.png", "0_A.png"], ["1_a.png", "x_a.png", "0_A.png"]),
    ],
)
def test_no_two_overlays_have_one_name(images: list[str], names: list[str]) -> None:
    found = [FoundImage(path=Path(image), shown_name=image) for image in images]
    assert list(predicting._name_overlays(found).values()) == names


def test_a_name_that_is_not_utf_8_can_be_written_and_told_apart(tmp_path: Path) -> None:
    for name in (b"a\xff.png", b"a\xfe.png"):
        (tmp_path / os.fsdecode(name)).touch()
    found = find_images([tmp_path])
    assert [image.shown_name.rpartition("/")[2] for image in found] == ["a\\udcfe.png", "a\\udcff.png"]
    assert all(image.path.exists() for image in found)


def test_overlays_are_named_after_their_images(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, quick_load: None
) -> None:
    predict_images([folder], model_uri=logged.model_uri, output=tmp_path / "p.csv", explain_folder=tmp_path / "maps")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["B.png", "lot 1_a.png", "lot 2_a.png"]
    with Image.open(tmp_path / "maps" / "B.png") as picture:
        assert picture.size == (100, 70)


def test_a_batch_that_is_too_large_is_asked_in_halves(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, quick_load: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_requests, "MAX_REQUEST_MEGAPIXELS", 0.008)
    assert predict_images([folder], model_uri=logged.model_uri, output=tmp_path / "p.csv") == 2
    assert sum(not row["error"] for row in read_rows(tmp_path / "p.csv")) == 3


def test_a_failure_of_the_model_is_not_asked_again(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, quick_load: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sem_search.deployment.classifier.classifier import MicrographClassifier

    monkeypatch.setattr(MicrographClassifier, "classify", lambda *_, **__: 1 / 0)
    with pytest.raises(MlflowException, match="failed on this request"):
        predict_images([folder], model_uri=logged.model_uri, output=tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize("name", ["p.csv", "p.json", "p.parquet"])
def test_a_run_that_was_stopped_goes_on(
    folder: Path,
    tmp_path: Path,
    logged: LoggedClassifier,
    served: PyFuncModel,
    quick_load: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.setattr(predicting, "BATCH_IMAGES", 1)
    asked: list[int] = []

    class Stopping:
        """Answers two images, then is stopped."""

        metadata = served.metadata

        def predict(self, frame: pd.DataFrame, params: Any) -> pd.DataFrame:
            if len(asked) == 2:
                raise KeyboardInterrupt
            asked.append(len(frame))
            return served.predict(frame, params=params)

    monkeypatch.setattr(predicting, "load_model", lambda _: Stopping())
    output = tmp_path / name
    with pytest.raises(KeyboardInterrupt):
        predict_images([folder], model_uri=logged.model_uri, output=output)
    assert not output.exists()
    assert "the same command goes on" in capsys.readouterr().err
    asked.clear()
    counting = Stopping()
    counting.predict = lambda frame, params: asked.append(1) or served.predict(frame, params=params)
    monkeypatch.setattr(predicting, "load_model", lambda _: counting)
    assert predict_images([folder], model_uri=logged.model_uri, output=output) == 2
    assert len(asked) == 3
    assert "2 images were answered before" in capsys.readouterr().err
    predict_images([folder], model_uri=logged.model_uri, output=tmp_path / f"undisturbed.{output.suffix}")
    assert output.read_bytes() == (tmp_path / f"undisturbed.{output.suffix}").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_the_coverage_reaches_the_sets(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, quick_load: None
) -> None:
    image = folder / "lot 1" / "a.png"
    predict_images([image], model_uri=logged.model_uri, output=tmp_path / "p.json", coverage=0.99)
    (record,) = json.loads((tmp_path / "p.json").read_text())
    assert record["coverage"] == 0.99
    assert set(record["prediction_set"]) == set(CLASS_NAMES)
    assert "needs 99 independent images" in record["warnings"][0]


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, float("nan")])
def test_a_coverage_out_of_range_is_refused(folder: Path, coverage: float) -> None:
    with pytest.raises(SettingsError, match="must lie above 0 and below 1"):
        predict_images([folder], model_uri="x", coverage=coverage)


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read everything")
def test_a_file_without_permission_is_an_error_row(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, tracking: Any
) -> None:
    (folder / "lot 1" / "a.png").chmod(0)
    assert predict_images([folder / "lot 1" / "a.png"], model_uri=logged.model_uri, output=tmp_path / "p.csv") == 2
    assert "cannot be read" in read_rows(tmp_path / "p.csv")[0]["error"]


def test_a_file_that_vanishes_is_an_error_row(
    folder: Path, tmp_path: Path, logged: LoggedClassifier, tracking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, lost = folder / "lot 1" / "a.png", folder / "lot 1" / "B.TIF"
    load = predicting.load_model

    def load_and_delete(model_uri: str) -> Any:
        lost.unlink()
        return load(model_uri)

    monkeypatch.setattr(predicting, "load_model", load_and_delete)
    assert predict_images([lost, kept], model_uri=logged.model_uri, output=tmp_path / "p.csv") == 2
    errors = [row["error"] for row in read_rows(tmp_path / "p.csv")]
    assert errors == ["is no file any more, or a link to one that is gone", ""]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_and_dead_links_are_error_rows(folder: Path, tmp_path: Path, quick_load: None) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to(folder / "gone.png")
    assert predict_images([folder], model_uri="runs:/x/y", output=tmp_path / "p.csv") == 2
    errors = {Path(row["image"]).name: row["error"] for row in read_rows(tmp_path / "p.csv")}
    assert errors["pipe.png"] == errors["link.png"] == "is no file any more, or a link to one that is gone"


def test_a_huge_file_is_not_read(
    folder: Path, tmp_path: Path, quick_load: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predicting, "MAX_FILE_BYTES", 100)
    assert predict_images([folder / "lot 1" / "a.png"], model_uri="runs:/x/y", output=tmp_path / "p.csv") == 2
    assert "at most 0 are read" in read_rows(tmp_path / "p.csv")[0]["error"]


def list_own_modules() -> dict[str, int]:
    return {name: id(module) for name, module in sys.modules.items() if name.startswith("sem_search")}


def test_loading_leaves_this_process_as_it_was(logged: LoggedClassifier, tracking: Any) -> None:
    import sem_search

    path_before, modules_before = list(sys.path), list_own_modules()
    load_model(logged.model_uri)
    assert sys.path == path_before
    assert list_own_modules() == modules_before
    assert Path(sem_search.__file__).parents[1] == Path(__file__).parents[3]


@pytest.mark.parametrize("model_uri", ["models:/m-00000000000000000000000000000000", "no/such/folder", "runs:/0123/x"])
def test_a_model_that_cannot_be_loaded_is_named(tracking: Any, model_uri: str) -> None:
    with pytest.raises(ModelNotFoundError, match=f"Model '{model_uri}' cannot be loaded: "):
        load_model(model_uri)


def test_a_model_of_another_kind_is_refused(
    folder: Path, tracking: mlflow.MlflowClient, open_run: Callable[[], str], tmp_path: Path
) -> None:
    script = tmp_path / "other.py"
    script.write_text("from mlflow.models import set_model\nset_model(lambda model_input: model_input)\n")
    mlflow.pyfunc.save_model(tmp_path / "other", python_model=script, pip_requirements=["mlflow"])
    with pytest.raises(ModelNotFoundError, match="is no classifier of sem_search"):
        predict_images([folder], model_uri=str(tmp_path / "other"))


def test_altered_code_is_refused_before_it_runs(
    logged: LoggedClassifier, tracking: mlflow.MlflowClient, tmp_path: Path
) -> None:
    model = Path(mlflow.artifacts.download_artifacts(artifact_uri=logged.model_uri, dst_path=str(tmp_path)))
    script = model / "entry_script.py"
    script.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n" + script.read_text())
    with pytest.raises(StoreError, match=r"is not served: entry_script\.py is not the file that was logged"):
        load_model(str(model))
    assert not (tmp_path / "ran").exists()
