"""The answer to one question as records, and its two forms: a page for the browser, and text for the terminal.

Both are made of the same records, so that they cannot say different things.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Literal

from sem_search.terminal import align_columns
from sem_search.tracking.entries.types import FigureArtifact, TextArtifact
from sem_search.tracking.report.page import render_page

Light = Literal["good", "bad", "unclear", "plain"]
"""What a reader should make of an answer; `plain` where neither outcome is good or bad."""

N_SECTIONS_LISTED = 3
"""From so many sections on, a page begins with a list of contents."""

_NUMBER = re.compile(r"[+\-<>]?\d")


@dataclass(frozen=True, kw_only=True)
class CaptionedFigure:
    """A figure and what it shows."""

    artifact: FigureArtifact
    caption: str


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """One figure of several studies, beside one another; what logged the studies has logged them."""

    figures: tuple[CaptionedFigure, ...]
    """Each with the name of its study alone."""
    note: str
    """What all of them show."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table."""

    cells: tuple[str, ...]
    light: Light | None = None
    """Of the last cell."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under named columns, as they are read."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    """What a reader needs to understand it; stands below."""

    @property
    def is_number(self) -> tuple[bool, ...]:
        """Whether each column holds numbers alone, which stand at its right edge."""
        columns = zip(*(row.cells for row in self.rows), strict=True)
        return tuple(
            any(cells := [cell for cell in column if cell]) and all(map(_NUMBER.match, cells)) for column in columns
        )

    def to_text(self) -> str:
        """Return the table for a terminal."""
        lines = align_columns([self.columns, *(row.cells for row in self.rows)], is_right=self.is_number)
        return "\n".join([*lines, *filter(None, [self.note])])


Part = str | Table | CaptionedFigure | SideBySide
"""Of a section; a text is a paragraph."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """What belongs under one heading."""

    heading: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question put to a study, or to lots, and what was found."""

    question: str
    subject: str
    """Whom it was put to, in one sentence."""
    light: Light
    verdict: str
    """`Yes`, `No`, `Cannot tell`: a few words."""
    sentence: str
    """The answer with its figures, in one or two sentences."""
    overview: tuple[Part, ...] = ()
    """Stands before the sections on a page, and below them on a terminal, where the last lines are read first."""
    sections: tuple[Section, ...] = ()

    @property
    def figures(self) -> tuple[CaptionedFigure, ...]:
        """All figures, in the order of the page."""
        parts = chain(self.overview, *(section.parts for section in self.sections))
        return tuple(part for part in parts if isinstance(part, CaptionedFigure))

    def describe_sections(self) -> str:
        """Return the subject and all sections as text: what is known before the last word is."""
        return "\n".join([self.subject, *chain.from_iterable(map(_iter_lines, self.sections))])

    def to_text(self) -> str:
        """Return all but the figures as text."""
        return "\n".join([self.describe_sections(), *self.iter_conclusion()])

    def iter_conclusion(self) -> Iterator[str]:
        """Yield the lines of the overview and the last word."""
        if self.overview:
            yield from ("", *_write_parts(self.overview))
        yield from ("", f"{self.verdict}. {self.sentence}")


def build_answer_page(answer: Answer, *, path: str, command: str, made_at: datetime | None = None) -> TextArtifact:
    """Return the page; figures are drawn now.

    Args:
        answer: What it says.
        path: Ends in `.html`.
        command: What makes the page again.
        made_at: When it was made; by default now.
    """
    page = render_page(
        "answer.html",
        answer=answer,
        command=command,
        made_at=f"{made_at or datetime.now().astimezone():%Y-%m-%d %H:%M}",
        has_contents=len(answer.sections) >= N_SECTIONS_LISTED,
    )
    return TextArtifact(path=path, text=page)


def _iter_lines(section: Section) -> Iterator[str]:
    if lines := _write_parts(section.parts):
        yield from ("", section.heading, *lines)


def _write_parts(parts: tuple[Part, ...]) -> list[str]:
    """Return paragraphs and tables as text; figures have none."""
    return [part if isinstance(part, str) else part.to_text() for part in parts if isinstance(part, str | Table)]
