"""Batches come in order, in one size, ahead of time, and never more of them than allowed."""

import threading
import time

import numpy as np
import pytest

from sem_search.transfer.prefetch import iter_batches, prefetch


@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        ([4, 4], 4, [4, 4]),
        ([1, 1, 1], 2, [2, 1]),
        ([10], 3, [3, 3, 3, 1]),
        ([2, 7, 1], 4, [4, 4, 2]),
        ([3], 8, [3]),
        ([0, 2], 2, [2]),
        ([], 4, []),
    ],
)
def test_iter_batches_keeps_order_and_loses_nothing(sizes, batch_size, expected):
    numbers = np.arange(sum(sizes), dtype=np.float32)[:, None, None]
    parts = np.split(numbers, np.cumsum(sizes)[:-1]) if sizes else []
    batches = list(iter_batches(parts, batch_size=batch_size))
    assert [len(batch) for batch in batches] == expected
    if sizes:
        np.testing.assert_array_equal(np.concatenate(batches), numbers)


def test_prefetch_yields_all_items_in_order():
    assert list(prefetch(iter(range(20)), n_ahead=3)) == list(range(20))


def test_prefetch_runs_ahead_but_no_further_than_allowed():
    made = []

    def make():
        for number in range(100):
            made.append(number)
            yield number

    items = prefetch(make(), n_ahead=3)
    next(items)
    deadline_s = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4  # the one in use and three that wait
    items.close()


def test_prefetch_raises_what_the_items_raise():
    def fail():
        yield 1
        raise ValueError("tile 2 is torn")

    items = prefetch(fail(), n_ahead=4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="tile 2 is torn"):
        next(items)


def test_prefetch_leaves_no_thread_behind_when_it_is_given_up():
    before = threading.active_count()
    items = prefetch(iter(range(1000)), n_ahead=2)
    next(items)
    items.close()
    assert threading.active_count() == before
