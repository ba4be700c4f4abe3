"""The difference that so many images could have shown."""

import numpy as np
import pytest

from sem_search.evaluation.lots import power as lot_power
from sem_search.evaluation.lots.power import _is_found, find_detectable_accuracy
from sem_search.evaluation.lots.scores import permute_images, score_permutations
from sem_search.records import FloatMatrix, FloatVector


def find(n_images: int, *, n_tests: int = 40) -> float | None:
    points = np.random.default_rng(0).normal(size=(2 * n_images, 12))
    is_first = np.repeat([1.0, 0.0], n_images)
    return find_detectable_accuracy(points, is_first, n_tests=n_tests, rng=np.random.default_rng(1))


def test_more_images_show_smaller_differences() -> None:
    few, many = find(10), find(25)
    assert few is not None and many is not None
    assert 0.55 < many < few - 0.02 < 1


def test_too_few_images_show_none() -> None:
    assert find(3) is None, "2 / 20 is above 0.05"


@pytest.mark.parametrize("n_pairs", [10, 45])
def test_no_more_is_dealt_than_decides(monkeypatch: pytest.MonkeyPatch, n_pairs: int) -> None:
    """A test that finds nothing knows so after the first permutations, however many pairs there are."""
    permuted: list[int] = []

    def count(is_first: FloatVector, *, n_permutations: int, rng: np.random.Generator) -> FloatMatrix:
        permuted.append(n_permutations)
        return permute_images(is_first, n_permutations=n_permutations, rng=rng)

    monkeypatch.setattr(lot_power, "permute_images", count)
    monkeypatch.setattr(lot_power, "SHIFTS", np.array([0.01]))
    points = np.random.default_rng(0).normal(size=(20, 12))
    is_first = np.repeat([1.0, 0.0], 10)
    found = find_detectable_accuracy(points, is_first, n_tests=20, n_pairs=n_pairs, rng=np.random.default_rng(1))
    assert found is None
    assert 20 * 100 <= sum(permuted) < 20 * 100 * n_pairs / 3


def test_the_permutations_that_are_left_out_would_change_nothing() -> None:
    rng = np.random.default_rng(3)
    is_first = np.repeat([1.0, 0.0], 8)
    decided = []
    for number in range(40):
        points = rng.normal(size=(16, 5)) + is_first[:, None] * number / 10
        auroc = float(score_permutations(points, is_first[None]).compute_auroc()[0])
        short = _is_found(points, is_first, auroc=auroc, n_pairs=5, rng=np.random.default_rng(number))
        whole = score_permutations(
            points, permute_images(is_first, n_permutations=499, rng=np.random.default_rng(number))
        )
        assert short == (whole.compute_p_value(auroc=auroc) <= 0.05 / 5 + 1e-12)
        decided.append(short)
    assert set(decided) == {True, False}


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
