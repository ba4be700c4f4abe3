"""The figures of trust show the numbers that they are given."""

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from sem_search.evaluation.calibration import merge_bins
from sem_search.evaluation.intervals import compute_share_interval
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.figures.style import render_figure
from sem_search.tracking.figures.trust import draw_intervals, draw_reliability, draw_risk, draw_selection


def draw_all(trust: StudyTrust) -> list[Figure]:
    return [
        draw_intervals(trust),
        draw_selection((trust.chosen_on_validation, trust.chosen_on_test)),
        draw_reliability(trust.calibration, trust.scaled_calibration),
        draw_risk(trust.risk),
    ]


def test_all_are_drawn_without_a_warning(trust: StudyTrust) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(len(render_figure(figure, suffix=".png")) > 5000 for figure in draw_all(trust))


def test_classes_and_their_mean_are_drawn_with_both_units(trust: StudyTrust) -> None:
    (axes,) = draw_intervals(trust).axes
    of_tiles, of_images = (container[0].get_xdata() for container in axes.containers)
    assert of_tiles.tolist() == [*(entry.f_measure.value for entry in trust.test.of_class), trust.test.f_measure.value]
    assert of_images[-1] == trust.test.image_f_measure.value
    assert axes.get_xlim() == (0, 1.01)


def test_a_choice_shows_its_three_scores(trust: StudyTrust) -> None:
    bias = trust.chosen_on_test
    (axes,) = draw_selection((bias,)).axes
    shown = [line.get_xdata() for line in axes.lines[:2]]
    assert [float(np.ravel(x)[0]) for x in shown] == [bias.naive, bias.test]
    assert axes.containers[0][0].get_xdata().tolist() == [bias.corrected.value]


def test_reliability_and_risk_are_the_curves_given(trust: StudyTrust) -> None:
    (axes,) = draw_reliability(trust.calibration, trust.scaled_calibration).axes
    bins = merge_bins(trust.calibration.reliability, n_least=10)
    points, _, (bars,) = axes.containers[0]
    assert list(points.get_ydata()) == [entry.accuracy for entry in bins]
    intervals = [compute_share_interval(entry.accuracy, n=entry.n_answers) for entry in bins]
    reach = [sorted(segment[:, 1]) for segment in bars.get_segments()]
    assert reach == [pytest.approx([interval.low, interval.high]) for interval in intervals]
    (axes,) = draw_risk(trust.risk).axes
    assert axes.lines[0].get_xdata()[1:].tolist() == trust.risk.coverage.tolist()
