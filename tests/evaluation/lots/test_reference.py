"""How much lots differ, against lots whose spread is known."""

import numpy as np
import pytest

from sem_search.errors import DataError
from sem_search.evaluation.lots.reference import check_number, fit_space, measure_spread

SPREAD = 1 / np.sqrt(np.arange(1, 31))


def draw_lots(n_lots: int, *, n_images: int, between: float, seed: int = 0) -> list[np.ndarray]:
    """Lots that differ by `between` in each feature, in standard deviations of images."""
    rng = np.random.default_rng(seed)
    means = between * SPREAD * rng.normal(size=(n_lots, 1, 30))
    return list(means + SPREAD * rng.normal(size=(n_lots, n_images, 30)))


def test_the_spread_between_lots_is_that_of_the_process() -> None:
    """Ten directions and the rest: eleven variances of 0.25 between lots, of 1 / 10 from the images."""
    spreads = [measure_spread(draw_lots(20, n_images=10, between=0.5, seed=seed)) for seed in range(12)]
    views = [spread.list_views() for spread in spreads]
    for n_removed in range(4):
        kept = (11 - n_removed) / 11
        of_all = [one[n_removed] for one in views]
        assert np.mean([view.between for view in of_all]) == pytest.approx(kept * 11 * 0.25, rel=0.15)
        assert np.mean([view.noise for view in of_all]) == pytest.approx(kept * 11 / 10, rel=0.1)
    assert len(views[0]) == 4
    assert spreads[0].n_lots == 20
    assert 9 < spreads[0].n_effective <= 11


def test_equal_lots_have_next_to_no_spread_in_any_view() -> None:
    """Without noise measured on lots that the directions have not seen, it would be above 0 on average."""
    found = [measure_spread(draw_lots(10, n_images=8, between=0.0, seed=seed)).list_views() for seed in range(40)]
    for of_all in zip(*found, strict=True):
        excess = [view.total - view.noise for view in of_all]
        assert abs(np.mean(excess)) < 0.06 * np.mean([view.noise for view in of_all])


def test_distances_count_images_directions_alike() -> None:
    images = draw_lots(1, n_images=2000, between=0.0)[0]
    space = fit_space([images - images.mean(axis=0)], n_directions=4)
    np.testing.assert_allclose(space.measure_variances(images), np.ones(5), rtol=0.01)
    few = fit_space([(images - images.mean(axis=0))[:, :3]], n_directions=4)
    assert few.rest_deviation == np.inf
    assert np.isfinite(few.embed(images[:, :3])).all()


def test_a_lot_left_out_leaves_the_others() -> None:
    spread = measure_spread(draw_lots(6, n_images=5, between=1.0))
    without = spread.leave_out(2)
    assert without.n_lots == 5
    np.testing.assert_array_equal(without.means, np.delete(spread.means, 2, axis=0))


def test_too_few_lots_are_refused() -> None:
    check_number(5)
    with pytest.raises(DataError, match="the reference has 4 lots: give 5 or more"):
        check_number(4)
