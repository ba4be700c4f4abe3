"""One micrograph's answer against its bare forward pass, answers per second with several callers at once, and what an
exchange of the model under load loses."""

import base64
import io
import itertools
import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.servers import (
    RunningServer,
    build_untrained_parts,
    register_again,
    run_server,
    set_champion,
    write_registry,
)
from benchmarks.timing import measure_side_by_side
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.package.writing import write_model_folder

HEIGHT_PX, WIDTH_PX = 960, 1280
CLIENT_COUNTS = (1, 4, 16)
SECONDS_EACH = 20.0
N_REPEATS = 7

SWAP_TILE_PX = 96
N_SWAPPED, SWAP_CLIENTS = 1000, 4
"""Requests, and callers at once, while the champion is exchanged again and again."""


def measure_serve(backbone: str) -> dict[str, float]:
    """Return latencies and throughput of `sem-search serve`, and of the network alone on the same tiles.

    The forward pass is that of this very classifier, trunk and all heads, over the image in memory, measured between
    the requests while the server is idle.
    """
    parts = build_untrained_parts(backbone)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    body = _build_body(picture)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model_folder(parts, folder=folder / "model")
        classifier = read_classifier(folder / "model")
        image = picture.astype(np.float32) / 255
        address = write_registry(folder, parts)
        words = ["serve", "--model", address]
        with run_server(words, folder=folder, log=folder / "log.txt") as server:
            first_s = _time(lambda: _ask(server.url, body))
            times_s = measure_side_by_side(
                {
                    "forward": lambda: classifier.classify([image]),
                    "request": lambda: _ask(server.url, body),
                    "ping": lambda: _ping(server.url),
                },
                n_repeats=N_REPEATS,
            )
            idle_mb = server.measure_memory_mb()
            loads = {n: _load(server.url, body, n_clients=n) for n in CLIENT_COUNTS}
            key = f"serve.{backbone}"
            figures = {
                f"{key}.start_s": server.start_s,
                f"{key}.first_request_s": first_s,
                f"{key}.request_s": times_s["request"],
                f"{key}.forward_s": times_s["forward"],
                f"{key}.share_over_forward": times_s["request"] / times_s["forward"],
                f"{key}.ping_s": times_s["ping"],
                f"{key}.memory_idle_mb": idle_mb,
                f"{key}.memory_after_load_mb": server.measure_memory_mb(),
                f"{key}.event_loop_held_s": server.read_metrics()["event_loop_held_seconds_max"],
            }
    for n_clients, (per_s, median_s, worst_s) in loads.items():
        figures |= {
            f"{key}.clients_{n_clients}.requests_per_s": per_s,
            f"{key}.clients_{n_clients}.median_s": median_s,
            f"{key}.clients_{n_clients}.p95_s": worst_s,
        }
    return figures | {f"{key}.{name}": value for name, value in measure_swap(backbone).items()}


def measure_swap(backbone: str) -> dict[str, float]:
    """Return how many of many requests were lost, and the longest latency, while the champion is exchanged."""
    body = _build_body(np.random.default_rng(0).integers(0, 256, (256, 300), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        address = write_registry(folder, build_untrained_parts(backbone, tile_px=SWAP_TILE_PX))
        versions = ["1", register_again()]
        with run_server(
            ["serve", "--model", address, "--watch", "0.2"], folder=folder, log=folder / "log.txt"
        ) as server:
            before_mb = server.measure_memory_mb()
            with ThreadPoolExecutor(SWAP_CLIENTS) as pool:
                waiting = [pool.submit(_ask_which, server.url, body) for _ in range(N_SWAPPED)]
                peak_mb = _exchange_until(lambda: all(one.done() for one in waiting), versions=versions, server=server)
            answers = [one.result() for one in waiting]
            held_s = server.read_metrics()["event_loop_held_seconds_max"]
    named = [version for version, _ in answers]
    return {
        "swap.requests": float(len(answers)),
        "swap.lost": float(named.count(None)),
        "swap.exchanges_seen": float(sum(one != other for one, other in itertools.pairwise(named))),
        "swap.longest_s": max(took_s for _, took_s in answers),
        "swap.memory_before_mb": before_mb,
        "swap.memory_peak_mb": peak_mb,
        "swap.event_loop_held_s": held_s,
    }


def _exchange_until(is_over: Callable[[], bool], *, versions: list[str], server: RunningServer) -> float:
    """Make one version champion after the other, each when the one before answers; return the peak memory in MB."""
    peak_mb = 0.0
    for version in itertools.cycle(reversed(versions)):
        set_champion(version)
        while not is_over() and _ask_version(server.url) != version:
            peak_mb = max(peak_mb, server.measure_memory_mb())
            time.sleep(0.05)
        if is_over():
            return peak_mb
    raise AssertionError("a cycle has no end")


def _ask_which(url: str, body: bytes) -> tuple[str | None, float]:
    """Return the version that answered, None where the request was lost, and how long it took."""
    begun_s = time.perf_counter()
    try:
        version = _ask(url, body)
    except OSError:
        version = None
    return version, time.perf_counter() - begun_s


def _ask_version(url: str) -> str | None:
    with urllib.request.urlopen(f"{url}/version") as response:  # noqa: S310 - our own server
        version: str | None = json.load(response)["version"]
    return version


def _build_body(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="TIFF")
    return json.dumps({"inputs": [base64.b64encode(buffer.getvalue()).decode("ascii")]}).encode()


def _ask(url: str, body: bytes) -> str | None:
    """Return the version that answered."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{url}/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310
        response.read()
        return str(response.headers["X-Model-Version"])


def _ping(url: str) -> None:
    with urllib.request.urlopen(f"{url}/ping") as response:  # noqa: S310 - our own server
        response.read()


def _time(action: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    action()
    return time.perf_counter() - begun_s


def _load(url: str, body: bytes, *, n_clients: int) -> tuple[float, float, float]:
    """Return answers per second, and the median and 95th percentile of their latencies."""
    ends_s = time.perf_counter() + SECONDS_EACH
    times_s: list[float] = []
    lock = threading.Lock()

    def call() -> None:
        while time.perf_counter() < ends_s:
            took_s = _time(lambda: _ask(url, body))
            with lock:
                times_s.append(took_s)

    begun_s = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        for future in [pool.submit(call) for _ in range(n_clients)]:
            future.result()
    per_s = len(times_s) / (time.perf_counter() - begun_s)
    return per_s, statistics.median(times_s), float(np.quantile(times_s, 0.95))
