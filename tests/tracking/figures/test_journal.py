"""Figures in the widths of journals: letters of one size that do not touch, and stay letters."""

import io
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from sem_search.records import StudyOutcome, TileTable
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.figures.catalogue import list_study_figures, list_trust_figures
from sem_search.tracking.figures.journal import find_text_boxes, fit_to_column
from sem_search.tracking.figures.style import make_figure, render_figure

EXCIPIENTS = ["cellulose A", "cellulose B 101", "hydroxypropylcellulose", "lactose 100M", "starch 1500", "mannitol"]
WIDTHS = {"2": 85, "4a": 85, "4b": 85, "T3": 85, "T4": 85}
"""Of two classes, in mm; all others take two columns."""


@pytest.fixture
def figures(study: StudyOutcome, context: StudyContext, trust: StudyTrust) -> dict[str, Figure]:
    listed = (*list_study_figures(study, context=context), *list_trust_figures(trust))
    return {figure.number: figure.artifact.draw() for figure in listed}


def test_every_figure_is_as_wide_as_a_column_and_no_letters_touch(figures: dict[str, Figure]) -> None:
    for number, figure in figures.items():
        fit = fit_to_column(figure)
        assert (number, fit.width_mm, fit.is_crowded) == (number, WIDTHS.get(number, 180), False)
        assert figure.get_figwidth() * 25.4 == pytest.approx(fit.width_mm)
        shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert {text.get_fontsize() for text in shown} <= {7.0, 6.5, 6.0}
        assert max(text.get_fontsize() for text in shown) == fit.size_pt == 7.0


def test_six_classes_fit_too(
    make_tiles: Callable[..., TileTable], make_study: Callable[..., StudyOutcome], make_context: Callable[..., Any]
) -> None:
    study = make_study(make_tiles(EXCIPIENTS))
    for figure in list_study_figures(study, context=make_context(study)):
        fit = fit_to_column(figure.artifact.draw())
        assert (figure.number, fit.is_crowded) == (figure.number, False)
        assert fit.size_pt >= 6


@pytest.mark.parametrize(("gap", "expected_pt"), [(0.5, 7.0), (0.04, 6.0)])
def test_letters_get_smaller_until_they_do_not_touch(gap: float, expected_pt: float) -> None:
    figure = make_figure(width_in=3.3, height_in=1.5)
    for place in (0.2, 0.2 + gap):
        figure.text(0.1, place, "two lines of letters", fontsize=9)
    fit = fit_to_column(figure)
    assert (fit.size_pt, fit.is_crowded) == (expected_pt, False)


@pytest.mark.parametrize("places", [((0.3, 0.5), (0.3, 0.5)), ((0.9, 0.5), (0.1, 0.1)), ((0.1, 0.99), (0.1, 0.1))])
def test_letters_that_touch_or_are_cut_off_are_told(places: tuple[tuple[float, float], ...]) -> None:
    figure = make_figure(width_in=3.3, height_in=1.5)
    for x, y in places:
        figure.text(x, y, "a long line of letters", fontsize=9)
    fit = fit_to_column(figure)
    assert (fit.size_pt, fit.is_crowded) == (5.0, True)


def test_the_box_of_a_line_is_where_its_ink_is() -> None:
    figure = make_figure(width_in=3, height_in=3)
    figure.text(0.2, 0.5, "HHHH", fontsize=20)
    figure.text(0.8, 0.2, "HHHH", fontsize=20, rotation=90)
    boxes = find_text_boxes(figure)
    figure.canvas.draw()
    ink = np.asarray(figure.canvas.buffer_rgba())[..., 0] < 128  # type: ignore[attr-defined]
    for (left, top, right, bottom), half in zip(boxes, (slice(0, 200), slice(200, 300)), strict=True):
        rows, columns = np.nonzero(ink[:, half])
        found = (columns.min() + half.start, rows.min(), columns.max() + half.start, rows.max())
        assert np.abs(np.array(found) - (left, top, right, bottom)).max() <= 4


def test_letters_of_a_vector_file_stay_letters(figures: dict[str, Figure]) -> None:
    figure = figures["4a"]
    fit_to_column(figure)
    svg, pdf = (render_figure(figure, suffix=suffix) for suffix in (".svg", ".pdf"))
    root = ElementTree.fromstring(svg)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Predicted class", "fine", "rough"} <= set(words)
    assert root.attrib["width"] == f"{85 / 25.4 * 72:.6f}pt"[: len(root.attrib["width"]) - 2] + "pt"
    assert b"DejaVu Sans" in svg
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert [svg, pdf] == [render_figure(figure, suffix=suffix) for suffix in (".svg", ".pdf")]


def test_a_tiff_has_600_dpi_its_width_and_no_transparency(figures: dict[str, Figure]) -> None:
    for number, width_mm in (("4a", 85), ("3", 180)):
        fit_to_column(figures[number])
        with Image.open(io.BytesIO(render_figure(figures[number], suffix=".tif"))) as picture:
            assert (picture.format, picture.mode, picture.info["compression"]) == ("TIFF", "RGB", "tiff_lzw")
            assert picture.info["dpi"] == (600, 600)
            assert picture.width == int(width_mm / 25.4 * 600)
