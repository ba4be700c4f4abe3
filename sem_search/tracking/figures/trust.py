"""Figures of how far a score can be trusted: intervals per class, the choice, calibration, and refusals.

Every function takes the numbers and returns the figure; nothing is saved here.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sem_search.evaluation.calibration import CalibrationScores
from sem_search.evaluation.conformal import RiskCoverage
from sem_search.evaluation.intervals import Interval
from sem_search.evaluation.selection import SelectionBias
from sem_search.tracking.figures.style import (
    BLUE,
    GREEN,
    GREY,
    LABEL_PT,
    ORANGE,
    PALE,
    SMALL_PT,
    TITLE_PT,
    make_figure,
    make_labels,
    wrap,
)
from sem_search.tracking.report.trust import StudyTrust

MIDDLE = 0.2
"""Half the distance between the two lines of a row."""


def draw_intervals(trust: StudyTrust) -> Figure:
    """Draw the test F-measure of each class and of all, by tile and by image, with its interval, from 0 to 1."""
    names = [*(wrap(label) for label in make_labels(trust.class_names)), "mean of the classes"]
    test = trust.test
    of_tiles = [*(entry.f_measure for entry in test.of_class), test.f_measure]
    of_images = [*(entry.image_f_measure for entry in test.of_class), test.image_f_measure]
    figure = make_figure(width_in=6.5, height_in=0.4 * len(names) + 1.4)
    axes = figure.add_subplot()
    for rows, colour, shift, label in ((of_tiles, BLUE, -MIDDLE, "by tile"), (of_images, ORANGE, MIDDLE, "by image")):
        _draw_interval_rows(axes, rows, colour=colour, shift=shift, label=label)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL_PT)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1.01)  # a mark at 1 is not cut
    axes.set_xlabel("F-measure on test data, with 95 % interval", fontsize=LABEL_PT)
    _finish(axes)
    figure.legend(loc="outside upper center", ncols=2, fontsize=SMALL_PT, frameon=False)
    return figure


def draw_selection(biases: Sequence[SelectionBias]) -> Figure:
    """Draw for each way of choosing: the score that chose, the score on test tiles, and the corrected one."""
    figure = make_figure(width_in=6.5, height_in=0.9 * len(biases) + 1.3)
    axes = figure.add_subplot()
    for row, bias in enumerate(biases):
        has_label = row == 0
        axes.plot(
            bias.naive, row - MIDDLE, "D", color=ORANGE, label="on the tiles that chose it" if has_label else None
        )
        axes.plot(bias.test, row, "o", color=BLUE, label="on the test tiles" if has_label else None)
        _draw_interval_rows(
            axes, [bias.corrected], colour=GREEN, shift=row + MIDDLE, label="corrected (BBC-CV)" if has_label else None
        )
    axes.set_yticks(range(len(biases)), [f"chosen on\n{bias.select_on} tiles" for bias in biases], fontsize=SMALL_PT)
    axes.set_ylim(len(biases) - 0.4, -0.6)
    axes.set_xlabel("The winner’s mean F-measure", fontsize=LABEL_PT)
    _finish(axes)
    figure.legend(loc="outside upper center", ncols=3, fontsize=SMALL_PT, frameon=False)
    return figure


def draw_reliability(before: CalibrationScores, after: CalibrationScores) -> Figure:
    """Draw how often answers of each confidence are right, before and after temperature scaling."""
    figure = make_figure(width_in=4.6, height_in=4.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="as confident as right")
    for scores, colour, marker, label in (
        (before, BLUE, "o", "as answered"),
        (after, ORANGE, "s", "temperature scaled"),
    ):
        error = scores.expected_calibration_error
        axes.plot(
            [entry.confidence for entry in scores.reliability],
            [entry.accuracy for entry in scores.reliability],
            color=colour,
            marker=marker,
            markersize=4,
            label=f"{label} (error {error:.3f})",
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("Confidence of the answer", fontsize=LABEL_PT)
    axes.set_ylabel("Share of such images correctly classified", fontsize=LABEL_PT)
    _finish(axes)
    axes.legend(fontsize=SMALL_PT, frameon=False, loc="upper left")
    return figure


def draw_risk(risk: RiskCoverage) -> Figure:
    """Draw the share of wrong answers if only the most confident images are answered."""
    figure = make_figure(width_in=5.2, height_in=3.4)
    axes = figure.add_subplot()
    axes.step(
        np.concatenate([[0.0], risk.coverage]), np.concatenate([risk.risk[:1], risk.risk]), where="pre", color=BLUE
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(0.05, 1.1 * float(risk.risk.max())))
    axes.set_xlabel("Share of images answered, the most confident first", fontsize=LABEL_PT)
    axes.set_ylabel("Share of the answered that are wrong", fontsize=LABEL_PT)
    axes.set_title("Leaving the rest to a person", fontsize=TITLE_PT)
    _finish(axes)
    return figure


def _draw_interval_rows(
    axes: Axes, intervals: Sequence[Interval], *, colour: str, shift: float, label: str | None
) -> None:
    """Draw one point with a bar per interval, one below the other."""
    values = np.array([interval.value for interval in intervals])
    low, high = (np.array([getattr(interval, end) for interval in intervals]) for end in ("low", "high"))
    axes.errorbar(
        values,
        np.arange(len(intervals)) + shift,
        xerr=[np.maximum(values - low, 0), np.maximum(high - values, 0)],
        fmt="o",
        color=colour,
        markersize=4,
        capsize=2.5,
        linewidth=1.3,
        label=label,
    )


def _finish(axes: Axes) -> None:
    """Leave a pale grid and small figures."""
    axes.grid(color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=SMALL_PT, length=0)
    axes.spines[["top", "right"]].set_visible(False)
