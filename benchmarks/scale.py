"""The whole command at growing numbers of images: seconds, peak memory and disk of each step, and how they grow.

Rendered pictures of 192 x 192 px, four tiles of 96 px each; one fine-tuned cell beside the linear head. Each step is a
process of its own. Its figures are added to `scale.jsonl` when it has ended, and what stands there is not measured
again: a run that was stopped goes on with the step that it was in.

Started as a program it is one of two steps that no command has: `python -m benchmarks.scale features|load`.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.searching import build_environment
from benchmarks.timing import compute_exponent
from sem_search.micrographs.rendering.materials import MATERIALS
from sem_search.micrographs.rendering.pngfile import compute_png
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.places import CACHE_VARIABLE
from sem_search.search.folds.store import FoldStore
from sem_search.search.trials.space import order_cells
from sem_search.seeds import derive_seed
from sem_search.settings import SearchSettings, build_settings
from sem_search.tracking.mlflow.own_runs import RUN_ID_VARIABLE

SIDE_PX, TILE_PX = 192, 96
STUDY = MODEL = "scale"
MIB = 2**20

LAUNCHER = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, used = os.wait4(process.pid, 0)
print(json.dumps([status, used.ru_maxrss]))
"""
"""Runs a command and prints its status and peak memory in KiB. A process begins with the peak of the one that starts
it, so this one is small."""

STEPS: Mapping[str, tuple[str, ...]] = {
    "inspect": ("cache", "inspection"),
    "inspect_again": (),
    "features": (),
    "search": ("studies", "optuna.db", "mlflow.db", "mlruns"),
    "search_again": (),
    "report": (),
    "load": (),
}
"""The steps in their order, and what one that was stopped may have left: it is removed, and the step made anew."""


