"""Preparing the next batches while the network is busy with this one."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from sem_search.micrographs.tiles import FloatTiles

Item = TypeVar("Item")


def iter_batches(tiles: Iterable[FloatTiles], *, batch_size: int) -> Iterator[FloatTiles]:
    """Yield tiles in batches of one size, in order; the last batch may be smaller.

    Args:
        tiles: Arrays of shape (n, size_px, size_px), of any n.
        batch_size: Tiles in a batch.
    """
    waiting: list[FloatTiles] = []
    n_waiting = 0
    for some in tiles:
        waiting.append(some)
        n_waiting += len(some)
        if n_waiting >= batch_size:
            ready = np.concatenate(waiting)
            n_full = n_waiting - n_waiting % batch_size
            yield from np.split(ready[:n_full], n_full // batch_size)
            waiting, n_waiting = [ready[n_full:]], n_waiting - n_full
    if n_waiting:
        yield np.concatenate(waiting)


def prefetch(items: Iterator[Item], *, n_ahead: int) -> Iterator[Item]:
    """Yield the items of an iterator that runs ahead, in one thread of its own.

    Args:
        items: Runs in the other thread; what it raises is raised here.
        n_ahead: Items that may wait, at least 1; bounds the memory they take.
    """
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(n_ahead))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(pool.submit(next, items, end))
                yield item  # type: ignore[misc]  # it is not `end`
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
