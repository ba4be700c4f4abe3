"""All pairs of one place are found in a folder, and only they; groups are joined along them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from sem_search.errors import DataError, UnreadableImageError
from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.overlaps.similarity import (
    SimilarPair,
    find_copies,
    find_similar_pairs,
    group_similar,
)
from sem_search.micrographs.reading.options import ReadingOptions

Make = Callable[..., Any]
HEIGHT, WIDTH = 180, 260


def make_ground(seed: int, height: int = HEIGHT, width: int = WIDTH, *, grain_px: float = 1.5) -> np.ndarray:
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), grain_px)
    return np.clip(120 + 30 * texture / texture.std(), 0, 255)


def take(ground: np.ndarray, seed: int) -> np.ndarray:
    """Scan a place with noise of its own."""
    noisy = ground + np.random.default_rng(seed).normal(scale=8, size=ground.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def find(folder: Path, **settings: Any) -> list[SimilarPair]:
    return list(find_similar_pairs(read_catalogue(folder, reading=ReadingOptions(min_side_px=48, **settings))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of two different fields each."""
    for number in range(4):
        save(tmp_path / "data" / ("salt", "sand")[number % 2] / f"{number}.png", take(make_ground(number), number))
    return tmp_path / "data"


def test_different_fields_are_no_pairs(folder: Path) -> None:
    assert find(folder) == []


def test_the_same_bytes_and_the_same_pixels_are_told_apart(folder: Path) -> None:
    (folder / "sand" / "copy.png").write_bytes((folder / "salt" / "0.png").read_bytes())
    Image.open(folder / "salt" / "0.png").save(folder / "sand" / "other.bmp")
    pairs = find(folder)
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        ("salt/0.png", "sand/copy.png", "identical_file"),
        ("salt/0.png", "sand/other.bmp", "identical_pixels"),
        ("sand/copy.png", "sand/other.bmp", "identical_pixels"),
    ]
    assert all((pair.overlap, pair.shift_px, pair.correlation) == (1.0, (0, 0), 1.0) for pair in pairs)
    assert find_copies(read_catalogue(folder, reading=ReadingOptions(min_side_px=48))) == tuple(pairs)


def test_8_bits_in_16_are_the_same_pixels(folder: Path) -> None:
    levels = np.asarray(Image.open(folder / "salt" / "0.png")).astype(np.uint16)
    tifffile.imwrite(folder / "salt" / "full.tif", levels * 257)
    (pair,) = find(folder)
    assert (pair.first, pair.second, pair.kind) == ("salt/0.png", "salt/full.tif", "identical_pixels")


