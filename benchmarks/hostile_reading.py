"""Reads picture files in a process whose memory is limited, one after the other, and says of each what became of it.

Started as a program: `python -m benchmarks.hostile_reading N SEED MEMORY_MB`; one JSON object a line. A process of its
own, because the limit cannot be taken back, and because a decoder that crashes must not end the others.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.hostile_images import iter_hostile_images
from sem_search.errors import UnreadableImageError
from sem_search.micrographs.reading.micrograph import read_micrograph

MEGABYTE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ReadingOutcome:
    """What became of one file."""

    name: str
    fate: str
    """`refused`, `read`, or what went wrong: the class of another error, or `wrong picture`."""
    message: str
    took_s: float
    grown_mb: float
    """By how much the process's peak memory rose."""


def read_hostile_images(*, n: int, seed: int, memory_mb: int, limit_s: float) -> list[ReadingOutcome]:
    """Return what became of each file, in a process of its own with so much memory beyond what it needs to start.

    Raises:
        RuntimeError: The process ended before the last file; the message tells after which.
    """
    words = [sys.executable, "-m", "benchmarks.hostile_reading", str(n), str(seed), str(memory_mb)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s)
    outcomes = [ReadingOutcome(**json.loads(line)) for line in done.stdout.splitlines()]
    if len(outcomes) < n or done.returncode:
        last = outcomes[-1].name if outcomes else "none"
        raise RuntimeError(f"the reader ended with {done.returncode} after {last}: {done.stderr[-2000:]}")
    return outcomes


def iter_outcomes(*, n: int, seed: int) -> Iterator[ReadingOutcome]:
    """Read the files in this process."""
    for image in iter_hostile_images(n=n, seed=seed):
        before_mb, begun_s = _get_peak_mb(), time.perf_counter()
        fate, message = "read", ""
        try:
            micrograph = read_micrograph(image.content, name=image.name)
            pixels = micrograph.pixels
            if not (
                np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1 and pixels.dtype == np.float32
            ):
                fate = "wrong picture"
        except UnreadableImageError as error:
            fate, message = "refused", str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            fate, message = type(error).__name__, str(error)
        took_s = time.perf_counter() - begun_s
        yield ReadingOutcome(
            name=image.name, fate=fate, message=message, took_s=took_s, grown_mb=_get_peak_mb() - before_mb
        )


def _get_peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _limit_memory(memory_mb: int) -> None:
    """Let this process have so much address space beyond what it has now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + memory_mb * MEGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    for image in iter_hostile_images(n=1, seed=0):
        assert image  # what generating needs is loaded before the limit
    _limit_memory(int(sys.argv[3]))
    for outcome in iter_outcomes(n=int(sys.argv[1]), seed=int(sys.argv[2])):
        print(json.dumps(asdict(outcome)), flush=True)
