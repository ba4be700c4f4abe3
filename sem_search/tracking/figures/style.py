"""What all figures share: sizes, colours, labels, panels, intervals, and how a figure becomes a file.

Figures are made with matplotlib's `Figure` itself: no pyplot, no global state, safe in worker threads and processes.
Colours are those of Okabe and Ito (2008), told apart by readers with any colour vision; the colour maps are
perceptually even. Labels are never read as formulas, and never show a character that no font on this machine has.
"""

import io
import math
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from sem_search.evaluation.comparison import Difference
from sem_search.evaluation.statistics import Interval

LegendPlace = Literal["outside upper center", "outside lower center"]
Extent = tuple[float, float, float, float]
"""Left, right, bottom and top of a picture in its axes."""

PNG_DPI = 300
"""As journals ask for. With a palette, files are smaller than at 150 dpi without one."""

PNG_SIDE_PX = 3000
"""Longest side of a PNG: the matrix of thirty classes is 40 cm wide, and has fewer dpi."""

N_COLOURS = 256
"""In the palette of a PNG: enough for lines, letters and one colour map, to 9 of 255 steps."""

TIFF_DPI = 600
"""As journals ask for of figures that hold lines and micrographs."""

FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "png"},
    ".jpg": {"format": "jpeg", "dpi": 150, "pil_kwargs": {"quality": 90, "subsampling": 0}},
    ".svg": {"format": "svg", "dpi": PNG_DPI, "metadata": {"Date": None}},
    ".pdf": {"format": "pdf", "dpi": PNG_DPI, "metadata": {"CreationDate": None}},
    ".tif": {"format": "png", "dpi": TIFF_DPI, "pil_kwargs": {"compress_level": 1}},
}
"""The micrographs in a report's figures are reduced copies, to which more dpi would add nothing but size."""

TITLE_PT = 10.0
LABEL_PT = 9.0
SMALL_PT = 7.5

BLUE = "#0072B2"
ORANGE = "#D55E00"
GREEN = "#009E73"
GREY = "#666666"
PALE = "#E4E4E4"

SCORE_MAP = "cividis"
SHARE_MAP = "magma_r"
HEAT_MAP = "inferno"

FALLBACK_FAMILIES = (
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Hiragino Sans",
    "Arial Unicode MS",
)
"""Tried, where they are installed, for characters that matplotlib's own font lacks."""

LABEL_LINE = 18
"""Characters in one line of a class label."""

LABEL_LENGTH = 2 * LABEL_LINE
"""Longer names lose their middle: the ends tell grades apart."""


def make_figure(*, width_in: float, height_in: float) -> Figure:
    """Return an empty figure that arranges its parts by itself, so many inches wide and high."""
    return Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")


def render_figure(figure: Figure, *, suffix: str) -> bytes:
    """Return the figure as a file; equal figures give equal bytes with the same matplotlib.

    Args:
        figure: What to draw.
        suffix: `.png` for lines and letters, `.jpg` for figures made of micrographs, whose noise no PNG packs; for
            journals `.svg` and `.pdf`, whose letters stay letters, and `.tif`.
    """
    set_families(figure)
    buffer = io.BytesIO()
    if suffix == ".png":
        dpi = min(PNG_DPI, PNG_SIDE_PX / max(figure.get_size_inches()))
        figure.savefig(buffer, dpi=dpi, **FORMATS[suffix])
        return _reduce_colours(buffer, dpi=dpi)
    # Letters stay letters, which a journal can search and set anew; and equal figures give equal files.
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "sem_search"}):
        figure.savefig(buffer, **FORMATS[suffix])
    return _write_tiff(buffer) if suffix == ".tif" else buffer.getvalue()


def set_families(figure: Figure) -> None:
    """Let all text be drawn in matplotlib's own font, or in one that has what it lacks."""
    for text in figure.findobj(Text):
        text.set_fontfamily([*_get_families(), "sans-serif"])


def make_labels(names: Sequence[str]) -> tuple[str, ...]:
    """Return a label for each class name, short enough to be drawn, no two alike.

    A name with a character that no font here can draw becomes `class 3`: its place in sorted order, counted from 1,
    as in the report's table of classes.
    """
    labels = [shorten(name) if is_drawable(name) else f"class {place}" for place, name in enumerate(names, start=1)]
    return tuple(
        escape(label if labels.count(label) == 1 else f"{label} ({place})")
        for place, label in enumerate(labels, start=1)
    )


def map_labels(names: Iterable[str]) -> dict[str, str]:
    """Return the label of each class, in sorted order."""
    ordered = sorted(set(names))
    return dict(zip(ordered, make_labels(ordered), strict=True))


def wrap(label: str, *, line: int = LABEL_LINE) -> str:
    """Return a label in at most two lines, broken at a space or hyphen where that is possible."""
    plain = label.replace(r"\$", "$")
    lines = textwrap.wrap(plain, line)
    if len(lines) > 2:
        middle = math.ceil(len(plain) / 2)
        lines = [plain[:middle], plain[middle:]]
    return escape("\n".join(lines))


def make_caption(text: str, *, length: int) -> str:
    """Return any text, such as an image id, as one short line that can be drawn; what no font has becomes `?`."""
    drawable = "".join(character if is_drawable(character) else "?" for character in text)
    return escape(shorten(drawable, length=length))


