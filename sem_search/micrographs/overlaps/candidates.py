"""Which pairs of many pictures are worth registering: those whose points agree in code and in place.

Points fall into 16 times as many cells as the root of their number, by the nearest centre of each half of a code, the
centres being those of a k-means (A. Babenko and V. Lempitsky, "The inverted multi-index", CVPR 2012, 3069-3076). Each
is compared with those of later pictures in its nearest cells. Two matches of a pair that agree in turn and shift are a
guess; it is kept where many of the points that then lie on one another have like codes.

Each picture has at most MAX_PARTNERS candidates of its own, those with the most common points. In a long series that
would leave parts that only a few candidates join, so the edges of N_FORESTS maximum spanning forests are kept as well,
none in two of them (H. Nagamochi and T. Ibaraki, Algorithmica 7, 1992, 583-596): two parts stay apart only where
registration refuses the candidates with the most common points between them, one in each forest.

First pictures are taken in blocks, which bounds the memory beyond that of the points. Products of codes are exact, so
neither blocks nor threads change anything.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from sem_search.micrographs.overlaps.points import POINT, SPOT_AREA_PX, Codes, Points, unpack_codes
from sem_search.micrographs.overlaps.registration import STRIP_SHARE
from sem_search.micrographs.overlaps.turns import Places, Turns, follow_turns, relate_turns, turn_places
from sem_search.micrographs.threads import count_threads
from sem_search.progress import ProgressMeter

Indices = NDArray[np.int64]
Members = NDArray[np.uint32]
Cells = NDArray[np.unsignedinteger]
Shape = tuple[int, int]

CELLS_PER_ROOT = 16  # of the number of points
N_CLUSTERED, N_ROUNDS = 100_000, 4  # points of the k-means
N_PROBED = 48  # cells
N_HALVES = 2  # of a code: its even and its odd values, for the first tell most
MATCHES_PER_POINT = 15  # by chance: the more points, the more alike they must be
LIKENESS = (200.0, 350.0)  # product of two codes of a match, at least; a code with itself: 404
N_SAMPLED = (200, 50_000)  # points that show what chance is
MAX_NEIGHBOURS = 48  # of a point in a cell: of what is the same in all images, the first few are enough
SEED_PX, MAX_AGREEING = 2, 16  # matches of one shift; so many are counted
GUIDED_PX, MIN_GUIDED_LIKENESS = SPOT_AREA_PX // 4, 140.0  # once the shift is known; so one spot is near to a place
MIN_COMMON, MIN_COMMON_SHARE = 5, 0.06  # of the overlap's points; strangers: one candidate for five pictures
MIN_OUTSIDE_STRIP = 0.2  # of the common points: a data bar that was left on has nearly all in one strip
MAX_PARTNERS = 16
N_FORESTS = 4
BLOCK_POINTS = 2**18  # of the first pictures of pairs whose matches are held at once: 500 pictures or so
THREAD_IMAGES = 128
CHUNK_POINTS = 50_000  # whose cells are looked for at once, for the memory
CHUNK_PRODUCTS = 1_000_000  # likewise, in a cell
GUESSES_AT_ONCE = 256  # of one first picture
COLUMN_BITS = 10  # of the number of a centre, beside which a product fits in 32
CENTRE_LEVELS = 16.0  # whole numbers, so that products with them are exact, too


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
    cells = _build_cells(table)
    found: list[Candidate] = []
    begin = 0
    # One pool for all blocks: what threads have freed is seldom given back when they end.
    with ThreadPoolExecutor(count_threads()) as pool:
        while begin < len(shapes):
            end = int(np.searchsorted(table.ends, table.ends[begin] + BLOCK_POINTS, side="right")) - 1
            end = min(max(end, begin + 1), len(shapes))
            for part in _check_images(begin, end, table=table, cells=cells, pool=pool):
                found += part
                meter.update(min(THREAD_IMAGES, end - begin))
                begin = min(begin + THREAD_IMAGES, end)
            found = _keep_best(found)  # what is not among the best of some is not among the best of all
    return found


def _build_table(points: Iterable[Points], shapes: Sequence[Shape]) -> _Table:
    """Return one table of all points."""
    parts = list(points)
    lengths = [len(part) for part in parts]
    joined = np.concatenate(parts) if parts else np.empty(0, dtype=POINT)
    del parts  # of 20,000 pictures, 0.4 GB
    codes = np.ascontiguousarray(joined["code"])
    return _Table(
        image=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        rows=joined["row"].astype(np.int32),
        columns=joined["column"].astype(np.int32),
        turns=np.ascontiguousarray(joined["turn"]),
        codes=codes,
        ends=np.cumsum([0, *lengths]),
        shapes=np.array(shapes, dtype=np.int32).reshape(-1, 2),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cells:
    """Which points are compared with which."""

    threshold: float
    centres: NDArray[np.float32]
    """Of the cells, shape (N_HALVES, n, n_values); a cell is a pair of them."""
    members: list[Members]
    """Points in each cell, sorted."""


def _build_cells(table: _Table) -> _Cells:
    """Return the cells of all points."""
    n_points = len(table.codes)
    if not n_points:
        return _Cells(threshold=0.0, centres=np.empty((N_HALVES, 0, 0), dtype=np.float32), members=[])
    rng = np.random.default_rng(0)
    threshold = _find_chance(table.codes, rng=rng)
    codes = np.unique(table.codes[rng.choice(n_points, min(n_points, N_CLUSTERED), replace=False)], axis=0)
    sample = unpack_codes(rng.permutation(codes))  # of equal ones, all but one would be centres without points
    n_centres = min(len(sample), 2**COLUMN_BITS, round((CELLS_PER_ROOT * np.sqrt(n_points)) ** (1 / N_HALVES)))
    centres = np.stack([_cluster(sample[:, half::N_HALVES], n_centres=n_centres) for half in range(N_HALVES)])
    nearest = _find_nearest(table.codes, centres, n_probed=1)[:, 0]
    return _Cells(threshold=threshold, centres=centres, members=_list_members(nearest, n_cells=n_centres**N_HALVES))


def _cluster(values: NDArray[np.float32], *, n_centres: int) -> NDArray[np.float32]:
    """Return the centres of values by k-means, each value in that of its direction, shape (n_centres, n_values)."""
    centres = _scale_centres(values[:n_centres])
    for _ in range(N_ROUNDS):
        starts = range(0, len(values), CHUNK_POINTS)
        nearest = np.concatenate(
            [np.argmax(values[start : start + CHUNK_POINTS] @ centres.T, axis=1) for start in starts]
        )
        sums = [np.bincount(nearest, weights=column, minlength=n_centres) for column in values.T]
        centres = _scale_centres(np.stack(sums, axis=1))
    return centres


def _scale_centres(centres: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return centres brought to one length and rounded, those of no values 0.

    The sums under the root are exact, so all processors round alike.
    """
    lengths = np.sqrt(np.mean(np.square(centres, dtype=np.float64), axis=1, keepdims=True))
    scaled: NDArray[np.float64] = CENTRE_LEVELS * centres / np.maximum(lengths, 0.5)
    return np.round(scaled).astype(np.float32)


