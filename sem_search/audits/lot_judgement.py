"""A new lot held against a reference: the question that a released product asks of every lot.

`evaluation.lots` has the statistics: whether the lot is equivalent, where it lies among the others over time, and which
measures of its particles differ by more than lots do as a rule.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from sem_search.audits.answer import ShownAsAnswer, iter_answer
from sem_search.audits.heat_maps.particles import MEASURES
from sem_search.audits.lot_judgement_answer import build_judgement_answer
from sem_search.audits.lot_reference import Lot, LotReference, check_lots
from sem_search.evaluation.lots.control_chart import ChartPoint, chart_lots
from sem_search.evaluation.lots.equivalence import MARGIN, LotJudgement, judge_lot
from sem_search.evaluation.lots.measure_shifts import Measures, MeasureShift, compute_shifts
from sem_search.evaluation.lots.reference import measure_spread
from sem_search.micrographs.inspection.confounds import UNKNOWN
from sem_search.tracking.entries.json_values import to_json
from sem_search.tracking.entries.types import Entry, FigureArtifact, TableArtifact, iter_finite_metrics
from sem_search.tracking.figures.control_chart import draw_control_chart
from sem_search.tracking.report.answer_page import Answer, CaptionedFigure
from sem_search.words import join_words

CHART_COLUMNS = ("lot", "acquired_at", "is_new", "distance", "warning_limit", "action_limit")


CHART_CAPTION = (
    "How far each lot lies from the mean of the others, in standard deviations of the measured means of lots{order}. "
    "Lots of one process lie beyond the warning limit in 1 of 20 cases at most, beyond the action limit in 1 of 370. "
    "With few lots the limits are wide."
)


@dataclass(frozen=True, kw_only=True)
class ChartedLot:
    """A lot on the control chart."""

    lot: str
    acquired_at: str | None
    is_new: bool
    point: ChartPoint


@dataclass(frozen=True, kw_only=True)
class LotJudgementAudit(ShownAsAnswer):
    """A new lot against the lots of a reference."""

    lot: str
    judgement: LotJudgement
    chart: tuple[ChartedLot, ...]
    """By date where all lots have one, else in the order of the reference, the new lot last."""
    shifts: tuple[MeasureShift, ...]
    remarks: tuple[str, ...]
    """How the new lot was imaged otherwise than the reference, one sentence each."""

    @property
    def table(self) -> pd.DataFrame:
        """One row for each lot of the control chart."""
        return pd.DataFrame(_list_chart(self), columns=CHART_COLUMNS)

    def to_answer(self) -> Answer:
        """Return whether the lot is equivalent."""
        return build_judgement_answer(self)


def audit_new_lot(new: Lot, *, reference: LotReference, margin: float = MARGIN, seed: int = 0) -> LotJudgementAudit:
    """Judge a new lot.

    Args:
        new: The lot.
        reference: Accepted lots, looked at in the same way.
        margin: In standard deviations between lots, above 0.
        seed: Of the draws.

    Raises:
        DataError: The new lot shares its name or a picture with one of the reference.
    """
    known = reference.lots
    check_lots([*known, new])
    spread = measure_spread([lot.features for lot in known])
    points = zip((*known, new), chart_lots(spread, new.features), strict=True)
    chart = [
        ChartedLot(lot=lot.name, acquired_at=lot.acquired_at, is_new=lot is new, point=point) for lot, point in points
    ]
    if all(lot.acquired_at for lot in chart):
        chart.sort(key=lambda lot: lot.acquired_at or "")
    measures = _choose_measures([*known, new])
    return LotJudgementAudit(
        lot=new.name,
        judgement=judge_lot(spread, new.features, margin=margin, seed=seed),
        chart=tuple(chart),
        shifts=compute_shifts(measures[:-1], measures[-1]),
        remarks=tuple(_iter_remarks(new, known=known)),
    )


def iter_judgement_entries(audit: LotJudgementAudit, *, command: str) -> Iterator[Entry]:
    """Yield what is written and logged of a judgement: words, numbers, control chart, page, table and metrics.

    Args:
        audit: The answer.
        command: What asked for it.
    """
    numbers = {name: to_json(getattr(audit, name)) for name in ("lot", "judgement", "chart", "shifts", "remarks")}
    answer = audit.to_answer()
    answer = replace(answer, overview=(*answer.overview, _draw_chart(audit)))
    yield from iter_answer("lots", answer=answer, numbers=numbers, command=command)
    yield TableArtifact(path="control_chart.csv", columns=CHART_COLUMNS, rows=tuple(_list_chart(audit)))
    distance = audit.judgement.distance
    figures = {"distance": distance.value, "distance_low": distance.low, "distance_high": distance.high}
    figures |= {"is_equivalent": audit.judgement.verdict == "equivalent"}
    yield from iter_finite_metrics(
        ((f"lots/{name}", float(value), 0) for name, value in figures.items()), source="lots"
    )


def _draw_chart(audit: LotJudgementAudit) -> CaptionedFigure:
    draw = partial(
        draw_control_chart,
        [lot.point for lot in audit.chart],
        names=[lot.lot for lot in audit.chart],
        is_new=[lot.is_new for lot in audit.chart],
    )
    order = ", by date" if all(lot.acquired_at for lot in audit.chart) else ", in the order of the folders"
    artifact = FigureArtifact(path="control_chart.png", draw=draw)
    return CaptionedFigure(artifact=artifact, caption=CHART_CAPTION.format(order=order))


def _list_chart(audit: LotJudgementAudit) -> list[tuple[Any, ...]]:
    return [
        (one.lot, one.acquired_at, one.is_new, one.point.distance, one.point.warning_limit, one.point.action_limit)
        for one in audit.chart
    ]


def _choose_measures(lots: Sequence[Lot]) -> list[Measures]:
    """Return the measures of each lot; without the diameter where some pixel sizes are known and others are not."""
    states = {value == UNKNOWN for lot in lots for value in lot.attributes.get("pixel size", [UNKNOWN])}
    left_out = MEASURES[0] if len(states) > 1 else None
    return [{name: values for name, values in lot.measures.items() if name != left_out} for lot in lots]


def _iter_remarks(new: Lot, *, known: Sequence[Lot]) -> Iterator[str]:
    """Yield what of the new lot's imaging no lot of the reference has, and that sizes are in pixels."""
    if UNKNOWN in new.attributes.get("pixel size", [UNKNOWN]):
        yield (
            f"The pixel size of {new.name} is not known: another magnification would look like another size of "
            "particles, and like another lot."
        )
    for attribute, values in new.attributes.items():
        usual = sorted({value for lot in known for value in lot.attributes[attribute]})
        if strange := sorted(set(values) - set(usual)):
            yield (
                f"The {attribute} of {new.name} is {join_words(strange)}, and of the reference lots "
                f"{join_words(usual)}: a difference may be that of the imaging, not of the material."
            )
