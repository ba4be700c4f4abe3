"""How many overlaps are found where there are some, and how many are seen where there are none."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.single_particles import FORMS, SIDES_PX, render_particle
from sem_search.micrographs.overlaps.registration import Scene, build_scene, register
from sem_search.micrographs.rendering.materials import MATERIALS
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.seeds import derive_seed

Picture = NDArray[np.float32]

SHARES = (0.5, 0.3, 0.2, 0.15, 0.1)
GROUND_PX, FIELD_PX = (720, 960), (380, 500)
NOISE = 0.05


def measure_overlaps(*, n_per_form: int, n_per_share: int) -> dict[str, float]:
    """Return single particles wrongly found to overlap, and the share of true overlaps found, by their area."""
    particles = [build_scene(picture) for picture in iter_particles(n_per_form=n_per_form)]
    pairs = list(combinations(particles, 2))
    n_false = sum(any(_is_match(*pair, scale=scale) for scale in (1.0, _same_field(*pair))) for pair in pairs)
    figures = {"pairs_of_particles": float(len(pairs)), "taken_for_one_place": float(n_false)}
    rng = np.random.default_rng(derive_seed(0, "overlaps"))
    for share in SHARES:
        found = [
            _is_match(*cut_fields(ground, share=share, rng=rng), scale=1.0)
            for ground in _iter_grounds()
            for _ in range(n_per_share)
        ]
        figures[f"found_of_{share:.0%}"] = float(np.mean(found))
    return figures


def iter_particles(*, n_per_form: int) -> Iterator[Picture]:
    """Yield single particles of all forms, their sizes spread evenly over the doublings within SIDES_PX."""
    rng = np.random.default_rng(derive_seed(0, "sides"))
    low, high = np.log(SIDES_PX)
    for form in FORMS:
        for number in range(n_per_form):
            side_px = round(float(np.exp(rng.uniform(low, high))))
            yield (render_particle(form, side_px=side_px, seed=number) / 255).astype(np.float32)


def cut_fields(ground: Picture, *, share: float, rng: np.random.Generator) -> tuple[Scene, Scene]:
    """Return two fields that have this share of their area in common, each exposed anew."""
    height, width = FIELD_PX
    rows = rng.uniform(share, 1)
    down, right = round(height * (1 - rows)), round(width * (1 - share / rows))
    first = ground[:height, :width]
    second = ground[down : down + height, right : right + width]
    return _expose(first, rng), _expose(second, rng)


def _expose(field: Picture, rng: np.random.Generator) -> Scene:
    """Return a field with blur, gamma, brightness, shading and noise of its own."""
    grey = np.clip(gaussian_filter(field, rng.uniform(0, 1)), 0, 1) ** rng.uniform(0.6, 1.6)
    shading = 0.1 * rng.normal() * np.linspace(-1, 1, grey.shape[1])
    grey = rng.uniform(0.6, 1) * grey + shading + NOISE * rng.normal(size=grey.shape)
    return build_scene(np.clip(grey, 0, 1).astype(np.float32))


def _iter_grounds() -> Iterator[Picture]:
    height_px, width_px = GROUND_PX
    return (render_scan(material, height_px=height_px, width_px=width_px, seed=100) for material in MATERIALS)


def _same_field(first: Scene, second: Scene) -> float:
    """Return the scale at which two pictures of unlike size are one field."""
    return first.width_px / second.width_px


def _is_match(first: Scene, second: Scene, *, scale: float) -> bool:
    found = register(first, second, scale=scale)
    return found is not None and found.is_match
