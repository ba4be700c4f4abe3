"""What only the pixels tell."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.inspection.survey import (
    FOOT_COLUMNS,
    THUMBNAIL_SIDE_PX,
    build_thumbnail,
    compute_pixel_facts,
    cut_edges,
    survey_pixels,
)
from sem_search.micrographs.reading.options import ReadingOptions


@pytest.mark.parametrize(
    ("levels", "black", "white", "n_levels"),
    [
        (np.arange(100) / 255, 0.01, 0.0, 100),
        (np.full(100, 1.0), 0.0, 1.0, 1),
        (np.full(100, 65280 / 65535), 0.0, 1.0, 1),  # white of 8 bits in 16
        (np.full(100, 254 / 255), 0.0, 0.0, 1),
        (np.arange(100) * 256 / 65535, 0.01, 0.0, 100),
        ((32768 + np.arange(100)) / 65535, 0.0, 0.0, 100),
        (np.repeat([0.0, 1.0], 50), 0.5, 0.5, 2),
    ],
)
def test_clipping_and_levels(levels: np.ndarray, black: float, white: float, n_levels: int) -> None:
    facts = compute_pixel_facts(levels.reshape(10, 10).astype(np.float32))
    assert (facts.black, facts.white, facts.n_levels) == (pytest.approx(black), pytest.approx(white), n_levels)


def test_the_head_is_the_highest_fifth_upside_down() -> None:
    image = np.zeros((100, 300), dtype=np.float32)
    image[:5] = 1
    head = cut_edges(image).head
    assert head.shape == (20, FOOT_COLUMNS)
    assert head[-5:].min() == 255
    assert head[:-5].max() == 0


def test_the_foot_is_the_lowest_fifth_with_all_its_rows() -> None:
    image = np.zeros((100, 300), dtype=np.float32)
    image[85:, 150:] = 1
    foot = cut_edges(image).foot
    assert foot.shape == (20, FOOT_COLUMNS)
    assert foot[4].max() == 0
    assert foot[5, -1] == 255
    assert foot[5, 0] == 0


@pytest.mark.parametrize(("shape", "size"), [((480, 960), (360, 180)), ((50, 40), (40, 50)), ((3000, 10), (1, 360))])
def test_thumbnails_are_small_and_stretched(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = 0.4 + 0.05 * np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    thumbnail = Image.open(io.BytesIO(build_thumbnail(image)))
    assert thumbnail.size == size
    assert max(thumbnail.size) <= THUMBNAIL_SIDE_PX
    low, high = thumbnail.getextrema()
    assert isinstance(low, int | float)
    assert low < 20
    assert high > 235


def test_all_images_are_surveyed_without_their_bar(tmp_path: Path) -> None:
    for label in ("salt", "sand"):
        (tmp_path / label).mkdir()
        for number in range(2):
            pixels = np.full((40, 40), 100 + number, dtype=np.uint8)
            pixels[30:] = 255
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    catalogue = read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=16))
    assert [facts.white for facts in survey_pixels(catalogue).facts.values()] == [0.25] * 4
    catalogue = read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=16, crop_bottom_px=10))
    cut = survey_pixels(catalogue, edges_of=["sand/0.png"], shown=["sand/1.png", "salt/1.png"])
    assert list(cut.facts) == [record.image_id for record in catalogue.records]
    assert [facts.white for facts in cut.facts.values()] == [0.0] * 4
    assert list(cut.edges) == ["sand/0.png"], "of twenty thousand images only those asked for are kept"
    assert list(cut.thumbnails) == ["salt/1.png", "sand/1.png"]
