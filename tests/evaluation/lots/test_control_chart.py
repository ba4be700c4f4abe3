"""Lots of one process lie within the limits, others do not."""

import numpy as np
import pytest
from scipy.stats import binom, t

from benchmarks.trust.lot_reference import Process, simulate_judgements
from sem_search.evaluation.lots.control_chart import chart_lots
from sem_search.evaluation.lots.reference import measure_spread
from tests.evaluation.lots.test_reference import SPREAD, draw_lots


def test_each_lot_is_held_against_the_others() -> None:
    lots = draw_lots(13, n_images=8, between=1.0)
    lots[4] = lots[4] + 15 * SPREAD
    points = chart_lots(measure_spread(lots[:12]), lots[12])
    assert len(points) == 13
    assert np.argmax([point.distance for point in points]) == 4
    assert points[4].distance > points[4].action_limit > points[4].warning_limit
    assert points[0].warning_limit == pytest.approx(t.ppf(1 - 0.05 / 3 / 2, 10)), "three views"
    assert points[12].action_limit == pytest.approx(t.ppf(1 - 0.0027 / 3 / 2, 11))


def test_lots_of_the_process_seldom_cross_a_limit_and_others_do() -> None:
    """Where lots differ in one direction, the limits hold exactly; where in all, they are wide."""
    of_one = simulate_judgements(Process(n_lots=6, n_images=8, between=3.0), distance=None, n_tests=200)
    assert binom.ppf(0.001, 200, 0.05) / 200 <= of_one["warning"] <= binom.ppf(0.999, 200, 0.05) / 200
    assert of_one["action"] <= binom.ppf(0.999, 200, 0.0027) / 200
    process = Process(n_lots=20, n_images=8, between=3.0, directions="all")
    assert simulate_judgements(process, distance=None, n_tests=40)["warning"] == 0
    assert simulate_judgements(process, distance=6.0, n_tests=20)["action"] > 0.9
