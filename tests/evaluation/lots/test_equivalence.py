"""A new lot judged: limits against the exact ones where these are known, errors and power against a known truth."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, nct

from benchmarks.trust.lot_reference import Process, simulate_judgements
from sem_search.evaluation.lots.equivalence import LotDistance, compute_interval, judge_lot, measure_distances
from sem_search.evaluation.lots.reference import measure_spread
from tests.evaluation.lots.test_reference import SPREAD, draw_lots

MEASURED = LotDistance(
    squared=16.0,
    noise=1e-9,
    n_images=10,
    total=1.0,
    reference_noise=1e-9,
    image_variance=1e-8,
    n_lots=8,
    n_free=72,
    n_effective=1.0,
)


@pytest.mark.parametrize("distance", [1.5, 4.0, 9.0])
def test_limits_are_those_of_the_noncentral_t_where_images_add_no_noise(distance: float) -> None:
    """In one direction, the step over the spread between lots follows a non-central t distribution."""
    measured = dataclasses.replace(MEASURED, squared=distance**2)
    root = np.sqrt(measured.n_lots)
    seen = root * np.sqrt(measured.squared + 1 / measured.n_lots)

    def find_limit(share: float) -> float:
        return brentq(lambda true: nct.cdf(seen, measured.n_lots - 1, root * true) - share, 0.0, 60.0)

    interval = compute_interval([measured])
    assert interval.value == pytest.approx(distance)
    assert (interval.low, interval.high) == pytest.approx((find_limit(0.95), find_limit(0.05)), rel=0.05)


def test_lots_that_do_not_differ_are_measured_by_a_small_effect_of_images() -> None:
    alike = dataclasses.replace(MEASURED, squared=1.0, total=1e-9, image_variance=25.0)
    assert compute_interval([alike]).value == pytest.approx(1.0)
    assert compute_interval([alike]).high < 1.1


def test_what_differs_in_brightness_alone_hides_nothing_else() -> None:
    """Lots differ much in the first direction, and a new one little, but clearly, in another."""
    lots = draw_lots(11, n_images=10, between=0.0)
    brightness = 5 * np.random.default_rng(3).normal(size=10)
    known = [lot + step * np.eye(30)[0] for lot, step in zip(lots, brightness, strict=False)]
    spread = measure_spread(known)
    assert len(spread.list_views()) == 3
    odd = lots[10] + 5 * SPREAD * np.eye(30)[4]
    first, *others = measure_distances(spread, odd)
    assert compute_interval([first]).high < 3
    assert compute_interval(others).low > 3
    assert judge_lot(spread, odd).verdict == "different"
    assert judge_lot(spread, lots[10]).verdict == "equivalent"


def test_lots_are_judged() -> None:
    lots = draw_lots(20, n_images=10, between=1.0)
    spread = measure_spread(lots[:19])
    usual, far = judge_lot(spread, lots[19]), judge_lot(spread, lots[19] + 12 * SPREAD)
    assert (usual.verdict, far.verdict) == ("equivalent", "different")
    assert usual.distance.high < 3.0 < far.distance.low
    assert (usual.n_images, usual.n_lots) == (10, 19)
    assert (usual.n_images_needed, usual.n_lots_needed) == (None, None)
    assert judge_lot(spread, lots[19]) == usual
    assert judge_lot(spread, lots[19], margin=0.1).verdict == "different"


def test_what_would_decide_is_said() -> None:
    few = draw_lots(6, n_images=5, between=0.4, seed=1)
    judgement = judge_lot(measure_spread(few[:5]), few[5])
    assert judgement.verdict == "unclear"
    assert judgement.n_images_needed == 10, "the spread between lots is hidden by the noise"
    lots = draw_lots(9, n_images=8, between=0.5, seed=1)
    farther = judge_lot(measure_spread(lots[:8]), lots[8] + 1.5 * SPREAD)
    assert farther.verdict == "unclear"
    assert farther.n_lots_needed == 40


def test_errors_and_power_are_as_promised() -> None:
    process = Process(n_lots=6, n_images=8, between=2.0)
    at_margin = simulate_judgements(process, distance=3.0, n_tests=150)
    most = binom.ppf(0.999, 150, 0.05) / 150
    assert at_margin["equivalent"] <= most
    assert at_margin["different"] <= most
    far = simulate_judgements(process, distance=20.0, n_tests=30)
    assert far["different"] > 0.8
    assert far["equivalent"] == 0
    same = simulate_judgements(process, distance=None, n_tests=60)
    assert same["equivalent"] > 0.3
    assert same["different"] <= binom.ppf(0.999, 60, 0.01) / 60
