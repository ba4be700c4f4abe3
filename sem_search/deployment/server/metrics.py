"""What the server counts, in the text format that Prometheus reads.

The number of series is bounded, whatever callers send: statuses are the server's own, labels are the models' classes.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import psutil

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

FAMILIES = {
    "requests_total": ("counter", "Requests for predictions, by their status."),
    "request_seconds": ("histogram", "Seconds from the head of a request for predictions to its answer."),
    "rows_total": ("counter", "Images: known, unknown, unsaid by the model, or unanswered."),
    "labels_total": ("counter", "Images, by the most probable material."),
    "batches_total": ("counter", "Batches of images that were computed together."),
    "batch_requests_total": ("counter", "Requests in these batches."),
    "batch_images_total": ("counter", "Images in these batches."),
    "model_info": ("gauge", "The model that answers now."),
    "event_loop_held_seconds_max": (
        "gauge",
        "Longest time for which the server was kept by its own work from taking up a request.",
    ),
    "resident_memory_bytes": ("gauge", "Memory of this process."),
    "journal_lost_total": ("counter", "Answers that could not be written into the journal."),
}
"""Name of each metric, after `sem_search_`, its kind and what it says."""

BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, float("inf"))
"""Upper limits of the latencies."""

OUTCOMES: Mapping[object, str] = {True: "known", False: "unknown"}

MAX_LABELS = 200
"""Materials that are counted by name; those of further models are `other`."""

HEARTBEAT_S = 0.05


class Metrics:
    """Counters; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._labels: set[str] = set()
        self._longest_held_s = 0.0

    def count_request(self, *, status: int, took_s: float) -> None:
        """Count a request for predictions."""
        with self._lock:
            self._series["requests_total", _write_labels(status=str(status))] += 1
            for limit_s in BUCKETS_S:
                label = "+Inf" if limit_s == float("inf") else f"{limit_s:g}"
                self._series["request_seconds_bucket", _write_labels(le=label)] += took_s <= limit_s
            self._series["request_seconds_sum", ""] += took_s
            self._series["request_seconds_count", ""] += 1

    def count_answers(self, records: Iterable[Mapping[str, object]]) -> None:
        """Count the rows of an answer."""
        with self._lock:
            for record in records:
                outcome = OUTCOMES.get(record["is_known"], "unsaid") if record["label"] is not None else "unanswered"
                self._series["rows_total", _write_labels(outcome=outcome)] += 1
                if record["label"] is not None:
                    self._series["labels_total", _write_labels(label=self._bound_label(str(record["label"])))] += 1

    def count_batch(self, n_requests: int, n_images: int) -> None:
        """Count a batch of the network."""
        with self._lock:
            self._series["batches_total", ""] += 1
            self._series["batch_requests_total", ""] += n_requests
            self._series["batch_images_total", ""] += n_images

    async def watch_event_loop(self) -> None:
        """Measure for ever how late a short sleep ends: for so long the event loop was held.

        Where other processes had the processor, that is more than this one computed, which alone counts.
        """
        while True:
            begun_s, computed_s = time.monotonic(), time.process_time()
            await asyncio.sleep(HEARTBEAT_S)
            late_s, computed_s = time.monotonic() - begun_s - HEARTBEAT_S, time.process_time() - computed_s
            self._longest_held_s = max(self._longest_held_s, min(late_s, computed_s))

    def write(self, *, name: str, version: str, n_lost: int = 0) -> str:
        """Return all metrics.

        Args:
            name: Of the model that answers now; empty where none does.
            version: Of the same.
            n_lost: Answers that are not in the journal.
        """
        with self._lock:
            series = dict(self._series)
        series["model_info", _write_labels(name=name, version=version)] = bool(name)
        series["event_loop_held_seconds_max", ""] = self._longest_held_s
        series["resident_memory_bytes", ""] = psutil.Process().memory_info().rss
        series["journal_lost_total", ""] = n_lost
        return "\n".join(_iter_lines(series)) + "\n"

    def _bound_label(self, label: str) -> str:
        if len(self._labels) < MAX_LABELS:
            self._labels.add(label)
        return label if label in self._labels else "other"


def _iter_lines(series: Mapping[tuple[str, str], float]) -> Iterator[str]:
    for family, (kind, meaning) in FAMILIES.items():
        yield f"# HELP sem_search_{family} {meaning}"
        yield f"# TYPE sem_search_{family} {kind}"
        for (name, labels), value in series.items():
            if name == family or (kind == "histogram" and name.startswith(f"{family}_")):
                yield f"sem_search_{name}{labels} {value:.15g}"


def _write_labels(**labels: str) -> str:
    escaped = {key: text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for key, text in labels.items()}
    return "{" + ",".join(f'{key}="{text}"' for key, text in escaped.items()) + "}"
