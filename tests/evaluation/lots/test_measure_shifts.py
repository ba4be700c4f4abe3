"""Differences of particles: found where there are some, of lots of one process in 5 of 100 cases."""

import numpy as np
import pytest
from scipy.stats import binom

from sem_search.evaluation.lots.measure_shifts import compute_shifts


def draw_measures(rng: np.random.Generator, *, larger: float = 0.0, n_images: int = 8) -> dict[str, np.ndarray]:
    """Lots that differ by 3 %, images of a lot by 5 %."""
    lot = {name: 0.03 * rng.normal() + 0.05 * rng.normal(size=n_images) for name in ("diameter", "roughness")}
    return {"diameter": lot["diameter"] + np.log1p(larger), "roughness": lot["roughness"]}


def test_larger_particles_are_found_and_measured() -> None:
    rng = np.random.default_rng(0)
    diameter, roughness = compute_shifts([draw_measures(rng) for _ in range(12)], draw_measures(rng, larger=0.3))
    assert (diameter.name, diameter.is_clear, roughness.is_clear) == ("diameter", True, False)
    assert diameter.change == pytest.approx(0.3, abs=0.12)
    assert 0.01 < diameter.usual_change < 0.08


@pytest.mark.parametrize("n_images", [8, 3])
def test_lots_of_one_process_are_seldom_called_different(n_images: int) -> None:
    """Also a new lot with fewer images than the reference's have."""
    rng = np.random.default_rng(1)
    found = [
        any(
            shift.is_clear
            for shift in compute_shifts([draw_measures(rng) for _ in range(6)], draw_measures(rng, n_images=n_images))
        )
        for _ in range(300)
    ]
    assert binom.ppf(0.001, 300, 0.03) / 300 <= np.mean(found) <= binom.ppf(0.999, 300, 0.06) / 300


def test_what_a_lot_lacks_is_left_out() -> None:
    rng = np.random.default_rng(2)
    lots = [draw_measures(rng) for _ in range(6)]
    new = draw_measures(rng)
    new["diameter"][:] = np.nan
    new["roughness"][0] = np.nan
    assert [shift.name for shift in compute_shifts(lots, new)] == ["roughness"]
    assert compute_shifts([{"roughness": np.zeros(4)}] * 5, {"roughness": np.zeros(4)}) == ()
