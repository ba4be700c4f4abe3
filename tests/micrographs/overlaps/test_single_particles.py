"""One round particle in each picture is a usual kind of data: no two of them show the same place."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.overlaps import iter_particles
from benchmarks.single_particles import FORMS, SIDES_PX, render_particle
from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.inspection.inspect import inspect_catalogue
from sem_search.micrographs.overlaps.registration import Scene, build_scene, register
from sem_search.micrographs.reading.options import ReadingOptions

N_PICTURES = 16


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
    catalogue = read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=64))
    widths = {record.width_px for record in catalogue.records}
    assert len(catalogue.records) == 20
    assert max(widths) > 2 * min(widths)
    assert min(SIDES_PX) <= min(widths) <= max(widths) <= max(SIDES_PX)
    assert inspect_catalogue(catalogue, n_folds=3).pairs == ()


@pytest.mark.parametrize(("side_px", "n_discs", "seed"), [(150, 8, 3), (256, 8, 264), (256, 15, 271)])
def test_small_pictures_of_a_few_discs_have_nothing_in_common(side_px: int, n_discs: int, seed: int) -> None:
    """Corners with one or two discs in them: of 120 pairs each, 2, 2 and 2 counted as one place."""
    scenes = tuple(iter_discs(side_px=side_px, n_discs=n_discs, seed=seed))
    found = [register(*pair) for pair in combinations(scenes, 2)]
    assert sum(one is not None and one.is_match for one in found) == 0


def iter_discs(*, side_px: int, n_discs: int, seed: int) -> Iterator[Scene]:
    """Yield pictures of even discs on even ground with fresh noise, drawn independently."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side_px, :side_px]
    for _ in range(N_PICTURES):
        grey = rng.normal(60, 8, (side_px, side_px))
        for _ in range(n_discs):
            row, column, radius = rng.integers(side_px), rng.integers(side_px), rng.integers(8, 40)
            grey[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] += rng.integers(40, 120)
        yield build_scene((np.clip(grey, 0, 255) / 255).astype(np.float32))


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
