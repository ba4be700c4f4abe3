"""Heat that lies on particles by rule or by chance."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, spearmanr

from benchmarks.trust.heat import SMOOTH, Scene, simulate_heat
from sem_search.evaluation.heat_maps.correlation import correlate_heat

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
    roundness, size = correlate(lay_particles(follow=1.0), n_permutations=199)
    assert roundness.p_value == 0.005
    assert roundness.adjusted_p_value == 0.01
    assert roundness.correlation.low > 0.5
    assert abs(roundness.chance_correlation) < 0.3  # three places, whose particles differ by chance
    assert size.adjusted_p_value > 0.05
    assert size.correlation.low < 0.1
    assert (roundness.measure, roundness.n_images, roundness.n_particles) == ("roundness", 6, 72)


def test_heat_by_chance_is_rarely_found() -> None:
    p_values = [
        entry.p_value
        for seed in range(20)
        for entry in correlate(lay_particles(follow=0.0, seed=seed), n_permutations=99)
    ]
    assert np.mean(np.array(p_values) <= 0.05) < 0.16
    assert 0.35 < np.mean(p_values) < 0.65


def test_the_correlation_is_that_of_mean_heat_within_images() -> None:
    laid = lay_particles(follow=0.3)
    (roundness, _) = correlate(laid, n_permutations=9)
    pixels = laid["maps"].repeat(4, axis=1).repeat(4, axis=2)
    heat = np.array([pixels[laid["particle_maps"] == number].mean() for number in range(1, 73)])
    by_image = [
        spearmanr(heat[k : k + 12], laid["measures"]["roundness"][k : k + 12]).statistic for k in range(0, 72, 12)
    ]
    assert roundness.correlation.value == pytest.approx(np.mean(by_image))


def test_maps_of_full_resolution_give_the_same() -> None:
    laid = lay_particles(follow=0.5)
    fine = {**laid, "maps": laid["maps"].repeat(4, axis=1).repeat(4, axis=2)}
    assert correlate(fine, n_permutations=9)[0].correlation == correlate(laid, n_permutations=9)[0].correlation


def test_images_with_too_few_particles_are_left_out() -> None:
    laid = lay_particles(follow=0.5)
    laid["particle_maps"][:4][laid["particle_maps"][:4] > 2] = 0
    found = correlate(laid, n_permutations=9)[0]
    assert (found.n_images, found.n_particles) == (5, 60)
    laid["measures"]["size"][:] = 1.0
    with pytest.raises(ValueError, match="Fewer than two images have 3 particles that differ in 'size'"):
        correlate(laid, n_permutations=9)


@pytest.mark.parametrize(
    "scene",
    [
        SMOOTH,
        replace(SMOOTH, name="unlike numbers of tiles", n_images=12, shapes=((4, 5), (2, 3))),
        replace(SMOOTH, name="overlapping pairs", n_images=16, shapes=((2, 3),), images_per_group=2),
    ],
    ids=lambda scene: scene.name,
)
def test_smooth_heat_and_smooth_particles_that_have_nothing_to_do_with_one_another_are_rarely_found(
    scene: Scene,
) -> None:
    """Where tiles are exchanged half of such tests find something, and a quarter where images of a pair are."""
    n_studies = 80
    found = simulate_heat(scene, n_studies=n_studies, n_permutations=99)
    assert found["found"] <= binom.ppf(0.999, n_studies, 0.05) / n_studies
    assert found["held"] >= binom.ppf(0.001, n_studies, 0.95) / n_studies


def test_heat_that_follows_a_measure_is_found_where_both_are_smooth() -> None:
    scene = replace(SMOOTH, slope_of_heat=1.0, slope_of_measure=1.0, follow=0.3)
    assert simulate_heat(scene, n_studies=20, n_permutations=99)["found"] > 0.8


def test_all_exchanges_of_few_images_are_counted() -> None:
    laid = lay_particles(follow=0.2)
    few = {
        **{name: laid[name][:16] for name in ("maps", "particle_maps", "image_of_tile")},
        "measures": {"roundness": laid["measures"]["roundness"][:48]},
    }
    found, again = (correlate(few, n_permutations=n, seed=n)[0] for n in (23, 999))
    assert (found.p_value, found.smallest_p_value) == (again.p_value, 1 / 24)

    pixels = few["maps"].repeat(4, axis=1).repeat(4, axis=2).reshape(4, 4, 28, 28)
    particle_maps = few["particle_maps"].reshape(4, 4, 28, 28)
    means = []
    for order in itertools.permutations(range(4)):
        of_image = [
            spearmanr(
                [pixels[order[k]][particle_maps[k] == number].mean() for number in range(12 * k + 1, 12 * k + 13)],
                few["measures"]["roundness"][12 * k : 12 * k + 12],
            ).statistic
            for k in range(4)
        ]
        means.append(np.mean(of_image))
    distances = np.abs(np.array(means) - np.mean(means))
    assert found.p_value == np.mean(distances >= distances[0] - 1e-12)


def test_only_images_with_as_many_tiles_exchange_their_heat() -> None:
    laid = lay_particles(follow=1.0)
    laid["image_of_tile"] = np.repeat(np.arange(6), [4, 4, 4, 4, 3, 5])
    (roundness, _) = correlate(laid)
    assert roundness.smallest_p_value == 2 / 24  # of two measures
    laid["image_of_tile"] = np.repeat(np.arange(6), [1, 2, 3, 5, 6, 7])
    (roundness, _) = correlate(laid)
    assert (roundness.p_value, roundness.smallest_p_value, roundness.chance_correlation) == (1.0, 1.0, None)
    assert roundness.correlation.low > 0


def test_two_images_can_show_nothing() -> None:
    laid = lay_particles(follow=1.0)
    two = {
        **{name: laid[name][:8] for name in ("maps", "particle_maps", "image_of_tile")},
        "measures": {"roundness": laid["measures"]["roundness"][:24]},
    }
    (found,) = correlate(two)
    assert (found.p_value, found.smallest_p_value, found.is_found) == (1.0, 1.0, False)


def test_images_of_a_group_exchange_their_heat_together() -> None:
    (grouped, _) = correlate(lay_particles(follow=1.0), group_of_image=["a", "a", "b", "b", "c", "c"])
    (single, _) = correlate(lay_particles(follow=1.0))
    assert grouped.smallest_p_value == 2 / 6
    assert single.smallest_p_value == 2 / 720
    assert (grouped.n_images, grouped.n_particles) == (6, 72)
    assert grouped.correlation.value == pytest.approx(single.correlation.value)
    with pytest.raises(ValueError, match="images of one group count as one"):
        correlate(lay_particles(follow=1.0), group_of_image=["a"] * 6)
