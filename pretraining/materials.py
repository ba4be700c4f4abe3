"""Random powders and instruments: what pre-training sees, far wider than the ten materials of the demonstration set.

Every picture shows a powder of its own, so that nothing can be learned by heart: what helps is what can be seen. The
ranges hold what powders under an SEM look like, from fines to fibres; lengths are in pixels, so that they hold the
magnification, too.
"""

import math
from dataclasses import dataclass, fields

import numpy as np

from sem_search.micrographs.rendering.electrons import Camera
from sem_search.micrographs.rendering.materials import MATERIALS, Material

NEARNESS = 0.12
"""A drawn powder is drawn again if in all that shows it is within this share of one of the demonstration's."""

SHOWS = ("width_px", "aspect", "thickness", "cover")
"""Parameters that every powder has; two that differ in one of them do not look alike."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What one scan shows, and through what instrument."""

    material: Material
    camera: Camera


def draw_subject(rng: np.random.Generator) -> Subject:
    """Return a powder that is none of the demonstration's, and an instrument, drawn at random."""
    material = draw_material(rng)
    while resembles_demonstration(material):
        material = draw_material(rng)
    return Subject(material=material, camera=draw_camera(rng))


def draw_material(rng: np.random.Generator) -> Material:
    """Return a powder drawn at random.

    Properties that real powders may lack (corners, facets, grooves, needles, bending, plateaus) are absent from half of
    them.
    """
    is_fibrous = rng.random() < 0.15
    aspect = _draw_log(rng, 3.0, 9.0) if is_fibrous else _draw_log(rng, 1.0, 4.0)
    width_px = _draw_log(rng, 10.0, 45.0 if is_fibrous else 110.0)
    return Material(
        name="drawn",
        width_px=width_px,
        size_spread=rng.uniform(0.1, 0.8),
        aspect=aspect,
        aspect_spread=rng.uniform(0.05, 0.5),
        thickness=rng.uniform(0.4, 0.95),
        boxiness=_draw_or_none(rng, rng.uniform(0.1, 0.9)),
        flatness=_draw_or_none(rng, rng.uniform(0.2, 0.9)),
        bend=_draw_or_none(rng, rng.uniform(0.05, 0.6)),
        outline_roughness=_draw_log(rng, 0.008, 0.15),
        n_facets=int(_draw_or_none(rng, float(rng.integers(4, 15)))),
        facet_depth=rng.uniform(0.2, 0.9),
        striation=_draw_or_none(rng, _draw_log(rng, 0.02, 0.25)),
        graininess=_draw_log(rng, 0.004, 0.15),
        grain_px=_draw_log(rng, 4.0, 14.0),
        needles=_draw_or_none(rng, _draw_log(rng, 0.015, 0.15)),
        fines=_draw_log(rng, 0.1, 5.0),
        fines_px=_draw_log(rng, 3.0, 8.0),
        cover=rng.uniform(0.3, 0.8),
    )


def draw_camera(rng: np.random.Generator) -> Camera:
    """Return an instrument drawn at random: its focus, contrast, brightness and noise."""
    blur_px = _draw_log(rng, 0.35, 2.2)
    electrons = _draw_log(rng, 30.0, 600.0)
    return Camera(
        blur_px=(blur_px, blur_px * 1.01),
        gain=_draw_log(rng, 0.14, 0.5),
        gain_spread=0.05,
        offset=rng.uniform(0.0, 0.25),
        offset_sd=0.01,
        electrons=(electrons, electrons * 1.01),
    )


def resembles_demonstration(material: Material) -> bool:
    """Tell whether a powder is nearly one of the ten by which these weights are judged."""
    return any(
        all(math.isclose(getattr(material, name), getattr(known, name), rel_tol=NEARNESS) for name in SHOWS)
        for known in MATERIALS
    )


def describe_subject(subject: Subject) -> dict[str, float]:
    """Return all parameters of a powder, and those of the instrument that a picture shows, by name."""
    values = {field.name: float(getattr(subject.material, field.name)) for field in fields(Material)[1:]}
    return values | {"blur_px": subject.camera.blur_px[0], "electrons": subject.camera.electrons[0]}


def _draw_log(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw evenly over ratios."""
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _draw_or_none(rng: np.random.Generator, value: float) -> float:
    """Return the value, or 0 in half of the cases."""
    return float(value) if rng.random() < 0.5 else 0.0
