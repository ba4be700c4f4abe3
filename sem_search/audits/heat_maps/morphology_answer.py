"""What a look at heat maps and particles says, as records for a page and for a terminal."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sem_search.audits.answer import format_share
from sem_search.audits.heat_maps.other_network import OtherNetwork
from sem_search.audits.heat_maps.particles import MEASURES
from sem_search.evaluation.heat_maps.correlation import HeatCorrelation
from sem_search.evaluation.statistics import MAX_P_VALUE, ROUNDING
from sem_search.tracking.report.answer_page import Answer, Light, Row, Section, Table
from sem_search.words import join_words

if TYPE_CHECKING:
    from sem_search.audits.heat_maps.morphology import MorphologyAudit

CLOSED_BED = 0.8
"""Share of an image from which it shows no ground: bright parts of surfaces, not particles, were measured."""

CHECKS_NOTE = (
    "In brackets: 95 % intervals over images. Order: rank correlation of the heat over the places of a tile; 1 is the "
    "same order. Each tile is explained by the head that was never trained on its image; the other fold's head was not "
    "trained on it either (with refit, it is the one of the search, which learnt from training images alone). Loss and "
    "gain: mean change of the probability of the true class, against cells in random order."
)
MEASURES_NOTE = (
    "Rank correlation (Spearman) of heat and measure over the particles of an image, mean over the images, with 95 % "
    "interval. p is adjusted for the number of measures (Holm). It compares with the heat of other images, so a "
    "correlation far from 0 can still be chance."
)
CLASSES_NOTE = "*: beyond chance, adjusted for the number of measures, not for the number of classes."


def build_morphology_answer(audit: "MorphologyAudit") -> Answer:
    """Return what was found: whether the maps can be read, and what the heat lies on."""
    light, verdict, sentence = _judge_maps(audit)
    return Answer(
        question=f"What does study {audit.study} look at?",
        subject=f"Heat maps of study {audit.study} on test images, each by the head that was never trained on it.",
        light=light,
        verdict=verdict,
        sentence=f"{sentence} {_describe_found(audit.correlations)}",
        overview=(
            Table(
                columns=("Do the maps mean anything?", "Found", "Compare with", "Result"),
                rows=tuple(_iter_checks(audit)),
                note=CHECKS_NOTE,
            ),
        ),
        sections=(
            Section(
                heading="What does the heat lie on?",
                parts=(_describe_bed(audit), _tabulate_measures(audit.correlations)),
            ),
            Section(heading="Class by class", parts=(_tabulate_classes(audit),)),
        ),
    )


def _judge_maps(audit: "MorphologyAudit") -> tuple[Light, str, str]:
    """Return whether the maps can be read: light, a few words, and why."""
    if not audit.depends_on_training:
        why = "Heads with randomised weights give maps that are hardly less alike than those of different folds."
        return "bad", "Do not read the maps as what was learnt", why
    doubts = [
        words
        for words, is_so in (
            ("the heads of different folds look at other places", not audit.folds_agree),
            ("the hot places matter no more than others", not audit.is_carried_by_heat),
        )
        if is_so
    ]
    if doubts:
        return "unclear", "Read the maps with care", f"They depend on what was learnt, but {join_words(doubts)}."
    why = "Heads of different folds agree, randomised weights do not, and the hot places carry the answer."
    return "good", "The maps can be read", why


def _iter_checks(audit: "MorphologyAudit") -> Iterator[Row]:
    folds, trained = audit.folds, f"trained: {audit.folds.rank_correlation.value:.3f}"
    yield _build_check(
        "order, heads of two folds",
        folds.rank_correlation.to_text(),
        f"different images: {folds.chance_rank_correlation:.3f}",
        result=("they agree", "no more than any two maps"),
        is_good=audit.folds_agree,
    )
    yield _build_check(
        "hottest tenth shared, heads of two folds",
        format_share(folds.top_overlap),
        f"different images: {100 * folds.chance_top_overlap:.1f} %",
        result=("they agree", "no more than any two maps"),
        is_good=folds.top_overlap.low > folds.chance_top_overlap,
    )
    for name, agreement in (
        ("order left, new layers randomised", audit.new_layers),
        ("order left, last convolution randomised, too", audit.all_trained),
    ):
        yield _build_check(
            name,
            agreement.rank_correlation.to_text(),
            trained,
            result=("lost: depends on training", "kept: shows edges of the picture"),
            is_good=agreement.rank_correlation.high < folds.rank_correlation.low,
        )
    deletion, insertion = audit.deletion.difference, audit.insertion.difference
    for name, value, low, high in (
        ("loss, hottest cells deleted first", -deletion.value, -deletion.high, -deletion.low),
        ("gain, hottest cells inserted first", insertion.value, insertion.low, insertion.high),
    ):
        yield _build_check(
            name,
            f"{value:.3f} ({low:.3f} to {high:.3f})",
            "random order: 0",
            result=("hot places carry the answer", "matter no more than others"),
            is_good=low > 0,
        )
    if audit.other is not None:
        yield _compare_other(audit.other)


def _compare_other(other: OtherNetwork) -> Row:
    return _build_check(
        f"order, network of study {other.study} ({other.backbone})",
        other.agreement.rank_correlation.to_text(),
        f"different images: {other.agreement.chance_rank_correlation:.3f}",
        result=("alike: belongs to the material", "unlike: belongs to each network"),
        is_good=other.looks_alike,
    )


def _build_check(name: str, found: str, reference: str, *, result: tuple[str, str], is_good: bool) -> Row:
    return Row(cells=(name, found, reference, result[not is_good]), light="good" if is_good else "unclear")


def _describe_bed(audit: "MorphologyAudit") -> str:
    text = f"{audit.n_particles:,} particles were found; they cover {100 * audit.share_covered:.0f} % of the images."
    if audit.share_covered > CLOSED_BED:
        text += " Hardly any ground is seen: what was measured are bright parts of surfaces, not whole particles."
    return text


def _describe_found(entries: Sequence[HeatCorrelation]) -> str:
    found = [entry for entry in entries if entry.is_found]
    if not found:
        nothing = _describe_nothing(entries)
        if nothing.startswith("cannot tell"):
            return f"{nothing.replace('cannot tell', 'Cannot tell on which particles the heat lies')}."
        return f"The heat goes with no measure of the particles: {nothing}."
    return f"The heat lies on particles with {join_words([_name_particles(entry) for entry in found])}."


def _name_particles(entry: HeatCorrelation) -> str:
    """Return `large equivalent diameter`; a correlation below that by chance is small, whatever its sign."""
    return f"{'large' if entry.excess > 0 else 'small'} {entry.measure}"


def _tabulate_measures(entries: Sequence[HeatCorrelation]) -> Table:
    rows = []
    for entry in entries:
        by_chance = "" if entry.chance_correlation is None else f"{entry.chance_correlation:.3f}"
        result = _name_particles(entry) if entry.is_found else _describe_nothing([entry])
        numbers = (f"{entry.adjusted_p_value:.3f}", f"{entry.n_particles:,}", f"{entry.n_images}")
        cells = (entry.measure, entry.correlation.to_text(), by_chance, *numbers, result)
        rows.append(Row(cells=cells, light="plain" if entry.is_found else None))
    return Table(
        columns=("Measure", "Correlation", "Heat of other images", "p", "Particles", "Images", "Heat lies on"),
        rows=tuple(rows),
        note=MEASURES_NOTE,
    )


def _tabulate_classes(audit: "MorphologyAudit") -> Table:
    rows = []
    for name, entries in audit.of_class.items():
        found = [entry for entry in entries if entry.is_found]
        values = {entry.measure: f"{entry.correlation.value:+.2f}{' *' * entry.is_found}" for entry in entries}
        result = join_words([_name_particles(entry) for entry in found]) if found else _describe_nothing(entries)
        cells = (name, *(values.get(measure, "") for measure in MEASURES), result)
        rows.append(Row(cells=cells, light="plain" if found else None))
    return Table(columns=("Class", *MEASURES, "Heat lies on"), rows=tuple(rows), note=CLASSES_NOTE)


def _describe_nothing(entries: Sequence[HeatCorrelation]) -> str:
    """Say that no measure goes with the heat, or that so few images could not have shown it."""
    if not entries:
        return "cannot tell: too few images with particles"
    smallest = min(entry.smallest_p_value for entry in entries)
    if smallest <= MAX_P_VALUE + ROUNDING:
        return "no more than chance"
    return f"cannot tell: so few images allow no p below {smallest:.3f}"
