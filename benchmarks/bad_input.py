"""Files, tables and settings that are wrong, given to the command line: how many were refused as they should be.

Each must end with exit code 2 and a sentence that names it: no stack trace, no waiting, no memory beyond what was set.
"""

import contextlib
import io
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from benchmarks.hostile_reading import read_hostile_images
from benchmarks.hostile_settings import WRONG_SETTINGS
from benchmarks.hostile_tables import WRONG_TABLES

MEMORY_MB = 1024
"""Beyond what the process takes to start; a picture of 100 megapixels needs about as much."""

TABLE_WORDS = ("--tile-px", "32", "--folds", "3", "--backbone", "tiny", "--weights", "random")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """How a command ended."""

    exit_code: int
    printed: str
    errors: str
    took_s: float

    def is_clear(self, *, named: str) -> bool:
        """Tell whether it was refused with exit code 2 and words that name the fault, without a stack trace."""
        return self.exit_code == 2 and named in self.errors and "Traceback" not in self.errors


def measure_bad_input(*, n_images: int, seed: int) -> Mapping[str, float]:
    """Return the figures of all three, by name."""
    images = read_hostile_images(n=n_images, seed=seed, memory_mb=MEMORY_MB, limit_s=20.0 * 60)
    fates = Counter(outcome.fate for outcome in images)
    with tempfile.TemporaryDirectory() as name:
        folder = build_playground(Path(name))
        tables = [
            call_with_table(content, folder=folder).is_clear(named=named) for content, named in WRONG_TABLES.values()
        ]
        settings = [call_search(words.split(), folder=folder).is_clear(named=n) for words, n in list_settings()]
    return {
        "images": len(images),
        "images.refused": fates["refused"],
        "images.read_as_a_picture": fates["read"],
        "images.anything_else": len(images) - fates["refused"] - fates["read"],
        "images.slowest_s": max(outcome.took_s for outcome in images),
        "images.memory_limit_mb": MEMORY_MB,
        "images.largest_growth_mb": max(outcome.grown_mb for outcome in images),
        "tables": len(tables),
        "tables.refused_clearly": sum(tables),
        "settings": len(settings),
        "settings.refused_clearly": sum(settings),
    }


def build_playground(folder: Path) -> Path:
    """Write what the wrong tables and settings speak of, and return the folder."""
    rng = np.random.default_rng(0)
    for name in ("a/1", "a/2", "b/1", *(f"full/{label}/{k}" for label in "xy" for k in range(5))):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "list.csv").write_text("image,label\na/1.png,a\na/2.png,a\nb/1.png,b\n", encoding="utf-8")
    return folder


def list_settings() -> Sequence[tuple[str, str]]:
    """Return the wrong settings that are refused before a network is built, as all but a few are."""
    return [(words, named) for words, named in WRONG_SETTINGS if "--data full" not in words]


def call_with_table(content: bytes, *, folder: Path) -> Refusal:
    """Search with this content in place of the folder's good CSV."""
    table = folder / "list.csv"
    good = table.read_bytes()
    table.write_bytes(content)
    try:
        return call_search(["--data", "list.csv", *TABLE_WORDS], folder=folder)
    finally:
        table.write_bytes(good)


def call_search(words: Sequence[str], *, folder: Path) -> Refusal:
    """Start a search in this process, with the command line's own way of ending."""
    from sem_search.cli import main as cli

    printed, errors, begun_s = io.StringIO(), io.StringIO(), time.perf_counter()
    exit_code: int | str | None = 0
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", ["sem-search", "search", *words]),
        mock.patch("signal.signal"),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        try:
            cli.main()
        except SystemExit as end:
            exit_code = end.code
    return Refusal(
        exit_code=exit_code if isinstance(exit_code, int) else 1,
        printed=printed.getvalue(),
        errors=errors.getvalue(),
        took_s=time.perf_counter() - begun_s,
    )