def _list_members(cell_of: Cells, *, n_cells: int) -> list[Members]:
    """Return what lies in each cell, sorted."""
    order = np.argsort(cell_of, kind="stable").astype(np.uint32)
    return np.split(order, np.cumsum(np.bincount(cell_of, minlength=n_cells))[:-1])


def _check_images(
    begin: int, end: int, *, table: _Table, cells: _Cells, pool: ThreadPoolExecutor
) -> Iterator[list[Candidate]]:
    """Yield the candidates whose first pictures lie in a block of pictures, for THREAD_IMAGES of them at a time."""
    matches = _match_codes(table, cells, begin=int(table.ends[begin]), end=int(table.ends[end]), pool=pool)
    limits = table.ends[[*range(begin, end, THREAD_IMAGES), end]] << 32
    parts = np.split(matches, np.searchsorted(matches, limits[1:-1]))
    yield from pool.map(partial(_check_block, table=table), parts)


def _match_codes(table: _Table, cells: _Cells, *, begin: int, end: int, pool: ThreadPoolExecutor) -> Indices:
    """Return the matches of these points with those of later pictures, sorted.

    Returns:
        The first's index times 2**32, plus the second's.
    """
    nearest = _find_nearest(table.codes[begin:end], cells.centres, n_probed=N_PROBED)
    probing = _list_members(nearest.ravel(), n_cells=len(cells.members)) if nearest.size else []
    values = unpack_codes(table.codes[begin:end])

    def match(cell: int) -> Indices:
        """Return the matches with the points in one cell."""
        some, inside = probing[cell] // nearest.shape[1], cells.members[cell]
        inside = inside[np.searchsorted(inside, begin) :]
        if not len(inside):
            return np.empty(0, dtype=np.int64)
        theirs, images = unpack_codes(table.codes[inside]).T, table.image[inside]
        found = []
        n_rows = max(1, CHUNK_PRODUCTS // len(inside))
        for start in range(0, len(some), n_rows):
            first = some[start : start + n_rows]
            is_like = values[first] @ theirs >= cells.threshold
            # Nonzero of two dimensions is ten times slower.
            row, column = np.divmod(np.flatnonzero(is_like), len(inside))
            first = begin + first[row].astype(np.int64)
            is_later = images[column] > table.image[first]
            first, column = first[is_later], column[is_later]
            is_among_first = np.arange(len(first)) - np.searchsorted(first, first) < MAX_NEIGHBOURS
            found.append(first[is_among_first] << 32 | inside[column[is_among_first]])
        return np.concatenate(found)

    probed = [cell for cell, some in enumerate(probing) if len(some) and len(cells.members[cell])]
    matches = np.concatenate((np.empty(0, dtype=np.int64), *pool.map(match, probed)))
    matches.sort()
    return matches


def _find_chance(codes: Codes, *, rng: np.random.Generator) -> float:
    """Return the likeness from which a point has MATCHES_PER_POINT others by chance, within LIKENESS."""
    some, others = (unpack_codes(codes[rng.choice(len(codes), min(n, len(codes)), replace=False)]) for n in N_SAMPLED)
    likeness = np.concatenate([one @ others.T for one in some])
    rank = min(len(likeness) - 1, round(len(likeness) * MATCHES_PER_POINT / len(codes)))
    return float(np.clip(-np.partition(-likeness, rank)[rank], *LIKENESS))


def _find_nearest(codes: Codes, centres: NDArray[np.float32], *, n_probed: int) -> Cells:
    """Return the nearest cells of points, the nearest first, shape (n, n_probed) or fewer."""
    n_centres = centres.shape[1]
    n_cells = n_centres**N_HALVES
    nearest = np.empty((len(codes), min(n_probed, n_cells)), dtype=np.min_scalar_type(n_cells))
    for start in range(0, len(codes), CHUNK_POINTS):
        values = unpack_codes(codes[start : start + CHUNK_POINTS])
        likeness, cells = np.zeros((len(values), 1), dtype=np.int32), np.zeros((len(values), 1), dtype=np.int32)
        for half in range(N_HALVES):
            products = 2 * (values[:, half::N_HALVES] @ centres[half].T)  # whole numbers: levels are halves
            ours, numbers = _take_best(products.astype(np.int32), n=n_probed)
            # A pair of the i-th and the j-th is behind i * j - 1 others.
            ranks = np.outer(np.arange(cells.shape[1]) + 1, np.arange(numbers.shape[1]) + 1)
            first, second = np.nonzero(ranks <= n_probed)
            likeness, best = _take_best(likeness[:, first] + ours[:, second], n=n_probed)
            cells = np.take_along_axis(cells[:, first] * n_centres + numbers[:, second], best, axis=1)
        nearest[start : start + CHUNK_POINTS] = cells
    return nearest


def _take_best(likeness: NDArray[np.int32], *, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the n largest values of each row, or all, the largest first, and their columns; of equals, the first."""
    keys = np.sort((-likeness << COLUMN_BITS) | np.arange(likeness.shape[1], dtype=np.int32), axis=1)[:, :n]
    return -(keys >> COLUMN_BITS), keys & (2**COLUMN_BITS - 1)


def _compute_likeness(one: Indices, other: Indices, *, codes: Codes) -> NDArray[np.float32]:
    """Return the products of the codes of points, shape (n,)."""
    likeness = np.empty(len(one), dtype=np.float32)
    for start in range(0, len(one), CHUNK_POINTS):
        chunk = slice(start, start + CHUNK_POINTS)
        ours, theirs = (unpack_codes(codes[index[chunk]]) for index in (one, other))
        likeness[chunk] = np.einsum("ij,ij->i", ours, theirs)
    return likeness


def _check_block(matches: Indices, *, table: _Table) -> list[Candidate]:
    """Return the candidates among the pairs of these matches, which are all that their first pictures have."""
    guesses = _guess(matches, table=table)
    firsts, begins = np.unique(guesses[0], return_index=True)
    found = []
    for first, some in zip(firsts.tolist(), np.split(guesses[1:], begins[1:], axis=1), strict=False):
        near = _map_points(first, table=table)
        for start in range(0, some.shape[1], GUESSES_AT_ONCE):
            guessed = some[:, start : start + GUESSES_AT_ONCE]
            n_common = _count_common(first, guessed, near=near, table=table)
            found += [
                Candidate(first=first, second=second, turn=turn, n_common=n)
                for n, second, turn in zip(n_common.tolist(), *guessed[:2].tolist(), strict=True)
                if n
            ]
    return found


def _guess(matches: Indices, *, table: _Table) -> Indices:
    """Return first, second, turn, and the shift in rows and columns on which most matches agree, at least two.

    Returns:
        Shape (5, n), sorted.
    """
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
    for step in range(1, MAX_AGREEING):
        is_near = (pair[step:] == pair[:-step]) & (down[step:] - down[:-step] <= SEED_PX)
        agree = np.nonzero(is_near & (np.abs(right[step:] - right[:-step]) <= SEED_PX))[0]
        n_agreeing[agree] += 1
        n_agreeing[agree + step] += 1
    order = np.lexsort((-n_agreeing, pair))
    best = order[np.append(True, pair[order][1:] != pair[order][:-1])[: len(order)]]
    best = best[n_agreeing[best] > 1]
    ends, turn = np.divmod(pair[best], 8)
    return np.stack((*np.divmod(ends, len(table.shapes)), turn, down[best], right[best]))


@dataclass(frozen=True, kw_only=True, eq=False)
class _NearPoints:
    """Which points of a picture lie at a place or near to it."""

    spots: NDArray[np.int32]
    """The number of the spot that is near to each place, shape (h + 2 * GUIDED_PX, w + 2 * GUIDED_PX): the picture with
    a border; the last number where there is none."""
    points: Indices
    """Of each spot in each turn, shape (n + 1, 8); -1 where there is none."""


def _map_points(image: int, *, table: _Table) -> _NearPoints:
    """Return the points of a picture by their places; of equally bright spots side by side, the last stands."""
    points = np.arange(*table.ends[image : image + 2])
    height, width = table.shapes[image] + 2 * GUIDED_PX
    places = table.rows[points].astype(np.int64) * width + table.columns[points]
    places, spot = np.unique(places, return_inverse=True)
    reach = np.arange(2 * GUIDED_PX + 1)
    spots = np.full(height * width, len(places), dtype=np.int32)
    spots[places[:, None] + (reach[:, None] * width + reach).ravel()] = np.arange(len(places))[:, None]
    points_of = np.full((len(places) + 1, 8), -1, dtype=np.int64)
    points_of[spot, table.turns[points]] = points
    return _NearPoints(spots=spots.reshape(height, width), points=points_of)


def _count_common(first: int, guesses: Indices, *, near: _NearPoints, table: _Table) -> Indices:
    """Return how many points of each second picture lie on a like one of the first, 0 where they are too few.

    Args:
        first: The picture.
        guesses: Second, turn, and the shift in rows and columns, shape (4, n).
        near: The points of the first.
        table: The points of all.
    """
    second, turn, down, right = guesses
    n_points = np.diff(table.ends)[second]
    guess = np.repeat(np.arange(len(second)), n_points)
    other = np.arange(len(guess)) + np.repeat(table.ends[second + 1] - np.cumsum(n_points), n_points)
    heights, widths = table.shapes[second].T
    rows, columns = turn_places(
        table.rows[other], table.columns[other], heights=heights[guess], widths=widths[guess], turns=turn[guess]
    )
    rows, columns = rows + down[guess], columns + right[guess]
    height, width = table.shapes[first]
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    guess, other, rows, columns = guess[is_inside], other[is_inside], rows[is_inside], columns[is_inside]
    spot = near.spots[rows + GUIDED_PX, columns + GUIDED_PX]
    one = near.points[spot, follow_turns(turn[guess], table.turns[other])]
    common = np.flatnonzero(one >= 0)
    common = common[_compute_likeness(one[common], other[common], codes=table.codes) >= MIN_GUIDED_LIKENESS]
    inside, ours = (np.searchsorted(some, np.arange(len(second) + 1)) for some in (guess, guess[common]))
    n_common = np.diff(ours)
    n_common[n_common < np.maximum(MIN_COMMON, MIN_COMMON_SHARE * np.diff(inside))] = 0
    for number in np.flatnonzero(n_common):
        alike, all_inside = common[slice(*ours[number : number + 2])], slice(*inside[number : number + 2])
        n_outside = min(_count_outside_strip(places[alike], places[all_inside]) for places in (rows, columns))
        n_common[number] *= n_outside >= MIN_OUTSIDE_STRIP * n_common[number]
    return n_common


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
