"""Lots in the order of time: how far each lies from the others, and how far lots of one process stray.

A control chart of the lots' standardised distances (Shewhart 1931). Each reference lot is held against all others, the
new one against all. The limits are prediction limits (Hahn and Meeker, Statistical Intervals, 1991): few lots do not
show well how far lots stray, and Student's t makes the limits as much wider. As in `equivalence`, the distance is the
largest of several views, and the spread is taken to lie in one direction, the widest case.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from sem_search.evaluation.lots.reference import LotSpread
from sem_search.records import FloatMatrix, FloatVector

WARNING_RATE, ACTION_RATE = 0.05, 0.0027
"""Share of the lots of one process that lie beyond each limit at most: 1 in 20, and 1 in 370, as beyond two and three
standard deviations."""


@dataclass(frozen=True, kw_only=True)
class ChartPoint:
    """One lot on the chart, in standard deviations of the measured means of lots."""

    distance: float
    """From the mean of the other lots."""
    warning_limit: float
    action_limit: float


def chart_lots(spread: LotSpread, images: FloatMatrix) -> tuple[ChartPoint, ...]:
    """Return the points of the reference lots in their order, then that of the new lot.

    Args:
        spread: Of the reference.
        images: Of the new lot, as `judge_lot` takes them.
    """
    known = [
        _place(mean, noise=float(own), others=spread.leave_out(lot))
        for lot, (mean, own) in enumerate(zip(spread.means, spread.noises, strict=True))
    ]
    return *known, place_lot(spread, images)


def place_lot(spread: LotSpread, images: FloatMatrix) -> ChartPoint:
    """Return the point of the new lot; see `chart_lots`."""
    noise = float(spread.space.measure_variances(images).sum()) / len(images)
    return _place(spread.space.embed(images.mean(axis=0)[None])[0], noise=noise, others=spread)


def _place(mean: FloatVector, *, noise: float, others: LotSpread) -> ChartPoint:
    views = others.list_views()
    step, of_mean = mean - others.centre, 1 / others.n_lots
    squares = [view.measure(step) / (view.between + view.kept * noise + view.total * of_mean) for view in views]
    limits = [stdtrit(others.n_lots - 1, 1 - rate / len(views) / 2) for rate in (WARNING_RATE, ACTION_RATE)]
    return ChartPoint(
        distance=float(np.sqrt(max(squares))), warning_limit=float(limits[0]), action_limit=float(limits[1])
    )
