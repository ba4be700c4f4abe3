"""Which pairs of many pictures are worth registering: those whose points agree in code and in place.

Codes that are alike have like signs, so points with the same signs are compared, for many selections of them (P. Indyk
and R. Motwani, "Approximate nearest neighbors", STOC 1998, 604-613): each with the next few that have the same, so that
the cost is n log n also where a powder looks alike everywhere. Two matches of a pair that agree in turn and shift are a
guess; it is kept where many of the points that then lie on one another have like codes.

Each picture has at most MAX_PARTNERS candidates of its own, those with the most common points. In a long series that
would leave parts that only a few candidates join, so the edges of N_FORESTS maximum spanning forests are kept as well,
none in two of them (H. Nagamochi and T. Ibaraki, Algorithmica 7, 1992, 583-596): two parts stay apart only where
registration refuses the candidates with the most common points between them, one in each forest.

Pictures are taken in blocks, which bounds the memory beyond that of the points. Neither blocks nor threads change
anything.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from sem_search.micrographs.overlaps.points import N_VALUES, POINT, Codes, Points, unpack_codes
from sem_search.micrographs.overlaps.registration import STRIP_SHARE
from sem_search.micrographs.overlaps.turns import Places, Turns, relate_turns, turn_places
from sem_search.micrographs.threads import count_threads
from sem_search.progress import ProgressMeter

Signs = NDArray[np.uint64]
Indices = NDArray[np.int64]
Shape = tuple[int, int]

N_SELECTIONS = 32
SELECTED_FROM = 36  # of the values, the best: the signs of others change with the noise
SPARE_SIGNS = 4  # fewer than would give each point a selection of its own: noise changes one sign in ten
MAX_NEIGHBOURS = 32
MAX_UNLIKE_SIGNS = 18  # a quick look before codes are compared
MIN_LIKENESS = 270.0  # product of two codes, at most about 400
SEED_PX = 2  # matches of one shift
GUIDED_PX, MIN_GUIDED_LIKENESS = 2, 150.0  # once the shift is known
MIN_COMMON, MIN_COMMON_SHARE = 5, 0.1
MIN_OUTSIDE_STRIP = 0.3  # of the common points: a data bar that was left on has nearly all in one strip
MAX_PARTNERS = 16
N_FORESTS = 4
BLOCK_POINTS = 2**20  # of the first pictures of pairs whose matches are held at once: 2,000 pictures or so
THREAD_IMAGES = 128
CHUNK_POINTS = 2**17  # looked at at once, for their memory
CHUNK_MATCHES = 100_000  # whose codes are compared at once, likewise


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """The points of all pictures."""

    image: NDArray[np.int32]
    """Position of the picture, which never falls."""
    rows: Places
    columns: Places
    turns: Turns
    codes: Codes
    signs: Signs
    """Of the values, the best highest."""
    ends: Indices
    """Where the points of each picture begin, and the last end."""
    shapes: NDArray[np.int32]
    """Rows and columns of each plane."""


def find_candidates(points: Iterable[Points], shapes: Sequence[Shape], *, meter: ProgressMeter) -> list[Candidate]:
    """Return the pairs whose points agree, sorted.

    Args:
        points: Of each picture; all planes with one step on the specimen.
        shapes: Of each plane, rows and columns.
        meter: Counts each picture once.
    """
    table = _build_table(points, shapes)
    found: list[Candidate] = []
    begin = 0
    while begin < len(shapes):
        end = int(np.searchsorted(table.ends, table.ends[begin] + BLOCK_POINTS, side="right")) - 1
        end = min(max(end, begin + 1), len(shapes))
        for part in _check_images(begin, end, table=table):
            found += part
            meter.update(min(THREAD_IMAGES, end - begin))
            begin = min(begin + THREAD_IMAGES, end)
        found = _keep_best(found)  # what is not among the best of some is not among the best of all
    return found


def _build_table(points: Iterable[Points], shapes: Sequence[Shape]) -> _Table:
    """Return one table of all points."""
    parts = [np.empty(0, dtype=POINT), *points]
    lengths = [len(part) for part in parts]
    return _Table(
        image=np.repeat(np.arange(-1, len(parts) - 1, dtype=np.int32), lengths),
        rows=np.concatenate([part["row"] for part in parts]).astype(np.int32),
        columns=np.concatenate([part["column"] for part in parts]).astype(np.int32),
        turns=np.concatenate([part["turn"] for part in parts]),
        codes=np.concatenate([part["code"] for part in parts]),
        signs=np.concatenate([_pack_signs(part["code"]) for part in parts]),
        ends=np.cumsum(lengths),
        shapes=np.array(shapes, dtype=np.int32).reshape(-1, 2),
    )


def _pack_signs(codes: Codes) -> Signs:
    """Return the signs of the values of codes, shape (n,)."""
    is_positive = np.concatenate((codes >> 7, codes >> 3 & 1), axis=1)
    return np.packbits(is_positive, axis=1).view(">u8").ravel().astype(np.uint64)


def _check_images(begin: int, end: int, *, table: _Table) -> Iterator[list[Candidate]]:
    """Yield the candidates whose first pictures lie in a block of pictures, for THREAD_IMAGES of them at a time."""
    matches = _match_codes(table, begin=int(table.ends[begin]), end=int(table.ends[end]))
    limits = table.ends[[*range(begin, end, THREAD_IMAGES), end]] << 32
    parts = np.split(matches, np.searchsorted(matches, limits[1:-1]))
    with ThreadPoolExecutor(count_threads()) as pool:
        yield from pool.map(partial(_check_block, table=table), parts)


def _match_codes(table: _Table, *, begin: int, end: int) -> Indices:
    """Return the matches of these points with later ones, of other pictures, sorted.

    Returns:
        The first's index times 2**32, plus the second's.
    """
    rng = np.random.default_rng(0)
    n_signs = max(1, round(np.log2(max(1, len(table.image))) - SPARE_SIGNS))
    selections = [rng.permutation(SELECTED_FROM)[:n_signs] for _ in range(N_SELECTIONS)]
    matches = np.empty(0, dtype=np.int64)
    n_threads = count_threads()
    with ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, N_SELECTIONS, n_threads):  # few at once, for their memory
            match = partial(_match_selected, table=table, begin=begin, end=end)
            matches = np.concatenate((matches, *pool.map(match, selections[start : start + n_threads])))
            matches.sort()
            matches = matches[np.append(True, matches[1:] != matches[:-1])[: len(matches)]]
    return matches


def _match_selected(selected: NDArray[np.int64], *, table: _Table, begin: int, end: int) -> Indices:
    """Return the matches of these points with later ones in which the selected signs are equal."""
    ordered = _sort_by_signs(selected, table=table)
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(ordered), CHUNK_POINTS):
        chunk = ordered[start : start + CHUNK_POINTS + MAX_NEIGHBOURS]
        point = (chunk & np.uint64(2**32 - 1)).astype(np.int64)
        key, signs, image = chunk >> np.uint64(32), table.signs[point], table.image[point]
        at = np.nonzero((point >= begin) & (point < end))[0]
        at = at[at < CHUNK_POINTS]
        for step in range(1, MAX_NEIGHBOURS + 1):
            at = at[at < len(point) - step]
            at = at[key[at] == key[at + step]]
            is_near = np.bitwise_count(signs[at] ^ signs[at + step]) <= MAX_UNLIKE_SIGNS
            near = at[is_near & (image[at] != image[at + step])]
            one, other = point[near], point[near + step]
            is_like = _compute_likeness(one, other, codes=table.codes) >= MIN_LIKENESS
            found.append((one[is_like] << 32) | other[is_like])
    return np.concatenate(found)


def _sort_by_signs(selected: NDArray[np.int64], *, table: _Table) -> Signs:
    """Return all points, sorted by the selected signs: these times 2**32, plus the point's index."""
    ordered = np.empty(len(table.signs), dtype=np.uint64)
    for start in range(0, len(ordered), CHUNK_POINTS):
        signs = table.signs[start : start + CHUNK_POINTS]
        key = np.zeros(len(signs), dtype=np.uint64)
        for value in selected:
            key = (key << np.uint64(1)) | ((signs >> np.uint64(N_VALUES - 1 - value)) & np.uint64(1))
        ordered[start : start + len(key)] = (key << np.uint64(32)) | np.arange(start, start + len(key), dtype=np.uint64)
    ordered.sort()
    return ordered


