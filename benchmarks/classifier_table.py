"""The tables of `docs/results.md` out of the results of `scripts/benchmark classifiers`."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.classifier_results import Result
from benchmarks.classifier_rows import LOGISTIC, ROWS
from benchmarks.trust.tables import Table
from sem_search.evaluation.comparison import Comparison, Difference, compare_answers
from sem_search.settings import build_settings
from sem_search.transfer.views import VIEWS

JUDGED, BEFORE = "standard", "before"
OTHERS = (*LOGISTIC, BEFORE)
"""What `standard` is compared with."""

NOT_MEASURED = "-"


@dataclass(frozen=True)
class MeasuredSet:
    """What was measured on one set with one network."""

    name: str
    results_of_row: Mapping[str, Mapping[int, Result]]
    """By row and by seed."""

    @property
    def n_images(self) -> int:
        """Images that were tested."""
        return next(result.answers.n_rows for results in self.results_of_row.values() for result in results.values())

    @property
    def n_seeds(self) -> int:
        """Seeds of the row that has most."""
        return max(map(len, self.results_of_row.values()))

    @property
    def features_minutes(self) -> float:
        """What the features took: seeds after the first find those of files computed."""
        known = [one.features_minutes for results in self.results_of_row.values() for one in results.values()]
        return max((minutes for minutes in known if minutes is not None), default=math.nan)

    @cached_property
    def differences(self) -> dict[str, dict[str, Difference]]:
        """By the other row, `standard` less that row, of `tiles` and of `images`.

        Values and bounds are means over the seeds that both have. Seeds share their images, so more of them make no
        narrower interval.
        """
        first = self.results_of_row.get(JUDGED, {})
        differences = {}
        for row in OTHERS:
            second = self.results_of_row.get(row, {})
            compared = [_compare(first[seed], second[seed]) for seed in first if seed in second]
            if compared:
                differences[row] = {
                    "tiles": _average([one.f_measure for one in compared]),
                    "images": _average([one.image_f_measure for one in compared]),
                }
        return differences

    def get_minutes(self, row: str) -> float:
        """Return the mean over the seeds, the features of its views included; NaN for a row that was not measured."""
        minutes = [result.minutes for result in self.results_of_row.get(row, {}).values()]
        share = VIEWS[build_settings(ROWS[row]).augment] / VIEWS["dihedral"]
        return statistics.mean(minutes) + share * self.features_minutes if minutes else math.nan

    def write_scores(self, row: str) -> str:
        """Return the F-measures of tiles and of images, means over the seeds, and how many if some are missing."""
        results = self.results_of_row.get(row, {}).values()
        if not results:
            return NOT_MEASURED
        scores = (statistics.mean(getattr(one, name) for one in results) for name in ("tile_f", "image_f"))
        fewer = f" ({len(results)} of {self.n_seeds} seeds)" if len(results) < self.n_seeds else ""
        return " / ".join(f"{score:.3f}" for score in scores) + fewer


def print_tables(results: Sequence[Result]) -> None:
    """Print scores, differences, minutes and the summary of each network with its weights."""
    results_of_network: dict[str, list[Result]] = {}
    for result in results:
        results_of_network.setdefault(f"{result.task.backbone}, {result.task.weights}", []).append(result)
    for network, own in results_of_network.items():
        for table in _iter_tables(_gather_sets(own), network=network):
            table.show()


def _gather_sets(results: Sequence[Result]) -> list[MeasuredSet]:
    """Return the sets in the order in which they were measured."""
    sets: dict[str, dict[str, dict[int, Result]]] = {}
    for one in results:
        sets.setdefault(one.task.image_set, {}).setdefault(one.task.row, {})[one.task.seed] = one
    return [MeasuredSet(*items) for items in sets.items()]


def _iter_tables(sets: Sequence[MeasuredSet], *, network: str) -> Iterator[Table]:
    rows = [row for row in (*LOGISTIC, *ROWS) if any(row in one.results_of_row for one in sets)]
    yield Table(
        title=f"{network}: F-measure of tiles / images, mean over the seeds",
        columns=("set", "images", "seeds", *rows),
        rows=[(one.name, one.n_images, one.n_seeds, *map(one.write_scores, rows)) for one in sets],
    )
    yield Table(
        title=f"{network}: F-measure of {JUDGED} less that of others, with 95 % intervals over the images",
        columns=("set", "of", *OTHERS),
        rows=[
            (one.name, of, *(_write_difference(one, row=row, of=of) for row in OTHERS))
            for one in sets
            for of in ("tiles", "images")
        ],
    )
    searches = [row for row in rows if row in ROWS]
    yield Table(
        title=f"{network}: minutes with the features, and their ratio to those of {BEFORE}",
        columns=("set", "features of eight views", *searches),
        rows=[
            (one.name, f"{one.features_minutes:.1f}", *(_write_minutes(one, row=row) for row in searches))
            for one in sets
        ],
    )
    yield Table(
        title=f"{network}: F-measure of tiles, {JUDGED} less others, over the sets",
        columns=("less", "sets", "mean", "lowest", "smallest set"),
        rows=list(_iter_summaries(sets)),
    )


def _iter_summaries(sets: Sequence[MeasuredSet]) -> Iterator[tuple[str | float, ...]]:
    """Yield, for each row that was compared, the mean of the sets' differences, the lowest, and the smallest set's."""
    for row in OTHERS:
        compared = [one for one in sets if row in one.differences]
        if compared:
            values = {one.name: one.differences[row]["tiles"].value for one in compared}
            lowest, smallest = (
                min(compared, key=lambda one: values[one.name]),
                min(compared, key=lambda one: one.n_images),
            )
            named = (f"{values[one.name]:+.3f} ({one.name})" for one in (lowest, smallest))
            yield row, len(compared), f"{statistics.mean(values.values()):+.3f}", *named


def _compare(first: Result, second: Result) -> Comparison:
    names = tuple(map(str, range(first.answers.n_classes)))  # of which no table speaks
    return compare_answers(first.answers, second.answers, class_names=names)


def _average(differences: Sequence[Difference]) -> Difference:
    return Difference(
        **{
            name: statistics.mean(getattr(one, name) for one in differences)
            for name in ("first", "second", "low", "high")
        }
    )


def _write_difference(one: MeasuredSet, *, row: str, of: str) -> str:
    return one.differences[row][of].to_text() if row in one.differences else NOT_MEASURED


def _write_minutes(one: MeasuredSet, *, row: str) -> str:
    minutes, usual = one.get_minutes(row), one.get_minutes(BEFORE)
    if math.isnan(minutes):
        return NOT_MEASURED
    return f"{minutes:.1f}" if row == BEFORE or math.isnan(usual) else f"{minutes:.1f} ({minutes / usual:.2f})"
