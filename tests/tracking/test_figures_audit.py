"""Rows of values with their intervals."""

import warnings

import pytest

from sem_search.tracking.figure_style import ORANGE, render_figure
from sem_search.tracking.figures_audit import BarRow, draw_rows

ROWS = [
    BarRow(name="as measured", value=0.8, low=0.7, high=0.9),
    BarRow(
        name="a very long name of a question that never ends, $x$ and 乳糖",
        value=0.4,
        low=0.4,
        high=0.6,
        is_marked=True,
    ),
]


def test_rows_are_drawn_in_their_order_with_their_reference() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_rows(ROWS, axis_label="share", reference=0.25, reference_name="chance")
        assert len(render_figure(figure, suffix=".png")) > 5000
    (axes,) = figure.axes
    assert [float(container[0].get_xdata()[0]) for container in axes.containers] == [0.8, 0.4]
    assert axes.containers[1][0].get_color() == ORANGE
    assert axes.get_ylim() == (1.5, -0.5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["chance"]
    assert axes.get_xlim() == (0, 1)


def test_limits_may_follow_the_values() -> None:
    (axes,) = draw_rows([BarRow(name="a", value=-3.0, low=-4.0, high=-2.0)], axis_label="x", limits=None).axes
    assert axes.get_xlim()[0] < -3.5


def test_a_figure_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        draw_rows([], axis_label="x")
