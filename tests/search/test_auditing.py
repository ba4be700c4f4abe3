"""The audit of a study, end to end but for taking it up: asked, logged below its run, printed."""

from types import SimpleNamespace

import pytest
from mlflow.entities import RunStatus
from mlflow.tracking import MlflowClient

from sem_search.errors import SettingsError
from sem_search.evaluation.outcomes import Cell, TrialOutcome
from sem_search.search import auditing
from sem_search.search.auditing import build_subject, run_audit, run_morphology
from sem_search.search.finished import FinishedStudy


@pytest.fixture
def finished(prepared, keep_folds, run_id: str, monkeypatch: pytest.MonkeyPatch) -> FinishedStudy:
    kept = keep_folds(shares_right=(1.0, 0.75))
    cell = Cell(learning_rate=0.1, batch_size=8)
    winner = TrialOutcome(number=0, cell=cell, state="complete", folds=tuple(one.outcome for one in kept))
    outcome = SimpleNamespace(winner=winner)
    taken = FinishedStudy(prepared=prepared, outcome=outcome, run_id=run_id)
    monkeypatch.setattr(auditing, "take_up_study", lambda *_, **__: taken)
    return taken


def test_an_audit_is_a_run_below_the_study_s(
    finished: FinishedStudy, tracking: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = run_audit("a study", storage="sqlite:///x.db", questions=("metadata",))
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    (run,) = [run for run in runs if run.data.tags.get("sem_search.kind") == "audit"]
    assert run.data.tags["mlflow.parentRunId"] == finished.run_id
    assert RunStatus.from_string(run.info.status) == RunStatus.FINISHED
    paths = {file.path for file in tracking.list_artifacts(run.info.run_id, "audit")}
    assert paths == {"audit/audit.txt", "audit/audit.json", "audit/audit.png"}
    assert run.data.metrics["audit/as_measured"] == audit.measured.value
    printed = capsys.readouterr().out
    assert printed.startswith("Audit of study a study: ")
    assert run.info.run_id in printed


def test_an_audit_that_fails_says_so_in_its_run(
    finished: FinishedStudy, tracking: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(auditing, "audit_study", fail)
    with pytest.raises(RuntimeError):
        run_audit("a study", storage="sqlite:///x.db")
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    assert "FAILED" in {run.info.status for run in runs}


def test_an_unknown_question_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SettingsError, match="'lek' is not among them"):
        run_audit("a study", storage="sqlite:///nowhere.db", questions=("lek",))


def test_the_subject_is_the_search_s(finished: FinishedStudy) -> None:
    subject = build_subject(finished)
    assert subject.tiles is finished.prepared.data.tiles
    assert subject.features is finished.prepared.features
    assert subject.training.epochs == finished.prepared.settings.epochs
    assert subject.seed == finished.prepared.settings.seed


def test_morphology_is_a_run_of_its_own_kind(
    finished: FinishedStudy, tracking: MlflowClient, trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = run_morphology("a study", storage="sqlite:///x.db")
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    (run,) = [run for run in runs if run.data.tags.get("sem_search.kind") == "morphology"]
    assert run.data.tags["mlflow.parentRunId"] == finished.run_id
    assert len(tracking.list_artifacts(run.info.run_id, "morphology")) == 5
    assert run.data.metrics["morphology/deletion"] == audit.deletion.difference.value
    assert capsys.readouterr().out.startswith("Where study a study looks, on test images")
