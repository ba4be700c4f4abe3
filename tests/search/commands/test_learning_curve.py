"""The learning curve of a study, end to end but for taking it up: measured, logged below its run, printed, reported."""

import pytest
from mlflow.tracking import MlflowClient

from sem_search.errors import SettingsError
from sem_search.search.commands import learning_curve as room
from sem_search.search.commands.finished_study import FinishedStudy
from sem_search.search.commands.learning_curve import run_learning_curve
from sem_search.tracking.mlflow.runs import read_learning_curve
from tests.search.conftest import make_study_outcome


@pytest.fixture
def finished(prepared, store_folds, run_id: str, monkeypatch: pytest.MonkeyPatch) -> FinishedStudy:
    kept = store_folds(shares_right=(1.0, 0.75))
    outcome = make_study_outcome(prepared.data.tiles, kept=kept)
    taken = FinishedStudy(prepared=prepared, outcome=outcome, run_id=run_id)
    monkeypatch.setattr(room, "take_up_study", lambda *_, **__: taken)
    return taken


def test_a_learning_curve_is_a_run_below_the_study_s(
    finished: FinishedStudy, tracking: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = run_learning_curve("a study", storage="sqlite:///x.db", target=0.999, show=print)
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    (run,) = [run for run in runs if run.data.tags.get("sem_search.kind") == "learning-curve"]
    assert run.data.tags["mlflow.parentRunId"] == finished.run_id
    paths = {file.path for file in tracking.list_artifacts(run.info.run_id, "learning_curve")}
    assert paths == {f"learning_curve/learning_curve.{suffix}" for suffix in ("txt", "json", "png", "html")}
    assert run.data.metrics["learning_curve/target"] == 0.999
    history = tracking.get_metric_history(run.info.run_id, "learning_curve/image_accuracy")
    assert [point.value for point in history] == audit.table["image_accuracy"].tolist()
    answer = audit.to_answer()
    assert read_learning_curve(study="a study", near_run_id=finished.run_id) == f"{answer.verdict}. {answer.sentence}"
    printed = capsys.readouterr()
    assert printed.out.startswith("Learning curve of study a study: winner trained on 1 to ")
    assert f"/runs/{run.info.run_id}/artifacts/learning_curve/learning_curve.html" in printed.out
    assert "Learning curve: " in printed.err


def test_a_study_without_one_says_nothing(tracking: MlflowClient, run_id: str) -> None:
    assert read_learning_curve(study="a study", near_run_id=run_id) is None


def test_a_target_that_is_no_score_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SettingsError, match="must lie above 0 and below 1"):
        run_learning_curve("a study", storage="sqlite:///nowhere.db", target=1.2)
