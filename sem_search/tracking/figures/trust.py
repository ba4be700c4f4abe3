"""Figures of how far a score can be trusted: intervals per class, the choice, calibration, and refusals."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sem_search.evaluation.calibration import CalibrationScores, merge_bins
from sem_search.evaluation.conformal import RiskCoverage
from sem_search.evaluation.intervals import compute_share_interval
from sem_search.evaluation.selection import SelectionBias
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.figures.style import (
    BLUE,
    GREEN,
    GREY,
    LABEL_PT,
    ORANGE,
    SMALL_PT,
    TITLE_PT,
    add_legend,
    draw_error_bars,
    make_figure,
    make_labels,
    set_grid,
    set_rows,
    wrap,
)

MIDDLE = 0.2
"""Half the distance between the two lines of a row."""

LEAST_ANSWERS = 10
"""In a bin of the reliability diagram: the accuracy of five images is a throw of dice."""


def draw_intervals(trust: StudyTrust) -> Figure:
    """Draw the test F-measure of each class and of all, by tile and by image, with its interval, from 0 to 1."""
    names = [*(wrap(label) for label in make_labels(trust.class_names)), "mean of the classes"]
    test, rows = trust.test, np.arange(len(names))
    of_tiles = [*(entry.f_measure for entry in test.of_class), test.f_measure]
    of_images = [*(entry.image_f_measure for entry in test.of_class), test.image_f_measure]
    figure = make_figure(width_in=6.5, height_in=0.4 * len(names) + 1.4)
    axes = figure.add_subplot()
    draw_error_bars(axes, of_tiles, rows=rows - MIDDLE, colour=BLUE, label="by tile")
    draw_error_bars(axes, of_images, rows=rows + MIDDLE, colour=ORANGE, label="by image")
    set_rows(axes, names)
    axes.set_xlim(0, 1.01)  # a mark at 1 is not cut
    axes.set_xlabel("F-measure on test data, with 95 % interval", fontsize=LABEL_PT)
    set_grid(axes)
    add_legend(figure)
    return figure


def draw_selection(biases: Sequence[SelectionBias]) -> Figure:
    """Draw for each way of choosing: the score that chose, the score on test tiles, and the corrected one."""
    rows = np.arange(len(biases))
    figure = make_figure(width_in=6.5, height_in=0.9 * len(biases) + 1.3)
    axes = figure.add_subplot()
    naive = [bias.naive for bias in biases]
    axes.plot(naive, rows - MIDDLE, "D", color=ORANGE, label="on the tiles used for the choice")
    axes.plot([bias.test for bias in biases], rows, "o", color=BLUE, label="on the test tiles")
    corrected = [bias.corrected for bias in biases]
    draw_error_bars(axes, corrected, rows=rows + MIDDLE, colour=GREEN, label="corrected (BBC-CV)")
    set_rows(axes, [f"chosen on\n{bias.select_on} tiles" for bias in biases])
    axes.set_xlabel("The winner’s mean F-measure", fontsize=LABEL_PT)
    set_grid(axes)
    add_legend(figure)
    return figure


def draw_reliability(before: CalibrationScores, after: CalibrationScores) -> Figure:
    """Draw the accuracy of answers of each confidence, with its interval, before and after temperature scaling."""
    figure = make_figure(width_in=4.6, height_in=4.4)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    for scores, colour, marker, label in (
        (before, BLUE, "o", "as predicted"),
        (after, ORANGE, "s", "temperature scaled"),
    ):
        bins = merge_bins(scores.reliability, n_least=LEAST_ANSWERS)
        label_with_error = f"{label} (error {scores.expected_calibration_error:.3f})"
        draw_error_bars(
            axes,
            [compute_share_interval(one.accuracy, n=one.n_answers) for one in bins],
            rows=[one.confidence for one in bins],
            colour=colour,
            label=label_with_error,
            marker=marker,
            is_upright=True,
        )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("Confidence", fontsize=LABEL_PT)
    axes.set_ylabel("Accuracy on whole images", fontsize=LABEL_PT)
    set_grid(axes)
    axes.legend(fontsize=SMALL_PT, frameon=False, loc="best")
    return figure


def draw_risk(risk: RiskCoverage) -> Figure:
    """Draw the share of wrong answers if only the most confident images are answered."""
    figure = make_figure(width_in=5.2, height_in=3.4)
    axes = figure.add_subplot()
    axes.step([0.0, *risk.coverage], [risk.risk[0], *risk.risk], where="pre", color=BLUE)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(0.05, 1.1 * float(risk.risk.max())))
    axes.set_xlabel("Share of images answered, the most confident first", fontsize=LABEL_PT)
    axes.set_ylabel("Share of wrong answers", fontsize=LABEL_PT)
    axes.set_title("Leaving the other images to a person", fontsize=TITLE_PT)
    set_grid(axes)
    return figure
