"""What the judgement of a new lot says, as records for a page and for a terminal."""

from typing import TYPE_CHECKING

from sem_search.audits.heat_maps.particles import MEASURES
from sem_search.evaluation.lots.equivalence import LotJudgement
from sem_search.evaluation.lots.measure_shifts import MeasureShift
from sem_search.tracking.report.answer_page import Answer, Light, Part, Row, Section, Table
from sem_search.words import count, join_words

if TYPE_CHECKING:
    from sem_search.audits.lot_judgement import ChartedLot, LotJudgementAudit

WORDS = dict(
    zip(
        MEASURES,
        (
            ("larger", "smaller"),
            ("more elongated", "less elongated"),
            ("rounder", "less round"),
            ("more compact", "more indented"),
            ("rougher", "smoother"),
        ),
        strict=True,
    )
)
"""What a higher and a lower value of each measure mean."""

LIGHTS: dict[str, tuple[Light, str]] = {
    "equivalent": ("good", "Equivalent"),
    "different": ("bad", "Different"),
    "unclear": ("unclear", "Cannot say"),
}

MEASURES_NOTE = (
    "Medians over the particles of an image, means over images. Usual: standard deviation between the reference lots. "
    "p: how often one more lot of the reference would lie as far off, for all measures together (Holm)."
)


def build_judgement_answer(audit: "LotJudgementAudit") -> Answer:
    """Return whether the lot is equivalent, where it lies among the others, and what is different about it."""
    light, verdict = LIGHTS[audit.judgement.verdict]
    judgement = audit.judgement
    sections: dict[str, tuple[Part, ...]] = {
        "Take care": audit.remarks,
        "How do its particles differ?": _describe_shifts(audit.shifts),
    }
    return Answer(
        question=f"Is {audit.lot} equivalent to the reference lots?",
        subject=f"{count(judgement.n_images, 'independent image')}, {count(judgement.n_lots, 'reference lot')}.",
        light=light,
        verdict=verdict,
        sentence=f"{describe_judgement(judgement)}{' But see below how it was imaged.' if audit.remarks else ''}",
        overview=(_tabulate(audit.chart),),
        sections=tuple(Section(heading=heading, parts=parts) for heading, parts in sections.items() if parts),
    )


def describe_judgement(judgement: LotJudgement) -> str:
    """Return the answer with its figures, and what to do where there is none."""
    distance, margin = judgement.distance, judgement.margin
    measured = (
        f"It lies {distance.to_text(digits=1)} standard deviations between lots from the mean of the "
        f"{judgement.n_lots} reference lots; each limit is wrong in 5 of 100 cases at most. "
    )
    where = {
        "equivalent": f"The upper one lies within the margin of {margin:g}.",
        "different": f"The lower one lies beyond the margin of {margin:g}.",
        "unclear": f"The margin of {margin:g} lies between them. {_advise(judgement)}",
    }
    return measured + where[judgement.verdict]


def _advise(judgement: LotJudgement) -> str:
    ways = []
    if judgement.n_images_needed:
        growth = judgement.n_images_needed / judgement.n_images
        ways.append(
            f"about {judgement.n_images_needed} images of the new lot instead of {judgement.n_images}, and "
            f"{growth:.2g} times as many of each other lot"
        )
    if judgement.n_lots_needed:
        ways.append(f"a reference of about {judgement.n_lots_needed} lots instead of {judgement.n_lots}")
    if not ways:
        return "Ten times as many images of each lot, or reference lots, would not decide by themselves."
    return f"If it lies where it was measured, {' or '.join(ways)} would decide."


def _tabulate(chart: "tuple[ChartedLot, ...]") -> Table:
    rows = []
    for one in chart:
        point = one.point
        light: Light = "good"
        result = "within the limits"
        if point.distance > point.action_limit:
            light, result = "bad", "beyond the action limit"
        elif point.distance > point.warning_limit:
            light, result = "unclear", "beyond the warning limit"
        limits = (f"{point.distance:.1f}", f"{point.warning_limit:.1f}", f"{point.action_limit:.1f}")
        cells = (f"{one.lot}{' (new)' if one.is_new else ''}", (one.acquired_at or "")[:10], *limits, result)
        rows.append(Row(cells=cells, light=light))
    return Table(columns=("Lot", "Date", "Distance", "Warning limit", "Action limit", "Result"), rows=tuple(rows))


def _describe_shifts(shifts: tuple[MeasureShift, ...]) -> tuple[Part, ...]:
    if not shifts:
        return ()
    clear = [_name_shift(shift) for shift in sorted(shifts, key=lambda shift: shift.p_value) if shift.is_clear]
    sentence = (
        f"The particles are {join_words(clear)} than those of the reference lots."
        if clear
        else "No difference in the size, shape or surface of the particles is clear."
    )
    rows = tuple(
        Row(
            cells=(
                shift.name,
                f"{100 * shift.change:+.1f} %",
                f"{100 * shift.usual_change:.1f} %",
                f"{shift.p_value:.3f}",
                "clear" if shift.is_clear else "not clear",
            ),
            light="plain" if shift.is_clear else None,
        )
        for shift in shifts
    )
    return sentence, Table(columns=("Measure", "New lot", "Usual", "p", "Result"), rows=rows, note=MEASURES_NOTE)


def _name_shift(shift: MeasureShift) -> str:
    """Return one difference in words: `12 % larger`."""
    higher, lower = WORDS[shift.name]
    return f"{100 * abs(shift.change):.0f} % {higher if shift.change > 0 else lower}"
