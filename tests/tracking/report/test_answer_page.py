"""The page of one question: words in their kinds, figures inside, nothing that runs or leads away."""

import pytest

from sem_search.tracking.entries.types import FigureArtifact
from sem_search.tracking.figures.style import make_figure
from sem_search.tracking.report.answer_page import Block, CaptionedFigure, build_answer_page, split_text

TEXT = """Audit of study x: 0.9 of the test images are correctly classified.

Is the split honest?
It is <b>so</b>.
name   first   second
a      0.1     0.2
Done.
"""


def test_lines_are_headings_paragraphs_and_tables() -> None:
    assert split_text(TEXT) == (
        Block(kind="paragraph", text="Audit of study x: 0.9 of the test images are correctly classified."),
        Block(kind="heading", text="Is the split honest?"),
        Block(kind="paragraph", text="It is <b>so</b>."),
        Block(kind="table", text="name   first   second\na      0.1     0.2"),
        Block(kind="paragraph", text="Done."),
    )


@pytest.mark.parametrize(("path", "media"), [("a/x.png", "image/png"), ("a/x.jpg", "image/jpeg")])
def test_the_page_needs_nothing_else(path: str, media: str) -> None:
    figure = FigureArtifact(path=path, draw=lambda: make_figure(width_in=2.0, height_in=1.0))
    page = build_answer_page(
        path="a/page.html", title="Of x & y", text=TEXT, figures=[CaptionedFigure(artifact=figure, caption="Seen <so>")]
    )
    assert page.path == "a/page.html"
    assert page.text.count(f'src="data:{media};base64,') == 1
    assert 'style="width: 2.0in" alt="Seen &lt;so&gt;"' in page.text
    assert "<h1>Of x &amp; y</h1>" in page.text
    assert "<h2>Is the split honest?</h2>" in page.text
    assert "<p>It is &lt;b&gt;so&lt;/b&gt;.</p>" in page.text
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text
