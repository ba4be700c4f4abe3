"""Scans follow from their numbers, whatever renders them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
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


def test_what_another_renderer_drew_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = compute_digest(SCANS)
    assert digest == compute_digest(SCANS)
    assert digest != compute_digest(replace(SCANS, seed=1))
    draw = scans.render_scan
    monkeypatch.setattr(scans, "render_scan", lambda *given, **options: 0.9 * draw(*given, **options))
    assert digest != compute_digest(SCANS)
