"""The thumbnails of many micrographs on the page of `sem-search app`, in a headless Chromium."""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.browsing import open_browser
from benchmarks.fuzz import FuzzedRequest, send
from benchmarks.servers import run_server

N_CLASSES = 10
SCREEN_PX = 1000

WATCH = """
window.gaps = []; let last = performance.now();
(function beat(now) { gaps.push(now - last); last = now; requestAnimationFrame(beat); })(last);
"""
"""Notes how long each frame took: a page that stalls draws none."""

COUNT_SHOWN = "[...document.querySelectorAll('.tile img')].filter((one) => one.complete && one.naturalWidth).length"


def write_images(folder: Path, *, n_images: int, height_px: int, width_px: int) -> None:
    """Write pictures of blurred noise, which pack as micrographs do."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height_px + 500, width_px + 500), dtype=np.uint8)
    for number in range(n_images):
        top, left = rng.integers(0, 500, 2)
        path = folder / f"material {number % N_CLASSES}" / f"{number:05d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise[top : top + height_px, left : left + width_px]).save(path)


def measure_thumbnails(*, n_images: int) -> dict[str, float]:
    """Return how long the page takes to show all thumbnails of pictures of 1280 x 960 px, and its longest stalls.

    The page is scrolled screen by screen, and its server is asked meanwhile whether it lives.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "data", n_images=n_images, height_px=960, width_px=1280)
        with (
            open_browser() as browser,
            run_server(
                ["app", "--no-browser"], folder=folder, log=folder / "log.txt", cwd=folder, ready="/livez"
            ) as server,
        ):
            browser.open(server.url)
            browser.wait_for("lastState !== null")
            pings_s, is_over = [], threading.Event()

            def ping() -> None:
                while not is_over.wait(0.05):
                    pings_s.append(send(server.port, FuzzedRequest(name="ping", method="GET", path="/livez")).took_s)

            thread = threading.Thread(target=ping, daemon=True)
            thread.start()
            browser.run(WATCH)
            begun_s = time.monotonic()
            browser.run(f"openData({str(folder / 'data')!r})")
            browser.wait_for(f"{COUNT_SHOWN} > 0")
            first_s = time.monotonic() - begun_s
            height_px = browser.run("return document.documentElement.scrollHeight")
            for top in range(0, int(height_px) + SCREEN_PX, SCREEN_PX):
                browser.run(f"scrollTo(0, {top})")
                time.sleep(0.1)
            scrolled_s = time.monotonic() - begun_s
            browser.wait_for(f"{COUNT_SHOWN} >= {n_images}")
            all_s = time.monotonic() - begun_s
            longest_frame_ms = browser.run("return Math.max(...gaps.slice(1))")
            is_over.set()
            thread.join()
            memory_mb = server.measure_memory_mb()
    return {
        "thumbnails.images": float(n_images),
        "thumbnails.first_s": first_s,
        "thumbnails.scrolled_s": scrolled_s,
        "thumbnails.all_s": all_s,
        "thumbnails.longest_frame_ms": float(longest_frame_ms),
        "thumbnails.longest_ping_s": max(pings_s),
        "thumbnails.server_mb": memory_mb,
    }
