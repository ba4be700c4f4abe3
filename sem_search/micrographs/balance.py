"""How many groups of each kind go into each part, so that every class is spread evenly: counts only, no random choice.

Groups differ in size, and one may hold images of several classes, so this is a packing problem, hard to solve exactly.
Largest first into the emptiest part is near the best (R. L. Graham, SIAM J. Appl. Math. 17 (1969) 416-429), and exactly
the best for single images; then groups are moved and swapped between two parts as long as that helps. Groups of one
composition are interchangeable, so the search runs over kinds of groups, not over groups.

Better means, in this order: fewer parts that lack a class; a smaller sum of squares of images per class and part; a
smaller sum of squares of images per part.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntMatrix = NDArray[np.int64]

MAX_ROUNDS = 10  # data of usual size need two or three; beyond, single images are shifted for seconds


def compute_shares(kinds: IntMatrix, *, n_groups: Sequence[int], n_parts: int) -> IntMatrix:
    """Return how many groups of each kind each part gets.

    Args:
        kinds: Images per class in a group of each kind, shape (n_kinds, n_classes), largest kinds first.
        n_groups: How many groups of each kind there are, length n_kinds.
        n_parts: Number of parts.

    Returns:
        Shape (n_kinds, n_parts); row sums are `n_groups`.
    """
    shares = _assign_largest_first(kinds, n_groups=n_groups, n_parts=n_parts)
    for _ in range(MAX_ROUNDS):
        if not _improve_once(shares, kinds=kinds):
            break
    return shares


def _assign_largest_first(kinds: IntMatrix, *, n_groups: Sequence[int], n_parts: int) -> IntMatrix:
    """Give each group to the part that lacks its classes most."""
    shares = np.zeros((len(kinds), n_parts), dtype=np.int64)
    images = np.zeros((n_parts, kinds.shape[1]), dtype=np.int64)
    for index, (kind, count) in enumerate(zip(kinds, n_groups, strict=True)):
        for _ in range(count):
            n_filled = ((images == 0) & (kind > 0)).sum(axis=1)
            part = int(np.lexsort((images.sum(axis=1), images @ kind, -n_filled))[0])
            shares[index, part] += 1
            images[part] += kind
    return shares


def _improve_once(shares: IntMatrix, *, kinds: IntMatrix) -> bool:
    """Make, in place, each exchange between two parts that helps; return whether there was one."""
    # An exchange gives one group of kind `mine` for one of kind `theirs`; the last kind is "nothing", so that moving a
    # group is an exchange, too.
    with_nothing = np.vstack([kinds, np.zeros_like(kinds[:1])])
    n_kinds, n_parts = shares.shape
    has_improved = False
    for first in range(n_parts):
        for second in range(n_parts):
            for mine in range(n_kinds):
                if first == second or shares[mine, first] == 0:
                    continue
                theirs = _find_best_exchange(shares, kinds=with_nothing, mine=mine, first=first, second=second)
                if theirs is None:
                    continue
                _move(shares, kind=mine, source=first, target=second)
                if theirs < n_kinds:
                    _move(shares, kind=theirs, source=second, target=first)
                has_improved = True
    return has_improved


def _find_best_exchange(shares: IntMatrix, *, kinds: IntMatrix, mine: int, first: int, second: int) -> int | None:
    """Return the kind that part `first` should take from `second` for one group of kind `mine`, None if none helps."""
    offered = np.append(np.flatnonzero(shares[:, second]), len(kinds) - 1)
    before = np.stack([shares[:, part] @ kinds[:-1] for part in (first, second)])
    gains = kinds[offered] - kinds[mine]
    changes = _compute_cost(np.stack([before[0] + gains, before[1] - gains])) - _compute_cost(before[:, None, :])
    best = int(np.lexsort(changes[::-1])[0])
    return int(offered[best]) if tuple(changes[:, best]) < (0, 0, 0) else None


def _compute_cost(images: IntMatrix) -> IntMatrix:
    """Return (classes missing, squares per class and part, squares per part) of two parts, shape (3, n_cases).

    Args:
        images: Images per class, shape (2, n_cases, n_classes).
    """
    n_missing = (images == 0).sum(axis=(0, 2))
    per_class = (images**2).sum(axis=(0, 2))
    per_part = (images.sum(axis=2) ** 2).sum(axis=0)
    return np.stack([n_missing, per_class, per_part])


def _move(shares: IntMatrix, *, kind: int, source: int, target: int) -> None:
    shares[kind, source] -= 1
    shares[kind, target] += 1
