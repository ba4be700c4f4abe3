"""The audit of a study: all questions, the answers in words, and what is logged."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd

from sem_search.audits.answer import (
    ShownAsAnswer,
    format_share,
    iter_answer,
    list_class_differences,
    list_difference,
)
from sem_search.audits.controls import Control, iter_controls
from sem_search.audits.leak import LeakAudit, audit_leak
from sem_search.audits.left_out import LeftOutAttribute, iter_left_out
from sem_search.audits.metadata import MetadataAudit, audit_metadata
from sem_search.audits.nested import NestedChoice, choose_inside_folds
from sem_search.audits.subject import AuditSubject
from sem_search.errors import SettingsError
from sem_search.evaluation.intervals import compute_intervals
from sem_search.evaluation.statistics import Interval
from sem_search.progress import Show
from sem_search.tracking.entries.json_values import to_json
from sem_search.tracking.entries.types import Entry, FigureArtifact, iter_finite_metrics
from sem_search.tracking.figures.audit import BarRow, draw_rows
from sem_search.tracking.mlflow.names import make_safe_name
from sem_search.tracking.report.answer_page import Answer, CaptionedFigure, Light, Row, Section, Table
from sem_search.words import count

QUESTIONS = ("leak", "metadata", "left-out", "controls")
"""Asked by default."""

ALL_QUESTIONS = ("leak", "nested", "metadata", "left-out", "controls")
"""The choice made anew inside the folds costs several times the search: it is asked by name."""

FIGURE_CAPTION = (
    "How many test images are correctly classified, as measured and when something was changed. Orange: look at this. "
    "What classifies images without their pictures, or from pictures without particles, should lie near the dashed "
    "line."
)


@dataclass(frozen=True, kw_only=True)
class StudyAudit(ShownAsAnswer):
    """What was asked and answered; None where it was not asked, or is not answered yet."""

    study: str
    measured: Interval
    """Share of test images correctly classified, as the study measured it."""
    chance: float
    """Share of images in the largest class."""
    leak: LeakAudit | None = None
    nested: NestedChoice | None = None
    metadata: MetadataAudit | None = None
    left_out: tuple[LeftOutAttribute, ...] = field(default=())
    controls: tuple[Control, ...] = field(default=())

    @property
    def table(self) -> pd.DataFrame:
        """One row for each way of training or asking: share of images correctly classified, and its interval."""
        return pd.DataFrame(list_rows(self))

    @property
    def checks(self) -> tuple[Row, ...]:
        """What was measured, and every check that was answered."""
        is_better = self.measured.low > self.chance
        measured = Row(
            cells=(
                "as measured",
                format_share(self.measured),
                f"always the largest class: {100 * self.chance:.1f} %",
                "better than chance" if is_better else "not clearly better than chance",
            ),
            light="good" if is_better else "bad",
        )
        answered = (self.leak, self.nested, self.metadata, *self.left_out, *self.controls)
        return (measured, *(entry.row for entry in answered if entry is not None))

    def to_answer(self) -> Answer:
        """Return the answer to all questions asked; its sections grow with every question."""
        light, verdict, sentence = self._conclude()
        return Answer(
            question=f"Is the score of study {self.study} what it seems to be?",
            subject=f"Audit of study {self.study}.",
            light=light,
            verdict=verdict,
            sentence=f"{format_share(self.measured)} of the test images are correctly classified{sentence}",
            overview=(
                Table(
                    columns=("Check", "Images correctly classified", "Compare with", "Result"),
                    rows=self.checks,
                    note="In brackets: 95 % intervals.",
                ),
            ),
            sections=tuple(self._iter_sections()),
        )

    def _iter_sections(self) -> Iterator[Section]:
        if self.leak is not None:
            yield Section(heading="Is the split honest?", parts=(self.leak.to_text(), self.leak.table))
        if self.nested is not None:
            table = () if self.nested.bias.n_candidates == 1 else (self.nested.table,)
            yield Section(heading="How much of it is luck of the choice?", parts=(self.nested.to_text(), *table))
        if self.metadata is not None or self.left_out:
            asked = (self.metadata, *self.left_out)
            yield Section(
                heading="Could it be the session instead of the material?",
                parts=tuple(entry.to_text() for entry in asked if entry is not None),
            )
        if self.controls:
            yield Section(
                heading="Negative controls: what is left when the material cannot be seen?",
                parts=tuple(control.to_text() for control in self.controls),
            )

    def _conclude(self) -> tuple[Light, str, str]:
        """Return the last word: its light, a few words, and how the sentence on the score goes on."""
        measured, *checks = self.checks
        if measured.light == "bad":
            return "bad", "No", f", which is not clearly better than chance ({100 * self.chance:.1f} %)."
        if any(check.light == "bad" for check in checks):
            return "bad", "No", ", but labels that mean nothing are recognised, too: test labels leak into training."
        judged = [check for check in checks if check.light in ("good", "unclear")]
        doubts = [check.cells[0] for check in judged if check.light == "unclear"]
        if doubts:
            share = f"{len(doubts)} of {count(len(judged), 'check')}"
            return "unclear", "Cannot tell", f", but {share} cast doubt on what this means: {', '.join(doubts)}."
        if not judged:
            return "unclear", "Not checked yet", "; no check was asked that could speak against it."
        return "good", "Yes, as far as asked", f", and nothing speaks against it ({count(len(judged), 'check')})."


def iter_audits(subject: AuditSubject, *, questions: tuple[str, ...] = QUESTIONS, show: Show) -> Iterator[StudyAudit]:
    """Ask a finished study these questions, and yield the audit as it grows: first without any, then answer by answer.

    The text of its sections begins with the one before, so that what is new can be printed at once.

    Args:
        subject: The study.
        questions: Of `ALL_QUESTIONS`; asked in that order.
        show: Called before each fold that is trained.
    """
    audit = StudyAudit(
        study=subject.outcome.name,
        measured=compute_intervals(subject.pool_winner()).image_accuracy,
        chance=subject.largest_class_share,
    )
    yield audit
    if "leak" in questions:
        audit = replace(audit, leak=audit_leak(subject, show=show))
        yield audit
    if "nested" in questions:
        audit = replace(audit, nested=choose_inside_folds(subject, show=show))
        yield audit
    if "metadata" in questions:
        audit = replace(audit, metadata=audit_metadata(subject))
        yield audit
    for entry in iter_left_out(subject, show=show) if "left-out" in questions else ():
        audit = replace(audit, left_out=(*audit.left_out, entry))
        yield audit
    for control in iter_controls(subject, show=show) if "controls" in questions else ():
        audit = replace(audit, controls=(*audit.controls, control))
        yield audit


def check_questions(questions: tuple[str, ...]) -> None:
    """Raise SettingsError unless each of these can be asked."""
    unknown = [question for question in questions if question not in ALL_QUESTIONS]
    if unknown or not questions:
        raise SettingsError(
            f"only={','.join(questions)}: an audit asks {', '.join(ALL_QUESTIONS)}; "
            f"{', '.join(map(repr, unknown)) or 'nothing'} is not among them."
        )


def iter_audit_entries(audit: StudyAudit, *, command: str, known: StudyAudit | None = None) -> Iterator[Entry]:
    """Yield what is logged of an audit: words, numbers, one figure, a page of both, and those metrics that are new.

    Args:
        audit: As far as it has come.
        command: What asks for it.
        known: What was logged already; files are written over, metrics are not logged twice.
    """
    draw = partial(
        draw_rows,
        list_rows(audit),
        axis_label="Share of test images correctly classified, with 95 % interval",
        reference=audit.chance,
        reference_name="always naming the largest class",
    )
    figure = FigureArtifact(path="audit/audit.png", draw=draw)
    answer = audit.to_answer()
    yield from iter_answer(
        "audit/audit",
        answer=replace(answer, overview=(*answer.overview, CaptionedFigure(artifact=figure, caption=FIGURE_CAPTION))),
        numbers=list_audit(audit),
        command=command,
    )
    before = {} if known is None else _list_numbers(known)
    numbers = [(name, value, 0) for name, value in _list_numbers(audit).items() if name not in before]
    yield from iter_finite_metrics(numbers, source="audit")


def list_rows(audit: StudyAudit) -> list[BarRow]:
    """Return the rows of the figure: each way of training or asking, by the share of images correctly classified."""
    rows = [BarRow(name="as measured", interval=audit.measured)]
    if audit.metadata is not None:
        rows.append(
            BarRow(name="metadata alone", interval=audit.metadata.accuracy, is_marked=audit.metadata.is_suspicious)
        )
    rows += [
        BarRow(name=f"{entry.attribute} left out", interval=entry.accuracy)
        for entry in audit.left_out
        if entry.accuracy is not None
    ]
    rows += [
        BarRow(name=control.name, interval=control.scores.image_accuracy, is_marked=not control.is_as_it_should_be)
        for control in audit.controls
    ]
    return rows


def list_audit(audit: StudyAudit) -> dict[str, Any]:
    """Return all numbers, fit for JSON."""
    return {
        "study": audit.study,
        "measured_image_accuracy": to_json(audit.measured),
        "chance": audit.chance,
        "leak": None if audit.leak is None else _list_leak(audit.leak),
        "nested": None if audit.nested is None else _list_nested(audit.nested),
        "metadata": None if audit.metadata is None else _list_metadata(audit.metadata),
        "left_out": [_list_left_out(entry) for entry in audit.left_out],
        "controls": [_list_control(control) for control in audit.controls],
    }


def _list_numbers(audit: StudyAudit) -> dict[str, float]:
    numbers = {f"audit/{make_safe_name(row.name)}": row.interval.value for row in list_rows(audit)}
    if audit.leak is not None:
        numbers["audit/leak_gap"] = audit.leak.comparison.f_measure.value
    if audit.nested is not None:
        numbers["audit/nested_f_measure"] = audit.nested.score
    return numbers


def _list_leak(leak: LeakAudit) -> dict[str, Any]:
    comparison = leak.comparison
    return {
        "first": "folds over tiles",
        "second": "folds over images",
        "f_measure": list_difference(comparison.f_measure),
        "tile_accuracy": list_difference(comparison.tile_accuracy),
        "f_measure_of_class": list_class_differences(comparison),
    }


def _list_nested(nested: NestedChoice) -> dict[str, Any]:
    bias = nested.bias
    return {
        "f_measure": nested.score,
        "f_measure_of_fold": nested.score_of_fold.tolist(),
        "chosen": [cell.name for cell in nested.chosen],
        "n_candidates": bias.n_candidates,
        "n_trained": nested.n_trained,
        "agrees": nested.agrees,
        "chosen_on": bias.select_on,
        "naive": bias.naive,
        "test": bias.test,
        "corrected": to_json(bias.corrected),
        "by_folds_left_out": bias.fold_out,
    }


def _list_metadata(metadata: MetadataAudit) -> dict[str, Any]:
    return {
        "attributes": list(metadata.attributes),
        "first": "network",
        "second": "metadata alone",
        "image_accuracy": list_difference(metadata.comparison.image_accuracy),
        "image_f_measure": list_difference(metadata.comparison.image_f_measure),
        "p_over_images": metadata.comparison.image_test.p_value,
        "is_suspicious": metadata.is_suspicious,
    }


def _list_left_out(entry: LeftOutAttribute) -> dict[str, Any]:
    return {
        "attribute": entry.attribute,
        "values": list(entry.values),
        "untested": list(entry.untested),
        "n_images": entry.n_images,
        "image_accuracy": to_json(entry.accuracy),
        "usual_image_accuracy": to_json(entry.usual_accuracy),
    }


def _list_control(control: Control) -> dict[str, Any]:
    return {
        "name": control.name,
        "image_accuracy": to_json(control.scores.image_accuracy),
        "image_f_measure": to_json(control.scores.image_f_measure),
        "tile_f_measure": to_json(control.scores.f_measure),
        "chance": control.chance,
        "label_test": to_json(control.label_test),
        "difference": None if control.difference is None else list_difference(control.difference),
        "is_as_it_should_be": control.is_as_it_should_be,
    }
