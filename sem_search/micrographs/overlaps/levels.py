"""At which steps on the specimen many pictures are compared, so that those of different magnification meet.

Where all pixel sizes are known, each level is a step in nanometres. Where some are not, pictures are compared with
equal pixels and, if their widths differ, with equal fields, as a pair alone would be. Most pictures of a set are
compared at WORK_SIDE_PX; other levels are finer or coarser by powers of RATIO. Each picture can be compared at some of
them in a row: not much finer than its own pixels, nor so coarse that registration would refuse it. Levels are chosen so
that each picture, and any two that can meet, have one near to the step that suits them. A picture has as many as there
are powers in its row at most, about ten, and mostly one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sem_search.micrographs.catalogue import ImageRecord
from sem_search.micrographs.overlaps.registration import KEPT_SIDE_PX, MIN_SIDE_PX, WORK_SIDE_PX, Shape

RATIO = np.sqrt(2)  # pictures are enlarged by no more: so any steps that two have in common include a level
ROUNDING = 1e-9  # in powers
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
    """Return the levels of pictures whose pixels measure so much, the coarsest first."""
    if not units:
        return []
    at = np.array(list(units))
    sizes = np.array([(records[position].height_px, records[position].width_px) for position in at])
    pixel = np.array(list(units.values()))
    sides = sizes * pixel[:, None]
    n_columns = np.maximum(1, np.round(sizes[:, 1] * np.minimum(1.0, KEPT_SIDE_PX / sizes.max(axis=1))))
    finest = sides[:, 1] / n_columns
    coarsest = sides.min(axis=1) / (MIN_SIDE_PX - 0.5)
    best = np.maximum(np.minimum(sides.max(axis=1) / WORK_SIDE_PX, sides.min(axis=1) / MIN_SIDE_PX), finest)
    is_usable = finest <= coarsest * (1 + ROUNDING)
    if not is_usable.any():
        return []
    at, pixel, sides = at[is_usable], pixel[is_usable], sides[is_usable]
    usual = Counter(best[is_usable].tolist()).most_common(1)[0][0]
    low, middle, high = (np.log(step[is_usable] / usual) / np.log(RATIO) for step in (finest, best, coarsest))
    lowest = np.ceil(low - 1 - ROUNDING).astype(int)
    own, highest = (np.floor(power + ROUNDING).astype(int) for power in (middle, high))
    levels = []
    coarser: int | None = None
    for power in sorted(_choose_powers(np.stack((lowest, own, highest), axis=1)), reverse=True):
        is_here = (lowest <= power) & (power <= highest)
        if coarser is not None and (highest[is_here] >= coarser).all():  # all meet at the coarser level
            is_here &= own <= power
        coarser = power
        shapes = np.maximum(1, np.round(sides / (usual * RATIO**power))).astype(int)
        if is_here.sum() > 1:
            here = np.nonzero(is_here)[0]
            levels.append(
                Level(shapes={int(at[one]): (int(shapes[one, 0]), int(shapes[one, 1])) for one in here}, units=units)
            )
    return levels


def _choose_powers(ranges: NDArray[np.int_]) -> set[int]:
    """Return the powers at which there are levels; 0 is that of most pictures.

    Args:
        ranges: The finest, the best and the coarsest power of each picture, shape (n, 3).
    """
    rows = [tuple(map(int, row)) for row in np.unique(ranges, axis=0)]
    chosen = {0}
    for _, own, highest in rows:
        if not chosen & {own, min(own + 1, highest)}:
            chosen.add(own)
    for one, other in combinations(rows, 2):
        low, high = max(one[0], other[0]), min(one[2], other[2])
        best = min(max(one[1], other[1]), high)
        if low <= high and not chosen.intersection(range(max(low, best - 1), min(best + 1, high) + 1)):
            chosen.add(best)
    return chosen
