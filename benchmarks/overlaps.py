"""How many overlaps are found where there are some, and how many are seen where there are none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.single_particles import FORMS, SIDES_PX, render_particle
from sem_search.micrographs.overlaps.candidates import find_candidates
from sem_search.micrographs.overlaps.points import find_points
from sem_search.micrographs.overlaps.registration import (
    WORK_SIDE_PX,
    Scene,
    build_plane,
    build_scene,
    register,
    turn_scene,
)
from sem_search.micrographs.overlaps.turns import invert_turn, turn_picture
from sem_search.micrographs.rendering.materials import MATERIALS
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.progress import ProgressMeter
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


def measure_candidates(*, n_per_share: int, noise: float = NOISE) -> dict[str, float]:
    """Return the share of true overlaps found in a set of all, in any order, the second of each turned or mirrored.

    `registered_of` is of the same pairs where all are registered; `candidates` is how many other pairs of the set are
    candidates, for each image.
    """
    overlaps = list(_iter_overlaps(n_per_share=n_per_share, noise=noise))
    is_candidate, n_others = _find_candidates(overlaps)
    is_match = [_is_match(one.first, turn_scene(one.second, one.turn), scale=1.0) for one in overlaps]
    figures = {}
    for share in SHARES:
        at = [number for number, one in enumerate(overlaps) if one.share == share]
        figures[f"registered_of_{share:.0%}"] = float(np.mean([is_match[number] for number in at]))
        figures[f"found_in_set_of_{share:.0%}"] = float(np.mean([is_match[k] and is_candidate[k] for k in at]))
    return figures | {"candidates": n_others / (2 * len(overlaps))}


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Two fields that have a share of their area in common."""

    share: float
    first: Scene
    second: Scene
    turn: int
    """Of the second, so that it lies as the first."""


def _iter_overlaps(*, n_per_share: int, noise: float) -> Iterator[Overlap]:
    """Yield overlaps of all materials; those of one ground lie at its four corners, so that few show one place."""
    rng = np.random.default_rng(derive_seed(0, "overlaps"))
    height_px, width_px = GROUND_PX
    for number, material in product(range(n_per_share), MATERIALS):
        ground = render_scan(material, height_px=height_px, width_px=width_px, seed=100 + number)
        for index, share in enumerate(SHARES):
            first, second = cut_fields(turn_picture(ground, index % 4), share=share, rng=rng, noise=noise)
            turn = int(rng.integers(8))
            yield Overlap(share=share, first=first, second=turn_scene(second, turn), turn=invert_turn(turn))


def _find_candidates(overlaps: Sequence[Overlap]) -> tuple[list[bool], int]:
    """Return which overlaps are candidates, turned as they are, and how many other pairs of the set are."""
    scenes = [scene for one in overlaps for scene in (one.first, one.second)]
    order = np.random.default_rng(0).permutation(len(scenes))  # neighbours in a folder are not to be favoured
    factor = WORK_SIDE_PX / max(FIELD_PX)
    shapes = [(round(scenes[at].height_px * factor), round(scenes[at].width_px * factor)) for at in order]
    points = [find_points(build_plane(scenes[at], shape).values) for at, shape in zip(order, shapes, strict=True)]
    with ProgressMeter("", total=len(scenes), unit="images", is_shown=False) as meter:
        found = {(one.first, one.second, one.turn) for one in find_candidates(points, shapes, meter=meter)}
    places = np.argsort(order).reshape(-1, 2).tolist()
    true = [
        (first, second, one.turn) if first < second else (second, first, invert_turn(one.turn))
        for (first, second), one in zip(places, overlaps, strict=True)
    ]
    return [one in found for one in true], len(found - set(true))


def iter_particles(*, n_per_form: int) -> Iterator[Picture]:
    """Yield single particles of all forms, their sizes spread evenly over the doublings within SIDES_PX."""
    rng = np.random.default_rng(derive_seed(0, "sides"))
    low, high = np.log(SIDES_PX)
    for form in FORMS:
        for number in range(n_per_form):
            side_px = round(float(np.exp(rng.uniform(low, high))))
            yield (render_particle(form, side_px=side_px, seed=number) / 255).astype(np.float32)


def cut_fields(ground: Picture, *, share: float, rng: np.random.Generator, noise: float = NOISE) -> tuple[Scene, Scene]:
    """Return two fields that have this share of their area in common, each exposed anew."""
    height, width = FIELD_PX
    rows = rng.uniform(share, 1)
    down, right = round(height * (1 - rows)), round(width * (1 - share / rows))
    first = ground[:height, :width]
    second = ground[down : down + height, right : right + width]
    return _expose(first, rng, noise=noise), _expose(second, rng, noise=noise)


def _expose(field: Picture, rng: np.random.Generator, *, noise: float) -> Scene:
    """Return a field with blur, gamma, brightness, shading and noise of its own."""
    grey = np.clip(gaussian_filter(field, rng.uniform(0, 1)), 0, 1) ** rng.uniform(0.6, 1.6)
    shading = 0.1 * rng.normal() * np.linspace(-1, 1, grey.shape[1])
    grey = rng.uniform(0.6, 1) * grey + shading + noise * rng.normal(size=grey.shape)
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
