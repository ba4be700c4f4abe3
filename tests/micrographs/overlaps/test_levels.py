"""Pictures meet where their pixels have, or may have, one size."""

from collections.abc import Callable
from typing import Any

import pytest

from sem_search.micrographs.overlaps.levels import MAX_SIDE_PX, guess_scales, plan_levels
from sem_search.micrographs.overlaps.registration import MIN_SIDE_PX, WORK_SIDE_PX

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
        assert all(min(shape) >= MIN_SIDE_PX and max(shape) <= MAX_SIDE_PX for shape in level.shapes.values())
    assert any({0, 2} <= set(level.shapes) for level in levels), "they meet"


def test_without_pixel_sizes_equal_pixels_and_equal_fields_are_compared(make_record: Make) -> None:
    records = [make_record("a", width_px=800, height_px=600), make_record("b", width_px=400, height_px=300)]
    scales = {round(level.units[1] / level.units[0], 3) for level in plan_levels(records)}
    assert scales == set(guess_scales(*records)) == {1.0, 2.0}


def test_known_sizes_are_compared_with_unknown_ones(make_record: Make) -> None:
    records = [make_record("a", pixel_size_nm=3.0), make_record("b", pixel_size_nm=3.0), make_record("c")]
    levels = plan_levels(records)
    assert any(set(level.shapes) == {0, 1} for level in levels)
    assert any(2 in level.shapes and level.units[2] == level.units[0] for level in levels)
