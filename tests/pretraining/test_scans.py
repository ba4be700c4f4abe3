"""Scans follow from their numbers, whatever renders them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import numpy as np
import psutil
import pytest

from pretraining import scans
from pretraining.scans import compute_digest, open_scans, render_scans
from tests.pretraining.recipes import SCANS


def test_scans_are_renewed_and_follow_from_their_numbers(tmp_path: Path) -> None:
    with open_scans(tmp_path, recipe=SCANS, n_processes=1) as pool:
        for number, indices in ((0, [0, 1, 2, 3, 4, 5]), (1, [6, 7, 2, 3, 4, 5])):
            pool.begin_rendering(round_number=number)
            came = sum(pool.finish_rendering())
            assert pool.indices.tolist() == indices
            assert came == (6 if number == 0 else 2), "what is there is not rendered again"
        pixels, bins = render_scans(np.array([7, 2]), recipe=SCANS)
        np.testing.assert_array_equal(pool.pixels[[1, 2]], pixels)
        np.testing.assert_array_equal(pool.bins[[1, 2]], bins)


def test_another_renderer_has_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = compute_digest(SCANS)
    assert digest == compute_digest(SCANS)
    assert digest != compute_digest(replace(SCANS, seed=1))
    draw = scans.render_scan
    monkeypatch.setattr(scans, "render_scan", lambda *given, **options: 0.9 * draw(*given, **options))
    assert digest != compute_digest(SCANS)


def test_renderers_end_with_a_process_that_was_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from pretraining.scans import ScanRecipe, open_scans
if __name__ == "__main__":
    recipe = ScanRecipe(n_scans=2, n_renewed=1, side_px=64)
    with open_scans(Path({str(tmp_path)!r}), recipe=recipe, n_processes=1) as pool:
        pool.begin_rendering(round_number=0)
        sum(pool.finish_rendering())
        print(*pool.executor._processes, flush=True)
        sys.stdin.read()
"""
    (tmp_path / "begin.py").write_text(code, encoding="utf-8")
    words = [sys.executable, str(tmp_path / "begin.py")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(words, stdin=PIPE, stdout=PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        (renderer,) = (psutil.Process(int(word)) for word in process.stdout.readline().split())
        process.kill()
    psutil.wait_procs([renderer], timeout=20)
    assert not renderer.is_running() or renderer.status() == psutil.STATUS_ZOMBIE
