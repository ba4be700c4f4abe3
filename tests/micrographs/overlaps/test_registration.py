"""Pictures of one place are found at any brightness, shift and known magnification; nothing else is."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sem_search.micrographs.overlaps.registration import (
    KEPT_SIDE_PX,
    MIN_SIDE_PX,
    Registration,
    Scene,
    build_plane,
    build_scene,
    register,
)

Picture = NDArray[np.float32]
HEIGHT, WIDTH = 220, 320


def make_ground(seed: int, height: int, width: int, *, grain_px: float = 2.0) -> Picture:
    rng = np.random.default_rng(seed)
    texture = gaussian_filter(rng.normal(size=(height, width)), grain_px)
    return (0.5 + 0.12 * texture / texture.std()).astype(np.float32)


def take(ground: Picture, seed: int, *, noise: float = 0.05, gamma: float = 1.0, gain: float = 1.0) -> Scene:
    """Scan a place: noise of its own, other brightness, a shading across the field."""
    rng = np.random.default_rng(seed)
    shading = 0.1 * rng.normal() * np.linspace(-1, 1, ground.shape[1])
    seen = gain * np.clip(ground, 0, 1) ** gamma + shading + noise * rng.normal(size=ground.shape)
    return build_scene(np.clip(seen, 0, 1).astype(np.float32))


def look(first: Scene, second: Scene, *, scale: float = 1.0) -> Registration:
    found = register(first, second, scale=scale)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("down", "right"), [(0, 0), (30, 40), (110, 0), (0, 200), (-30, 60), (40, -60), (-110, -100), (130, 180)]
)
def test_the_shift_is_found(down: int, right: int) -> None:
    ground = make_ground(1, HEIGHT + 130, WIDTH + 200)
    top, left = max(0, -down), max(0, -right)
    first = take(ground[top : top + HEIGHT, left : left + WIDTH], 2)
    second = take(ground[top + down :, left + right :][:HEIGHT, :WIDTH], 3, gamma=1.6, gain=0.6)
    found = look(first, second)
    assert found.is_match
    assert (found.row_px, found.column_px) == (pytest.approx(down, abs=2), pytest.approx(right, abs=2))
    assert found.overlap == pytest.approx((1 - abs(down) / HEIGHT) * (1 - abs(right) / WIDTH), abs=0.02)
    assert 0.3 < found.correlation < 1


@pytest.mark.parametrize("overlap", [0.5, 0.3, 0.2, 0.15])
def test_overlaps_down_to_15_per_cent_are_found(overlap: float) -> None:
    n_found = 0
    for seed in range(6):
        share = np.random.default_rng(seed).uniform(overlap, 1)
        down, right = round(HEIGHT * (1 - share)), round(WIDTH * (1 - overlap / share))
        ground = make_ground(10 + seed, HEIGHT + down, WIDTH + right)
        found = register(take(ground[:HEIGHT, :WIDTH], seed), take(ground[down:, right:], 100 + seed))
        n_found += found is not None and found.is_match
    assert n_found == 6


@pytest.mark.parametrize("zoom", [1.25, 3.0, 7.0])
def test_one_field_at_two_magnifications_is_found(zoom: float) -> None:
    ground = make_ground(5, 900, 1200, grain_px=2.5)
    height, width, top, left = round(900 / zoom), round(1200 / zoom), 50, 70
    near = np.kron(ground[top : top + height, left : left + width], np.ones((2, 2)))[:, : 2 * width]
    scale = 2.0  # the near picture has two pixels where the far one has one
    found = look(take(near.astype(np.float32), 1), take(ground, 2, gamma=1.4), scale=scale)
    assert found.is_match
    assert found.overlap > 0.9
    assert found.row_px == pytest.approx(-top * scale, abs=10)
    assert found.column_px == pytest.approx(-left * scale, abs=10)
    assert not look_or_none(take(near.astype(np.float32), 1), take(ground, 2), scale=1.0)


def look_or_none(first: Scene, second: Scene, *, scale: float = 1.0) -> bool:
    found = register(first, second, scale=scale)
    return found is not None and found.is_match


def test_fields_too_unlike_in_size_are_not_compared() -> None:
    scenes = [take(make_ground(seed, HEIGHT, WIDTH), seed) for seed in (1, 2)]
    assert register(*scenes, scale=1.01 * HEIGHT / MIN_SIDE_PX) is None
    assert register(*scenes, scale=0.99 * MIN_SIDE_PX / HEIGHT) is None


def make_lattice(seed: int) -> Picture:
    row, column = np.random.default_rng(seed).uniform(0, 20, 2)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    holes = np.cos(2 * np.pi * (rows + row) / 20) + np.cos(2 * np.pi * (columns + column) / 20)
    return (0.5 + 0.1 * holes).astype(np.float32)


def make_stripes(seed: int) -> Picture:
    stripes = gaussian_filter(np.random.default_rng(seed).normal(size=(HEIGHT, 1)), (1.5, 0))
    return np.repeat(0.5 + 0.2 * stripes, WIDTH, axis=1).astype(np.float32)


def make_sphere(seed: int) -> Picture:
    row, column = np.random.default_rng(seed).uniform(0.35, 0.65, 2) * (HEIGHT, WIDTH)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot(rows - row, columns - column) / 40
    return (0.3 + np.where(radius < 1, 0.1 + 0.4 * radius**6, 0)).astype(np.float32)


def make_ramp(seed: int) -> Picture:
    return (0.5 + 0.3 * np.linspace(-1, 1, WIDTH) * np.ones((HEIGHT, 1))).astype(np.float32)


def make_even(seed: int) -> Picture:
    return np.full((HEIGHT, WIDTH), 0.5, dtype=np.float32)


def make_barred(seed: int) -> Picture:
    """Two bars that are alike to the last pixel, below different fields: the hardest case."""
    picture = make_ground(seed, HEIGHT, WIDTH)
    text = make_ground(999, HEIGHT // 12, WIDTH, grain_px=1.0) > 0.55
    picture[-len(text) :] = text
    return picture


def make_labelled(seed: int) -> Picture:
    picture = make_ground(seed, HEIGHT, WIDTH)
    picture[10:40, 10:70] = make_ground(998, 30, 60, grain_px=1.0) > 0.55
    return picture


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: make_ground(seed, HEIGHT, WIDTH),
        make_lattice,
        make_stripes,
        make_sphere,
        make_ramp,
        make_even,
        make_barred,
        make_labelled,
    ],
    ids=["texture", "lattice", "stripes", "one sphere", "ramp", "even grey", "data bar", "label"],
)
@pytest.mark.parametrize("noise", [0.01, 0.08])
def test_pictures_of_different_places_are_no_match(make: object, noise: float) -> None:
    scenes = [take(make(seed), 50 + seed, noise=noise) for seed in range(5)]  # type: ignore[operator]
    planes: dict[tuple[int, tuple[int, int]], object] = {}

    def get_plane(scene: Scene, shape: tuple[int, int]):  # type: ignore[no-untyped-def]
        return planes.setdefault((id(scene), shape), build_plane(scene, shape))

    found = [register(a, b, get_plane=get_plane) for i, a in enumerate(scenes) for b in scenes[:i]]
    assert not [registration for registration in found if registration is not None and registration.is_match]


def test_constant_pictures_are_no_match_and_no_error() -> None:
    even = build_scene(np.full((HEIGHT, WIDTH), 0.3, dtype=np.float32))
    assert register(even, even) is None


def test_what_is_kept_is_small_and_stretched() -> None:
    scene = build_scene(0.4 + 0.01 * make_ground(1, 1500, 2048))
    assert scene.pixels.shape == (750, KEPT_SIDE_PX)
    assert scene.step_px == 2.0
    assert (scene.height_px, scene.width_px) == (1500, 2048)
    assert scene.pixels.min() == 0
    assert scene.pixels.max() == 255


def test_registering_is_symmetric() -> None:
    ground = make_ground(3, HEIGHT + 60, WIDTH + 90)
    first, second = take(ground[:HEIGHT, :WIDTH], 1), take(ground[60:, 90:], 2)
    there, back = look(first, second), look(second, first)
    assert (there.row_px, there.column_px) == (-back.row_px, -back.column_px)
    assert there.sharpness == pytest.approx(back.sharpness, rel=1e-3)
    assert there.correlation == pytest.approx(back.correlation, abs=0.01)
