"""Small pictures of micrographs."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sem_search.app.pictures import PictureCache, describe_file, render_file
from sem_search.errors import UnreadableImageError


def write(path: Path, *, height_px: int, width_px: int) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(40, 60, (height_px, width_px), dtype=np.uint8)).save(path)
    return path


SIZES = {(300, 600): (240, 120), (600, 300): (120, 240), (5, 7): (7, 5), (1, 999): (240, 1)}
"""(height, width) of a file, and (width, height) of its picture."""


@pytest.mark.parametrize("shape", SIZES)
def test_the_longer_side_is_reduced_and_nothing_enlarged(tmp_path: Path, shape: tuple[int, int]) -> None:
    file = write(tmp_path / "a.png", height_px=shape[0], width_px=shape[1])
    picture = Image.open(io.BytesIO(render_file(file, side_px=240)))
    assert (picture.size, picture.format) == (SIZES[shape], "JPEG")


def test_contrast_is_stretched(tmp_path: Path) -> None:
    file = write(tmp_path / "a.png", height_px=64, width_px=64)
    picture = np.asarray(Image.open(io.BytesIO(render_file(file, side_px=64))))
    assert picture.max() - picture.min() > 150


def test_what_is_no_picture_is_said_by_its_name_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(UnreadableImageError, match=r"^a\.png: is not an image"):
        render_file(tmp_path / "a.png", side_px=64)


def test_facts_of_a_file(tmp_path: Path) -> None:
    assert describe_file(write(tmp_path / "a.png", height_px=30, width_px=40)) == {
        "width_px": 40,
        "height_px": 30,
        "is_bar_known": False,
        "pixel_size_nm": None,
        "instrument": None,
        "bits": 8,
    }


def test_pictures_are_kept_while_there_is_room() -> None:
    cache, made = PictureCache(most_bytes=10), []

    def get(key: str, size: int) -> bytes:
        def make() -> bytes:
            made.append(key)
            return bytes(size)

        return cache.get(key, make=make)

    for key in ("a", "a", "b", "a", "c", "b"):
        get(key, 4)
    assert made == ["a", "b", "c", "b"], "of three, the one that was not asked for longest gives way"
    get("large", 99)
    get("large", 99)
    assert made.count("large") == 1
    get("a", 4)
    assert made[-1] == "a"
