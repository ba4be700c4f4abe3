"""One answer, two forms: a page that needs nothing else, and text whose last line is the answer."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sem_search.tracking.entries.types import FigureArtifact
from sem_search.tracking.figures.style import make_figure
from sem_search.tracking.report.answer_page import (
    Answer,
    CaptionedFigure,
    Row,
    Section,
    SideBySide,
    Table,
    build_answer_page,
)

TABLE = Table(
    columns=("Check", "Found", "Result"),
    rows=(
        Row(cells=("a <b>", "90.0 % (79.0 to 96.0 %)", "fine"), light="good"),
        Row(cells=("longer name", "+0.1", "look at it"), light="unclear"),
        Row(cells=("c", "", "two"), light="plain"),
    ),
    note="In brackets: intervals.",
)


def make_answer(path: str = "a/x.png", *, n_sections: int = 1) -> Answer:
    figure = FigureArtifact(path=path, draw=lambda: make_figure(width_in=2.0, height_in=1.0))
    return Answer(
        question="Of x & y?",
        subject="Audit of x.",
        light="bad",
        verdict="No",
        sentence="It is <so>.",
        overview=(TABLE, CaptionedFigure(artifact=figure, caption="Seen <so>")),
        sections=tuple(Section(heading=f"Part {number}", parts=("Said <i>here</i>.",)) for number in range(n_sections)),
    )


def build(answer: Answer) -> str:
    made_at = datetime(2026, 5, 4, 3, 2, tzinfo=UTC)
    return build_answer_page(answer, path="a/page.html", command="sem-search audit 'x y'", made_at=made_at).text


def test_the_text_ends_with_the_answer() -> None:
    assert make_answer().to_text().splitlines() == [
        "Audit of x.",
        "",
        "Part 0",
        "Said <i>here</i>.",
        "",
        "Check                          Found  Result",
        "a <b>        90.0 % (79.0 to 96.0 %)  fine",
        "longer name                     +0.1  look at it",
        "c                                     two",
        "In brackets: intervals.",
        "",
        "No. It is <so>.",
    ]
    assert make_answer().describe_sections() == "Audit of x.\n\nPart 0\nSaid <i>here</i>."


def test_a_section_of_figures_alone_has_no_text() -> None:
    (figure,) = make_answer().figures
    answer = Answer(
        question="?",
        subject="x.",
        light="plain",
        verdict="Yes",
        sentence="So.",
        sections=(Section(heading="Pictures", parts=(figure,)),),
    )
    assert answer.to_text() == "x.\n\nYes. So."
    assert answer.figures == (figure,)


def test_figures_side_by_side_share_a_note_and_are_logged_with_their_studies() -> None:
    (figure,) = make_answer().figures
    beside = SideBySide(figures=(replace(figure, caption="a"), replace(figure, caption="b")), note="Both show x.")
    answer = replace(make_answer(), overview=(), sections=(Section(heading="Pictures", parts=(beside,)),))
    page = build(answer)
    assert page.count('src="data:image/png;base64,') == 2
    assert page.index('<div class="beside">') < page.index("<figcaption>a<") < page.index("<figcaption>b<")
    assert page.count("Both show x.") == 1
    assert answer.figures == ()
    assert answer.to_text() == "Audit of x.\n\nNo. It is <so>."


@pytest.mark.parametrize(("path", "media"), [("a/x.png", "image/png"), ("a/x.jpg", "image/jpeg")])
def test_the_page_needs_nothing_else(path: str, media: str) -> None:
    page = build(make_answer(path))
    assert page.count(f'src="data:{media};base64,') == 1
    assert 'style="width: 2.0in" alt="Seen &lt;so&gt;"' in page
    assert "<h1>Of x &amp; y?</h1>" in page
    assert "<p>Said &lt;i&gt;here&lt;/i&gt;.</p>" in page
    assert "Made on 2026-05-04 03:02 by <code>sem-search audit &#39;x y&#39;</code>." in page
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_tables_have_heads_numbers_at_the_right_and_lights_with_words() -> None:
    page = build(make_answer())
    assert '<th scope="col">Check</th><th scope="col" class="n">Found</th>' in page
    assert '<th scope="row">a &lt;b&gt;</th>' in page
    assert '<td class="n">90.0 % (79.0 to 96.0 %)</td>' in page
    assert '<td><span class="green"><span class="sign" aria-hidden="true">●</span> fine</span></td>' in page
    assert "<td><b>two</b></td>" in page


@pytest.mark.parametrize(("n_sections", "is_there"), [(2, False), (3, True)])
def test_a_long_page_has_contents(n_sections: int, is_there: bool) -> None:
    page = build(make_answer(n_sections=n_sections))
    assert ('<nav aria-label="Contents">' in page) is is_there
    assert page.count('href="#section-') == (n_sections if is_there else 0)
    assert page.count('id="section-') == n_sections
