"""What is counted, and that it stays within bounds."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sem_search.deployment.server.metrics import FAMILIES, MAX_LABELS, Metrics

LINE = re.compile(r'(# (HELP|TYPE) sem_search_\w+ .+|sem_search_\w+(\{(\w+="([^"\\\n]|\\[\\"n])*",?)+\})? [\d.e+-]+)')


def write(metrics: Metrics, *, name: str = "lactose", version: str = "7") -> list[str]:
    return metrics.write(name=name, version=version).splitlines()


def test_every_line_is_one_that_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.count_request(status=200, took_s=0.2)
    metrics.count_answers([{"label": 'a "b"\\\nc', "is_known": True}])
    metrics.count_batch(2, 3)
    lines = write(metrics, name='x"y')
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert 'sem_search_labels_total{label="a \\"b\\"\\\\\\nc"} 1' in lines
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == {
        f"sem_search_{name}" for name in FAMILIES
    }


def test_latencies_are_cumulative() -> None:
    metrics = Metrics()
    for took_s in (0.05, 0.2, 2.0, 1000.0):
        metrics.count_request(status=200, took_s=took_s)
    lines = write(metrics)
    for limit, n in [("0.03", 0), ("0.1", 1), ("0.3", 2), ("3", 3), ("100", 3), ("+Inf", 4)]:
        assert f'sem_search_request_seconds_bucket{{le="{limit}"}} {n}' in lines
    assert "sem_search_request_seconds_count 4" in lines
    assert "sem_search_request_seconds_sum 1002.25" in lines


@pytest.mark.parametrize(
    ("label", "is_known", "outcome"),
    [("a", True, "known"), ("a", False, "unknown"), ("a", None, "unsaid"), (None, None, "unanswered")],
)
def test_rows_are_counted_by_what_was_answered(label: str | None, is_known: bool | None, outcome: str) -> None:
    metrics = Metrics()
    metrics.count_answers([{"label": label, "is_known": is_known}])
    assert f'sem_search_rows_total{{outcome="{outcome}"}} 1' in write(metrics)


def test_the_number_of_series_is_bounded() -> None:
    metrics = Metrics()
    metrics.count_answers([{"label": f"material {n}", "is_known": True} for n in range(3 * MAX_LABELS)])
    labels = [line for line in write(metrics) if line.startswith("sem_search_labels_total")]
    assert len(labels) == MAX_LABELS + 1
    assert f'sem_search_labels_total{{label="other"}} {2 * MAX_LABELS}' in labels


def compute() -> None:
    """Compute for 0.3 s of the processor's time."""
    until_s = time.process_time() + 0.3
    while time.process_time() < until_s:
        sum(range(1000))


@pytest.mark.parametrize(("hold", "least_s", "most_s"), [(compute, 0.2, 60.0), (lambda: time.sleep(0.3), 0.0, 0.2)])
def test_a_loop_that_is_held_by_this_process_is_noticed(
    hold: Callable[[], None], least_s: float, most_s: float
) -> None:
    metrics = Metrics()

    async def run() -> None:
        watching = asyncio.create_task(metrics.watch_event_loop())
        await asyncio.sleep(0.06)
        hold()
        await asyncio.sleep(0.06)
        watching.cancel()

    asyncio.run(run())
    (held,) = [line for line in write(metrics) if line.startswith("sem_search_event_loop_held")]
    assert least_s <= float(held.split()[1]) <= most_s


@pytest.mark.parametrize("name", FAMILIES)
def test_the_page_of_the_server_explains_each_metric(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
    table = page.partition("### Metrics and log")[2].partition("###")[0]
    assert re.search(rf"^\|.*`{name}(\{{[a-z,]+\}})?`.*\|", table, flags=re.MULTILINE)