def measure_scale(sizes: Sequence[int], *, folder: Path, backbone: str, weights: str, threads: int) -> dict[str, float]:
    """Return the figures of every step at every number of images, and the exponents between one number and the next.

    Args:
        sizes: Numbers of images, multiples of the ten materials.
        folder: Holds the pictures, what the commands leave, and `scale.jsonl`.
        backbone: Its name.
        weights: As in a search.
        threads: Of the commands.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scale.jsonl"
    found: dict[tuple[int, str], dict[str, float]] = {(row.pop("images"), row.pop("step")): row for row in _read(file)}
    for n_images in sorted(sizes):
        place = folder / str(n_images)
        settings = _build_settings(place, backbone=backbone, weights=weights, threads=threads)
        missing = [step for step in STEPS if (n_images, step) not in found]
        if missing:
            _render(n_images, folder=place / "images", threads=threads)
        for step in missing:
            click.echo(f"{n_images} images: {step} ...", err=True)
            figures = _measure_step(step, folder=place, settings=settings)
            found[n_images, step] = figures
            with file.open("a", encoding="utf-8") as results:
                results.write(json.dumps({"images": n_images, "step": step, **figures}) + "\n")
    asked = {
        f"scale.{n_images}.{step}.{name}": value
        for (n_images, step), figures in found.items()
        if n_images in sizes
        for name, value in figures.items()
    }
    return asked | compute_exponents(asked, sizes=sorted(sizes))


def compute_exponents(figures: Mapping[str, float], *, sizes: Sequence[int]) -> dict[str, float]:
    """Return by which power of the number of images each figure grows from one number to the next.

    Args:
        figures: By `scale.SIZE.NAME`.
        sizes: Ascending.
    """
    exponents = {}
    for small, large in pairwise(sizes):
        for key, value in figures.items():
            _, size, name = key.split(".", maxsplit=2)
            at_large = figures.get(f"scale.{large}.{name}", 0.0)
            if size == str(small) and value > 0 and at_large > 0:
                exponents[f"exponent.{small}_{large}.{name}"] = compute_exponent((small, value), (large, at_large))
    return exponents


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def _build_settings(place: Path, *, backbone: str, weights: str, threads: int) -> SearchSettings:
    path = Path(weights)
    return build_settings(
        {
            "data": str((place / "images").absolute()),
            "backbone": backbone,
            "weights": str(path.absolute()) if path.is_file() else weights,
            "tile_px": TILE_PX,
            "augment": "none",
            "learning_rates": "1e-2",
            "batch_sizes": "64",
            "threads": threads,
            "study": STUDY,
            "model_name": MODEL,
        }
    )


def _render(n_images: int, *, folder: Path, threads: int) -> None:
    """Write pictures of every material; those that are there stay."""
    for material in MATERIALS:
        (folder / material.name).mkdir(parents=True, exist_ok=True)
    n_each = n_images // len(MATERIALS)
    with ProcessPoolExecutor(threads) as pool:
        for material in range(len(MATERIALS)):
            list(pool.map(_render_one, repeat(folder, n_each), repeat(material), range(n_each), chunksize=16))


def _render_one(folder: Path, material: int, index: int) -> None:
    chosen = MATERIALS[material]
    file = folder / chosen.name / f"{index:05d}.png"
    if file.exists():
        return
    scan = render_scan(chosen, height_px=SIDE_PX, width_px=SIDE_PX, seed=derive_seed(0, "scale", chosen.name, index))
    partial = file.with_suffix(".partial")
    partial.write_bytes(compute_png(np.rint(scan * 255).astype(np.uint8), text={}))
    partial.rename(file)


def _measure_step(step: str, *, folder: Path, settings: SearchSettings) -> dict[str, float]:
    """Run one step to its end; return its seconds, MiB at its peak, MiB that it left on disk, and figures of its own.

    Raises:
        RuntimeError: It failed; the message is its output's end.
    """
    for name in STEPS[step]:
        left = folder / name
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    before, output = _count_bytes(folder), folder / f"{step}.log"
    with output.open("w", encoding="utf-8") as log:
        begun = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-c", LAUNCHER, sys.executable, "-m", *_list_words(step, settings=settings)],
            cwd=folder,
            env=_build_environment(folder),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - begun
    status, peak_kib = json.loads(ran.stdout)  # as Linux counts
    printed = output.read_text(encoding="utf-8")
    if status:
        raise RuntimeError(printed[-3000:])
    own = json.loads(printed.splitlines()[-1]) if step in OWN_STEPS else {}
    if step == "search":
        own = dict(_iter_training_s(folder, settings=settings))
    return {
        "seconds": seconds,
        "peak_mib": peak_kib / 1024,
        "disk_mib": (_count_bytes(folder) - before) / MIB,
        **own,
    }


def _list_words(step: str, *, settings: SearchSettings) -> list[str]:
    given = settings.model_dump(mode="json", exclude_unset=True)
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", _write(value))]
    words = {
        "inspect": ["inspect", settings.data, "--tile-px", str(TILE_PX)],
        "search": ["search", *options],
        "report": ["report", STUDY, "--new"],
    }
    return (
        ["benchmarks.scale", step, settings.model_dump_json()]
        if step in OWN_STEPS
        else ["sem_search", *words[step.removesuffix("_again")]]
    )


def _write(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _build_environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != RUN_ID_VARIABLE}
    place = folder.absolute()
    project = str(Path(__file__).parents[1])
    return inherited | build_environment(place) | {CACHE_VARIABLE: str(place / "cache"), "PYTHONPATH": project}


def _count_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _iter_training_s(folder: Path, *, settings: SearchSettings) -> Iterator[tuple[str, float]]:
    """Yield, for each cell's head, the seconds in which its folds were trained."""
    store = FoldStore(folder=folder / "studies" / STUDY)
    for cell in order_cells(settings):
        finished = [store.read(cell=cell, fold=fold) for fold in range(settings.folds)]
        yield f"{cell.head}_s", sum(one.outcome.training_s for one in finished if one is not None)


def _measure_features(settings: SearchSettings) -> dict[str, float]:
    """Return the seconds until a search knows its data and network, and those of the features."""
    from sem_search.search.prepare.prepared_search import prepare_search

    begun = time.perf_counter()
    prepared = prepare_search(settings)
    prepared_s = time.perf_counter() - begun
    n_views = len(prepared.views)
    return {"prepare_s": prepared_s, "view_s": (time.perf_counter() - begun - prepared_s) / n_views}


def _measure_load(settings: SearchSettings) -> dict[str, float]:
    """Return the seconds until the champion is loaded, and those of its first answer."""
    import sem_search

    begun = time.perf_counter()
    model = sem_search.load_model(f"models:/{MODEL}/1")
    loaded_s = time.perf_counter() - begun
    model.predict(next(Path(settings.data).rglob("*.png")))
    return {"load_s": loaded_s, "answer_s": time.perf_counter() - begun - loaded_s}


OWN_STEPS = {"features": _measure_features, "load": _measure_load}

if __name__ == "__main__":
    print(json.dumps(OWN_STEPS[sys.argv[1]](SearchSettings.model_validate_json(sys.argv[2]))))
