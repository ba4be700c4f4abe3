"""All pairs of one place are found in a folder, and only they; groups are joined along them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter

from sem_search.errors import DataError, SemSearchWarning, UnreadableImageError
from sem_search.micrographs import threads
from sem_search.micrographs.catalogue import read_catalogue
from sem_search.micrographs.overlaps import candidates, similarity
from sem_search.micrographs.overlaps.similarity import (
    SimilarPair,
    find_copies,
    find_similar_pairs,
    group_similar,
)
from sem_search.micrographs.overlaps.similarity import _find_stage_partners as find_stage_partners
from sem_search.micrographs.overlaps.store import STORE_FILE
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


def write_fei(path: Path, pixels: np.ndarray, *, pixel_size_m: float, stage: str = "") -> None:
    height, width = pixels.shape
    tag = (
        f"[Stage]\r\n{stage}\r\n"
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


@pytest.mark.parametrize(("is_mirrored", "turn_deg"), [(m, deg) for m in (False, True) for deg in (0, 90, 180, 270)])
@pytest.mark.parametrize("few_images", [0, 100])
def test_turned_and_mirrored_fields_are_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, few_images: int, is_mirrored: bool, turn_deg: int
) -> None:
    monkeypatch.setattr(similarity, "FEW_IMAGES", few_images)
    ground = make_ground(77, HEIGHT + 40, WIDTH + 100)
    save(folder / "salt" / "a.png", take(ground[:HEIGHT, :WIDTH], 11))
    seen = np.rot90(take(ground[40:, 100:], 12), -turn_deg // 90)
    save(folder / "sand" / "b.png", np.ascontiguousarray(seen[:, ::-1] if is_mirrored else seen))
    (pair,) = find(folder)
    assert (pair.first, pair.second, pair.kind) == ("salt/a.png", "sand/b.png", "overlapping")
    assert (pair.is_mirrored, pair.turn_deg) == (is_mirrored, turn_deg)
    assert pair.shift_px == (pytest.approx(40, abs=2), pytest.approx(100, abs=2))
    assert pair.overlap == pytest.approx((1 - 40 / HEIGHT) * (1 - 100 / WIDTH), abs=0.02)


def test_the_first_of_copies_overlaps_for_all(folder: Path) -> None:
    """The copies stand before and after the other field, in both classes."""
    ground = make_ground(77, HEIGHT + 40, WIDTH + 100)
    save(folder / "salt" / "m.png", take(ground[:HEIGHT, :WIDTH], 11))
    for name in ("salt/a.png", "salt/z.png", "sand/z.png"):
        save(folder / name, take(ground[40:, 100:], 12))
    catalogue = read_catalogue(folder, reading=ReadingOptions(min_side_px=48))
    pairs = find_similar_pairs(catalogue)
    assert [(pair.first, pair.second, pair.kind) for pair in pairs] == [
        ("salt/a.png", "salt/m.png", "overlapping"),
        ("salt/a.png", "salt/z.png", "identical_file"),
        ("salt/a.png", "sand/z.png", "identical_file"),
    ]
    group_of = {record.image_id: record.group for record in group_similar(catalogue, pairs).records}
    assert len({group_of[name] for name in ("salt/a.png", "salt/m.png", "salt/z.png", "sand/z.png")}) == 1


def test_copies_are_paired_with_the_first_of_them(make_record: Make, make_catalogue: Make) -> None:
    catalogue = make_catalogue(*(make_record(f"{n:04}", pixels_sha256="black") for n in range(1000)))
    pairs = find_copies(catalogue)
    assert [(pair.first, pair.second) for pair in pairs] == [("0000", f"{n:04}") for n in range(1, 1000)]


def find_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[SimilarPair]:
    """Find pairs as in a folder of more than FEW_IMAGES."""
    monkeypatch.setattr(similarity, "FEW_IMAGES", 0)
    return find(folder)


@pytest.fixture
def count_calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count how often images are read for points and pairs are registered."""
    n_calls = {"find_points": 0, "register": 0}

    def count(name: str) -> Callable[..., Any]:
        call = getattr(similarity, name)

        def counted(*args: Any, **options: Any) -> Any:
            n_calls[name] += 1
            return call(*args, **options)

        return counted

    for name in n_calls:
        monkeypatch.setattr(similarity, name, count(name))
    return n_calls


def write_series(folder: Path, numbers: range) -> None:
    """Write fields of which each overlaps with the next by two thirds."""
    ground = make_ground(9, HEIGHT, WIDTH + 90 * 8)
    for number in numbers:
        save(
            folder / ("salt", "sand")[number % 2] / f"s{number}.png", take(ground[:, 90 * number :][:, :WIDTH], number)
        )


