"""One micrograph's answer against its bare forward pass, and answers per second with several callers at once."""

import base64
import io
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

from benchmarks.servers import build_untrained_parts, run_server, write_registry
from benchmarks.timing import measure_side_by_side
from sem_search.deployment.package.reading import read_classifier
from sem_search.deployment.package.writing import write_model_folder
from sem_search.micrographs.tiles import cut_tiles

HEIGHT_PX, WIDTH_PX = 960, 1280
CLIENT_COUNTS = (1, 4, 16)
SECONDS_EACH = 20.0
N_REPEATS = 7


def measure_serve(backbone: str, *, n_workers: int) -> dict[str, float]:
    """Return latencies and throughput of `sem-search serve`, and of the network alone on the same tiles.

    The forward pass is that of this very classifier, trunk and all heads, over the tiles in memory, measured between
    the requests while the server is idle.
    """
    parts = build_untrained_parts(backbone)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX), dtype=np.uint8)
    body = _build_body(picture)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model_folder(parts, folder=folder / "model")
        ensemble = read_classifier(folder / "model")._ensemble
        tiles = cut_tiles(picture.astype(np.float32) / 255, grid=parts.grid)
        address = write_registry(folder, parts)
        words = ["serve", "--model", address, "--workers", str(n_workers)]
        with run_server(words, folder=folder, log=folder / "log.txt") as server:
            first_s = _time(lambda: _ask(server.url, body))
            times_s = measure_side_by_side(
                {
                    "forward": lambda: ensemble.run(tiles),
                    "request": lambda: _ask(server.url, body),
                    "ping": lambda: _ping(server.url),
                },
                n_repeats=N_REPEATS,
            )
            idle_mb = server.measure_memory_mb()
            loads = {n: _load(server.url, body, n_clients=n) for n in CLIENT_COUNTS}
            key = f"serve.{backbone}"
            figures = {
                f"{key}.tiles": float(len(tiles)),
                f"{key}.start_s": server.start_s,
                f"{key}.first_request_s": first_s,
                f"{key}.request_s": times_s["request"],
                f"{key}.forward_s": times_s["forward"],
                f"{key}.share_over_forward": times_s["request"] / times_s["forward"],
                f"{key}.ping_s": times_s["ping"],
                f"{key}.memory_idle_mb": idle_mb,
                f"{key}.memory_after_load_mb": server.measure_memory_mb(),
            }
    for n_clients, (per_s, median_s, worst_s) in loads.items():
        figures |= {
            f"{key}.clients_{n_clients}.requests_per_s": per_s,
            f"{key}.clients_{n_clients}.median_s": median_s,
            f"{key}.clients_{n_clients}.p95_s": worst_s,
        }
    return figures


def _build_body(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="TIFF")
    return json.dumps({"inputs": [base64.b64encode(buffer.getvalue()).decode("ascii")]}).encode()


def _ask(url: str, body: bytes) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{url}/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310
        response.read()


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
