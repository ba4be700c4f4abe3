"""The audit as a whole: what is asked, said and logged."""

import json

import pytest

from sem_search.audits.study_audit import QUESTIONS, StudyAudit, audit_study, iter_audit_entries, list_audit, list_rows
from sem_search.audits.subject import AuditSubject
from sem_search.errors import SettingsError
from sem_search.tracking.loggable import FigureArtifact, JsonArtifact, Metrics, TextArtifact


@pytest.fixture(scope="module")
def audit(subject: AuditSubject, tell) -> StudyAudit:
    return audit_study(subject, tell=tell)


def test_everything_is_said(audit: StudyAudit) -> None:
    text = audit.to_text()
    assert text.startswith("Audit of study a study: ")
    for words in (
        "What a careless split would have claimed",
        "Without looking at any picture, from",
        "Leaving out a session cannot be tried on these data. No file tells it.",
        "Shuffled labels: ",
        "Tiles in random order: ",
    ):
        assert words in text


def test_only_what_is_asked_is_answered(subject: AuditSubject, tell) -> None:
    audit = audit_study(subject, questions=("metadata",), tell=tell)
    assert audit.leak is None and audit.controls == () and audit.left_out == ()
    assert [row.name for row in list_rows(audit)] == ["as measured", "metadata alone"]
    assert "careless" not in audit.to_text()


@pytest.mark.parametrize(("questions", "words"), [(("leak", "lak"), "'lak' is not among them"), ((), "nothing is not")])
def test_an_unknown_question_is_refused(subject: AuditSubject, tell, questions: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        audit_study(subject, questions=questions, tell=tell)


def test_words_numbers_and_figure_are_logged(audit: StudyAudit) -> None:
    entries = list(iter_audit_entries(audit))
    kinds = [type(entry) for entry in entries]
    assert kinds == [TextArtifact, JsonArtifact, FigureArtifact, Metrics]
    keys = {point.key for point in entries[3].points}  # type: ignore[union-attr]
    assert {"audit/as_measured", "audit/metadata_alone", "audit/shuffled_labels", "audit/leak_gap"} <= keys
    entries[2].draw().canvas.draw()  # type: ignore[union-attr]


def test_numbers_are_json_and_complete(audit: StudyAudit) -> None:
    content = list_audit(audit)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert {question.replace("-", "_") for question in QUESTIONS} <= set(content)
    assert set(content["leak"]["f_measure_of_class"]) == {"blobs", "grains", "stripes"}
    assert [row["name"] for row in content["controls"]] == [control.name for control in audit.controls]
