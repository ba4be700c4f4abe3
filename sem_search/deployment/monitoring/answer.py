"""What a comparison with a reference says, as records for a page and for a terminal, and as metrics."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sem_search.audits.answer import format_share
from sem_search.deployment.monitoring.comparison import (
    FIGURES,
    DriftReport,
    Figure,
    FigureComparison,
    build_scores,
    measure,
)
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.report.answer_page import Answer, Light, Row, Section, Table
from sem_search.words import count, join_words, name_some

WEEKS = 12
"""The last ones are shown."""

TABLE_NOTE = (
    "Shares and medians, with intervals of 95 % over images taken to be independent. p: of this one look, for all "
    "figures together (Holm); images are compared with those of the same label. It gives no alarm. Evidence: the "
    "highest so far, and what gives an alarm. Without drift the chance that any figure ever reaches that is at most "
    "5 %, however often one looks, as long as --since stays the same, and labels are mostly right or come in the "
    "proportions of the training images."
)

INSTRUMENT = (
    "images of all labels have changed. Compare brightness, contrast, focus, voltage, detector and working distance "
    "with those of the training images, and set them back; or search again with images taken as they are now."
)
MATERIAL = (
    "images called {labels} have changed, the others have not. Look at them: if it is a new material, add it as a "
    "class; if it is a known one in another form, add such images; then search again."
)
UNCLEAR = (
    "whether it is the instrument or the material cannot be told yet. Take images of a sample that the model knows: if "
    "these have changed, too, it is the instrument."
)
LESS_SURE = "the answers are less sure than before, though nothing else has changed: look at the doubtful ones."
MAGNIFICATION = "set it back to that of the training images, or search again with images of this one."
STILL_KNOWN = "The novelty gave no alarm: to the network the images look much as before."
FEW_IMAGES = 20
"""A period of fewer can show a strong change, but no calm: strong ones show after about 5 images (docs/serving.md)."""
LOOK_AGAIN = "That would have shown a strong change at most: look again when more have come."
AFTERWARDS = "When it is mended, begin anew with --since."


def build_drift_answer(report: DriftReport, *, subject: str, reference: str) -> Answer:
    """Return whether something has drifted, in plain words.

    Args:
        report: The comparison.
        subject: What is compared with what, in one sentence.
        reference: The head of the column of the reference.
    """
    light, verdict, sentence = _conclude(report)
    columns = ("Figure", reference, "This period", "p", "Evidence", "Result")
    rows = [_describe_figure(one, needed=report.needed) for one in report.figures]
    if report.mix_p_value is not None:
        rows.append(Row(cells=("labels, see below", "", "", f"{report.mix_p_value:.3f}", "", "shown, gives no alarm")))
    return Answer(
        question="Has something drifted?",
        subject=subject,
        light=light,
        verdict=verdict,
        sentence=sentence,
        overview=(Table(columns=columns, rows=tuple(rows), note=TABLE_NOTE),),
        sections=(
            Section(heading="By label", parts=(_tabulate_labels(report, reference=reference),)),
            Section(heading="By week", parts=(_tabulate_weeks(report.period),)),
        ),
    )


def list_metrics(report: DriftReport) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and step of each number; infinite ones among them."""
    yield "monitor/images", float(len(report.period)), 0
    yield "monitor/has_drifted", float(report.cause is not None), 0
    for one in report.figures:
        if one.period is not None:
            for name, value in (("", one.period.value), ("_low", one.period.low), ("_high", one.period.high)):
                yield f"monitor/{one.figure.key}{name}", value, 0
        if one.evidence is not None:
            yield f"monitor/{one.figure.key}_log10_evidence", float(one.evidence.log_evidence.max() / np.log(10)), 0


