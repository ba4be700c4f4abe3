"""Figures as journals take them: one or two columns wide, in letters of 7 pt, as SVG, PDF and TIFF.

Each figure is drawn once, as for the report. Then it gets the width of a column and letters of one size, and matplotlib
arranges its parts anew. Where two texts would touch, or one would be cut off, all letters get smaller.
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from sem_search.records import FloatMatrix
from sem_search.tracking.figures.style import PNG_DPI, set_families

MM_PER_IN = 25.4
ONE_COLUMN_MM = 85.0
TWO_COLUMNS_MM = 180.0
"""Of the journals of Elsevier and Springer Nature, to 5 mm."""

ONE_COLUMN_MAX_IN = 5.3
"""A figure that is wider in the report takes two columns."""

SIZES_PT = (7.0, 6.5, 6.0, 5.5, 5.0)
"""Of letters, the first that fits; below 5 pt print is not legible, and journals refuse it."""

TOUCH = 0.1
"""Share of a line's height by which two boxes may overlap: they are higher than most letters."""


@dataclass(frozen=True, kw_only=True)
class ColumnFit:
    """How a figure was brought to the width of a column."""

    width_mm: float
    height_mm: float
    size_pt: float
    """Of its largest letters."""
    is_crowded: bool
    """Whether texts touch or are cut off though they are as small as they may be."""


def fit_to_column(figure: Figure) -> ColumnFit:
    """Give a figure the width of one or two columns and letters of at most 7 pt; the figure is changed.

    Args:
        figure: As it was drawn for the report.
    """
    width_in, height_in = figure.get_size_inches()
    width_mm = ONE_COLUMN_MM if width_in <= ONE_COLUMN_MAX_IN else TWO_COLUMNS_MM
    scale = width_mm / MM_PER_IN / width_in
    figure.set_size_inches(scale * width_in, scale * height_in)
    figure.set_dpi(PNG_DPI)
    set_families(figure)
    own_sizes = {text: float(text.get_fontsize()) for text in figure.findobj(Text)}
    for size_pt in SIZES_PT:
        _set_sizes(figure, own_sizes=own_sizes, size_pt=size_pt)
        is_crowded = _is_crowded(figure)
        if not is_crowded:
            break
    figure.set_layout_engine("none")  # arranged again for each file, the parts would move by a hair
    return ColumnFit(
        width_mm=width_mm, height_mm=float(scale * height_in * MM_PER_IN), size_pt=size_pt, is_crowded=is_crowded
    )


def _set_sizes(figure: Figure, *, own_sizes: dict[Any, float], size_pt: float) -> None:
    """Give all letters this size, but those that were drawn smaller."""
    for axes in figure.axes:
        axes.tick_params(which="both", labelsize=size_pt)
    for text, own_pt in own_sizes.items():
        text.set_fontsize(min(own_pt, size_pt))


def _is_crowded(figure: Figure) -> bool:
    """Return whether two lines of text touch, or one leaves the figure."""
    boxes = find_text_boxes(figure)
    if not len(boxes):
        return False
    left, top, right, bottom = boxes.T
    is_cut = left.min() < 0 or top.min() < 0 or right.max() > figure.bbox.width or bottom.max() > figure.bbox.height
    slack = TOUCH * min((bottom - top).min(), (right - left).min())
    width = np.minimum.outer(right, right) - np.maximum.outer(left, left)
    height = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    touches = (width > slack) & (height > slack)
    return bool(is_cut or np.triu(touches, k=1).any())


def find_text_boxes(figure: Figure) -> FloatMatrix:
    """Return the box of each line of text as it is drawn, shape (n_lines, 4): left, top, right and bottom in dots.

    Text with an outline, which stands on pictures, is not among them.
    """
    FigureCanvasAgg(figure)
    renderer = _TextRecorder(figure.bbox.width, figure.bbox.height, figure.dpi)
    figure.draw(renderer)
    return np.array(renderer.boxes, dtype=np.float64).reshape(-1, 4)


class _TextRecorder(RendererAgg):
    """Draws as ever, and remembers where each line of text stands."""

    def __init__(self, width: float, height: float, dpi: float) -> None:
        super().__init__(width, height, dpi)
        self.boxes: list[tuple[float, float, float, float]] = []

    def draw_text(self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, *rest: Any, **named: Any) -> None:
        """Draw one line whose base line begins at (x, y), counted from the upper left."""
        width, height, descent = self.get_text_width_height_descent(s, prop, ismath=False)
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        corners = [
            (x + along * cosine + down * sine, y - along * sine + down * cosine)
            for along, down in product((0, width), (descent - height, descent))
        ]
        across, below = zip(*corners, strict=True)
        self.boxes.append((min(across), min(below), max(across), max(below)))
        super().draw_text(gc, x, y, s, prop, angle, *rest, **named)
