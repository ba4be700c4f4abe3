"""The same thing done with every image, in a few threads, with a progress bar."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sem_search.progress import iter_measured

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 4  # decoding and FFT release the interpreter lock; more threads only hold more pictures in memory


def count_threads() -> int:
    """Return how many threads are used."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def map_in_threads(
    compute: Callable[[Item], Result], items: Sequence[Item], *, label: str, is_shown: bool, unit: str = "images"
) -> Iterator[Result]:
    """Yield the result for each item, in order.

    Args:
        compute: Called from several threads.
        items: Images, or whatever stands for one each.
        label: What is being done, for the progress bar.
        is_shown: Whether there is a bar.
        unit: What is counted, in the plural.
    """
    pool = ThreadPoolExecutor(max_workers=count_threads())
    try:
        results = pool.map(compute, items)
        yield from iter_measured(results, label=label, total=len(items), unit=unit, is_shown=is_shown)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # on Ctrl-C, only what is being computed is waited for
