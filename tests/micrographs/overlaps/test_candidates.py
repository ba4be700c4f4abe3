"""Points and their codes name the pairs worth registering: of one place, in any turn, and few others."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sem_search.micrographs.overlaps import candidates
from sem_search.micrographs.overlaps.candidates import Candidate, find_candidates
from sem_search.micrographs.overlaps.points import POINT, Codes, Points, find_points, unpack_codes
from sem_search.micrographs.overlaps.registration import STRIP_SHARE, build_plane, build_scene
from sem_search.micrographs.overlaps.turns import invert_turn, relate_turns, turn_picture, turn_places
from sem_search.progress import ProgressMeter

HEIGHT, WIDTH = 150, 200


def make_ground(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 2.0)


def take(ground: np.ndarray, seed: int) -> np.ndarray:
    """Return the flattened plane of a place, with noise of its own."""
    seen = ground / ground.std() + 0.3 * np.random.default_rng(seed).normal(size=ground.shape)
    scaled = ((seen - seen.min()) / np.ptp(seen)).astype(np.float32)
    return build_plane(build_scene(scaled), (ground.shape[0], ground.shape[1])).values


def find(*planes: np.ndarray) -> list[Candidate]:
    with ProgressMeter("", total=len(planes), unit="images", is_shown=False) as meter:
        return find_candidates(
            [find_points(np.ascontiguousarray(p)) for p in planes], [p.shape for p in planes], meter=meter
        )


@pytest.mark.parametrize("turn", range(8))
def test_codes_do_not_change_when_a_picture_is_turned(turn: int) -> None:
    plane = take(make_ground(1), 1)
    upright, turned = find_points(plane), find_points(np.ascontiguousarray(turn_picture(plane, turn)))
    assert len(upright) > 100
    ours, theirs = ({code.tobytes() for code in points["code"]} for points in (upright, turned))
    assert len(ours & theirs) > 0.9 * len(upright)


def test_another_exposure_has_many_of_the_same_points_and_another_place_has_none() -> None:
    first, second, other = take(make_ground(1), 1), take(make_ground(1), 2), take(make_ground(2), 1)

    def count_like(one: np.ndarray, another: np.ndarray) -> int:
        ours, theirs = (unpack_codes(find_points(plane)["code"]) for plane in (one, another))
        return int(((ours @ theirs.T).max(axis=1) >= 250).sum())

    assert count_like(first, second) > 50
    assert count_like(first, other) < 5


@pytest.mark.parametrize("picture", [np.zeros((60, 60)), np.ones((48, 200))])
def test_even_pictures_have_no_points_and_no_candidates(picture: np.ndarray) -> None:
    even = picture.astype(np.float32)
    assert len(find_points(even)) == 0
    assert find(even, even) == []


@pytest.mark.parametrize("planes", [[], [take(make_ground(1), 1)]])
def test_none_and_one_have_no_candidates(planes: list[np.ndarray]) -> None:
    assert find(*planes) == []


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize(("down", "right"), [(0, 0), (50, 60), (-40, 70), (0, 140)])
def test_overlapping_fields_are_found_among_others_in_any_turn(turn: int, down: int, right: int) -> None:
    ground = make_ground(3, HEIGHT + 60, WIDTH + 150)
    top = max(0, -down)
    first = take(ground[top : top + HEIGHT, :WIDTH], 1)
    second = take(ground[top + down :, right:][:HEIGHT, :WIDTH], 2)
    others = [take(make_ground(10 + seed), seed) for seed in range(6)]
    found = find(others[0], first, *others[1:], turn_picture(second, turn))
    (candidate,) = [one for one in found if (one.first, one.second) == (1, 7)]
    assert candidate.turn == invert_turn(turn)
    assert candidate.n_common > 8


def test_pictures_of_unlike_size_are_compared() -> None:
    ground = make_ground(4)
    found = find(take(ground, 1), take(ground[30:100, 50:180], 2), take(make_ground(5), 3))
    assert [(one.first, one.second, one.turn) for one in found] == [(0, 1, 0)]


def test_strangers_are_seldom_candidates() -> None:
    planes = [take(make_ground(100 + seed), seed) for seed in range(30)]
    assert len(find(*planes)) <= 3


@pytest.mark.parametrize("axis", [0, 1])
def test_a_data_bar_makes_no_candidates(axis: int) -> None:
    bars = [make_ground(6, 30, WIDTH), make_ground(6, HEIGHT, 40)]
    kept = (slice(120), slice(160))
    places = [make_ground(200 + seed)[kept[axis] if axis == 0 else (slice(None), kept[axis])] for seed in range(12)]
    found = find(*(take(np.concatenate((place, bars[axis]), axis=axis), seed) for seed, place in enumerate(places)))
    assert len(found) <= 3, "of 66 pairs"


@pytest.mark.parametrize("n_of_each", [7, candidates.MAX_NEIGHBOURS + 2])
def test_parts_of_a_series_stay_joined(monkeypatch: pytest.MonkeyPatch, n_of_each: int) -> None:
    """Two fields with a third in common: all partners that a picture may have are others of its own field."""
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 2)
    ground = make_ground(9, HEIGHT, WIDTH + 120)
    fields = [ground[:, :WIDTH]] * n_of_each + [ground[:, 120:]] * n_of_each
    found = find(*(take(field, seed) for seed, field in enumerate(fields)))
    joining = [one for one in found if one.first < n_of_each <= one.second]
    assert 4 <= len(joining) < n_of_each**2 / 2, "registration may refuse some, but few are needed"


def test_of_pictures_that_are_all_alike_the_likest_pairs_are_kept() -> None:
    alike = [
        Candidate(first=first, second=second, turn=0, n_common=1000 - 10 * (second - first))
        for first, second in combinations(range(60), 2)
    ]
    distances = [one.second - one.first for one in candidates._keep_best(alike)]
    assert distances.count(8) == 52, "half of MAX_PARTNERS on each side"
    assert max(distances) <= candidates.MAX_PARTNERS


@pytest.mark.parametrize("n_centres", [1, 2, 9, 300])
def test_the_nearest_cells_are_the_best_of_all_pairs_of_halves(n_centres: int) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (50, 32), dtype=np.uint8)
    centres = rng.integers(-40, 40, (candidates.N_HALVES, n_centres, 32)).astype(np.float32)
    values = unpack_codes(codes)
    ours, theirs = (values[:, half :: candidates.N_HALVES] @ centres[half].T for half in range(candidates.N_HALVES))
    sums = (ours[:, :, None] + theirs[:, None, :]).reshape(len(codes), -1)
    nearest = candidates._find_nearest(codes, centres, n_probed=24)
    n_probed = min(24, n_centres**2)
    assert nearest.shape == (50, n_probed)
    found = np.take_along_axis(sums, nearest, axis=1)
    np.testing.assert_array_equal(found, -np.sort(-sums, axis=1)[:, :n_probed])


def test_the_centres_of_cells_are_the_directions_in_which_codes_lie() -> None:
    rng = np.random.default_rng(0)
    directions = np.array([[7.5, 0.5], [-7.5, 0.5], [0.5, 7.5]], dtype=np.float32)
    values = directions[np.arange(300) % 3] + rng.integers(-1, 2, (300, 2)).astype(np.float32)
    centres = candidates._cluster(values, n_centres=3)
    cosines = centres @ directions.T / np.outer(*(np.linalg.norm(some, axis=1) for some in (centres, directions)))
    assert (np.diag(cosines) > 0.99).all()
    np.testing.assert_allclose(np.sqrt((centres**2).mean(axis=1)), candidates.CENTRE_LEVELS, rtol=0.05)


def test_points_in_common_are_those_that_a_look_at_every_pair_of_points_finds() -> None:
    rng = np.random.default_rng(5)
    shapes = [(60, 84), (52, 90), (84, 60)]
    kinds = rng.integers(0, 256, (3, 32), dtype=np.uint8)
    points = [_scatter_points(shape, kinds=kinds, rng=rng) for shape in shapes]
    points[2] = points[2][points[2]["row"] < 14]  # all in one strip
    table = candidates._build_table(points, shapes)
    second, turn, down, right = rng.integers((0, 0, -30, -30), (3, 8, 31, 31), (400, 4)).T
    near = candidates._map_points(0, table=table)
    found = candidates._count_common(0, np.stack((second, turn, down, right)), near=near, table=table).tolist()
    assert found == [
        _count_common_in_all(
            points[0], points[other], shapes=(shapes[0], shapes[other]), turn=how, shift=(rows, columns)
        )
        for other, how, rows, columns in zip(*np.stack((second, turn, down, right)).tolist(), strict=True)
    ]
    assert sum(map(bool, found)) > 50


def _scatter_points(shape: tuple[int, int], *, kinds: Codes, rng: np.random.Generator) -> Points:
    """Return points at least 5 px from each other, some in two turns, row by row."""
    places = [
        (row, column + int(rng.integers(2)), rng.choice(8, int(rng.integers(1, 3)), replace=False))
        for row in range(1, shape[0], 6)
        for column in range(0, shape[1] - 1, 6)
    ]
    each = [(row, column, turn) for row, column, turns in places for turn in turns.tolist()]
    points = np.zeros(len(each), dtype=POINT)
    points["row"], points["column"], points["turn"] = np.array(each).T
    points["code"] = kinds[rng.integers(0, len(kinds), len(each))]
    return points


def _count_common_in_all(first: Points, second: Points, *, shapes: Any, turn: int, shift: tuple[int, int]) -> int:
    """Return what `_count_common` counts, from a table of all points of the one and of the other."""
    (height, width), other_shape = shapes
    heights, widths = (np.int32(side) for side in other_shape)
    own_rows, own_columns, own_turns = (first[name].astype(np.int32) for name in ("row", "column", "turn"))
    rows, columns = turn_places(
        second["row"].astype(np.int32), second["column"].astype(np.int32), heights=heights, widths=widths, turns=turn
    )
    rows, columns = rows + shift[0], columns + shift[1]
    is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    is_common = (
        (np.abs(own_rows[:, None] - rows) <= candidates.GUIDED_PX)
        & (np.abs(own_columns[:, None] - columns) <= candidates.GUIDED_PX)
        & (relate_turns(own_turns.astype(np.uint8)[:, None], second["turn"]) == turn)
        & (unpack_codes(first["code"]) @ unpack_codes(second["code"]).T >= candidates.MIN_GUIDED_LIKENESS)
    ).any(axis=0) & is_inside
    n_common = int(is_common.sum())
    if n_common < max(candidates.MIN_COMMON, candidates.MIN_COMMON_SHARE * is_inside.sum()):
        return 0
    for places in (rows, columns):
        strip, ours = STRIP_SHARE * np.ptp(places[is_inside]), places[is_common]
        n_in_strip = max(int(((ours >= low) & (ours <= low + strip)).sum()) for low in ours)
        if n_common - n_in_strip < candidates.MIN_OUTSIDE_STRIP * n_common:
            return 0
    return n_common


def test_more_centres_than_different_codes_are_no_fault() -> None:
    centres = candidates._cluster(np.full((8, 4), 0.5, dtype=np.float32), n_centres=5)
    assert np.isfinite(centres).all()
    assert (centres[0] == candidates.CENTRE_LEVELS).all()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("GUESSES_AT_ONCE", 1),
        ("BLOCK_POINTS", 1),
        ("THREAD_IMAGES", 1),
        ("CHUNK_POINTS", 100),
        ("CHUNK_PRODUCTS", 1000),
    ],
)
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, name: str, size: int) -> None:
    ground = make_ground(7, HEIGHT, WIDTH + 100)
    planes = [take(ground[:, 25 * seed :][:, :WIDTH], seed) for seed in range(5)]
    planes.insert(2, np.zeros((60, 60), dtype=np.float32))
    at_once = find(*planes)
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 1)
    few = find(*planes)
    monkeypatch.setattr(candidates, name, size)
    assert find(*planes) == few
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 16)
    assert find(*planes) == at_once
    assert len(at_once) == 10


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = make_ground(7, HEIGHT, WIDTH + 100)
    planes = [take(ground[:, 25 * seed :][:, :WIDTH], seed) for seed in range(5)]
    points = [find_points(plane) for plane in planes]
    found = []
    for n_threads in (1, 3):
        monkeypatch.setattr(candidates, "count_threads", lambda n=n_threads: n)
        with ProgressMeter("", total=5, unit="images", is_shown=False) as meter:
            found.append(find_candidates(points, [plane.shape for plane in planes], meter=meter))
    assert found[0] == found[1]
    assert len(found[0]) == 10


def test_a_picture_without_points_stands_between_others() -> None:
    ground = make_ground(8)
    none: Points = np.empty(0, dtype=POINT)
    points = [none, find_points(take(ground, 1)), none, find_points(take(ground, 2)), none]
    with ProgressMeter("", total=5, unit="images", is_shown=False) as meter:
        found = find_candidates(points, [(HEIGHT, WIDTH)] * 5, meter=meter)
    assert [(one.first, one.second, one.turn) for one in found] == [(1, 3, 0)]
