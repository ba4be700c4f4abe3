"""Figures 4, 5, 6 and S3 of Iwata, Hayashi et al. 2022: confusion matrix, indices, Grad-CAM and training curves."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sem_search.records import FloatVector, FoldOutcome
from sem_search.tracking.entries.context import HeatMapPicture, HeatMapSheet
from sem_search.tracking.entries.tables import INDEX_NAMES, ConfusionTable, IndexTable
from sem_search.tracking.figures.style import (
    BLUE,
    GREY,
    HEAT_MAP,
    LABEL_PT,
    ORANGE,
    SHARE_MAP,
    SMALL_PT,
    TITLE_PT,
    add_legend,
    draw_borders,
    make_caption,
    make_figure,
    make_id_lines,
    make_labels,
    map_labels,
    set_grid,
    set_rows,
    show_pixels,
    wrap,
)
from sem_search.words import count

FOLD_MARK: dict[str, Any] = {"marker": "o", "color": BLUE, "alpha": 0.45, "markersize": 4, "markeredgewidth": 0}
MEAN_MARK: dict[str, Any] = {"marker": "|", "color": ORANGE, "markersize": 11, "markeredgewidth": 2.2}

INDEX_TITLES = {
    "one_vs_rest_accuracy": "One-vs-rest accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f_measure": "F-measure",
}
MANY_CLASSES = 12
"""From here on labels are turned and numbers are small."""

DARK_SHARE = 0.5
"""Share of a row from which a field is dark enough for white figures."""

WIDE_RANGE = 50.0
"""Losses that span more than this factor are drawn on a logarithmic axis."""

LETTER_IN = 0.075
"""Width of a letter of a label."""

PICTURES_PER_LINE = 3
PICTURE_LINE = 21
"""Letters above or below one picture of the sheet."""

OVERLAY_STRENGTH = 0.75


def draw_confusion_matrix(table: ConfusionTable) -> Figure:
    """Draw counts and row percentages: rows true, columns predicted, the colour is the share of the row.

    Fields without a case stay empty, so that what was confused stands out.
    """
    n_classes = len(table.class_names)
    field_in = 0.62 if n_classes <= MANY_CLASSES else 0.44
    split_in = max(field_in * n_classes, 1.8)
    figure = make_figure(width_in=split_in + 2.9, height_in=split_in + 1.9)
    axes = figure.add_subplot()
    shares = np.ma.masked_where(table.counts == 0, table.shares)
    image = axes.imshow(shares, cmap=_lighten(SHARE_MAP), vmin=0, vmax=1)
    _write_fields(axes, table=table, size_pt=SMALL_PT if n_classes <= MANY_CLASSES else SMALL_PT - 1.5)
    _label_classes(axes, names=table.class_names, field_in=split_in / n_classes)
    axes.set_xlabel("Predicted class", fontsize=LABEL_PT)
    axes.set_ylabel("True class", fontsize=LABEL_PT)
    n_correct = f"{table.counts.trace()} of {table.counts.sum()} correctly classified"
    axes.set_title(f"Test {table.unit}: {n_correct}", fontsize=TITLE_PT)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=25, format=lambda share, _: f"{share:.0%}")
    bar.set_label(f"Share of the true class’s {table.unit}", fontsize=LABEL_PT)
    bar.ax.tick_params(labelsize=SMALL_PT)
    return figure


def draw_indices(table: IndexTable) -> Figure:
    """Draw the four indices per class: a point for each fold, a bar mark and the figure for their mean.

    All axes run from 0 to 1, whatever the scores: a cut axis makes small differences look large.
    """
    n_rows = len(table.class_names) + 1
    figure = make_figure(width_in=8.2, height_in=0.32 * n_rows + 1.3)
    panels = figure.subplots(1, len(INDEX_NAMES), sharey=True)
    for axes, name in zip(panels, INDEX_NAMES, strict=True):
        _draw_index_panel(axes, table=table, name=name)
    set_rows(panels[0], [*(wrap(label) for label in make_labels(table.class_names)), "mean of the classes"])
    one_fold = Line2D([], [], linestyle="none", label="one fold", **FOLD_MARK)
    mean = Line2D([], [], linestyle="none", label="mean of the folds", **MEAN_MARK)
    add_legend(figure, place="outside lower center", handles=[one_fold, mean])
    return figure


def draw_training_curves(folds: Sequence[FoldOutcome]) -> Figure:
    """Draw loss and accuracy after each epoch, training and validation, one line per fold.

    A ring marks the epoch whose weights answered the validation tiles. Folds that diverged are named in the title.
    """
    figure = make_figure(width_in=8.2, height_in=3.6)
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for fold in folds:
        curves = fold.curves
        for axes, training, validation in (
            (loss_axes, curves.training_loss, curves.validation_loss),
            (accuracy_axes, curves.training_accuracy, curves.validation_accuracy),
        ):
            _draw_curve(axes, training, colour=BLUE, best_epoch=None)
            _draw_curve(axes, validation, colour=ORANGE, best_epoch=fold.best_epoch)
    _scale_losses(loss_axes, folds=folds)
    loss_axes.set_ylabel("Loss: cross-entropy per tile (nats)", fontsize=LABEL_PT)
    accuracy_axes.set_ylabel("Accuracy", fontsize=LABEL_PT)
    accuracy_axes.set_ylim(0, 1.02)
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("Epoch", fontsize=LABEL_PT)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10], min_n_ticks=1))
        set_grid(axes)
    figure.suptitle(_describe_folds(folds), fontsize=TITLE_PT)
    handles = [
        Line2D([], [], color=BLUE, label="training tiles"),
        Line2D([], [], color=ORANGE, label="validation tiles"),
        Line2D([], [], marker="o", markerfacecolor="none", color=ORANGE, linestyle="none", label="epoch chosen"),
    ]
    add_legend(figure, place="outside lower center", handles=handles)
    return figure


def draw_grad_cam_sheet(sheet: HeatMapSheet) -> Figure:
    """Draw each test tile beside the same tile under its heat map.

    The overlay is the more opaque, the more a place raises the score of the class; a map of zeros says so in words.
    """
    classes = [(one.true_label, one.predicted_label, one.explained_label) for one in sheet.pictures]
    labels = map_labels(chain.from_iterable(classes))
    n_columns = min(PICTURES_PER_LINE, len(sheet.pictures))
    n_lines = math.ceil(len(sheet.pictures) / n_columns)
    figure = Figure(figsize=(2.74 * n_columns + 0.8, 1.95 * n_lines + 0.43), facecolor="white")
    grid = figure.subplots(n_lines, 2 * n_columns, squeeze=False, gridspec_kw=_space_sheet(figure))
    places = grid.reshape(n_lines * n_columns, 2)
    for (tile_axes, map_axes), picture in zip(places, sheet.pictures, strict=False):
        _draw_heat_map(tile_axes, map_axes, picture=picture, labels=labels)
    for axes in places[len(sheet.pictures) :].flat:
        axes.set_axis_off()
    _add_heat_bar(figure)
    layer = make_caption(sheet.convolution, length=40)
    title = f"Test tiles, and what raised the score of the class above the map\nGrad-CAM at {layer}"
    figure.suptitle(title, fontsize=TITLE_PT, y=1 - 0.06 / figure.get_figheight(), va="top")
    return figure


def _lighten(name: str) -> LinearSegmentedColormap:
    """Return the light five sixths of a map: its black end hides figures."""
    return LinearSegmentedColormap.from_list(f"{name}_light", colormaps[name](np.linspace(0, 0.83, 256)))


def _write_fields(axes: Axes, *, table: ConfusionTable, size_pt: float) -> None:
    shares = table.shares
    for (row, column), n_cases in np.ndenumerate(table.counts):
        share = float(shares[row, column])
        if n_cases:
            colour = "white" if share > DARK_SHARE else "black"
            words = f"{n_cases}\n{_format_share(share)}"
            axes.text(column, row, words, ha="center", va="center", color=colour, fontsize=size_pt, linespacing=1.05)


def _format_share(share: float) -> str:
    """Return a percentage with two digits, 0 or 100 only where it is."""
    if share < 0.005:
        return "<0.5%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{100 * share:.2g}%" if share < 0.1 else f"{share:.0%}"


def _label_classes(axes: Axes, *, names: Sequence[str], field_in: float) -> None:
    """Name rows and columns, turned where they would touch, and draw a fine line between the fields."""
    labels = [wrap(label) for label in make_labels(names)]
    places = range(len(names))
    axes.set_yticks(places, labels, fontsize=SMALL_PT)
    longest = max(len(line) for label in labels for line in label.split("\n"))
    is_turned = longest * LETTER_IN > field_in
    axes.set_xticks(places, labels, fontsize=SMALL_PT, rotation=90 if is_turned else 0)
    draw_borders(axes, n_rows=len(names), n_columns=len(names))


def _draw_index_panel(axes: Axes, *, table: IndexTable, name: str) -> None:
    """Draw one index of all classes, and of their mean below a line."""
    mean: FloatVector = getattr(table.mean, name)
    by_fold = np.array([getattr(indices, name) for indices in table.per_fold])
    with_mean = np.column_stack([by_fold, by_fold.mean(axis=1)])
    rows = np.arange(len(mean) + 1)
    for values in with_mean:
        axes.plot(values, rows, linestyle="none", clip_on=False, **FOLD_MARK)
    for row, value in zip(rows, [*mean, mean.mean()], strict=True):
        axes.plot(value, row, clip_on=False, **MEAN_MARK)
        axes.text(1.06, float(row), f"{value:.3f}", va="center", fontsize=SMALL_PT, color="black")
    axes.axhline(len(mean) - 0.5, color=GREY, linewidth=0.8)
    axes.set_title(INDEX_TITLES[name], fontsize=TITLE_PT)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    set_grid(axes)
    axes.spines["left"].set_visible(False)


def _draw_curve(axes: Axes, values: FloatVector, *, colour: str, best_epoch: int | None) -> None:
    """Draw one line over the epochs, counted from 1; single epochs are points."""
    epochs = np.arange(1, len(values) + 1)
    finite = np.where(np.isfinite(values), values, np.nan)
    marker = "." if len(values) < 3 else ""
    axes.plot(epochs, finite, color=colour, linewidth=1, alpha=0.7, marker=marker)
    if best_epoch is not None and 0 <= best_epoch < len(values):
        axes.plot(best_epoch + 1, finite[best_epoch], "o", color=colour, markerfacecolor="none", markersize=5)


def _scale_losses(axes: Axes, *, folds: Sequence[FoldOutcome]) -> None:
    """Start at zero, or go logarithmic where a diverging fold would flatten all others."""
    losses = np.concatenate([[*fold.curves.training_loss, *fold.curves.validation_loss] for fold in folds] or [[]])
    positive = losses[np.isfinite(losses) & (losses > 0)]
    if positive.size and positive.max() / np.median(positive) > WIDE_RANGE:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)


def _describe_folds(folds: Sequence[FoldOutcome]) -> str:
    diverged = [str(fold.fold + 1) for fold in folds if fold.is_diverged]
    title = f"Training of {count(len(folds), 'fold')}"
    return f"{title}; diverged: fold {', '.join(diverged)}" if diverged else title


def _space_sheet(figure: Figure) -> dict[str, float]:
    """Return the margins of the sheet. Pictures are all alike, so they need no layout engine, which takes seconds."""
    width_in, height_in = figure.get_size_inches()
    return {
        "left": 0.06 / width_in,
        "right": 1 - 0.8 / width_in,
        "bottom": 0.34 / height_in,
        "top": 1 - 0.8 / height_in,
        "wspace": 0.06,
        "hspace": 0.48,
    }


def _add_heat_bar(figure: Figure) -> None:
    width_in, height_in = figure.get_size_inches()
    height = min(0.7, 2.4 / height_in)
    axes = figure.add_axes((1 - 0.68 / width_in, 0.5 - height / 2, 0.12 / width_in, height))
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), HEAT_MAP), cax=axes)
    bar.set_label("Relative to the highest in the tile", fontsize=SMALL_PT)
    bar.ax.tick_params(labelsize=SMALL_PT)


def _draw_heat_map(tile_axes: Axes, map_axes: Axes, *, picture: HeatMapPicture, labels: dict[str, str]) -> None:
    show_pixels(tile_axes, picture.pixels)
    extent = show_pixels(map_axes, picture.pixels)
    strength = np.clip(picture.heat_map, 0, 1)
    opacity = strength * OVERLAY_STRENGTH
    map_axes.imshow(strength, cmap=HEAT_MAP, vmin=0, vmax=1, alpha=opacity, extent=extent, interpolation="bilinear")
    if picture.is_zero:
        box = {"facecolor": "black", "alpha": 0.7, "linewidth": 0}
        x, y = extent[1] / 2, extent[2] / 2
        map_axes.text(x, y, "the map is zero", fontsize=SMALL_PT, color="white", ha="center", va="center", bbox=box)
    for axes, words in (
        (tile_axes, f"true: {labels[picture.true_label]}"),
        (map_axes, f"for: {labels[picture.explained_label]}"),
    ):
        axes.set_title(wrap(words, line=PICTURE_LINE), fontsize=SMALL_PT - 0.5)
    tile_axes.set_xlabel(make_id_lines(picture.image_id, line=PICTURE_LINE), fontsize=SMALL_PT - 0.5)
    _write_answer(map_axes, picture=picture, label=labels[picture.predicted_label])


def _write_answer(axes: Axes, *, picture: HeatMapPicture, label: str) -> None:
    """Write below the map whether the prediction is correct, and the predicted class where the title is another."""
    is_correct = picture.true_label == picture.predicted_label
    words = f"{'correct' if is_correct else 'wrong'}, p = {picture.probability:.2f}"
    if picture.predicted_label != picture.explained_label:
        words = f"{words}, predicted as\n{wrap(label, line=PICTURE_LINE)}"
    axes.set_xlabel(words, fontsize=SMALL_PT - 1, color="black" if is_correct else ORANGE)