def make_id_lines(image_id: str, *, line: int) -> str:
    """Return an image id in at most two lines that can be drawn, broken between its folder and its name if it can be.

    Args:
        image_id: Folder and name.
        line: Characters in one line.
    """
    folder, slash, name = image_id.rpartition("/")
    lines = [folder + slash, name] if slash and len(image_id) > line else [image_id]
    return "\n".join(make_caption(part, length=line) for part in lines)


def shorten(text: str, *, length: int = LABEL_LENGTH) -> str:
    """Return text in one line, without its middle where it is too long."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    head = (length - 1) // 2
    return f"{line[:head]}…{line[len(line) - (length - 1 - head) :]}"


def escape(text: str) -> str:
    """Return text that matplotlib draws as it stands: two dollar signs would make it a formula."""
    return text.replace("$", r"\$")


def is_drawable(text: str) -> bool:
    """Return whether each character has a glyph in a font of this machine."""
    return all(character.isspace() or ord(character) in _get_glyphs() for character in text)


def make_panels(figure: Figure, *, n: int, n_columns: int, **options: Any) -> list[Axes]:
    """Return n panels, line by line; what is left of the last line stays blank.

    Args:
        figure: Without panels.
        n: How many.
        n_columns: Panels in one line.
        options: Of matplotlib's `subplots`.
    """
    panels = list(figure.subplots(math.ceil(n / n_columns), n_columns, squeeze=False, **options).flat)
    for axes in panels[n:]:
        axes.set_axis_off()
    return panels[:n]


def show_pixels(axes: Axes, pixels: NDArray[np.float32], *, shape_px: tuple[int, int] | None = None) -> Extent:
    """Show a picture in grey, without a frame.

    Args:
        axes: Where.
        pixels: Grey levels in [0, 1].
        shape_px: Height and width of the original, where the pixels are a reduced copy of it.

    Returns:
        Its place in the axes, for what is laid over it.
    """
    height_px, width_px = shape_px or pixels.shape
    extent = (0.0, float(width_px), float(height_px), 0.0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return extent


def draw_error_bars(
    axes: Axes,
    intervals: Sequence[Interval | Difference],
    *,
    rows: ArrayLike,
    colour: str,
    label: str | None = None,
    marker: str = "o",
    is_upright: bool = False,
) -> None:
    """Draw a point with its interval in each row.

    Args:
        axes: Where.
        intervals: What is drawn.
        rows: One for each interval.
        colour: Of all.
        label: In the legend.
        marker: Of the points.
        is_upright: Intervals stand upright, and rows are columns.
    """
    value, low, high = (np.array([getattr(one, name) for one in intervals]) for name in ("value", "low", "high"))
    reach = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
    places: dict[str, Any] = (
        {"x": rows, "y": value, "yerr": reach} if is_upright else {"x": value, "y": rows, "xerr": reach}
    )
    axes.errorbar(**places, fmt=marker, color=colour, markersize=4, capsize=3, linewidth=1.4, label=label)


def set_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a figure, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def draw_borders(axes: Axes, *, n_rows: int, n_columns: int, colour: str = PALE) -> None:
    """Draw fine lines between the fields of a matrix.

    Args:
        axes: Where.
        n_rows: Of the matrix.
        n_columns: Of the matrix.
        colour: Of the lines.
    """
    axes.set_xticks(np.arange(n_columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=colour, linewidth=0.7)
    axes.tick_params(which="minor", length=0)


def set_grid(axes: Axes, *, axis: Literal["both", "x"] = "both") -> None:
    """Leave a pale grid behind the drawing, small numbers, and no frame at the top and at the right."""
    axes.grid(axis=axis, color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL_PT, length=0)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(figure: Figure, *, place: LegendPlace = "outside upper center", **options: Any) -> None:
    """Explain the colours outside the axes, in one line.

    Args:
        figure: The figure.
        place: Above or below the axes.
        options: Of matplotlib's `legend`.
    """
    figure.legend(loc=place, ncols=4, fontsize=SMALL_PT, frameon=False, **options)


def _reduce_colours(png: io.BytesIO, *, dpi: float) -> bytes:
    reduced = io.BytesIO()
    with Image.open(png) as picture:
        palette = picture.convert("RGB").quantize(
            N_COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    palette.save(reduced, format="PNG", optimize=True, dpi=(dpi, dpi))
    return reduced.getvalue()


def _write_tiff(png: io.BytesIO) -> bytes:
    """Return the same picture as a TIFF without transparency, which journals refuse."""
    tiff = io.BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").save(tiff, format="TIFF", compression="tiff_lzw", dpi=(TIFF_DPI, TIFF_DPI))
    return tiff.getvalue()


@cache
def _get_families() -> tuple[str, ...]:
    """Return matplotlib's own font and the fallbacks that are installed."""
    installed = {entry.name for entry in fontManager.ttflist}
    return ("DejaVu Sans", *(family for family in FALLBACK_FAMILIES if family in installed))


@cache
def _get_glyphs() -> frozenset[int]:
    """Return the code points that these fonts can draw."""
    fonts = [get_font(findfont(FontProperties(family=[family]))) for family in _get_families()]
    return frozenset(code for font in fonts for code in font.get_charmap())