def _conclude(report: DriftReport) -> tuple[Light, str, str]:
    """Return the last word: light, a few words, and what follows."""
    alarms = {one.figure.key: one for one in report.figures if one.alarm is not None}
    if not alarms:
        n_images = count(len(report.period), "image")
        if len(report.period) < FEW_IMAGES:
            return "unclear", "Too few images to tell", f"{n_images} of this period gave no alarm. {LOOK_AGAIN}"
        return "good", "No drift found", f"{n_images} of this period gave no alarm."
    first = min(alarms.values(), key=lambda one: one.alarm or 0)
    names = join_words([one.figure.name for one in alarms.values()])
    since = f"Since about {first.onset:%Y-%m-%d}, found after {count(first.alarm or 0, 'image')} by {names}:"
    known = [] if {"novelty", "pixel_size"} & set(alarms) else [STILL_KNOWN]
    if "pixel_size" in alarms:
        verdict, advice = "The magnification changed", MAGNIFICATION
    elif set(alarms) == {"doubt"}:
        verdict, advice = "Answers became less sure", LESS_SURE
    elif report.cause == "instrument":
        verdict, advice = "The instrument or its settings changed", INSTRUMENT
    elif report.cause == "material":
        verdict, advice = "The material changed", MATERIAL.format(labels=name_some(report.moved_labels))
    else:
        verdict, advice = "Images unlike those before came", UNCLEAR
    return "bad", verdict, " ".join([since, advice, *known, AFTERWARDS])


def _describe_figure(one: FigureComparison, *, needed: float) -> Row:
    cells = (one.figure.name, *(_format(each, figure=one.figure) for each in (one.reference, one.period)))
    p_value = "not known" if one.p_value is None else f"{one.p_value:.3f}"
    if one.evidence is None:
        told = "shown, gives no alarm" if not one.figure.is_followed else "not known"
        return Row(cells=(*cells, p_value, "", told))
    highest = float(one.evidence.log_evidence.max())
    evidence = f"{np.exp(highest):.3g}" if highest < np.log(1e6) else f"10^{highest / np.log(10):.0f}"
    result = "no alarm" if one.alarm is None else f"drift, after {count(one.alarm, 'image')}"
    light: Light = "good" if one.alarm is None else "bad"
    return Row(cells=(*cells, p_value, f"{evidence} of {needed:g}", result), light=light)


def _tabulate_labels(report: DriftReport, *, reference: str) -> Table:
    """Return one row for each label: how many of the images have it, and how far they lie."""
    novelty = next(figure for figure in FIGURES if figure.key == "novelty")
    both = (report.reference, report.period)
    rows = []
    for label in np.union1d(report.reference.label, report.period.label):
        own = [each[each.label == label] for each in both]
        share = measure((report.period.label == label).to_numpy(dtype=np.float64), is_share=True)
        medians = [_format(_measure_rows(each, figure=novelty), figure=novelty) for each in own]
        numbers = (str(len(own[0])), str(len(own[1])), _format(share, figure=FIGURES[0]))
        rows.append(Row(cells=(str(label), *numbers, *medians)))
    columns = ("Label", f"Images: {reference}", "this period", "share", f"Novelty: {reference}", "this period")
    note = "That other labels come, or in other proportions, is no drift: it gives no alarm."
    return Table(columns=columns, rows=tuple(rows), note=note)


def _tabulate_weeks(period: pd.DataFrame) -> Table:
    """Return one row for each of the last weeks in which images came: shares and medians."""
    rows = []
    for begin, own in list(period.groupby(period.answered_at.dt.to_period("W").dt.start_time))[-WEEKS:]:
        measured = [_measure_rows(own, figure=figure) for figure in FIGURES]
        values = ["not known" if one is None else f"{one.value:.3f}" for one in measured]
        rows.append(Row(cells=(f"{begin:%Y-%m-%d}", str(len(own)), *values)))
    return Table(columns=("Week of", "Images", *(figure.name for figure in FIGURES)), rows=tuple(rows))


def _measure_rows(rows: pd.DataFrame, *, figure: Figure) -> Interval | None:
    return measure(build_scores(rows, figure=figure)[0].values, is_share=figure.is_share)


def _format(interval: Interval | None, *, figure: Figure) -> str:
    if interval is None:
        return "not known"
    return format_share(interval) if figure.is_share else interval.to_text()
