"""Rows of values with their intervals."""

import warnings

import numpy as np

from sem_search.evaluation.statistics import Interval
from sem_search.tracking.figures.audit import BarRow, TilePicture, draw_rows, draw_tiles
from sem_search.tracking.figures.style import ORANGE, render_figure

ROWS = [
    BarRow(name="as measured", interval=Interval(value=0.8, low=0.7, high=0.9)),
    BarRow(
        name="a very long name of a question that never ends, $x$ and 乳糖",
        interval=Interval(value=0.4, low=0.4, high=0.6),
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
    (axes,) = draw_rows(
        [BarRow(name="a", interval=Interval(value=-3.0, low=-4.0, high=-2.0))], axis_label="x", limits=None
    ).axes
    assert axes.get_xlim()[0] < -3.5


def test_a_sheet_shows_tiles_and_heat_and_leaves_the_rest_blank() -> None:
    pixels = np.full((48, 48), 0.5, dtype=np.float32)
    heat = np.eye(7, dtype=np.float32)
    figure = draw_tiles(
        [
            TilePicture(pixels=pixels, title="lot a", caption="a/1.png, tile 0"),
            TilePicture(pixels=pixels, title="lot b", caption="b/1.png, tile 3", heat_map=heat),
        ],
        per_line=3,
    )
    assert [len(axes.images) for axes in figure.axes] == [1, 2, 0]
    assert figure.axes[1].get_title() == "lot b"
    assert not figure.axes[2].axison


def test_the_names_of_two_lots_are_both_read_in_full() -> None:
    pixels = np.full((48, 48), 0.5, dtype=np.float32)
    figure = draw_tiles(
        [TilePicture(pixels=pixels, title="lactose-fine, not lactose-medium", caption="a.png, tile 0")], per_line=1
    )
    assert figure.axes[0].get_title().replace("\n", " ") == "lactose-fine, not lactose-medium"
    figure = draw_tiles([TilePicture(pixels=pixels, title="$x$ " * 40, caption="")], per_line=1)
    assert max(len(line) for line in figure.axes[0].get_title().split("\n")) < 60
    figure.canvas.draw()
