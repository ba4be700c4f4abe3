"""The figure of a learning curve: scores by number of images, the fitted law with its band, and the target."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from sem_search.evaluation.learning_curve import MAX_GROWTH, LearningCurve
from sem_search.tracking.figures.style import (
    BLUE,
    LABEL_PT,
    ORANGE,
    add_legend,
    draw_error_bars,
    make_figure,
    set_grid,
)

N_POINTS = 60
"""Of the law's line."""


def draw_learning_curve(curve: LearningCurve, *, target: float) -> Figure:
    """Draw the scores with their intervals, and, where it can be fitted, the law up to where it is trusted.

    Args:
        curve: The law and what it was fitted to.
        target: The score asked for.
    """
    figure = make_figure(width_in=6.0, height_in=4.2)
    axes = figure.add_subplot()
    if curve.can_foretell:
        _draw_law(axes, curve)
    numbers = [size.n_images for size in curve.sizes]
    intervals = [getattr(size.intervals, curve.figure) for size in curve.sizes]
    draw_error_bars(axes, intervals, rows=numbers, colour=BLUE, label="measured, 95 % interval", is_upright=True)
    axes.axhline(target, color=ORANGE, linestyle="--", linewidth=1, label="target")
    axes.set_xscale("log")
    far = [MAX_GROWTH / 2 * curve.n_images, MAX_GROWTH * curve.n_images] if curve.can_foretell else []
    axes.set_xticks([*numbers, *far])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(top=1.02)
    axes.set_xlabel("Images of a class that a head learns from", fontsize=LABEL_PT)
    axes.set_ylabel("F-measure, test tiles", fontsize=LABEL_PT)
    set_grid(axes)
    add_legend(figure)
    return figure


def _draw_law(axes: Axes, curve: LearningCurve) -> None:
    """Draw the fitted line, dashed beyond the images that there are, in its band."""
    numbers = np.geomspace(curve.sizes[0].n_images, MAX_GROWTH * curve.n_images, N_POINTS)
    foretold = [curve.predict(float(number)) for number in numbers]
    low, value, high = (np.array([getattr(one, name) for one in foretold]) for name in ("low", "value", "high"))
    is_known = numbers <= curve.n_images
    axes.fill_between(numbers, low, high, color=BLUE, alpha=0.15, linewidth=0, label="its 95 % interval")
    axes.plot(numbers, value, color=BLUE, linewidth=1.2, linestyle=":")
    axes.plot(numbers[is_known], value[is_known], color=BLUE, linewidth=1.2, label="fitted power law")
