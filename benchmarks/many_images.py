"""What looking for overlaps costs with the number of images, each number in a process of its own, for its memory."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

HEIGHT_PX, WIDTH_PX = 480, 640
GRAINS_PX = (1.0, 2.0, 4.0)
NOISE = 10.0  # grey levels
EVERY = 20  # one image in so many overlaps with the one before it, by a quarter of the area or more
N_ADDED = 10
SHIFTS_PX = ((300, 400), (150, 200), (100, 133))


def measure_many_images(counts: tuple[int, ...]) -> dict[str, float]:
    """Return seconds of one processor for each image, overlaps found and wrongly found, and peak memory in MiB.

    `again` is a second look, in seconds; `added` one with 10 more images, in seconds of one processor.
    """
    figures: dict[str, float] = {}
    for count in counts:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.many_images", str(count)], check=True, capture_output=True, text=True
        )
        figures |= json.loads(done.stdout.splitlines()[-1])
    return figures


def write_image(folder: Path, number: int) -> None:
    """Write a texture with noise; each number has its own, but for the overlaps."""
    is_second = number % EVERY == 1
    ground_number = number - 1 if is_second else number
    has_pair = ground_number % EVERY == 0
    top, left = SHIFTS_PX[number // EVERY % len(SHIFTS_PX)] if is_second else (0, 0)
    ground = _make_ground(ground_number, height=HEIGHT_PX + 300 * has_pair, width=WIDTH_PX + 400 * has_pair)
    rng = np.random.default_rng((1, number))
    grey = 120 + 35 * rng.uniform(0.6, 1.2) * ground[top:, left:][:HEIGHT_PX, :WIDTH_PX]
    pixels = np.clip(grey + NOISE * rng.normal(size=grey.shape), 0, 255).astype(np.uint8)
    file = folder / f"class {number % 10}" / f"{number:06}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, compress_level=1)


def _make_ground(number: int, *, height: int, width: int) -> NDArray[np.float64]:
    """Return a texture of one of three kinds, made at half the size, for speed."""
    kind = number % len(GRAINS_PX)
    small = np.random.default_rng((0, number)).normal(size=(-(-height // 2), -(-width // 2)))
    texture = gaussian_filter(small, GRAINS_PX[kind])
    texture = (np.asarray, np.abs, np.tanh)[kind](texture / texture.std())
    return texture.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def _measure(count: int) -> dict[str, float]:
    from sem_search.micrographs.catalogue import read_catalogue
    from sem_search.micrographs.overlaps.similarity import find_similar_pairs
    from sem_search.places import CACHE_VARIABLE

    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = f"{folder}/cache"
        data = Path(folder) / "data"
        for number in range(count):
            write_image(data, number)
        catalogue = read_catalogue(data)
        begun_s, cpu_s = time.perf_counter(), time.process_time()
        pairs = find_similar_pairs(catalogue)
        wall_s, first_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
        begun_s = time.perf_counter()
        find_similar_pairs(catalogue)
        again_s = time.perf_counter() - begun_s
        for number in range(count, count + N_ADDED):
            write_image(data, number)
        catalogue = read_catalogue(data)
        cpu_s = time.process_time()
        find_similar_pairs(catalogue)
        added_s = time.process_time() - cpu_s
    numbers = {tuple(sorted(int(Path(end).stem) for end in (pair.first, pair.second))) for pair in pairs}
    true = {(number - 1, number) for number in range(1, count, EVERY)}
    key = f"images.{count}"
    return {
        f"{key}.wall_s": wall_s,
        f"{key}.core_ms_per_image": 1000 * first_s / count,
        f"{key}.again_s": again_s,
        f"{key}.added_core_s": added_s,
        f"{key}.found": len(numbers & true) / max(len(true), 1),
        f"{key}.wrongly_found": float(len(numbers - true)),
        f"{key}.peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
