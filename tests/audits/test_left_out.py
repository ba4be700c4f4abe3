"""Sessions, detectors and pixel sizes left out: tested where the catalogue allows, and said where it does not."""

import dataclasses

import pytest

from sem_search.audits import left_out
from sem_search.audits.left_out import LeftOutAttribute, iter_left_out
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.statistics import Interval


def audit_session(subject: AuditSubject, show) -> LeftOutAttribute:
    return next(entry for entry in iter_left_out(subject, show=show) if entry.attribute == "session")


def test_each_session_is_named_by_a_network_of_the_others(subject: AuditSubject, take_in_sessions, show) -> None:
    entry = audit_session(take_in_sessions(subject, lambda place, _: "even" if place % 2 == 0 else "odd"), show)
    assert sorted(entry.values) == ["even", "odd"]
    assert entry.n_images == 15
    assert entry.untested == ()
    assert entry.accuracy is not None and entry.usual_accuracy is not None
    assert entry.accuracy.value > 0.6
    assert entry.usual_accuracy.value == subject.pool_winner().is_right.mean()
    assert "With each session left out in turn" in entry.to_text()
    assert "of 15 images are correctly classified" in entry.to_text()
    assert "of 1 image is correctly classified" in dataclasses.replace(entry, n_images=1).to_text()


def test_a_class_of_a_single_session_cannot_be_tested_and_that_is_said(
    subject: AuditSubject, take_in_sessions, show
) -> None:
    def describe(place: int, label: str) -> str:
        return "monday" if label == "blobs" or place % 2 == 0 else "tuesday"

    entry = audit_session(take_in_sessions(subject, describe), show)
    assert entry.n_images == 10
    assert entry.to_text().endswith(
        "monday cannot be left out for blobs: too few images of the class have another session to learn it from."
    )


def test_where_class_and_session_are_one_nothing_can_be_tried(subject: AuditSubject, take_in_sessions, show) -> None:
    entry = audit_session(take_in_sessions(subject, lambda _, label: f"day of {label}"), show)
    assert (entry.n_images, entry.accuracy) == (0, None)
    assert entry.to_text().startswith("Leaving out a session cannot be tried on these data. day of blobs cannot be")
    assert entry.to_text().count("so that here the material and its session are one.") == 3


def test_a_single_class_left_is_nothing_to_train_on(subject: AuditSubject, take_in_sessions, show) -> None:
    """Whatever the head: taught with one class alone, it would always predict that one."""

    def describe(place: int, label: str) -> str:
        return "monday" if label == "blobs" and place % 2 == 0 else "tuesday"

    entry = audit_session(take_in_sessions(subject, describe), show)
    assert entry.values == ("monday",)
    assert entry.n_images == 3
    assert entry.untested == (
        "tuesday cannot be left out: only blobs would be left to train on, and nothing to tell it from.",
    )


def test_an_attribute_without_values_is_told(subject: AuditSubject, take_in_sessions, show) -> None:
    by_name = {entry.attribute: entry for entry in iter_left_out(subject, show=show)}
    assert by_name["detector"].untested == ("No file states it.",)
    assert audit_session(take_in_sessions(subject, lambda *_: "monday"), show).untested == (
        "It is monday for all images.",
    )


def test_no_more_values_than_the_limit_are_trained(
    subject: AuditSubject, take_in_sessions, show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_out, "MAX_VALUES", 1)
    entry = audit_session(take_in_sessions(subject, lambda place, _: "rare" if place % 5 == 0 else "usual"), show)
    assert entry.values == ()
    assert entry.untested[-1] == "Of 2 values the 1 with most images were tried."


@pytest.mark.parametrize(
    ("accuracy", "light", "result"),
    [
        (Interval(value=0.5, low=0.3, high=0.7), "unclear", "take care: clearly lower"),
        (Interval(value=0.7, low=0.5, high=0.9), "good", "not clearly lower"),
        (None, None, "not possible on these data"),
    ],
)
def test_the_light_follows_the_interval(accuracy: Interval | None, light: str | None, result: str) -> None:
    usual = Interval(value=0.8, low=0.6, high=0.9)
    row = LeftOutAttribute(
        attribute="session", values=(), untested=(), n_images=18, accuracy=accuracy, usual_accuracy=usual
    ).row
    assert (row.cells[0], row.cells[-1], row.light) == ("each session left out in turn", result, light)
