"""Pictures meet where their pixels have, or may have, one size."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from sem_search.micrographs.overlaps.levels import RATIO, guess_scales, plan_levels
from sem_search.micrographs.overlaps.registration import KEPT_SIDE_PX, MIN_SIDE_PX, WORK_SIDE_PX, Scene
from sem_search.micrographs.overlaps.registration import _choose_step as choose_step

Make = Callable[..., Any]


def test_pictures_of_one_kind_have_one_level(make_record: Make) -> None:
    (level,) = plan_levels([make_record(name, width_px=640, height_px=480) for name in "abc"])
    assert dict(level.shapes) == dict.fromkeys(range(3), (192, WORK_SIDE_PX))


@pytest.mark.parametrize("names", ["", "a"])
def test_fewer_than_two_have_none(make_record: Make, names: str) -> None:
    assert plan_levels([make_record(name) for name in names]) == []


def test_small_pictures_are_not_enlarged(make_record: Make) -> None:
    (level,) = plan_levels([make_record(name, width_px=200, height_px=200) for name in "ab"])
    assert dict(level.shapes) == {0: (200, 200), 1: (200, 200)}


def test_pixel_sizes_set_the_step(make_record: Make) -> None:
    near, far = (make_record(name, pixel_size_nm=size) for name, size in (("a", 1.0), ("b", 4.0)))
    levels = plan_levels([near, near, far])
    for level in levels:
        steps = {at: level.units[at] * 1280 / level.shapes[at][1] for at in level.shapes}
        assert max(steps.values()) == pytest.approx(min(steps.values()), rel=0.02)
        assert all(min(shape) >= MIN_SIDE_PX and max(shape) <= RATIO * KEPT_SIDE_PX for shape in level.shapes.values())
    assert any({0, 2} <= set(level.shapes) for level in levels), "they meet"


def test_without_pixel_sizes_equal_pixels_and_equal_fields_are_compared(make_record: Make) -> None:
    records = [make_record("a", width_px=800, height_px=600), make_record("b", width_px=400, height_px=300)]
    levels = plan_levels(records)
    scales = [round(level.units[1] / level.units[0], 3) for level in levels]
    assert set(scales) == set(guess_scales(*records)) == {1.0, 2.0}
    widths = {scale: (level.shapes[0][1], level.shapes[1][1]) for scale, level in zip(scales, levels, strict=True)}
    assert widths[1.0] == (WORK_SIDE_PX, WORK_SIDE_PX / 2), "equal pixels"
    assert widths[2.0] == (WORK_SIDE_PX, WORK_SIDE_PX), "equal fields"


def make_scene(record: Any) -> Scene:
    factor = min(1.0, KEPT_SIDE_PX / max(record.height_px, record.width_px))
    kept = [max(1, round(side * factor)) for side in (record.height_px, record.width_px)]
    pixels = np.broadcast_to(np.uint8(0), kept)
    return Scene(pixels=pixels, height_px=record.height_px, width_px=record.width_px)


def check_meetings(records: list[Any]) -> int:
    """Check that all pairs meet that registration would not refuse, at like steps, and return how many they are."""
    levels = plan_levels(records)
    for level in levels:
        steps = {at: level.units[at] * records[at].width_px / level.shapes[at][1] for at in level.shapes}
        assert max(steps.values()) <= 1.03 * min(steps.values())
    n_meetings = 0
    scenes = [make_scene(record) for record in records]
    for first, second in combinations(range(len(records)), 2):
        for scale in guess_scales(records[first], records[second]):
            if choose_step(scenes[first], scenes[second], scale=scale) is None:
                continue
            n_meetings += 1
            assert any(
                {first, second} <= level.shapes.keys()
                and level.units[second] / level.units[first] == pytest.approx(scale)
                for level in levels
            ), (records[first], records[second], scale)
    n_of_each = Counter(at for level in levels for at in level.shapes)
    assert max(n_of_each.values(), default=0) <= 3 * 12
    return n_meetings


@pytest.mark.parametrize("seed", range(12))
def test_all_meet_that_registration_would_not_refuse(make_record: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def draw(number: int) -> Any:
        width, height = (int(np.exp(rng.uniform(*np.log((60, 3000))))) for _ in range(2))
        size = float(np.exp(rng.uniform(0, 4))) if rng.random() < (1.0, 0.5, 0.0)[seed % 3] else None
        return make_record(f"{number}", width_px=width, height_px=height, pixel_size_nm=size)

    assert check_meetings([draw(number) for number in range(30)]) > 20


@pytest.mark.parametrize(
    ("usual", "others"),
    [
        ((256, 256, 10.0), [(256, 256, 13.0)] * 2),
        ((1280, 200, None), []),
        ((640, 480, 1.36), [(640, 480, 1.0), (640, 480, 8.2)]),
        ((1024, 768, None), [(240, 180, None)] * 2),
        ((1280, 960, 10.0), [(256, 256, 3.0)]),
        ((1024, 48, 1.0), [(1024, 48, 1.2), (1024, 1024, 1.2)]),
    ],
    ids=["close sizes", "long pictures", "zoom", "small copies", "a small field", "barely high enough"],
)
def test_all_meet_among_many_of_one_kind(make_record: Make, usual: Any, others: list[Any]) -> None:
    kinds = [usual] * 4 + others
    names = ("width_px", "height_px", "pixel_size_nm")
    assert check_meetings([make_record(f"{n}", **dict(zip(names, kind, strict=True))) for n, kind in enumerate(kinds)])


def test_pictures_are_reduced_as_far_as_their_smallest_partner_allows(make_record: Make) -> None:
    """The small ones are compared among themselves at their own step; the others need no plane so large for that."""
    many = [make_record(f"{n}", width_px=1024, height_px=768) for n in range(9)]
    few = [make_record(f"a{n}", width_px=240, height_px=180) for n in range(2)]
    largest = max(max(level.shapes[0]) for level in plan_levels([*many, *few]) if 0 in level.shapes)
    assert largest < 2 * WORK_SIDE_PX


def test_many_of_one_kind_are_compared_once_though_some_are_finer(make_record: Make) -> None:
    """All of these meet at the step of the first ones, which alone costs anything."""
    many = [make_record(f"{n}", pixel_size_nm=10.0) for n in range(9)]
    few = [make_record(f"a{n}", pixel_size_nm=4.0) for n in range(2)]
    levels = plan_levels([*many, *few])
    assert [len(level.shapes) for level in levels] == [11, 2]


def test_known_sizes_are_compared_with_unknown_ones(make_record: Make) -> None:
    records = [make_record("a", pixel_size_nm=3.0), make_record("b", pixel_size_nm=3.0), make_record("c")]
    levels = plan_levels(records)
    assert any(set(level.shapes) == {0, 1} for level in levels)
    assert any(2 in level.shapes and level.units[2] == level.units[0] for level in levels)
