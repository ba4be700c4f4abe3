"""The difference that so many images could have shown."""

import numpy as np

from sem_search.evaluation.lot_power import find_detectable_accuracy


def find(n_images: int, *, n_tests: int = 40) -> float | None:
    points = np.random.default_rng(0).normal(size=(2 * n_images, 12))
    is_first = np.repeat([1.0, 0.0], n_images)
    return find_detectable_accuracy(points, is_first, n_tests=n_tests, rng=np.random.default_rng(1))


def test_more_images_show_smaller_differences() -> None:
    few, many = find(6), find(25)
    assert many is not None and 0.55 < many < 0.85
    assert few is None or few > many


def test_it_can_be_left_out() -> None:
    assert find(6, n_tests=0) is None


def test_what_the_lots_differ_in_already_plays_no_part() -> None:
    points = np.random.default_rng(0).normal(size=(40, 12))
    is_first = np.repeat([1.0, 0.0], 20)
    apart = points + 50.0 * is_first[:, None]
    found = [
        find_detectable_accuracy(some, is_first, n_tests=20, rng=np.random.default_rng(1)) for some in (points, apart)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_many_pairs_need_larger_differences() -> None:
    points = np.random.default_rng(0).normal(size=(24, 12))
    is_first = np.repeat([1.0, 0.0], 12)
    one, ten = (
        find_detectable_accuracy(points, is_first, n_tests=30, n_pairs=n_pairs, rng=np.random.default_rng(1))
        for n_pairs in (1, 10)
    )
    assert one is not None and ten is not None
    assert one + 0.02 < ten
    few = np.repeat([1.0, 0.0], 5)
    assert find_detectable_accuracy(points[:10], few, n_tests=30, n_pairs=10, rng=np.random.default_rng(1)) is None, (
        "10 / 126 is above 0.05"
    )
