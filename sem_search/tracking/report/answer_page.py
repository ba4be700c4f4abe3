"""One page for one question put to a study, or to lots: its answer in plain words, and the figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sem_search.tracking.entries.types import FigureArtifact, TextArtifact
from sem_search.tracking.report.page import render_page

GAP = "   "
"""What separates the columns of a table in plain text, and stands in no sentence."""


@dataclass(frozen=True, kw_only=True)
class CaptionedFigure:
    """A figure and what it shows."""

    artifact: FigureArtifact
    caption: str


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of the text."""

    kind: str
    """`heading`, `paragraph` or `table`."""
    text: str


def build_answer_page(*, path: str, title: str, text: str, figures: Sequence[CaptionedFigure]) -> TextArtifact:
    """Return the page; figures are drawn now.

    Args:
        path: Ends in `.html`.
        title: Stands on top.
        text: In plain words: a line that ends in a question mark is a heading, lines with wide gaps are a table, every
            other line is a paragraph.
        figures: Below the text, in this order.
    """
    page = render_page("answer.html", title=title, blocks=split_text(text), figures=figures)
    return TextArtifact(path=path, text=page)


def split_text(text: str) -> tuple[Block, ...]:
    """Return the pieces of a plain text; lines of a table stay together."""
    blocks: list[Block] = []
    for kind, lines in groupby(filter(str.strip, text.splitlines()), key=_get_kind):
        pieces = list(lines)
        blocks += [Block(kind=kind, text=piece) for piece in (["\n".join(pieces)] if kind == "table" else pieces)]
    return tuple(blocks)


def _get_kind(line: str) -> str:
    """Return what a line is."""
    if GAP in line:
        return "table"
    return "heading" if line.endswith("?") else "paragraph"