def _compute_likeness(one: Indices, other: Indices, *, codes: Codes) -> NDArray[np.float32]:
    """Return the products of the codes of points, shape (n,)."""
    likeness = np.empty(len(one), dtype=np.float32)
    for start in range(0, len(one), CHUNK_MATCHES):
        chunk = slice(start, start + CHUNK_MATCHES)
        ours, theirs = (unpack_codes(codes[index[chunk]]) for index in (one, other))
        likeness[chunk] = np.einsum("ij,ij->i", ours, theirs)
    return likeness


def _check_block(matches: Indices, *, table: _Table) -> list[Candidate]:
    """Return the candidates among the pairs of these matches, which are all that their first pictures have."""
    found = []
    for first, second, turn, shift in _guess(matches, table=table):
        n_common = _count_common(first, second, table=table, turn=turn, shift=shift)
        if n_common:
            found.append(Candidate(first=first, second=second, turn=turn, n_common=n_common))
    return found


def _guess(matches: Indices, *, table: _Table) -> Iterator[tuple[int, int, int, Shape]]:
    """Yield first, second, turn, and the shift in rows and columns on which most matches agree, at least two."""
    ours, theirs = matches >> 32, matches & (2**32 - 1)
    first, second = table.image[ours], table.image[theirs]
    turns = relate_turns(table.turns[ours], table.turns[theirs])
    heights, widths = table.shapes[second].T
    rows, columns = turn_places(table.rows[theirs], table.columns[theirs], heights=heights, widths=widths, turns=turns)
    down, right = table.rows[ours] - rows, table.columns[ours] - columns
    pair = (first.astype(np.int64) * len(table.shapes) + second) * 8 + turns
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
    for one in best[n_agreeing[best] > 1]:
        ends, turn = divmod(int(pair[one]), 8)
        yield *divmod(ends, len(table.shapes)), turn, (int(down[one]), int(right[one]))


