"""One round particle in each picture is a usual kind of data: no two of them show the same place."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.overlaps import iter_particles
from benchmarks.single_particles import FORMS, SIDES_PX, render_particle
from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.inspection.inspect import inspect_catalogue
from sem_search.micrographs.overlaps.registration import build_scene, register


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_one_bright_particle_on_even_ground(form: str) -> None:
    picture = render_particle(form, side_px=160, seed=1).astype(float)
    height, width = picture.shape
    corner = picture[:12, :12]
    middle = picture[height // 3 : -height // 3, width // 3 : -width // 3]
    assert width == 160
    assert middle.mean() > corner.mean() + 2 * corner.std()
    assert (render_particle(form, side_px=160, seed=1) == picture).all()
    assert (
        render_particle(form, side_px=160, seed=2).shape != picture.shape
        or (render_particle(form, side_px=160, seed=2) != picture).any()
    )


def test_ten_forms_in_all_sizes_have_nothing_in_common(tmp_path: Path) -> None:
    """Of these 190 pairs, 29 counted as one place while only chance at other shifts was looked at."""
    for number, picture in enumerate(iter_particles(n_per_form=2)):
        file = tmp_path / list(FORMS)[number // 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.round(255 * picture).astype(np.uint8)).save(file)
    catalogue = read_catalogue(tmp_path, min_side_px=64)
    widths = {record.width_px for record in catalogue.records}
    assert len(catalogue.records) == 20
    assert max(widths) > 2 * min(widths)
    assert min(SIDES_PX) <= min(widths) <= max(widths) <= max(SIDES_PX)
    assert inspect_catalogue(catalogue, n_folds=3).pairs == ()


@pytest.mark.parametrize("form", ["granular", "netted", "furrowed"])
def test_the_same_particle_in_a_second_scan_is_found(form: str) -> None:
    picture = render_particle(form, side_px=400, seed=4) / 255
    rng = np.random.default_rng(0)
    first, second = (
        build_scene(np.clip(part + rng.normal(scale=0.02, size=part.shape), 0, 1).astype(np.float32))
        for part in (picture[:-60, :-40], picture[60:, 40:])
    )
    found = register(first, second)
    assert found is not None
    assert found.is_match
    assert (found.row_px, found.column_px) == (pytest.approx(60, abs=3), pytest.approx(40, abs=3))
