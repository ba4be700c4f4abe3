"""Which pairs of many pictures are worth registering: those whose points agree in code and in place.

Codes that differ in few bits agree in some selection of them, so points with the same selected bits are compared, for
many selections (P. Indyk and R. Motwani, "Approximate nearest neighbors", STOC 1998, 604-613): each with the next few
that have the same, so that the cost is n log n also where a powder looks alike everywhere. Two matches of a pair that
agree in turn and shift are a guess; it is kept where many of the points that then lie on one another have like codes.
Each picture has at most MAX_PARTNERS candidates of its own. All is counted in whole numbers: the same on any machine.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.overlaps.points import N_BITS, Points
from sem_search.micrographs.overlaps.turns import relate_turns, turn_places
from sem_search.micrographs.threads import count_threads
from sem_search.progress import ProgressMeter

Codes = NDArray[np.uint64]
Indices = NDArray[np.int64]
Shape = tuple[int, int]

N_SELECTIONS = 32
SELECTED_FROM = 36  # of the bits, the best: later ones change with the noise
SPARE_BITS = 2.5  # fewer than would give each point a selection of its own: noise changes one bit in ten
MAX_NEIGHBOURS = 16
MAX_DIFFERENT = 12  # bits of a match; of strangers one pair in 3,000 has so few
SEED_PX = 2  # matches of one shift
MAX_DIFFERENT_GUIDED = 20  # bits, once the shift is known
GUIDED_PX = 2
MIN_COMMON, MIN_COMMON_SHARE = 6, 0.1
MAX_PARTNERS = 8
BLOCK_IMAGES = 256


@dataclass(frozen=True, kw_only=True, order=True)
class Candidate:
    """Two pictures that may show the same place."""

    first: int
    second: int
    """Positions in the sequence, first < second."""
    turn: int
    """Of the second, so that it lies as the first (`turns`)."""
    n_common: int
    """Points that lie on one another with like codes."""


def find_candidates(points: Sequence[Points], shapes: Sequence[Shape], *, meter: ProgressMeter) -> list[Candidate]:
    """Return the pairs whose points agree, sorted.

    Args:
        points: Of each picture; all planes with one step on the specimen.
        shapes: Of each plane, rows and columns.
        meter: Counts each picture once.
    """
    if sum(map(len, points)) == 0:
        meter.update(len(points))
        return []
    table = np.concatenate(points)
    image = np.repeat(np.arange(len(points), dtype=np.int32), [len(part) for part in points])
    sides = np.array(shapes, dtype=np.int32)
    matches = _match_codes(table["code"].astype(np.uint64), image)
    first = image[matches >> 32]
    starts = range(0, len(points), BLOCK_IMAGES)
    blocks = [matches[slice(*np.searchsorted(first, (start, start + BLOCK_IMAGES)))] for start in starts]
    ends = np.cumsum([0, *map(len, points)])
    check = partial(_check_block, table=table, image=image, sides=sides, ends=ends)
    found: list[Candidate] = []
    with ThreadPoolExecutor(count_threads()) as pool:
        for start, part in zip(starts, pool.map(check, blocks), strict=True):
            found += part
            meter.update(min(BLOCK_IMAGES, len(points) - start))
    return _keep_best(found)


def _match_codes(codes: Codes, image: NDArray[np.int32]) -> Indices:
    """Return the matches of points of two pictures, sorted: the first's index times 2**32, plus the second's."""
    rng = np.random.default_rng(0)
    n_bits = max(1, round(np.log2(len(codes)) - SPARE_BITS))
    selections = [rng.permutation(SELECTED_FROM)[:n_bits] for _ in range(N_SELECTIONS)]
    matches = np.empty(0, dtype=np.int64)
    n_threads = count_threads()
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, N_SELECTIONS, n_threads):  # few at once, for their memory
            some = selections[start : start + n_threads]
            parts = pool.map(partial(_match_selected, codes=codes, image=image), some)
            matches = np.concatenate((matches, *parts))
            matches.sort()
            matches = matches[np.append(True, matches[1:] != matches[:-1])[: len(matches)]]
    return matches


def _match_selected(bits: NDArray[np.int64], *, codes: Codes, image: NDArray[np.int32]) -> Indices:
    """Return the matches among points in which these bits are equal."""
    key = np.zeros(len(codes), dtype=np.uint64)
    for bit in bits:
        key = (key << np.uint64(1)) | ((codes >> np.uint64(N_BITS - 1 - bit)) & np.uint64(1))
    ordered = np.sort((key << np.uint64(32)) | np.arange(len(codes), dtype=np.uint64))
    point = (ordered & np.uint64(2**32 - 1)).astype(np.int64)
    key, codes, image = ordered >> np.uint64(32), codes[point], image[point]
    found = []
    at = np.arange(len(point))
    for step in range(1, MAX_NEIGHBOURS + 1):
        at = at[at < len(point) - step]
        at = at[key[at] == key[at + step]]
        is_match = np.bitwise_count(codes[at] ^ codes[at + step]) <= MAX_DIFFERENT
        near = at[is_match & (image[at] != image[at + step])]
        found.append((point[near] << 32) | point[near + step])
    return np.concatenate(found)


def _check_block(
    matches: Indices, *, table: Points, image: NDArray[np.int32], sides: NDArray[np.int32], ends: Indices
) -> list[Candidate]:
    """Return the candidates among the pairs of these matches, which are all that their first pictures have."""
    found = []
    for first, second, turn, down, right in _guess(matches, table=table, image=image, sides=sides):
        ours, theirs = (table[ends[one] : ends[one + 1]] for one in (first, second))
        n_common = _count_common(ours, theirs, shapes=(sides[first], sides[second]), turn=turn, shift=(down, right))
        if n_common:
            found.append(Candidate(first=first, second=second, turn=turn, n_common=n_common))
    return found


def _guess(
    matches: Indices, *, table: Points, image: NDArray[np.int32], sides: NDArray[np.int32]
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield first, second, turn, and the shift in rows and columns on which most matches agree, at least two."""
    ours, theirs = table[matches >> 32], table[matches & (2**32 - 1)]
    first, second = image[matches >> 32], image[matches & (2**32 - 1)]
    turns = relate_turns(ours["turn"], theirs["turn"])
    heights, widths = sides[second].T
    rows, columns = (theirs[name].astype(np.int32) for name in ("row", "column"))
    rows, columns = turn_places(rows, columns, heights=heights, widths=widths, turns=turns)
    down, right = ours["row"] - rows, ours["column"] - columns
    pair = (first.astype(np.int64) * len(sides) + second) * 8 + turns
    order = np.lexsort((right, down, pair))
    pair, down, right = pair[order], down[order], right[order]
    n_agreeing = np.ones(len(pair), dtype=np.int64)
    for step in range(1, MAX_NEIGHBOURS + 1):
        is_near = (pair[step:] == pair[:-step]) & (down[step:] - down[:-step] <= SEED_PX)
        agree = np.nonzero(is_near & (np.abs(right[step:] - right[:-step]) <= SEED_PX))[0]
        n_agreeing[agree] += 1
        n_agreeing[agree + step] += 1
    order = np.lexsort((-n_agreeing, pair))
    best = order[np.append(True, pair[order][1:] != pair[order][:-1])[: len(order)]]
    best = best[n_agreeing[best] > 1]
    for one in best:
        ends, turn = divmod(int(pair[one]), 8)
        yield *divmod(ends, len(sides)), turn, int(down[one]), int(right[one])


