"""Figures of audits: scores or differences with their intervals, one below the other, and sheets of tiles."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from sem_search.evaluation.comparison import Difference
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.context import GreyImage
from sem_search.tracking.figures.style import (
    BLUE,
    GREY,
    HEAT_MAP,
    LABEL_PT,
    ORANGE,
    SMALL_PT,
    add_legend,
    draw_error_bars,
    make_caption,
    make_figure,
    make_panels,
    set_grid,
    set_rows,
    shorten,
    show_pixels,
)

NAME_LENGTH = 44
TITLE_LENGTH = 26
"""Characters that fit above a tile; a title has two lines."""


@dataclass(frozen=True, kw_only=True)
class BarRow:
    """One line: a value with its interval."""

    name: str
    interval: Interval | Difference
    is_marked: bool = False
    """Drawn in the colour of what needs attention."""


@dataclass(frozen=True, kw_only=True)
class TilePicture:
    """One tile to show, with or without heat laid over it."""

    pixels: GreyImage
    title: str
    caption: str
    heat_map: GreyImage | None = None
    """In [0, 1], at any resolution."""


def draw_rows(
    rows: Sequence[BarRow],
    *,
    axis_label: str,
    reference: float | None = None,
    reference_name: str = "",
    limits: tuple[float, float] | None = (0.0, 1.0),
) -> Figure:
    """Draw values with their intervals, the first on top.

    Args:
        rows: At least one.
        axis_label: What the values are.
        reference: Where a line is drawn: chance, or no difference.
        reference_name: What the line means.
        limits: Of the axis; None to fit the values.
    """
    figure = make_figure(width_in=7.0, height_in=0.36 * len(rows) + 1.3)
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        draw_error_bars(axes, [row.interval], rows=[place], colour=ORANGE if row.is_marked else BLUE)
    if reference is not None:
        axes.axvline(reference, color=GREY, linestyle="--", linewidth=1, label=reference_name)
        add_legend(figure)
    set_rows(axes, [make_caption(row.name, length=NAME_LENGTH) for row in rows])
    if limits is not None:
        axes.set_xlim(*limits)
    axes.set_xlabel(axis_label, fontsize=LABEL_PT)
    set_grid(axes, axis="x")
    return figure


def draw_tiles(pictures: Sequence[TilePicture], *, per_line: int) -> Figure:
    """Draw tiles, at least one, side by side in the order given."""
    figure = make_figure(width_in=1.9 * per_line, height_in=2.4 * math.ceil(len(pictures) / per_line))
    panels = make_panels(figure, n=len(pictures), n_columns=per_line)
    for axes, picture in zip(panels, pictures, strict=True):
        extent = show_pixels(axes, picture.pixels)
        if picture.heat_map is not None:
            axes.imshow(picture.heat_map, cmap=HEAT_MAP, vmin=0, vmax=1, extent=extent, alpha=0.45)
        whole = shorten(picture.title, length=2 * TITLE_LENGTH)
        lines = textwrap.wrap(whole, TITLE_LENGTH, break_on_hyphens=False)
        title = "\n".join(make_caption(line, length=TITLE_LENGTH) for line in lines)
        axes.set_title(title, fontsize=SMALL_PT)
        axes.set_xlabel(make_caption(picture.caption, length=34), fontsize=SMALL_PT - 2)
    return figure
