"""Groups are spread as evenly as can be: compared with trying all ways, where that is possible."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sem_search.micrographs.balance import compute_shares


def compute_cost(images: np.ndarray) -> tuple[int, int, int]:
    """(parts lacking a class, squares per class and part, squares per part); images of shape (parts, classes)."""
    return int((images == 0).sum()), int((images**2).sum()), int((images.sum(axis=1) ** 2).sum())


def find_best_cost(groups: list[tuple[int, ...]], n_parts: int) -> tuple[int, int, int]:
    table = np.array(groups)
    deals = itertools.product(range(n_parts), repeat=len(groups))
    return min(
        compute_cost(np.stack([table[[part == at for at in deal]].sum(axis=0) for part in range(n_parts)]))
        for deal in deals
    )


def share(groups: list[tuple[int, ...]], n_parts: int) -> tuple[np.ndarray, np.ndarray]:
    kinds = sorted(set(groups), key=lambda kind: (-sum(kind), kind))
    shares = compute_shares(np.array(kinds), n_groups=[groups.count(kind) for kind in kinds], n_parts=n_parts)
    assert shares.sum(axis=1).tolist() == [groups.count(kind) for kind in kinds]
    assert shares.min() >= 0
    return shares, shares.T @ np.array(kinds)


@pytest.mark.parametrize(
    ("groups", "n_parts", "expected"),
    [
        ([(1,)] * 10, 5, [2, 2, 2, 2, 2]),
        ([(1,)] * 11, 5, [2, 2, 2, 2, 3]),
        ([(3,), (3,), (2,), (2,), (2,)], 3, [3, 4, 5]),  # largest first alone would do no better
        ([(5,), (4,), (3,), (3,), (3,)], 2, [9, 9]),  # largest first alone gives 8 and 10
        ([(9,), (1,), (1,)], 3, [1, 1, 9]),
    ],
)
def test_one_class(groups: list[tuple[int, ...]], n_parts: int, expected: list[int]) -> None:
    _, images = share(groups, n_parts)
    assert sorted(images[:, 0].tolist()) == expected


def test_the_surplus_of_different_classes_goes_to_different_parts() -> None:
    _, images = share([(1, 0, 0)] * 4 + [(0, 1, 0)] * 4 + [(0, 0, 1)] * 4, 3)
    assert images.sum(axis=1).tolist() == [4, 4, 4]


def test_no_part_lacks_a_class_if_that_can_be() -> None:
    _, images = share([(5, 1), (1, 5), (4, 4), (0, 1), (1, 0)], 3)
    assert images.min() > 0


group_kinds = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)


@settings(deadline=None, max_examples=40)
@given(groups=st.lists(group_kinds, min_size=3, max_size=6))
def test_nearly_as_good_as_trying_all_ways(groups: list[tuple[int, ...]]) -> None:
    _, images = share(groups, 3)
    found, best = compute_cost(images), find_best_cost(groups, 3)
    assert found[0] == best[0]
    assert found[1] <= best[1] * 1.1 + 2


def test_large_data_do_not_take_long() -> None:
    random = np.random.default_rng(0)
    groups = [tuple(random.multinomial(size, [0.25] * 4).tolist()) for size in random.integers(1, 6, 1000)]
    started_s = time.process_time()
    _, images = share(groups, 5)
    assert time.process_time() - started_s < 10
    assert np.ptp(images, axis=0).max() <= 1
