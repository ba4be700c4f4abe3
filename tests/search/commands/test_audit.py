"""The audit of a study, end to end but for taking it up: asked, logged below its run, printed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.entities import RunStatus
from mlflow.tracking import MlflowClient

from sem_search.audits import study_audit
from sem_search.audits.study_audit import StudyAudit
from sem_search.errors import NotComparableError, SettingsError
from sem_search.search.commands import audit as auditing
from sem_search.search.commands.audit import build_subject, run_audit, run_morphology
from sem_search.search.commands.finished_study import FinishedStudy
from tests.search.conftest import make_study_outcome


@pytest.fixture
def finished(prepared, store_folds, run_id: str, monkeypatch: pytest.MonkeyPatch) -> FinishedStudy:
    kept = store_folds(shares_right=(1.0, 0.75))
    outcome = make_study_outcome(prepared.data.tiles, kept=kept)
    taken = FinishedStudy(prepared=prepared, outcome=outcome, run_id=run_id)
    monkeypatch.setattr(auditing, "take_up_study", lambda *_, **__: taken)
    return taken


def test_an_audit_is_a_run_below_the_study_s(
    finished: FinishedStudy, tracking: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = run_audit("a study", storage="sqlite:///x.db", questions=("metadata",), show=print)
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    (run,) = [run for run in runs if run.data.tags.get("sem_search.kind") == "audit"]
    assert run.data.tags["mlflow.parentRunId"] == finished.run_id
    assert RunStatus.from_string(run.info.status) == RunStatus.FINISHED
    paths = {file.path for file in tracking.list_artifacts(run.info.run_id, "audit")}
    assert paths == {"audit/audit.txt", "audit/audit.json", "audit/audit.png", "audit/audit.html"}
    assert run.data.metrics["audit/as_measured"] == audit.measured.value
    printed = capsys.readouterr().out
    assert printed.startswith("Audit of study a study.\n")
    assert f"/runs/{run.info.run_id}/artifacts/audit/audit.html" in printed


@pytest.mark.parametrize(("error", "status"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_what_was_found_before_the_end_is_printed_and_kept(
    finished: FinishedStudy,
    tracking: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: type[BaseException],
    status: str,
) -> None:
    def answer_one(*_: object, **__: object) -> Iterator[StudyAudit]:
        audits = study_audit.iter_audits(build_subject(finished), questions=("metadata",), show=lambda _: None)
        yield from audits
        raise error

    monkeypatch.setattr(auditing, "iter_audits", answer_one)
    with pytest.raises(error):
        run_audit("a study", storage="sqlite:///x.db", show=print)
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    (run,) = [run for run in runs if run.data.tags.get("sem_search.kind") == "audit"]
    assert run.info.status == status
    kept = Path(tracking.download_artifacts(run.info.run_id, "audit/audit.txt")).read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "A classifier that sees no picture" in printed
    assert kept.startswith(printed.removesuffix("\n")), "the file also has the checks so far, in a table"
    assert "audit/metadata_alone" in run.data.metrics


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
    audit = run_morphology("a study", storage="sqlite:///x.db", show=print)
    runs = tracking.search_runs([tracking.get_experiment_by_name("searches").experiment_id])
    (run,) = [run for run in runs if run.data.tags.get("sem_search.kind") == "morphology"]
    assert run.data.tags["mlflow.parentRunId"] == finished.run_id
    assert len(tracking.list_artifacts(run.info.run_id, "morphology")) == 6
    assert run.data.metrics["morphology/deletion"] == audit.deletion.difference.value
    assert capsys.readouterr().out.startswith("Heat maps of study a study on test images")


def test_morphology_asks_another_study_s_network(
    finished: FinishedStudy, trainer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checked: list[tuple[str, str]] = []
    monkeypatch.setattr(auditing, "check_pair", lambda one, two, **_: checked.append((one, two)))
    audit = run_morphology("a study", other="another", storage="sqlite:///x.db", show=print)
    assert checked == [("a study", "another")]
    assert audit.other is not None
    assert audit.other.agreement.rank_correlation.value == pytest.approx(1.0)  # the same heads: `take_up_study` is made
    assert "order, network of study a study (tiny)" in capsys.readouterr().out


def test_a_study_is_no_other_of_itself() -> None:
    with pytest.raises(NotComparableError, match="name two studies"):
        run_morphology("a study", other="a study", storage="sqlite:///nowhere.db")
