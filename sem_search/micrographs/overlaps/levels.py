"""At which steps on the specimen many pictures are compared, so that those of different magnification meet.

Where all pixel sizes are known, each level is a step in nanometres. Where some are not, pictures are compared with
equal pixels and, if their widths differ, with equal fields, as a pair alone would be. Most pictures of a set are
compared at WORK_SIDE_PX; other levels are twice as fine or as coarse, where some fields are so much wider or narrower.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sem_search.micrographs.catalogue import ImageRecord
from sem_search.micrographs.overlaps.registration import KEPT_SIDE_PX, MIN_SIDE_PX, WORK_SIDE_PX, Shape

MAX_SIDE_PX = 3 * WORK_SIDE_PX  # longer side: a field in one of five times its width is still seen in detail
SAME_SIZE = 0.01  # widths that differ by less are one width


@dataclass(frozen=True, kw_only=True)
class Level:
    """Pictures that are compared at one step."""

    shapes: Mapping[int, Shape]
    """Position of the picture -> rows and columns of its plane."""
    units: Mapping[int, float]
    """Position of the picture -> size of its pixels, in the unit of this level."""


def plan_levels(records: Sequence[ImageRecord]) -> list[Level]:
    """Return the levels at which two pictures or more meet.

    Args:
        records: The pictures; positions in this sequence name them.
    """
    return [level for units in _list_units(records) for level in _plan_steps(records, units)]


def guess_scales(first: ImageRecord, second: ImageRecord) -> tuple[float, ...]:
    """Return the sizes that the second's pixels may have, in pixels of the first, likeliest first."""
    if first.pixel_size_nm and second.pixel_size_nm:
        return (second.pixel_size_nm / first.pixel_size_nm,)
    same_field = first.width_px / second.width_px
    return (1.0,) if abs(same_field - 1) < SAME_SIZE else (1.0, same_field)


def _list_units(records: Sequence[ImageRecord]) -> list[dict[int, float]]:
    """Return what the pixels may measure, in each way in which that is known or guessed."""
    known = {at: record.pixel_size_nm for at, record in enumerate(records) if record.pixel_size_nm}
    if len(known) == len(records):
        return [known]
    widths = [record.width_px for record in records]
    ways = [known, dict.fromkeys(range(len(records)), 1.0)]
    if max(widths) > (1 + SAME_SIZE) * min(widths):
        ways.append({at: 1 / width for at, width in enumerate(widths)})
    return ways


def _plan_steps(records: Sequence[ImageRecord], units: Mapping[int, float]) -> list[Level]:
    """Return the levels of pictures whose pixels measure so much."""
    sides = {at: (records[at].height_px * unit, records[at].width_px * unit) for at, unit in units.items()}
    finest = {at: units[at] * max(1.0, max(records[at].height_px, records[at].width_px) / KEPT_SIDE_PX) for at in units}
    steps = {at: max(max(side) / WORK_SIDE_PX, finest[at]) for at, side in sides.items()}
    if not steps:
        return []
    usual = Counter(steps.values()).most_common(1)[0][0]
    powers = [round(np.log2(step / usual)) for step in steps.values()]
    levels = []
    for power in range(min(powers), max(powers) + 1):
        step = usual * 2.0**power
        shapes = {at: (round(height / step), round(width / step)) for at, (height, width) in sides.items()}
        fitting = {
            at: shape
            for at, shape in shapes.items()
            if min(shape) >= MIN_SIDE_PX and max(shape) <= MAX_SIDE_PX and step >= (1 - SAME_SIZE) * finest[at]
        }
        if len(fitting) > 1:
            levels.append(Level(shapes=fitting, units=units))
    return levels
