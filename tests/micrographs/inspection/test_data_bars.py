"""A bar that was left on is measured; scans without one are not accused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from sem_search.micrographs.inspection.data_bars import (
    choose_bar_images,
    compute_bar_height,
    find_data_bars,
    is_even_ground,
)
from sem_search.micrographs.inspection.survey import cut_edges

Make = Callable[..., Any]
REAL_FILES = Path(__file__).parents[4] / "shared" / "data" / "lung_cells_sem"


def make_scan(seed: int, height: int = 240, width: int = 320) -> np.ndarray:
    texture = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 2)
    return np.clip(0.4 + 0.1 * texture / texture.std(), 0, 1).astype(np.float32)


def make_bar(seed: int, height: int, width: int = 320) -> np.ndarray:
    """A frame, names that are always the same, numbers that are not."""
    bar = np.zeros((height, width), dtype=np.float32)
    bar[0], bar[:, 0] = 1, 1
    words, numbers = np.random.default_rng(5), np.random.default_rng(seed)
    bar[4:-4, 20:220] = np.kron(words.integers(0, 2, ((height - 8), 100)), np.ones((1, 2)))
    bar[4:-4, 240:300] = np.kron(numbers.integers(0, 2, ((height - 8), 30)), np.ones((1, 2)))
    return bar


def get_feet(images: list[np.ndarray]) -> list[np.ndarray]:
    return [cut_edges(image).foot for image in images]


@pytest.mark.parametrize("bar_px", [12, 20, 32])
def test_a_bar_is_measured(bar_px: int) -> None:
    images = [np.concatenate((make_scan(seed)[:-bar_px], make_bar(seed, bar_px))) for seed in range(6)]
    assert compute_bar_height(get_feet(images)) == pytest.approx(bar_px, abs=3)


@pytest.mark.parametrize(
    "make",
    [
        make_scan,
        lambda seed: np.full((240, 320), 0.1 * seed, dtype=np.float32),
        lambda seed: make_scan(3),  # all alike: copies, not a bar
        lambda seed: np.concatenate((make_scan(seed)[:-20], make_bar(seed, 20))) if seed < 2 else make_scan(seed),
        lambda seed: np.concatenate((make_scan(seed)[:120], make_bar(seed, 20), make_scan(seed)[:100])),
    ],
    ids=["texture", "even", "copies", "a bar in a third", "a bar in the middle"],
)
def test_scans_without_a_bar_are_not_accused(make: Callable[[int], np.ndarray]) -> None:
    assert compute_bar_height(get_feet([make(seed) for seed in range(6)])) == 0


def make_particle(seed: int, *, noise: float, shade: float) -> np.ndarray:
    """One bright disc about the middle of an even ground that gets brighter to the right."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:240, :320]
    radius_px, top, left = rng.uniform(60, 90), 120 + rng.uniform(-10, 10), 160 + rng.uniform(-10, 10)
    is_disc = np.hypot(rows - top, columns - left) < radius_px
    ground = 0.1 + shade * columns / 320 + noise * rng.normal(size=rows.shape)
    return np.clip(np.where(is_disc, 0.7, ground), 0, 1).astype(np.float32)


@pytest.mark.parametrize(("noise", "shade"), [(0.0, 0.0), (0.01, 0.0), (0.03, 0.3), (0.05, 0.0)])
def test_an_even_ground_is_no_bar(noise: float, shade: float) -> None:
    assert count_bars([make_particle(seed, noise=noise, shade=shade) for seed in range(8)]) == []


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_an_even_ground_hides_no_bar(noise: float) -> None:
    images = [make_particle(seed, noise=noise, shade=0.0) for seed in range(8)]
    assert count_bars([np.concatenate((image[:-24], make_bar(seed, 24))) for seed, image in enumerate(images)])


def count_bars(images: list[np.ndarray]) -> list[int]:
    """Return the height of a bar that is told, if there is one."""
    edges = [cut_edges(image) for image in images]
    feet, heads = [edge.foot for edge in edges], [edge.head for edge in edges]
    height = compute_bar_height(feet)
    return [height] if height >= 4 and not is_even_ground(feet, heads=heads) else []


@pytest.mark.parametrize(("n_images", "n_findings"), [(3, 0), (4, 1)])
def test_the_finding_tells_how_high_and_what_to_do(
    make_record: Make, make_catalogue: Make, n_images: int, n_findings: int
) -> None:
    images = {
        f"sand/{seed}.png": np.concatenate((make_scan(seed)[:-20], make_bar(seed, 20))) for seed in range(n_images)
    }
    images |= {f"salt/{seed}.png": make_scan(seed, 200, 300) for seed in range(5)}
    catalogue = make_catalogue(
        *(make_record(name, height_px=image.shape[0], width_px=image.shape[1]) for name, image in images.items())
    )
    chosen = choose_bar_images(catalogue)
    assert len(chosen) == 5 + (n_images if n_findings else 0)
    findings = find_data_bars(catalogue, {name: cut_edges(images[name]) for name in chosen})
    assert len(findings) == n_findings
    for finding in findings:
        assert (finding.kind, finding.severity) == ("data_bar", "warning")
        assert finding.images == tuple(f"sand/{seed}.png" for seed in range(4))
        assert "look alike in all 4 images of 320 x 240 px" in finding.message
        assert "set crop_bottom_px to its height and inspect again" in finding.message


def test_edges_of_some_different_images_are_enough(make_record: Make, make_catalogue: Make) -> None:
    records = [make_record(f"sand/{i:03}.png", pixels_sha256=str(min(i, 119))) for i in range(200)]
    chosen = choose_bar_images(make_catalogue(*records, make_record("salt/small.png", width_px=100)))
    assert chosen[:3] == ("sand/000.png", "sand/003.png", "sand/006.png")
    assert (len(chosen), chosen[-1]) == (40, "sand/117.png")


@pytest.mark.slow
@pytest.mark.skipif(not REAL_FILES.is_dir(), reason=f"needs the real micrographs in {REAL_FILES}")
def test_the_bar_of_a_real_instrument_is_measured() -> None:
    files = sorted(REAL_FILES.glob("IPDI/*.tif"))[:6]
    scans = [tifffile.imread(file).astype(np.float32) / 65535 for file in files]
    assert compute_bar_height(get_feet(scans)) == pytest.approx(79, abs=2)
    assert compute_bar_height(get_feet([scan[:-79] for scan in scans])) == 0
