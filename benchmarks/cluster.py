"""The same search on a Dask cluster of one worker and of several, each of one thread: seconds of features and of folds.

Every number of workers has its own folder, cache and cluster, so that nothing is known before. The files in shared
storage tell when something was finished: features from the first shards, one of each worker, to the last one; folds
from there to the last fold. So what a worker does before its first shard, loading TensorFlow and the network, is left
out of the features. The search itself needs a processor, too: it writes the features and logs each trial.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.ports import find_free_port
from benchmarks.searching import run_search
from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data
from sem_search.places import CACHE_VARIABLE, get_cache_folder

SIZE = "paper"
"""Of the demonstration set: 100 images, 2,000 tiles."""

LEARNING_RATES, BATCH_SIZE, EPOCHS = "1e-2,1e-3", "32", "30"
"""Two cells of five folds, all trained to their end: what is to be done does not depend on the number of workers."""


def measure_cluster(counts: Sequence[int], *, backbone: str, weights: str) -> dict[str, float]:
    """Return seconds of features, of folds and of the whole search for each number of workers, and the speed-ups.

    Args:
        counts: Numbers of workers; speed-ups are over the first.
        backbone: Its name.
        weights: As in a search.
    """
    data = write_demo_data(get_cache_folder() / "demo" / "benchmark-paper", size=SIZE, seed=0)
    figures: dict[str, float] = {}
    for n_workers in counts:
        with tempfile.TemporaryDirectory() as name:
            found = _measure(n_workers, folder=Path(name), backbone=backbone, weights=weights, data=data)
        figures |= {f"cluster.{n_workers}.{part}": seconds for part, seconds in found.items()}
    first, *others = counts
    for n_workers in others:
        for part in found:
            gain = figures[f"cluster.{first}.{part}"] / figures[f"cluster.{n_workers}.{part}"]
            figures[f"cluster.{n_workers}.{part}.vs_{first}"] = gain
    return figures


def _measure(n_workers: int, *, folder: Path, backbone: str, weights: str, data: Path) -> dict[str, float]:
    with _run_cluster(n_workers, folder=folder) as address:
        begun_s = time.perf_counter()
        run_search(
            folder,
            {
                "data": str(data),
                "crop_bottom_px": str(DEMO_SIZES[SIZE].bar_height_px),
                "backbone": backbone,
                "weights": weights,
                "heads": "finetune",
                "learning_rates": LEARNING_RATES,
                "batch_sizes": BATCH_SIZE,
                "augment": "none",
                "epochs": EPOCHS,
                "patience": "0",
                "pruner": "none",
                "refit": "false",
                "threads": "1",
                "cluster": address,
                "shared": str(folder / "shared"),
            },
            cache=folder / "cache",
        )
        whole_s = time.perf_counter() - begun_s
    shards = _list_ends(folder / "shared" / "features", pattern="*.bin")
    folds = _list_ends(folder / "shared" / "studies", pattern="fold_*.bin")
    features_s = (shards[-1] - shards[n_workers - 1]) * len(shards) / (len(shards) - n_workers)
    return {"features_s": features_s, "folds_s": folds[-1] - shards[-1], "whole_s": whole_s}


def _list_ends(folder: Path, *, pattern: str) -> list[float]:
    """Return when the files below a folder were written, sorted."""
    return sorted(file.stat().st_mtime for file in folder.rglob(pattern))


@contextmanager
def _run_cluster(n_workers: int, *, folder: Path) -> Iterator[str]:
    """Give the address of a cluster whose workers have one thread and a cache of their own each."""
    address = f"tcp://127.0.0.1:{find_free_port()}"
    with ExitStack() as stack:
        host, port = address.removeprefix("tcp://").split(":")
        stack.enter_context(_run("scheduler", "--host", host, "--port", port, "--no-dashboard", folder=folder))
        for number in range(n_workers):
            words = ("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
            stack.enter_context(_run(*words, folder=folder / f"worker_{number}"))
        yield address


@contextmanager
def _run(*words: str, folder: Path) -> Iterator[None]:
    """Run one of Dask's commands in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    project = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": project, CACHE_VARIABLE: str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("wb") as log:
        command = [sys.executable, "-m", "dask", *words]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.kill()
        process.wait()
