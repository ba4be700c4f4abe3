"""Figures 2, 3, S1 and S2 of Iwata, Hayashi et al. 2022: examples, the grid of cells, the tiling and the folds."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from sem_search.heads import HEAD_NAMES
from sem_search.records import FloatMatrix
from sem_search.tracking.entries.context import ExampleImage, TilingExample
from sem_search.tracking.entries.tables import FoldRow, FoldSplit, GridCell, GridTable
from sem_search.tracking.figures.style import (
    GREY,
    LABEL_PT,
    ORANGE,
    PALE,
    SCORE_MAP,
    SMALL_PT,
    TITLE_PT,
    add_legend,
    draw_borders,
    make_caption,
    make_figure,
    make_id_lines,
    make_labels,
    make_panels,
    map_labels,
    shorten,
    show_pixels,
    wrap,
)
from sem_search.words import count

EXAMPLES_PER_LINE = 5
NAME_LINE = 24
"""Characters of a file name below an example of the smallest size."""

SHEET_IN = 9.0
"""Width of a full line of examples; few examples are drawn larger."""

NUMBERED_TILES = 150
"""More tiles than this are outlined but not numbered: the numbers would be illegible."""

BRIGHT_SHARE = 0.55
"""Share of the colour scale from which the colour is bright enough for black figures."""

SCORE_STEP = 0.05
"""The colour scale ends at a multiple of this."""

SCORE_SPANS = (0.1, 0.3)
"""Its shortest and longest span: a shorter one would show chance as a difference, a longer one hides differences."""

HATCHES = {"pruned": "//", "failed": "xx", "missing": ""}
NOT_COMPLETE = {
    "pruned": "pruned: (mean of its finished folds)",
    "failed": "failed: (mean of its finished folds)",
    "missing": "not tried",
}

SPLIT_COLOURS: dict[FoldSplit, str] = {
    "left out": "white",
    "training": "#DCDCDC",
    "validation": "#E69F00",
    "test": "#0B4F8A",
}
"""They differ in brightness as well: the figure can be printed in grey."""

WIDEST_PANELS_IN = 9.5

MOST_DRAWN = 200
"""Images of a class in the figure of the folds."""


def draw_examples(examples: Sequence[ExampleImage]) -> Figure:
    """Draw originals, at least one, in the order given, with a scale bar where the pixel size is known (Figure 2)."""
    n_columns = min(EXAMPLES_PER_LINE, len(examples))
    n_lines = math.ceil(len(examples) / n_columns)
    shape = max(example.height_px / example.width_px for example in examples)
    column_in = max(1.75, SHEET_IN / 2 / n_columns)
    labels = map_labels(example.label for example in examples)
    names = [(wrap(labels[one.label]), make_id_lines(one.image_id, line=NAME_LINE)) for one in examples]
    n_text_lines = sum(max(text.count("\n") + 1 for text in texts) for texts in zip(*names, strict=True))
    text_in = 0.25 + n_text_lines * 1.3 * SMALL_PT / 72
    figure = make_figure(
        width_in=column_in * n_columns + 0.2, height_in=((column_in - 0.05) * min(shape, 1.5) + text_in) * n_lines
    )
    panels = make_panels(figure, n=len(examples), n_columns=n_columns)
    for axes, example, (title, name) in zip(panels, examples, names, strict=True):
        show_pixels(axes, example.pixels, shape_px=(example.height_px, example.width_px))
        axes.set_title(title, fontsize=SMALL_PT)
        axes.set_xlabel(name, fontsize=SMALL_PT)
        if example.pixel_size_nm:
            _draw_scale_bar(axes, example=example, pixel_size_nm=example.pixel_size_nm)
    return figure


def draw_grid_heat_map(tables: Sequence[GridTable]) -> Figure:
    """Draw the mean F-measure of every cell on one colour scale (Figure 3), head below head, one panel per split.

    The linear head is one field, below the grids of the others. The scale ends near the lowest and the highest complete
    cell, so that good cells differ in colour, too. A frame marks the winner. Cells that were pruned or failed have no
    colour, and the mean of their finished folds in brackets.
    """
    figure, panels = _make_grid_panels(tables)
    limits, has_lower = find_score_limits(tables)
    for axes, table in zip(panels, tables, strict=True):
        image = _draw_grid_panel(axes, table, limits=limits)
    _name_grids(panels, tables)
    bar = figure.colorbar(image, ax=list(panels), aspect=22, extend="min" if has_lower else "neither")
    bar.set_label("Mean F-measure of complete trials", fontsize=LABEL_PT)
    bar.ax.tick_params(labelsize=SMALL_PT)
    states = {cell.state for table in tables for cell in table.cells}
    handles = [Patch(facecolor="none", edgecolor=ORANGE, linewidth=2, label="winner")]
    handles += [
        Patch(facecolor=PALE, edgecolor=GREY, linewidth=0, hatch=2 * HATCHES[state], label=words)
        for state, words in NOT_COMPLETE.items()
        if state in states
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=SMALL_PT, frameon=False)
    return figure


def find_score_limits(tables: Sequence[GridTable]) -> tuple[tuple[float, float], bool]:
    """Return the ends of the colour scale of some grids, and whether a complete cell lies below its lower end."""
    scores = [cell.f_measure for table in tables for cell in table.cells if cell.state == "complete"]
    lowest, highest = (find(score for score in scores if score is not None) for find in (min, max))
    shortest, longest = SCORE_SPANS
    high = max(math.ceil(highest / SCORE_STEP) * SCORE_STEP, shortest)
    low = max(min(math.floor(lowest / SCORE_STEP) * SCORE_STEP, high - shortest), high - longest)
    return (low, high), lowest < low


def draw_tiling(example: TilingExample) -> Figure:
    """Draw how one original is cut, with the tiles numbered in order (Figure S1); what no tile covers is darkened."""
    image = example.image
    width_in = 6.5
    figure = make_figure(width_in=width_in, height_in=max(2.0, width_in * image.height_px / image.width_px) + 0.4)
    axes = figure.add_subplot()
    extent = show_pixels(axes, image.pixels, shape_px=(image.height_px, image.width_px))
    axes.imshow(_build_veil(example), extent=extent, interpolation="nearest")
    size_px = example.tile_px
    for number, (top, left) in enumerate(example.corners_px):
        axes.add_patch(Rectangle((left, top), size_px, size_px, fill=False, edgecolor=ORANGE, linewidth=1.4))
        if len(example.corners_px) <= NUMBERED_TILES:
            _write_on_picture(axes, left + size_px / 2, top + size_px / 2, str(number))
    axes.set_title(
        f"{make_caption(image.image_id, length=36)}: {image.width_px} × {image.height_px} px, "
        f"{len(example.corners_px)} tiles of {size_px} × {size_px} px",
        fontsize=TITLE_PT,
    )
    return figure


def draw_folds(rows: Sequence[FoldRow]) -> Figure:
    """Draw in which split every image stands, one panel per fold, one row per class (Figure S2).

    Of large classes every second, third ... image is drawn: what is narrower than a pixel shows nothing.
    """
    of_class: dict[str, list[FoldRow]] = defaultdict(list)
    for row in rows:
        of_class[row.label].append(row)
    names, n_folds = sorted(of_class), len(rows[0].splits)
    step = math.ceil(max(map(len, of_class.values())) / MOST_DRAWN)
    drawn = {name: of_class[name][::step] for name in names}
    widest = max(map(len, drawn.values()))
    panel_in = min(max(1.15, 0.14 * widest), WIDEST_PANELS_IN)
    n_columns = max(1, min(n_folds, int(WIDEST_PANELS_IN // panel_in)))
    height_in = (max(0.19 * len(names), 0.6) + 0.5) * math.ceil(n_folds / n_columns) + 0.8
    figure = make_figure(width_in=panel_in * n_columns + 2.0, height_in=height_in)
    for fold, axes in enumerate(make_panels(figure, n=n_folds, n_columns=n_columns, sharey=True)):
        _draw_fold_panel(axes, drawn=drawn, fold=fold)
    some = f"One of {step} images" if step > 1 else "Images"
    figure.supxlabel(f"{some} of the class, in the order of their names", fontsize=LABEL_PT)
    used = {split for row in rows for split in row.splits}
    shown = [split for split in ("training", "validation", "test", "left out") if split in used]
    add_legend(figure, handles=[Patch(facecolor=SPLIT_COLOURS[split], edgecolor=GREY, label=split) for split in shown])
    return figure


def format_rate(learning_rate: float) -> str:
    """Return a learning rate as people write it: `1e-3`, `2.5e-4`."""
    mantissa, exponent = f"{learning_rate:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _draw_scale_bar(axes: Axes, *, example: ExampleImage, pixel_size_nm: float) -> None:
    """Draw a bar of a round length, about a quarter of the picture wide, on a dark ground."""
    length_nm = _round_length(0.3 * example.width_px * pixel_size_nm)
    width_px = length_nm / pixel_size_nm
    left, bottom = 0.05 * example.width_px, 0.95 * example.height_px
    thickness = 0.02 * example.height_px
    axes.add_patch(
        Rectangle((left, bottom - thickness), width_px, thickness, facecolor="white", edgecolor="black", linewidth=0.5)
    )
    _write_on_picture(axes, left + width_px / 2, bottom - 0.08 * example.height_px, _format_length(length_nm))


def _round_length(length_nm: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(length_nm))
    return max(step * power for step in (1, 2, 5) if step * power <= length_nm * (1 + 1e-9))


def _format_length(length_nm: float) -> str:
    for unit, size_nm in (("mm", 1e6), ("µm", 1e3)):
        if length_nm >= size_nm:
            return f"{length_nm / size_nm:g} {unit}"
    return f"{length_nm:g} nm"


def _write_on_picture(axes: Axes, x: float, y: float, words: str) -> None:
    """Write words that can be read on light and dark grounds."""
    outline = [withStroke(linewidth=1.8, foreground="black")]
    axes.text(x, y, words, color="white", fontsize=SMALL_PT, ha="center", va="center", path_effects=outline)


def _make_grid_panels(tables: Sequence[GridTable]) -> tuple[Figure, list[Axes]]:
    """Return a figure with an empty panel for each table: the heads below one another, their splits side by side."""
    n_splits = len({table.split for table in tables})
    n_rows = [len(table.learning_rates) or 1 for table in tables[::n_splits]]
    n_columns = max(len(table.batch_sizes) or 1 for table in tables)
    figure = make_figure(
        width_in=(0.72 * n_columns + 1.0) * n_splits + 1.3,
        height_in=0.5 * sum(n_rows) + 1.9 + 0.5 * (len(n_rows) - 1),
    )
    panels = figure.subplots(len(n_rows), n_splits, sharey="row", squeeze=False, height_ratios=n_rows)
    return figure, list(panels.flat)


def _name_grids(panels: Sequence[Axes], tables: Sequence[GridTable]) -> None:
    """Write above the uppermost panels which tiles they show, and beside each head's what it is."""
    n_trained = len({table.head for table in tables if table.head != "linear"})
    for axes, table in zip(panels, tables, strict=True):
        lines = [f"{table.split.capitalize()} tiles"] if table.head == tables[0].head else []
        if table.head == "linear":
            axes.set_yticks([0], ["linear head"], fontsize=SMALL_PT)
        elif n_trained > 1:
            lines.append(wrap(HEAD_NAMES[table.head]))
        axes.set_title("\n".join(lines), fontsize=TITLE_PT)
        if table.head != "linear" and table.split == tables[0].split:
            axes.set_ylabel("Learning rate", fontsize=LABEL_PT)


