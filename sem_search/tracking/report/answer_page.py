"""One page for one question put to a study, or to lots: its answer in plain words, and the figures.

Like the report it needs nothing else: figures stand in the file, there is no script and no link.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sem_search.tracking.entries.types import FigureArtifact, TextArtifact

MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}

GAP = "   "
"""What parts the columns of a table in plain text, and stands in no sentence."""


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


@dataclass(frozen=True, kw_only=True)
class _DrawnFigure:
    """A figure as it stands in the page."""

    caption: str
    width_in: float
    media_type: str
    content_base64: str


def build_answer_page(*, path: str, title: str, text: str, figures: Sequence[CaptionedFigure]) -> TextArtifact:
    """Return the page; figures are drawn now.

    Args:
        path: Ends in `.html`.
        title: Stands on top.
        text: In plain words: a line that ends in a question mark is a heading, lines with wide gaps are a table, every
            other line is a paragraph.
        figures: Below the text, in this order.
    """
    page = _get_template().render(title=title, blocks=split_text(text), figures=[_draw(figure) for figure in figures])
    return TextArtifact(path=path, text=page)


def split_text(text: str) -> tuple[Block, ...]:
    """Return the pieces of a plain text; lines of a table stay together."""
    blocks: list[Block] = []
    for line in text.splitlines():
        kind = _get_kind(line)
        if kind == "table" and blocks and blocks[-1].kind == "table":
            blocks[-1] = Block(kind=kind, text=f"{blocks[-1].text}\n{line}")
        elif line.strip():
            blocks.append(Block(kind=kind, text=line))
    return tuple(blocks)


def _get_kind(line: str) -> str:
    """Return what a line is."""
    if GAP in line:
        return "table"
    return "heading" if line.endswith("?") else "paragraph"


def _draw(figure: CaptionedFigure) -> _DrawnFigure:
    """Return a figure as the page holds it."""
    picture = figure.artifact.picture
    return _DrawnFigure(
        caption=figure.caption,
        width_in=picture.width_in,
        media_type=MEDIA_TYPES[Path(figure.artifact.path).suffix],
        content_base64=base64.b64encode(picture.content).decode("ascii"),
    )


@cache
def _get_template() -> Template:
    """Return the template; a name that it misses is an error, not a gap."""
    loader = PackageLoader("sem_search.tracking.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("answer.html")
