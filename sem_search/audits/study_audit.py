"""The audit of a study: all questions, what is said of the answers, and what goes into its run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sem_search.audits.controls import Control, run_controls
from sem_search.audits.leak import LeakAudit, audit_leak
from sem_search.audits.leaving_out import LeftOutAttribute, audit_left_out
from sem_search.audits.metadata import MetadataAudit, audit_metadata
from sem_search.audits.retraining import Tell
from sem_search.audits.subject import AuditSubject
from sem_search.errors import SettingsError
from sem_search.evaluation.comparing import Difference
from sem_search.evaluation.intervals import Interval, compute_intervals
from sem_search.tracking.figures_audit import BarRow, draw_rows
from sem_search.tracking.loggable import Entry, FigureArtifact, JsonArtifact, TextArtifact, iter_finite_metrics
from sem_search.tracking.names import make_safe_name
from sem_search.tracking.trust import list_interval

QUESTIONS = ("leak", "metadata", "left-out", "controls")


@dataclass(frozen=True, kw_only=True)
class StudyAudit:
    """What was asked and answered; None where it was not asked."""

    study: str
    measured: Interval
    """Share of test images named rightly, as the study measured it."""
    chance: float
    """Share of images in the largest class."""
    leak: LeakAudit | None = None
    metadata: MetadataAudit | None = None
    left_out: tuple[LeftOutAttribute, ...] = field(default=())
    controls: tuple[Control, ...] = field(default=())

    def to_text(self) -> str:
        """Return everything in plain words, one question after the other."""
        parts = [f"Audit of study {self.study}: {self.measured.to_text()} of the test images are named rightly."]
        if self.leak is not None:
            parts += ["", "Is the split honest?", self.leak.to_text()]
        if self.metadata is not None:
            parts += ["", "Could it be the session instead of the material?", self.metadata.to_text()]
        parts += [entry.to_text() for entry in self.left_out]
        if self.controls:
            parts += ["", "Negative controls: what is left when the material cannot be seen?"]
            parts += [control.to_text() for control in self.controls]
        return "\n".join(parts) + "\n"


def audit_study(subject: AuditSubject, *, questions: tuple[str, ...] = QUESTIONS, tell: Tell) -> StudyAudit:
    """Ask a finished study these questions.

    Args:
        subject: The study.
        questions: Of `QUESTIONS`.
        tell: Told before each fold that is trained.

    Raises:
        SettingsError: A question is not known.
    """
    check_questions(questions)
    return StudyAudit(
        study=subject.study,
        measured=compute_intervals(subject.pool_winner()).image_accuracy,
        chance=subject.largest_class_share,
        leak=audit_leak(subject, tell=tell) if "leak" in questions else None,
        metadata=audit_metadata(subject) if "metadata" in questions else None,
        left_out=audit_left_out(subject, tell=tell) if "left-out" in questions else (),
        controls=run_controls(subject, tell=tell) if "controls" in questions else (),
    )


def check_questions(questions: tuple[str, ...]) -> None:
    """Raise SettingsError unless each of these can be asked."""
    unknown = [question for question in questions if question not in QUESTIONS]
    if unknown or not questions:
        raise SettingsError(
            f"only={','.join(questions)}: an audit asks {', '.join(QUESTIONS)}; "
            f"{', '.join(map(repr, unknown)) or 'nothing'} is not among them."
        )


def iter_audit_entries(audit: StudyAudit) -> Iterator[Entry]:
    """Yield what is logged of an audit: words, numbers, metrics and one figure."""
    yield TextArtifact(path="audit/audit.txt", text=audit.to_text())
    yield JsonArtifact(path="audit/audit.json", content=list_audit(audit))
    rows = list_rows(audit)
    draw = partial(
        draw_rows,
        rows,
        axis_label="Share of test images named rightly, with 95 % interval",
        reference=audit.chance,
        reference_name="always naming the largest class",
    )
    yield FigureArtifact(path="audit/audit.png", draw=draw)
    numbers = [(f"audit/{make_safe_name(row.name)}", row.value, 0) for row in rows]
    if audit.leak is not None:
        numbers.append(("audit/leak_gap", audit.leak.comparison.f_measure.value, 0))
    yield from iter_finite_metrics(numbers, source="audit")


def list_rows(audit: StudyAudit) -> list[BarRow]:
    """Return the rows of the figure: each way of training or asking, by the share of images it names rightly."""
    measured = audit.measured
    rows = [BarRow(name="as measured", value=measured.value, low=measured.low, high=measured.high)]
    if audit.metadata is not None:
        rows.append(_build_row("metadata alone", audit.metadata.score.accuracy, is_marked=audit.metadata.is_suspicious))
    rows += [
        _build_row(f"{entry.attribute} left out", entry.accuracy)
        for entry in audit.left_out
        if entry.accuracy is not None
    ]
    rows += [
        _build_row(control.name, control.scores.image_accuracy, is_marked=not control.is_as_it_should_be)
        for control in audit.controls
    ]
    return rows


def list_audit(audit: StudyAudit) -> dict[str, Any]:
    """Return all numbers, fit for JSON."""
    return {
        "study": audit.study,
        "measured_image_accuracy": list_interval(audit.measured),
        "chance": audit.chance,
        "leak": None if audit.leak is None else _list_leak(audit.leak),
        "metadata": None if audit.metadata is None else _list_metadata(audit.metadata),
        "left_out": [_list_left_out(entry) for entry in audit.left_out],
        "controls": [_list_control(control) for control in audit.controls],
    }


def list_difference(difference: Difference) -> dict[str, float | bool]:
    """Return both figures, their difference and its interval."""
    return {
        "first": difference.first,
        "second": difference.second,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "level": difference.level,
        "is_clear": difference.is_clear,
    }


def _build_row(name: str, interval: Interval, *, is_marked: bool = False) -> BarRow:
    """Return one row of the figure."""
    return BarRow(name=name, value=interval.value, low=interval.low, high=interval.high, is_marked=is_marked)


def _list_leak(leak: LeakAudit) -> dict[str, Any]:
    """Return the leak audit: first over tiles, second over images."""
    comparison = leak.comparison
    return {
        "first": "folds over tiles",
        "second": "folds over images",
        "f_measure": list_difference(comparison.f_measure),
        "tile_accuracy": list_difference(comparison.tile_accuracy),
        "f_measure_of_class": {
            name: list_difference(entry)
            for name, entry in zip(comparison.class_names, comparison.f_measure_of_class, strict=True)
        },
    }


def _list_metadata(metadata: MetadataAudit) -> dict[str, Any]:
    """Return the comparison of network and metadata."""
    return {
        "attributes": list(metadata.score.attributes),
        "first": "network",
        "second": "metadata alone",
        "image_accuracy": list_difference(metadata.comparison.image_accuracy),
        "image_f_measure": list_difference(metadata.comparison.image_f_measure),
        "p_over_images": metadata.comparison.image_test.p_value,
        "is_suspicious": metadata.is_suspicious,
    }


def _list_left_out(entry: LeftOutAttribute) -> dict[str, Any]:
    """Return one attribute left out."""
    return {
        "attribute": entry.attribute,
        "values": list(entry.values),
        "untested": list(entry.untested),
        "n_images": entry.n_images,
        "image_accuracy": None if entry.accuracy is None else list_interval(entry.accuracy),
        "usual_image_accuracy": None if entry.usual_accuracy is None else list_interval(entry.usual_accuracy),
    }


def _list_control(control: Control) -> dict[str, Any]:
    """Return one control."""
    return {
        "name": control.name,
        "image_accuracy": list_interval(control.scores.image_accuracy),
        "image_f_measure": list_interval(control.scores.image_f_measure),
        "tile_f_measure": list_interval(control.scores.f_measure),
        "chance": control.chance,
        "difference": None if control.difference is None else list_difference(control.difference),
        "is_as_it_should_be": control.is_as_it_should_be,
    }
