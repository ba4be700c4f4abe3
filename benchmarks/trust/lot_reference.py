"""How often is a lot of the same process called different, and how often one at the margin equivalent?"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.tables import Table
from sem_search.evaluation.lots.control_chart import place_lot
from sem_search.evaluation.lots.equivalence import SMALL_EFFECT, compute_interval, decide, measure_distances
from sem_search.evaluation.lots.reference import N_DIRECTIONS, LotSpread, measure_spread

Directions = Literal["one", "all"]

N_FEATURES = 30
SPREAD = 1 / np.sqrt(np.arange(1, N_FEATURES + 1))
"""Standard deviation of images in each feature: it falls off as that of a trunk's channels does."""

MARGIN = 3.0

DIRECTIONS: tuple[Directions, ...] = ("one", "all")
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Process:
    """Lots of one process, and how many are looked at."""

    n_lots: int
    n_images: int
    """Of each lot, and of the new one."""
    between: float
    """Standard deviation between lots, in those of images."""
    directions: Directions = "one"
    """In which lots differ, drawn anew for each test."""

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.n_lots} x {self.n_images}, {self.between:g} in {self.directions}"


PROCESSES = tuple(
    Process(n_lots=n_lots, n_images=10, between=1.0, directions=directions)
    for n_lots in (5, 10, 20)
    for directions in DIRECTIONS
)


def simulate_judgements(process: Process, *, distance: float | None, n_tests: int, seed: int = 0) -> dict[str, float]:
    """Return how often each verdict is given on lots that lie so far off, and how often the chart's limits are crossed.

    Args:
        process: What the reference is drawn from.
        distance: True one of the new lot from the mean of the process, in standard deviations between lots; None draws
            a lot of the process.
        n_tests: References and new lots drawn.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for number in range(n_tests):
        axes = _draw_axes(process, rng=rng)
        spread = measure_spread([_draw_lot(axes, process, rng=rng) for _ in range(process.n_lots)])
        step = None if distance is None else _draw_step(axes, spread=spread, distance=distance, rng=rng)
        new = _draw_lot(axes, process, rng=rng, step=step)
        found[decide(compute_interval(measure_distances(spread, new), seed=number), margin=MARGIN)] += 1
        point = place_lot(spread, new)
        found["warning"] += point.distance > point.warning_limit
        found["action"] += point.distance > point.action_limit
    return {name: found[name] / n_tests for name in ("equivalent", "different", "unclear", "warning", "action")}


def print_tables(*, n_studies: int) -> None:
    """Print both errors and the power of judging a new lot, and how often its control chart raises an alarm."""
    rows = []
    for process in PROCESSES:
        same, at_margin, beyond = (
            simulate_judgements(process, distance=distance, n_tests=n_studies) for distance in (None, MARGIN, 6.0)
        )
        numbers = (same["different"], at_margin["equivalent"], at_margin["different"])
        power = (same["equivalent"], beyond["different"])
        rows.append([process.name, *numbers, *power, same["warning"], same["action"], beyond["action"]])
    columns = ["reference", "same process: different", "at the margin: equivalent", "at the margin: different"]
    columns += ["same process: equivalent", "at 6: different"]
    columns += ["same process: warning", "same process: action", "at 6: action"]
    Table(title="A new lot judged by a reference (margin 3)", columns=columns, rows=rows).show(percent=True)


def _draw_axes(process: Process, *, rng: np.random.Generator) -> FloatArray:
    """Return the directions in which lots of the process differ, shape (n_directions, N_FEATURES)."""
    axes = rng.normal(size=(1, N_FEATURES)) * SPREAD if process.directions == "one" else np.diag(SPREAD)
    rest = np.sqrt((SPREAD[N_DIRECTIONS:] ** 2).sum())
    scaled = np.hstack([axes[:, :N_DIRECTIONS] / SPREAD[:N_DIRECTIONS], axes[:, N_DIRECTIONS:] / rest])
    drawn: FloatArray = axes * process.between / np.sqrt((scaled**2).sum())
    return drawn


def _draw_step(axes: FloatArray, *, spread: LotSpread, distance: float, rng: np.random.Generator) -> FloatArray:
    """Return a step in a direction of its own that is so long in the view in which it is longest."""
    direction = rng.normal(size=(1, N_FEATURES)) * SPREAD
    of_lots, step = spread.space.embed(axes), spread.space.embed(direction)[0]
    longest = 0.0
    for view in spread.list_views():
        between = sum(view.measure(axis) for axis in of_lots)
        longest = max(longest, view.measure(step) / max(between, SMALL_EFFECT**2 * view.image_variance))
    drawn: FloatArray = distance / np.sqrt(longest) * direction[0]
    return drawn


def _draw_lot(
    axes: FloatArray, process: Process, *, rng: np.random.Generator, step: FloatArray | None = None
) -> FloatArray:
    """Return the images of a lot of the process, or of one that lies a step from its mean."""
    mean = rng.normal(size=len(axes)) @ axes if step is None else step
    lot: FloatArray = mean + SPREAD * rng.normal(size=(process.n_images, N_FEATURES))
    return lot