def _count_common(first: int, second: int, *, table: _Table, turn: int, shift: Shape) -> int:
    """Return how many points of the second lie on a like one of the first, 0 where they are too few."""
    begin, end = table.ends[first : first + 2]
    other = np.arange(*table.ends[second : second + 2])
    (height, width), (other_height, other_width) = table.shapes[first], table.shapes[second]
    rows, columns = turn_places(
        table.rows[other], table.columns[other], heights=other_height, widths=other_width, turns=turn
    )
    rows, columns = rows + shift[0], columns + shift[1]
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    other, rows, columns = other[is_inside], rows[is_inside], columns[is_inside]
    # The first's points are sorted by rows.
    low, high = begin + np.searchsorted(table.rows[begin:end], (rows - GUIDED_PX, rows + GUIDED_PX + 1))
    n_near = high - low
    index = np.repeat(np.arange(len(other)), n_near)
    one = np.arange(len(index)) + np.repeat(low - np.cumsum(n_near) + n_near, n_near)
    is_near = np.abs(table.columns[one] - columns[index]) <= GUIDED_PX
    one, index = one[is_near], index[is_near]
    is_turned_so = relate_turns(table.turns[one], table.turns[other[index]]) == turn
    one, index = one[is_turned_so], index[is_turned_so]
    is_like = _compute_likeness(one, other[index], codes=table.codes) >= MIN_GUIDED_LIKENESS
    common = np.unique(index[is_like])
    if len(common) < max(MIN_COMMON, MIN_COMMON_SHARE * len(other)):
        return 0
    n_outside = min(_count_outside_strip(places[common], places) for places in (rows, columns))
    return len(common) if n_outside >= MIN_OUTSIDE_STRIP * len(common) else 0


def _count_outside_strip(places: Places, all_places: Places) -> int:
    """Return how many places lie outside the fifth of the overlap, of rows or of columns, in which most are."""
    ordered = np.sort(places)
    strip = STRIP_SHARE * (all_places.max() - all_places.min())
    n_in_strip = np.searchsorted(ordered, ordered + strip, side="right") - np.arange(len(ordered))
    return len(ordered) - int(n_in_strip.max())


def _keep_best(found: Sequence[Candidate]) -> list[Candidate]:
    """Return the best candidates of each picture, and those of N_FORESTS spanning forests, sorted."""
    ordered = sorted(found, key=lambda one: (-one.n_common, one))
    n_of: dict[int, int] = defaultdict(int)
    kept = set()
    for candidate in ordered:
        ends = (candidate.first, candidate.second)
        if min(n_of[end] for end in ends) < MAX_PARTNERS:
            kept.add(candidate)
        for end in ends:
            n_of[end] += 1
    for _ in range(N_FORESTS):
        trees = DisjointSet(n_of)
        forest = {candidate for candidate in ordered if trees.merge(candidate.first, candidate.second)}
        kept |= forest
        ordered = [candidate for candidate in ordered if candidate not in forest]
    return sorted(kept)
