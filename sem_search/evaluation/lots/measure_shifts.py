"""Whether the particles of a new lot are larger, rounder or rougher than those of accepted lots.

For each measure, the new lot is held against the prediction interval of one more lot (Hahn and Meeker, Statistical
Intervals, 1991): it counts how much lots differ as a rule, and how well so few lots show it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from sem_search.evaluation.statistics import MAX_P_VALUE, ROUNDING, adjust_p_values
from sem_search.records import FloatVector

Measures = Mapping[str, FloatVector]
"""Logarithm of each measure for each image of a lot, shape (n_images,); NaN where an image has no particles."""


@dataclass(frozen=True, kw_only=True)
class MeasureShift:
    """One measure of the new lot against the reference; all shares of the reference's mean."""

    name: str
    change: float
    """0.12 where it is 12 % larger."""
    usual_change: float
    """Standard deviation between reference lots, as measured."""
    p_value: float
    """How often one more lot of the reference would lie as far off, for all measures together (Holm)."""

    @property
    def is_clear(self) -> bool:
        """Whether the difference can be believed."""
        return self.p_value <= MAX_P_VALUE + ROUNDING


def compute_shifts(lots: Sequence[Measures], new: Measures) -> tuple[MeasureShift, ...]:
    """Return every measure's difference; one that a lot lacks, or that has no spread, is left out.

    Args:
        lots: Of the reference, three or more.
        new: Of the new lot.
    """
    found = []
    for name, images in new.items():
        values = [_summarise(lot[name]) for lot in lots if name in lot]
        own = _summarise(images)
        means, noises = np.array(values).reshape(-1, 2).T
        if len(means) < len(lots) or not np.isfinite([*means, own[0]]).all():
            continue
        variance = float(means.var(ddof=1))
        more = max(own[1] - float(noises.mean()), 0.0)  # of a new lot with fewer images
        error = np.sqrt(variance * (1 + 1 / len(means)) + more)
        if error > 0:
            step = own[0] - float(means.mean())
            p_value = 2 * float(stdtr(len(means) - 1, -abs(step) / error))
            found.append((name, float(np.expm1(step)), float(np.expm1(np.sqrt(variance))), p_value))
    adjusted = adjust_p_values(np.array([p_value for *_, p_value in found]))
    return tuple(
        MeasureShift(name=name, change=change, usual_change=usual, p_value=float(p_value))
        for (name, change, usual, _), p_value in zip(found, adjusted, strict=True)
    )


def _summarise(images: FloatVector) -> tuple[float, float]:
    """Return the mean of a measure over images, and the variance of that mean; NaN where fewer than two have it."""
    known = images[np.isfinite(images)]
    if len(known) < 2:
        return np.nan, np.nan
    return float(known.mean()), float(known.var(ddof=1) / len(known))
