"""What simple classifiers reach beside the winner, as metrics and as a table."""

from collections.abc import Iterator, Sequence

from sem_search.evaluation.answers import HEADLINE_NAMES
from sem_search.evaluation.baselines import ComparedBaseline
from sem_search.tracking.entries.metrics import NumberRow
from sem_search.tracking.entries.types import Scalar, TableArtifact

PATH = "baselines.csv"

COLUMNS = ("baseline", "figure", "winner", "value", "difference", "low", "high", "reason")


def iter_baseline_numbers(baselines: Sequence[ComparedBaseline]) -> Iterator[NumberRow]:
    """Yield the test scores of each baseline as `baseline/...`, and by how much the winner's F-measure is higher."""
    for baseline in baselines:
        if baseline.comparison is not None:
            stem = f"baseline/{baseline.name}"
            for name in HEADLINE_NAMES:
                yield f"{stem}/test_{name.removeprefix('tile_')}", getattr(baseline.comparison, name).second, 0
            ahead = baseline.comparison.f_measure
            yield f"{stem}/winner_ahead", ahead.value, 0
            yield f"{stem}/winner_ahead_low", ahead.low, 0
            yield f"{stem}/winner_ahead_high", ahead.high, 0


def build_baseline_table(baselines: Sequence[ComparedBaseline]) -> TableArtifact:
    """Return one row for each baseline and figure: both values, the winner's less the baseline's, its interval.

    A baseline that could not be fitted has one row, with the reason.
    """
    rows: list[tuple[Scalar, ...]] = []
    for baseline in baselines:
        if baseline.comparison is None:
            rows.append((baseline.name, *[None] * (len(COLUMNS) - 2), baseline.reason))
            continue
        for name in HEADLINE_NAMES:
            one = getattr(baseline.comparison, name)
            figure = name.removeprefix("tile_")  # as metrics have it: without a word in front, it is of tiles
            rows.append((baseline.name, figure, one.first, one.second, one.value, one.low, one.high, None))
    return TableArtifact(path=PATH, columns=COLUMNS, rows=tuple(rows))
