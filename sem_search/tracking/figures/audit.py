"""Figures of the questions put to a finished study: scores or differences with their intervals, one below the other.

Every function takes the numbers and returns the figure; nothing is saved here.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from sem_search.tracking.entries.context import GreyImage
from sem_search.tracking.figures.style import (
    BLUE,
    GREY,
    HEAT_MAP,
    LABEL_PT,
    ORANGE,
    PALE,
    SMALL_PT,
    hide_frame,
    make_caption,
    make_figure,
    shorten,
)

NAME_LENGTH = 44
TITLE_LENGTH = 26
"""Characters that fit above a tile; a title has two lines."""


@dataclass(frozen=True, kw_only=True)
class BarRow:
    """One line: a value with its interval."""

    name: str
    value: float
    low: float
    high: float
    is_marked: bool = False
    """Drawn in the colour of what must be looked at."""


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

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("A figure of values needs at least one row.")
    figure = make_figure(width_in=7.0, height_in=0.36 * len(rows) + 1.3)
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        axes.errorbar(
            row.value,
            place,
            xerr=np.array([[max(row.value - row.low, 0)], [max(row.high - row.value, 0)]]),
            fmt="o",
            color=ORANGE if row.is_marked else BLUE,
            markersize=5,
            capsize=3,
            linewidth=1.5,
        )
    if reference is not None:
        axes.axvline(reference, color=GREY, linestyle="--", linewidth=1, label=reference_name)
        figure.legend(loc="outside upper center", fontsize=SMALL_PT, frameon=False)
    axes.set_yticks(range(len(rows)), [make_caption(row.name, length=NAME_LENGTH) for row in rows], fontsize=SMALL_PT)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    if limits is not None:
        axes.set_xlim(*limits)
    axes.set_xlabel(axis_label, fontsize=LABEL_PT)
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL_PT, length=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_tiles(pictures: Sequence[TilePicture], *, per_line: int) -> Figure:
    """Draw tiles side by side, in the order given.

    Raises:
        ValueError: There are no tiles.
    """
    if not pictures:
        raise ValueError("A sheet of tiles needs at least one tile.")
    n_lines = math.ceil(len(pictures) / per_line)
    figure = make_figure(width_in=1.9 * per_line, height_in=2.25 * n_lines)
    grid = figure.subplots(n_lines, per_line, squeeze=False).flat
    for axes, picture in zip(grid, pictures, strict=False):
        side = picture.pixels.shape
        extent = (0.0, float(side[1]), float(side[0]), 0.0)
        axes.imshow(picture.pixels, cmap="gray", vmin=0, vmax=1, extent=extent)
        if picture.heat_map is not None:
            axes.imshow(picture.heat_map, cmap=HEAT_MAP, vmin=0, vmax=1, extent=extent, alpha=0.45)
        whole = shorten(picture.title, length=2 * TITLE_LENGTH)
        lines = textwrap.wrap(whole, TITLE_LENGTH, break_on_hyphens=False)
        title = "\n".join(make_caption(line, length=TITLE_LENGTH) for line in lines)
        axes.set_title(title, fontsize=SMALL_PT)
        axes.set_xlabel(make_caption(picture.caption, length=34), fontsize=SMALL_PT - 2)
        hide_frame(axes)
    for axes in list(figure.axes)[len(pictures) :]:
        axes.set_axis_off()
    return figure
