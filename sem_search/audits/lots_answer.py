"""What a comparison of lots says, as records for a page and for a terminal."""

from typing import TYPE_CHECKING

from sem_search.audits.answer import format_share
from sem_search.evaluation.lots.two_sample import LotPair
from sem_search.evaluation.statistics import MAX_P_VALUE, ROUNDING
from sem_search.tracking.report.answer_page import Answer, Light, Row, Section, Table
from sem_search.words import count

if TYPE_CHECKING:
    from sem_search.audits.lots import LotsAudit

ENOUGH_IMAGES = 10
"""Of each lot: fewer seldom show any but very large differences (`docs/trust.md`)."""

TABLE_NOTE = (
    "Assigned to the right lot: share of the images that the other images assign to their own lot; half of them by "
    "chance. AUROC: how often an image of the first lot looks more like the first than one of the second does; 0.5 by "
    "chance. As good by chance: share of the permutations of the images between the two lots with as high an AUROC. p: "
    "the same, adjusted for the number of pairs (Holm); 0.05 or less is a difference."
)


def build_lots_answer(audit: "LotsAudit") -> Answer:
    """Return which lots can be told apart, and what to do about the others."""
    light, verdict, sentence = _conclude(audit.pairs)
    described = [describe_pair(pair, n_pairs=len(audit.pairs)) for pair in audit.pairs if not pair.is_different()]
    sections = {"Take care": audit.remarks}
    if len(audit.pairs) > 1:
        sections["Where no difference was found"] = tuple(described)
    return Answer(
        question="Can the lots be told apart?",
        subject=f"{count(audit.n_images, 'image')}, {count(audit.n_tiles, 'tile')}.",
        light=light,
        verdict=verdict,
        sentence=f"{sentence}{' But see below how they were imaged.' if audit.remarks else ''}",
        overview=(_tabulate(audit.pairs),),
        sections=tuple(Section(heading=heading, parts=parts) for heading, parts in sections.items() if parts),
    )


def name_pair(pair: LotPair) -> str:
    """Return the name of a pair in figures and tables."""
    return f"{pair.first} / {pair.second}"


def describe_pair(pair: LotPair, *, n_pairs: int) -> str:
    """Return one pair's result in plain words; the interval of the share only where the lots do differ."""
    name, n_images = f"{pair.first} and {pair.second}", pair.n_first + pair.n_second
    among = f" ({n_pairs} pairs considered)" if n_pairs > 1 else ""
    unlike = ""
    if pair.n_tiles_left_out:
        unlike = (
            f" Images of unlike size: {pair.n_tiles_of_image} tiles of each were looked at, as many as the smallest "
            f"has, and {pair.n_tiles_left_out} tiles left out."
        )
    if pair.is_different():
        share = format_share(pair.accuracy)
        return (
            f"{name} differ, p = {pair.adjusted_p_value:.3f}{among}: {share} of the images are assigned to the right "
            f"lot.{unlike}"
        )
    if _is_hopeless(pair):
        return (
            f"{name}: nothing can be said. With {n_images} images no p-value below {pair.smallest_p_value:.3f} is "
            f"possible{among}: {_advise(pair)}.{unlike}"
        )
    return (
        f"{name}: no difference was found, which does not prove that there is none. "
        f"{100 * pair.accuracy.value:.1f} % of {n_images} images are assigned to the right lot, but chance "
        f"alone separates them as well ({_format_odds(pair.p_value)} of their permutations). "
        f"{_describe_power(pair, among=among)}{unlike}"
    )


def _conclude(pairs: tuple[LotPair, ...]) -> tuple[Light, str, str]:
    """Return the last word: light, a few words, and a sentence."""
    different = [pair for pair in pairs if pair.is_different()]
    if len(pairs) == 1:
        verdict = "Yes" if different else "Cannot tell" if _is_hopeless(pairs[0]) else "No difference was found"
        return "plain" if different else "unclear", verdict, describe_pair(pairs[0], n_pairs=1)
    n_hopeless = sum(map(_is_hopeless, pairs))
    sentence = (
        f"Of {len(pairs)} pairs of lots a difference was found in {len(different)}"
        f"{f'; in {n_hopeless} there are too few images to tell' if n_hopeless else ''}."
    )
    if len(different) == len(pairs):
        return "plain", "Yes", f"All {len(pairs)} pairs of lots differ."
    if different:
        return "plain", "Some of them", sentence
    return "unclear", "Cannot tell" if n_hopeless == len(pairs) else "No difference was found", sentence


def _tabulate(pairs: tuple[LotPair, ...]) -> Table:
    rows = []
    for pair in pairs:
        share = format_share(pair.accuracy) if pair.is_different() else f"{100 * pair.accuracy.value:.1f} %"
        result, light = _judge(pair)
        numbers = (f"{pair.n_first} + {pair.n_second}", share, f"{pair.auroc:.3f}")
        chance = (_format_odds(pair.p_value), f"{pair.adjusted_p_value:.3f}")
        rows.append(Row(cells=(name_pair(pair), *numbers, *chance, result), light=light))
    return Table(
        columns=("Lots", "Images", "Assigned to the right lot", "AUROC", "As good by chance", "p", "Result"),
        rows=tuple(rows),
        note=TABLE_NOTE,
    )


def _judge(pair: LotPair) -> tuple[str, Light]:
    if pair.is_different():
        return "they differ", "plain"
    return "too few images to tell" if _is_hopeless(pair) else "no difference found", "unclear"


def _is_hopeless(pair: LotPair) -> bool:
    """Return whether so few images could not have shown any difference."""
    return pair.smallest_p_value > MAX_P_VALUE + ROUNDING and not pair.is_different()


def _format_odds(p_value: float) -> str:
    """Return `1 in 18`, or `38 %` where that would say less."""
    return f"1 in {round(1 / p_value):,}" if p_value <= 1 / 3 else f"{100 * p_value:.0f} %"


def _describe_power(pair: LotPair, *, among: str) -> str:
    """Say which difference so many images show, and what to do where a larger one did not suffice."""
    if pair.detectable_accuracy is None:
        return f"So few images would miss even a very large difference as a rule: {_advise(pair)}."
    if pair.accuracy.value >= pair.detectable_accuracy:
        return f"That is too often to rule out chance{among}: {_advise(pair)}."
    return (
        f"With so many images a difference is found in four of five cases if {100 * pair.detectable_accuracy:.0f} % of "
        "all images can be told apart."
    )


def _advise(pair: LotPair) -> str:
    if min(pair.n_first, pair.n_second) < ENOUGH_IMAGES:
        return f"take {ENOUGH_IMAGES} or more images of each lot"
    return "take twice as many images of each lot"
