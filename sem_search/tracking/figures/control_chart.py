"""A control chart: lots in their order, with warning and action limits."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sem_search.evaluation.lots.control_chart import ChartPoint
from sem_search.tracking.figures.style import (
    BLUE,
    GREY,
    LABEL_PT,
    ORANGE,
    SMALL_PT,
    add_legend,
    make_caption,
    make_figure,
    set_grid,
)

NAME_LENGTH = 24


def draw_control_chart(points: Sequence[ChartPoint], *, names: Sequence[str], is_new: Sequence[bool]) -> Figure:
    """Draw the distance of each lot from the others, in the order given.

    Args:
        points: One for each lot.
        names: Of the lots.
        is_new: Whether each is judged, and not one of the reference.
    """
    figure = make_figure(width_in=max(6.0, 0.32 * len(points) + 1.5), height_in=3.6)
    axes = figure.add_subplot()
    places = np.arange(len(points))
    distances = np.array([point.distance for point in points])
    axes.plot(places, distances, color=GREY, linewidth=0.8, zorder=1)
    for is_shown, colour, label in ((np.array(is_new), ORANGE, "new lot"), (~np.array(is_new), BLUE, "reference lots")):
        axes.scatter(places[is_shown], distances[is_shown], color=colour, label=label, zorder=2)
    for name, style in (("action_limit", "-"), ("warning_limit", "--")):
        limits = [getattr(point, name) for point in points]
        axes.step(places, limits, where="mid", color=GREY, linestyle=style, linewidth=1, label=name.replace("_", " "))
    axes.set_xticks(places, [make_caption(name, length=NAME_LENGTH) for name in names], rotation=90, fontsize=SMALL_PT)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("Distance from the other lots\n(standard deviations)", fontsize=LABEL_PT)
    set_grid(axes)
    add_legend(figure)
    return figure