def _count_common(
    ours: Points, theirs: Points, *, shapes: tuple[NDArray[np.int32], NDArray[np.int32]], turn: int, shift: Shape
) -> int:
    """Return how many points of the first lie on a like one of the second, 0 where they are too few."""
    height, width = shapes[1]
    rows, columns = turn_places(
        theirs["row"].astype(np.int32), theirs["column"].astype(np.int32), heights=height, widths=width, turns=turn
    )
    rows, columns = rows + shift[0], columns + shift[1]
    is_inside = (rows >= 0) & (rows < shapes[0][0]) & (columns >= 0) & (columns < shapes[0][1])
    theirs, rows, columns = theirs[is_inside], rows[is_inside], columns[is_inside]
    begin, end = np.searchsorted(ours["row"], (rows - GUIDED_PX, rows + GUIDED_PX + 1))  # they are sorted by rows
    other = np.repeat(np.arange(len(theirs)), end - begin)
    one = np.arange(len(other)) + np.repeat(
        begin - np.append(0, (end - begin).cumsum()[:-1])[: len(begin)], end - begin
    )
    is_near = np.abs(ours["column"][one] - columns[other]) <= GUIDED_PX
    one, other = one[is_near], other[is_near]
    is_like = np.bitwise_count(ours["code"][one] ^ theirs["code"][other]) <= MAX_DIFFERENT_GUIDED
    is_like &= relate_turns(ours["turn"][one], theirs["turn"][other]) == turn
    n_common = len(np.unique(other[is_like]))
    return n_common if n_common >= max(MIN_COMMON, MIN_COMMON_SHARE * len(theirs)) else 0


def _keep_best(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates that are among the MAX_PARTNERS best of one of their two pictures, sorted."""
    n_of: dict[int, int] = {}
    kept = []
    for candidate in sorted(found, key=lambda one: (-one.n_common, one)):
        ends = (candidate.first, candidate.second)
        if min(n_of.get(end, 0) for end in ends) < MAX_PARTNERS:
            kept.append(candidate)
        for end in ends:
            n_of[end] = n_of.get(end, 0) + 1
    return sorted(kept)
