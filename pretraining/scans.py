"""Rendered scans on disk, each of a powder of its own, renewed round by round while a network trains.

Scan i follows from the seed and i alone, and round r sees scans r * n_renewed to r * n_renewed + n_scans - 1: what is
learned does not depend on how many processes render, nor on where a training was interrupted.
"""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretraining.materials import describe_subject, draw_subject
from pretraining.properties import PROPERTIES, compute_bins, get_edges
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.seeds import derive_seed

WATCH_S = 1.0
"""Seconds between two looks of a renderer whether its parent lives."""

N_AT_ONCE = 25
"""Scans that one task renders: a second or two."""


@dataclass(frozen=True, kw_only=True)
class ScanRecipe:
    """Which scans there are."""

    n_scans: int
    """Held at a time."""
    n_renewed: int
    """Replaced after each round."""
    side_px: int = 320
    seed: int = 0


@dataclass(kw_only=True)
class ScanPool:
    """The scans of the present round; scan i lies in place i modulo their number."""

    recipe: ScanRecipe
    pixels: NDArray[np.uint8]
    """Shape (n_scans, side_px, side_px), in a file."""
    bins: NDArray[np.int32]
    """Shape (n_scans, n_properties), in a file."""
    indices: NDArray[np.int64]
    """Shape (n_scans,), in a file: which scan lies here, -1 for none."""
    digest: str
    """Of what is rendered: its properties, their bins, and the renderer."""
    executor: ProcessPoolExecutor
    _pending: list[tuple[NDArray[np.int64], Future[tuple[NDArray[np.uint8], NDArray[np.int32]]]]] = field(
        default_factory=list
    )

    def begin_rendering(self, *, round_number: int) -> None:
        """Have what is missing for a round rendered, in other processes; `finish_rendering` puts it in its places."""
        wanted = self._list_wanted(round_number)
        missing = wanted[self.indices[wanted % self.recipe.n_scans] != wanted]
        for start in range(0, len(missing), N_AT_ONCE):
            some = missing[start : start + N_AT_ONCE]
            self._pending.append((some, self.executor.submit(render_scans, some, recipe=self.recipe)))

    @property
    def n_pending(self) -> int:
        """Scans that are being rendered."""
        return sum(len(some) for some, _ in self._pending)

    def finish_rendering(self) -> Iterator[int]:
        """Put scans in their places as they come, yielding how many came."""
        while self._pending:
            some, future = self._pending.pop(0)
            pixels, bins = future.result()
            places = some % self.recipe.n_scans
            self.indices[places] = -1  # a killed process leaves no half-written scan under a valid number
            self.pixels[places], self.bins[places] = pixels, bins
            self.indices[places] = some
            yield len(some)

    def _list_wanted(self, round_number: int) -> NDArray[np.int64]:
        first = round_number * self.recipe.n_renewed
        return np.arange(first, first + self.recipe.n_scans)


@contextmanager
def open_scans(folder: Path, *, recipe: ScanRecipe, n_processes: int) -> Iterator[ScanPool]:
    """Give the scans of a recipe, stored below a folder; those of another training's last rounds are used again."""
    digest = compute_digest(recipe)
    place = folder / f"scans-{recipe.n_scans}x{recipe.side_px}-seed{recipe.seed}-{digest}"
    place.mkdir(parents=True, exist_ok=True)
    n, side = recipe.n_scans, recipe.side_px
    executor = ProcessPoolExecutor(
        n_processes, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),)
    )
    try:
        yield ScanPool(
            recipe=recipe,
            pixels=_open(place / "pixels.npy", shape=(n, side, side), dtype=np.dtype(np.uint8)),
            bins=_open(place / "bins.npy", shape=(n, len(PROPERTIES)), dtype=np.dtype(np.int32)),
            indices=_open(place / "indices.npy", shape=(n,), dtype=np.dtype(np.int64), fill=-1),
            digest=digest,
            executor=executor,
        )
    finally:
        executor.shutdown(cancel_futures=True)  # an interruption does not wait for what is queued


def end_with(parent: int) -> None:
    """Have this process end when its parent is gone, which may have been killed without a signal to it."""
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="watches the parent").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def compute_digest(recipe: ScanRecipe) -> str:
    """Return what names what is asked of the powders, and how they are drawn and rendered, by the first of them."""
    pixels, bins = render_scans(np.array([0]), recipe=recipe)
    content = repr(PROPERTIES).encode() + get_edges().tobytes() + pixels.tobytes() + bins.tobytes()
    return hashlib.sha256(content).hexdigest()[:8]


def render_scans(indices: NDArray[np.int64], *, recipe: ScanRecipe) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return scans by their numbers: grey levels, shape (n, side_px, side_px), and the bins of their properties."""
    pixels, bins = [], []
    for index in indices.tolist():
        seed = derive_seed(recipe.seed, "scan", index)
        subject = draw_subject(np.random.default_rng(seed))
        scan = render_scan(
            subject.material, height_px=recipe.side_px, width_px=recipe.side_px, seed=seed, camera=subject.camera
        )
        pixels.append(np.rint(scan * np.float32(255.0)).astype(np.uint8))
        bins.append(compute_bins(describe_subject(subject)))
    return np.stack(pixels), np.stack(bins)


def _open(file: Path, *, shape: tuple[int, ...], dtype: np.dtype[Any], fill: int = 0) -> NDArray[Any]:
    if file.exists():
        return np.lib.format.open_memmap(file, mode="r+")
    partial = file.with_name(f"{file.name}.partial")
    array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
    array[...] = fill
    array.flush()
    partial.replace(file)
    return np.lib.format.open_memmap(file, mode="r+")
