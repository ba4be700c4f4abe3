"""The figure of a learning curve: points, law and target; no law where there are too few sizes."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.trust.learning_curve import CurveWorld, measure_curve
from sem_search.evaluation.learning_curve import LearningCurve
from sem_search.tracking.figures.learning_curve import draw_learning_curve
from sem_search.tracking.figures.style import render_figure


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    world = CurveWorld(name="usual", ceiling=0.95, at_first=0.5, exponent=0.8, images_per_class=10)
    return measure_curve(world, rng=np.random.default_rng(0), n_resamples=100, seed=0)


def test_points_law_and_target_are_drawn(curve: LearningCurve) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_learning_curve(curve, target=0.9)
        assert len(render_figure(figure, suffix=".png")) > 5000
    (axes,) = figure.axes
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(words) == {"measured, 95 % interval", "fitted power law", "its 95 % interval", "target"}
    (points,) = axes.containers
    assert points[0].get_ydata().tolist() == [size.intervals.image_accuracy.value for size in curve.sizes]
    assert max(line.get_xdata()[-1] for line in axes.lines if len(line.get_xdata()) > 10) == pytest.approx(4.0)


def test_three_sizes_are_drawn_without_a_law(curve: LearningCurve) -> None:
    figure = draw_learning_curve(replace(curve, sizes=curve.sizes[-3:]), target=0.9)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(words) == {"measured, 95 % interval", "target"}