def _draw_grid_panel(axes: Axes, table: GridTable, *, limits: tuple[float, float]) -> AxesImage:
    """Draw one split of one head's grid; return the image, for the colour bar."""
    n_columns = len(table.batch_sizes) or 1
    scores = [cell.f_measure if cell.state == "complete" else None for cell in table.cells]
    matrix = np.array(scores, dtype=np.float64).reshape(-1, n_columns)
    image = axes.imshow(matrix, cmap=SCORE_MAP, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_facecolor(PALE)
    for place, cell in enumerate(table.cells):
        row, column = divmod(place, n_columns)
        _draw_grid_field(axes, cell=cell, limits=limits, place=(row, column))
        if cell.cell == table.winner:
            axes.add_patch(
                Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor=ORANGE, linewidth=2.5)
            )
    axes.set_xticks(range(len(table.batch_sizes)), [str(size) for size in table.batch_sizes], fontsize=SMALL_PT)
    axes.set_yticks(
        range(len(table.learning_rates)), [format_rate(rate) for rate in table.learning_rates], fontsize=SMALL_PT
    )
    axes.set_xlabel("Batch size" if table.batch_sizes else "", fontsize=LABEL_PT)
    axes.tick_params(length=0)
    return image


def _draw_grid_field(axes: Axes, *, cell: GridCell, limits: tuple[float, float], place: tuple[int, int]) -> None:
    """Write the score, or why there is none, into one field; hatch what is not complete."""
    row, column = place
    if cell.state != "complete":
        field = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch=HATCHES[cell.state], edgecolor=GREY)
        field.set(linewidth=0, alpha=0.3)
        field.set_hatch_linewidth(0.6)
        axes.add_patch(field)
    is_dark = (
        cell.state == "complete"
        and cell.f_measure is not None
        and cell.f_measure < limits[0] + BRIGHT_SHARE * (limits[1] - limits[0])
    )
    colour = "white" if is_dark else "black"
    axes.text(column, row, _describe_grid_cell(cell), ha="center", va="center", color=colour, fontsize=SMALL_PT)


