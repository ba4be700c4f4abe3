import numpy as np
import pytest

from sem_search.micrographs.rendering.exact import Draws, exp2


@pytest.mark.parametrize("x", [-12.25, -1.0, -0.3, 0.0, 0.001, 0.5, 0.999999, 1.0, 7.75])
def test_exp2_is_the_power_of_two(x: float) -> None:
    assert exp2(x) == pytest.approx(2.0**x, rel=1e-10)


def test_same_seed_same_numbers_other_seed_others() -> None:
    assert Draws(3).uniforms(4, 5).tolist() == Draws(3).uniforms(4, 5).tolist()
    assert Draws(3).uniforms(4, 5).tolist() != Draws(4).uniforms(4, 5).tolist()


def test_first_numbers_never_change() -> None:
    draws = Draws(0)
    assert (draws.uniforms(3) * 2.0**24).tolist() == [10686443.0, 4526269.0, 687421.0]
    assert (draws.normals(3) * np.float32(209.0215)).round().tolist() == [-382.0, -114.0, -71.0]


def test_uniforms_fill_the_unit_interval() -> None:
    numbers = Draws(1).uniforms(20_000)
    assert numbers.dtype == np.float32
    assert 0.0 <= numbers.min() < 0.001 < 0.999 < numbers.max() < 1.0
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)


def test_normals_have_the_moments_of_a_normal_distribution() -> None:
    numbers = Draws(2).normals(100, 400)
    assert numbers.shape == (100, 400)
    assert numbers.mean() == pytest.approx(0.0, abs=0.02)
    assert numbers.std() == pytest.approx(1.0, abs=0.02)
    assert (np.abs(numbers) < 1.96).mean() == pytest.approx(0.95, abs=0.01)
    assert np.abs(numbers).max() < 5.0


def test_directions_are_unit_vectors_all_round() -> None:
    directions = Draws(5).directions(8_000)
    assert np.allclose((directions * directions).sum(axis=1), 1.0, atol=1e-6)
    octants = np.histogram(np.arctan2(directions[:, 1], directions[:, 0]), bins=8, range=(-np.pi, np.pi))[0]
    assert octants.min() > 900 and octants.max() < 1100


def test_single_numbers() -> None:
    draws = Draws(6)
    assert all(2.0 <= draws.uniform(2.0, 3.0) < 3.0 for _ in range(100))
    assert draws.normal(7.0, 0.0) == 7.0
    x, y = draws.direction()
    assert x * x + y * y == pytest.approx(1.0, abs=1e-6)
