"""The network against metadata alone."""

import dataclasses

import pytest

from sem_search.audits.metadata import audit_metadata
from sem_search.audits.subject import AuditSubject


def test_a_session_of_its_own_gives_a_class_away(subject: AuditSubject, take_in_sessions) -> None:
    audit = audit_metadata(take_in_sessions(subject, lambda _, label: f"day of {label}"))
    assert "session" in audit.attributes
    assert audit.comparison.image_accuracy.second == 1
    assert audit.is_suspicious
    assert "it may have learnt how the images were taken" in audit.to_text()
    assert "classifies 100.0 % of the images correctly. The network sees the pictures and classifies" in audit.to_text()


def test_the_network_s_side_is_what_was_measured(subject: AuditSubject) -> None:
    audit = audit_metadata(subject)
    assert audit.comparison.image_accuracy.first == subject.pool_winner().is_right.mean()
    assert "pixel size" not in audit.attributes, "no file tells it"


@pytest.mark.parametrize(("low", "is_suspicious"), [(0.1, False), (-0.1, True)])
def test_what_is_not_clearly_better_is_suspicious(subject: AuditSubject, low: float, is_suspicious: bool) -> None:
    audit = audit_metadata(subject)
    accuracy = dataclasses.replace(audit.comparison.image_accuracy, low=low)
    judged = dataclasses.replace(audit, comparison=dataclasses.replace(audit.comparison, image_accuracy=accuracy))
    assert judged.is_suspicious is is_suspicious
    assert ("sees more than this, although" in judged.to_text()) is not is_suspicious
