"""Side by side: the medians of interleaved repeats, so that a slow minute of the machine hits all alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

DEFAULT_REPEATS = 3


def measure_side_by_side(
    actions: Mapping[str, Callable[[], object]], *, n_repeats: int = DEFAULT_REPEATS
) -> dict[str, float]:
    """Return the median seconds of each action; each is run once before, to compile what it compiles.

    An action that returns a float has timed itself, and only the part that is asked for.
    """
    for action in actions.values():
        action()
    times_s: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(n_repeats):
        for name, action in actions.items():
            begun = time.perf_counter()
            result = action()
            times_s[name].append(result if isinstance(result, float) else time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times_s.items()}


def compute_exponent(small: tuple[int, float], large: tuple[int, float]) -> float:
    """Return how a figure grows from one size to another, each a size and its figure: 1 is in proportion."""
    return math.log(large[1] / small[1]) / math.log(large[0] / small[0])