def _describe_grid_cell(cell: GridCell) -> str:
    if cell.state == "missing":
        return "not\ntried"
    if cell.f_measure is None:
        return cell.state
    if cell.state == "complete":
        return f"{cell.f_measure:.3f}"
    return f"({cell.f_measure:.2f})\n{count(cell.n_folds, 'fold')}"


def _build_veil(example: TilingExample) -> FloatMatrix:
    """Return a black layer, shape (height_px, width_px, 4), that is half opaque where there is no tile."""
    veil = np.zeros((example.image.height_px, example.image.width_px, 4))
    veil[..., 3] = 0.6
    for top, left in example.corners_px:
        veil[top : top + example.tile_px, left : left + example.tile_px, 3] = 0
    return veil


def _draw_fold_panel(axes: Axes, *, drawn: Mapping[str, Sequence[FoldRow]], fold: int) -> None:
    codes, names = list(SPLIT_COLOURS), list(drawn)
    by_class = [[codes.index(row.splits[fold]) for row in drawn[name]] for name in names]
    widest = max(len(splits) for splits in by_class)
    no_image = codes.index("left out")
    matrix = np.array([[*splits, *[no_image] * (widest - len(splits))] for splits in by_class])
    axes.imshow(matrix, cmap=ListedColormap(list(SPLIT_COLOURS.values())), vmin=0, vmax=len(codes) - 1, aspect="auto")
    axes.set_yticks(range(len(names)), [shorten(label) for label in make_labels(names)], fontsize=SMALL_PT)
    draw_borders(axes, n_rows=len(names), n_columns=widest, colour="white")
    axes.tick_params(which="both", length=0, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_title(f"Fold {fold + 1}", fontsize=TITLE_PT)