def test_a_long_series_of_two_fields_is_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture has more neighbours of its own field than it may have partners."""
    monkeypatch.setattr(similarity, "FEW_IMAGES", 0)
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 2)
    ground = make_ground(9, HEIGHT, WIDTH + 150)
    for number in range(12):
        field = ground[:, 150 * (number % 2) :][:, :WIDTH]
        save(tmp_path / ("salt", "sand")[number % 2] / f"{number:02}.png", take(field, number))
    catalogue = read_catalogue(tmp_path, reading=ReadingOptions(min_side_px=48))
    grouped = group_similar(catalogue, find_similar_pairs(catalogue))
    assert len({record.group for record in grouped.records}) == 1


def test_overlaps_of_pictures_of_a_rarer_kind_are_found_among_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small pictures with another pixel size than most."""
    for label in ("salt", "sand"):
        (tmp_path / label).mkdir()
    for number in range(6):
        write_fei(tmp_path / "sand" / f"{number}.tif", take(make_ground(number), number), pixel_size_m=1e-8)
    ground = make_ground(77, HEIGHT, WIDTH + 100)
    for name, field in (("y", ground[:, :WIDTH]), ("z", ground[:, 100:])):
        write_fei(tmp_path / "salt" / f"{name}.tif", take(field, ord(name)), pixel_size_m=1.3e-8)
    assert [(pair.first, pair.second) for pair in find_many(tmp_path, monkeypatch)] == [("salt/y.tif", "salt/z.tif")]


def test_what_is_known_is_not_computed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count_calls: dict[str, int]
) -> None:
    write_series(folder, range(4))
    first = find_many(folder, monkeypatch)
    assert count_calls["find_points"] == 8
    n_registered = count_calls["register"]
    assert n_registered >= len(first) >= 3
    assert find_many(folder, monkeypatch) == first
    assert count_calls == {"find_points": 8, "register": n_registered}
    write_series(folder, range(4, 5))
    more = find_many(folder, monkeypatch)
    assert set(first) < set(more)
    assert count_calls["find_points"] == 9
    assert 0 < count_calls["register"] - n_registered <= 4, "only pairs of the new image"


def test_what_is_kept_changes_no_result(folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(folder, range(4))
    find_many(folder, monkeypatch)
    write_series(folder, range(4, 7))
    grown = find_many(folder, monkeypatch)
    (cache_folder / STORE_FILE).unlink()
    assert find_many(folder, monkeypatch) == grown


def test_damaged_and_absent_caches_change_no_result(
    folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(folder, range(3))
    pairs = find_many(folder, monkeypatch)
    (cache_folder / STORE_FILE).write_bytes(b"no database" * 1000)
    with pytest.warns(SemSearchWarning, match="was damaged"):
        assert find_many(folder, monkeypatch) == pairs
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(folder / "salt" / "0.png" / "cache"))
    with pytest.warns(SemSearchWarning, match="cannot be used"):
        assert find_many(folder, monkeypatch) == pairs


def test_the_number_of_threads_changes_no_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(folder, range(4))
    found = []
    for n_threads in (1, 4):
        monkeypatch.setattr(threads, "count_threads", lambda n=n_threads: n)
        monkeypatch.setenv("SEM_SEARCH_CACHE", str(folder.parent / f"cache {n_threads}"))
        found.append(find_many(folder, monkeypatch))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("place", "is_tried"),
    [
        ("StageX=0.001\r\nStageY=0.002\r\nStageR=0", True),
        ("StageX=0.0010015\r\nStageY=0.002\r\nStageR=0.01", True),
        ("StageX=0.0011\r\nStageY=0.002\r\nStageR=0", False),
        ("StageX=0.001\r\nStageY=0.002\r\nStageR=1.5", False),
        ("StageX=0.001\r\nStageY=0.002\r\nStageR=6.2815", True),
        ("StageX=0.001\r\nStageY=0.002\r\nStageR=3.1416", False),
        ("", False),
    ],
)
def test_neighbours_on_the_stage_are_registered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count_calls: dict[str, int],
    place: str,
    is_tried: bool,
) -> None:
    stages = {"salt": "StageX=0.001\r\nStageY=0.002\r\nStageR=0", "sand": place}
    for seed, (name, stage) in enumerate(stages.items()):
        (tmp_path / name).mkdir()
        write_fei(tmp_path / name / "a.tif", take(make_ground(seed), seed), pixel_size_m=1e-8, stage=stage)
    assert find_many(tmp_path, monkeypatch) == []
    assert count_calls["register"] == is_tried


def test_each_has_its_nearest_on_the_stage_as_partners(make_record: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a row whose gaps grow, the nearest are those before; all fields are wider than the row."""
    monkeypatch.setattr(similarity, "MAX_STAGE_PARTNERS", 2)
    records = [make_record(f"{n:02}", stage=(2.0**n, 2.0, 0.0), pixel_size_nm=1e6) for n in range(8)]
    assert find_stage_partners(records) == {(0, 1), (0, 2), (1, 2), *((n - k, n) for n in range(3, 8) for k in (1, 2))}
    assert find_stage_partners(records[:1]) == set()


def test_rotations_are_compared_on_the_circle(make_record: Make) -> None:
    records = [make_record(f"{n}", stage=(1.0, 2.0, angle), pixel_size_nm=1.0) for n, angle in enumerate((359.9, 0.1))]
    assert find_stage_partners(records) == {(0, 1)}


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
