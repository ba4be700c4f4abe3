"""The audit as a whole: what is asked, said and logged."""

import itertools
import json
from types import SimpleNamespace
from typing import Any

import pytest

from sem_search.audits.study_audit import (
    ALL_QUESTIONS,
    StudyAudit,
    check_questions,
    iter_audit_entries,
    iter_audits,
    list_audit,
    list_rows,
)
from sem_search.audits.subject import AuditSubject
from sem_search.errors import SettingsError
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, Metrics, TextArtifact
from sem_search.tracking.report.answer_page import Light, Row


@pytest.fixture(scope="module")
def audits(subject: AuditSubject, show) -> list[StudyAudit]:
    """Every state that the audit goes through, all questions asked."""
    return list(iter_audits(subject, questions=ALL_QUESTIONS, show=show))


@pytest.fixture(scope="module")
def audit(audits: list[StudyAudit]) -> StudyAudit:
    return audits[-1]


def test_everything_is_said(audit: StudyAudit) -> None:
    text = audit.to_text()
    assert text.startswith("Audit of study a study.\n")
    for words in (
        "What a careless split would have claimed",
        "How much of it is luck of the choice?",
        "A classifier that sees no picture and is given only the",
        "Leaving out a session cannot be tried on these data. No file states it.",
        "Shuffled labels: ",
        "Tiles in random order: ",
    ):
        assert words in text


def test_every_answer_is_shown_as_it_comes_and_stays(audits: list[StudyAudit]) -> None:
    assert len(audits) == 1 + 1 + 1 + 1 + 3 + 4
    for before, after in itertools.pairwise(audits):
        one, two = before.to_answer(), after.to_answer()
        assert two.describe_sections().startswith(f"{one.describe_sections()}\n")
        assert len(after.checks) == len(before.checks) + 1


def make_check(light: Light | None) -> SimpleNamespace:
    row = Row(cells=(f"a {light} check", "", "", ""), light=light)
    return SimpleNamespace(row=row, to_text=lambda: "Words.")


@pytest.mark.parametrize(
    ("low", "lights", "light", "words"),
    [
        (
            0.8,
            (),
            "unclear",
            "Not checked yet. 90.0 % (80.0 to 96.0 %) of the test images are correctly classified; no",
        ),
        (0.8, ("plain",), "unclear", "Not checked yet."),
        (0.8, ("good", "plain", None), "good", "are correctly classified, and nothing speaks against it (1 check)."),
        (0.8, ("good", "unclear"), "unclear", "but 1 of 2 checks cast doubt on what this means: a unclear check."),
        (
            0.8,
            ("unclear", "bad"),
            "bad",
            "No. 90.0 % (80.0 to 96.0 %) of the test images are correctly classified, but",
        ),
        (0.3, ("good",), "bad", "which is not clearly better than chance (33.3 %)."),
    ],
)
def test_the_last_word_follows_the_checks(
    low: float, lights: tuple[Light | None, ...], light: Light, words: str
) -> None:
    checks: Any = tuple(map(make_check, lights))
    audit = StudyAudit(study="a", measured=Interval(value=0.9, low=low, high=0.96), chance=1 / 3, controls=checks)
    assert audit.to_answer().light == light
    assert words in audit.to_text().splitlines()[-1]


def test_metrics_are_logged_once(audits: list[StudyAudit]) -> None:
    told: list[str] = []
    for before, after in zip([None, *audits], audits, strict=False):
        told += [
            point.key
            for entry in iter_audit_entries(after, command="do", known=before)
            if isinstance(entry, Metrics)
            for point in entry.points
        ]
    assert len(told) == len(set(told))
    assert {"audit/as_measured", "audit/leak_gap", "audit/nested_f_measure", "audit/tiles_in_random_order"} <= set(told)


def test_only_what_is_asked_is_answered(subject: AuditSubject, show) -> None:
    *_, audit = iter_audits(subject, questions=("metadata",), show=show)
    assert audit.leak is None and audit.controls == () and audit.left_out == ()
    assert [row.name for row in list_rows(audit)] == ["as measured", "metadata alone"]
    assert "careless" not in audit.to_text()


@pytest.mark.parametrize(("questions", "words"), [(("leak", "lak"), "'lak' is not among them"), ((), "nothing is not")])
def test_an_unknown_question_is_refused(questions: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        check_questions(questions)


def test_words_numbers_and_figure_are_logged(audit: StudyAudit) -> None:
    entries = list(iter_audit_entries(audit, command="do"))
    kinds = [type(entry) for entry in entries]
    assert kinds == [TextArtifact, JsonArtifact, FigureArtifact, TextArtifact, Metrics]
    keys = {point.key for point in entries[4].points}  # type: ignore[union-attr]
    assert {"audit/as_measured", "audit/metadata_alone", "audit/shuffled_labels", "audit/leak_gap"} <= keys
    entries[2].draw().canvas.draw()  # type: ignore[union-attr]


def test_numbers_are_json_and_complete(audit: StudyAudit) -> None:
    content = list_audit(audit)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert {question.replace("-", "_") for question in ALL_QUESTIONS} <= set(content)
    assert set(content["leak"]["f_measure_of_class"]) == {"blobs", "grains", "stripes"}
    assert [row["name"] for row in content["controls"]] == [control.name for control in audit.controls]