@pytest.mark.parametrize(
    "change",
    [
        lambda grey: (grey // 2).astype(np.uint8),
        lambda grey: np.clip(grey * 1.3 + 20, 0, 255).astype(np.uint8),
        lambda grey: (255 * (grey / 255) ** 0.6).astype(np.uint8),
        lambda grey: grey.astype(np.uint16) * 256,
        lambda grey: grey.astype(np.uint16) * 16 + 300,
        lambda grey: np.asarray(Image.fromarray(grey).resize((WIDTH * 2 // 3, HEIGHT * 2 // 3))),
        lambda grey: np.repeat(grey[:, :, None], 3, axis=2),
    ],
    ids=["darker", "brighter", "gamma", "16 bits", "12 bits in 16", "smaller", "colour"],
)
def test_the_same_field_saved_otherwise_is_found(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = change(np.asarray(Image.open(folder / "salt" / "0.png")))
    tifffile.imwrite(folder / "sand" / "again.tif", pixels)
    (pair,) = find(folder)
    assert (pair.first, pair.second) == ("salt/0.png", "sand/again.tif")
    assert pair.overlap > 0.98
    assert pair.correlation > 0.8
    assert pair.shift_px is not None
    assert max(map(abs, pair.shift_px)) <= 1
    assert pair.scale == pytest.approx(WIDTH / pixels.shape[1], rel=0.01)


def test_jpeg_copies_are_found(folder: Path) -> None:
    Image.open(folder / "salt" / "0.png").save(folder / "salt" / "copy.jpg", quality=60)
    (pair,) = find(folder)
    assert (pair.first, pair.second, pair.kind) == ("salt/0.png", "salt/copy.jpg", "overlapping")


def test_a_shifted_field_is_found_with_shift_and_overlap(folder: Path) -> None:
    ground = make_ground(77, HEIGHT + 40, WIDTH + 100)
    save(folder / "salt" / "a.png", take(ground[:HEIGHT, :WIDTH], 11))
    save(folder / "sand" / "b.png", take(ground[40:, 100:], 12))
    (pair,) = find(folder)
    assert (pair.first, pair.second, pair.kind) == ("salt/a.png", "sand/b.png", "overlapping")
    assert pair.shift_px == (pytest.approx(40, abs=2), pytest.approx(100, abs=2))
    assert pair.overlap == pytest.approx((1 - 40 / HEIGHT) * (1 - 100 / WIDTH), abs=0.02)


def write_fei(path: Path, pixels: np.ndarray, *, pixel_size_m: float) -> None:
    height, width = pixels.shape
    tag = (
        f"[Scan]\r\nPixelWidth={pixel_size_m}\r\nPixelHeight={pixel_size_m}\r\n"
        f"[Image]\r\nResolutionX={width}\r\nResolutionY={height}\r\n"
    )
    tifffile.imwrite(path, pixels, extratags=[(34682, "s", 0, tag, True)])


def test_magnification_is_followed_where_the_files_tell_it(folder: Path) -> None:
    ground = make_ground(5, 3 * HEIGHT, 3 * WIDTH, grain_px=4.0)
    far = np.asarray(Image.fromarray(ground.astype(np.float32)).resize((WIDTH, HEIGHT), Image.Resampling.BOX))
    write_fei(folder / "salt" / "far.tif", take(far, 11), pixel_size_m=3e-8)
    write_fei(folder / "salt" / "near.tif", take(ground[150:330, 240:500], 12), pixel_size_m=1e-8)
    (pair,) = find(folder)
    assert (pair.first, pair.second) == ("salt/far.tif", "salt/near.tif")
    assert pair.scale == pytest.approx(1 / 3)
    assert pair.overlap > 0.95
    assert pair.shift_px == (pytest.approx(50, abs=2), pytest.approx(80, abs=2))


def test_data_bars_make_no_pairs_whether_cut_or_not(tmp_path: Path) -> None:
    bar = np.zeros((20, WIDTH), dtype=np.uint8)
    bar[4:16, 10:200:3] = 255
    bar[9, :] = 200
    for number in range(6):
        scan = take(make_ground(number), number)
        save(tmp_path / ("salt", "sand")[number % 2] / f"{number}.png", np.concatenate((scan, bar)))
    assert find(tmp_path) == []
    assert find(tmp_path, crop_bottom_px=20) == []


def test_all_pairs_are_found_once(tmp_path: Path) -> None:
    n_images = 12
    ground = make_ground(9, 100, 120 + 2 * n_images)
    for number in range(n_images):
        save(
            tmp_path / ("salt", "sand")[number % 2] / f"{number:02}.png", take(ground[:, 2 * number :][:, :120], number)
        )
    pairs = find(tmp_path)
    assert len(pairs) == n_images * (n_images - 1) // 2
    assert pairs == sorted(pairs, key=lambda pair: (pair.first, pair.second))


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    catalogue = read_catalogue(folder, reading=ReadingOptions(min_side_px=48))
    (folder / "salt" / "0.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"salt/0\.png"):
        find_similar_pairs(catalogue)


def make_pair(first: str, second: str) -> SimilarPair:
    return SimilarPair(first=first, second=second, kind="overlapping", overlap=0.5, shift_px=(0, 9), correlation=0.5)


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        ([], ["a", "b", "c", "d", "e"]),
        ([("b", "c")], ["a", "b", "b", "d", "e"]),
        ([("a", "b"), ("b", "c")], ["a", "a", "a", "d", "e"]),
        ([("c", "e"), ("a", "d")], ["a", "b", "c", "a", "c"]),
        ([("a", "b"), ("c", "d"), ("b", "c"), ("a", "d")], ["a", "a", "a", "a", "e"]),
    ],
)
def test_groups_are_joined_along_pairs(
    make_record: Make, make_catalogue: Make, pairs: list[tuple[str, str]], groups: list[str]
) -> None:
    catalogue = make_catalogue(*(make_record(name) for name in "abcde"))
    grouped = group_similar(catalogue, [make_pair(*ends) for ends in pairs])
    assert [record.group for record in grouped.records] == groups


def test_groups_that_are_given_are_joined_whole(make_record: Make, make_catalogue: Make) -> None:
    given = {"a": "x", "b": "x", "c": "y", "d": "y", "e": "z"}
    catalogue = make_catalogue(*(make_record(name, group=group) for name, group in given.items()))
    grouped = group_similar(catalogue, [make_pair("b", "c")])
    assert [record.group for record in grouped.records] == ["x", "x", "x", "x", "z"]
    assert [record.group for record in catalogue.records] == list(given.values())


def test_pairs_of_other_catalogues_are_refused(make_record: Make, make_catalogue: Make) -> None:
    with pytest.raises(DataError, match="similar images are given for 2 images that are not in the catalogue: b"):
        group_similar(make_catalogue(make_record("a")), [make_pair("b", "c")])
