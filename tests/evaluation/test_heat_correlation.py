"""Heat that lies on particles by rule or by chance."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from sem_search.evaluation.heat_correlation import correlate_heat

IMAGE_OF_TILE = np.repeat(np.arange(6), 4)


def lay_particles(*, follow: float, seed: int = 0) -> dict:
    """Twelve square particles in each of six images of four tiles; heat follows their roundness by so much."""
    rng = np.random.default_rng(seed)
    particle_maps = np.zeros((24, 28, 28), dtype=np.int64)
    maps = 0.2 * rng.random((24, 7, 7))
    roundness, size = [], []
    for tile in range(24):
        for row, column in [(0, 0), (0, 16), (16, 8)]:
            side = 4 * int(rng.integers(1, 4))
            roundness.append(rng.random())
            size.append(side)
            particle_maps[tile, row : row + side, column : column + side] = len(size)
            maps[tile, row // 4 : (row + side) // 4, column // 4 : (column + side) // 4] += follow * roundness[-1]
    measures = {"roundness": np.array(roundness), "size": np.array(size, dtype=float)}
    return {"maps": maps, "particle_maps": particle_maps, "measures": measures, "image_of_tile": IMAGE_OF_TILE}


def correlate(laid: dict, **options):
    return correlate_heat(laid["maps"], **{name: laid[name] for name in laid if name != "maps"}, **options)


def test_heat_that_follows_a_measure_is_found() -> None:
    roundness, size = correlate(lay_particles(follow=1.0), n_shuffles=199)
    assert roundness.p_value == 0.005
    assert roundness.adjusted_p_value == 0.01
    assert roundness.correlation.low > 0.5
    assert abs(roundness.chance_correlation) < 0.3  # three places, whose particles differ by chance
    assert size.adjusted_p_value > 0.05
    assert size.correlation.low < 0.1
    assert (roundness.measure, roundness.n_images, roundness.n_particles) == ("roundness", 6, 72)


def test_heat_by_chance_is_rarely_found() -> None:
    p_values = [
        entry.p_value for seed in range(20) for entry in correlate(lay_particles(follow=0.0, seed=seed), n_shuffles=99)
    ]
    assert np.mean(np.array(p_values) <= 0.05) < 0.16
    assert 0.35 < np.mean(p_values) < 0.65


def test_the_correlation_is_that_of_mean_heat_within_images() -> None:
    laid = lay_particles(follow=0.3)
    (roundness, _) = correlate(laid, n_shuffles=9)
    pixels = laid["maps"].repeat(4, axis=1).repeat(4, axis=2)
    heat = np.array([pixels[laid["particle_maps"] == number].mean() for number in range(1, 73)])
    by_image = [
        spearmanr(heat[k : k + 12], laid["measures"]["roundness"][k : k + 12]).statistic for k in range(0, 72, 12)
    ]
    assert roundness.correlation.value == pytest.approx(np.mean(by_image))


def test_maps_of_full_resolution_give_the_same() -> None:
    laid = lay_particles(follow=0.5)
    fine = {**laid, "maps": laid["maps"].repeat(4, axis=1).repeat(4, axis=2)}
    assert correlate(fine, n_shuffles=9)[0].correlation == correlate(laid, n_shuffles=9)[0].correlation


def test_images_with_too_few_particles_are_left_out() -> None:
    laid = lay_particles(follow=0.5)
    laid["particle_maps"][:4][laid["particle_maps"][:4] > 2] = 0
    found = correlate(laid, n_shuffles=9)[0]
    assert (found.n_images, found.n_particles) == (5, 60)
    laid["measures"]["size"][:] = 1.0
    with pytest.raises(ValueError, match="Fewer than two images have 3 particles that differ in 'size'"):
        correlate(laid, n_shuffles=9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": np.zeros((24, 8, 8))}, r"shape \(24, 8, 8\) do not lie on particle maps of shape \(24, 28, 28\)"),
        ({"image_of_tile": np.arange(5)}, "of 5 tiles: each cell"),
        ({"measures": {"size": np.ones(3)}}, "'size' must have 72 finite values"),
        ({"measures": {"size": np.full(72, np.nan)}}, "'size' must have 72 finite values"),
    ],
)
def test_heat_and_particles_must_match(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        correlate({**lay_particles(follow=0.0), **changes})


def test_a_particle_lies_in_one_image() -> None:
    laid = lay_particles(follow=0.0)
    laid["particle_maps"][23, 27, 27] = 1
    with pytest.raises(ValueError, match="Particle 0 lies in two images"):
        correlate(laid)
