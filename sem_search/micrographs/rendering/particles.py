"""One particle as the heights of its pixels: superellipsoid, rough outline, facets, grooves, grains and needles."""

from dataclasses import dataclass

import numpy as np

from sem_search.micrographs.rendering.exact import Draws, FloatArray, IntArray, exp2
from sem_search.micrographs.rendering.materials import Material
from sem_search.micrographs.rendering.textures import (
    GRAIN_PX,
    SHEET_PX,
    get_grain_sheet,
    get_needle_sheet,
    look_up,
)

_REACH = 1.3  # half-axes; rough outlines stay within
_N_HARMONICS = 7  # of the rough outline, from the second on: the first would only shift the particle
_HARMONIC_FALL = 1.6  # amplitude of harmonic k is this over k, times the material's roughness
_SAG_CENTRE = 0.4  # of u² over the axis: a bent particle stays where it was put
_FLATTEST_FACET = 0.4  # slopes of the cutting planes, in particle heights per half-axis
_FACET_SLOPES = 2.2
_GROOVES_PER_GRAIN = (2.2, 0.18)  # grooves are grains, squeezed across the axis and drawn out along it


@dataclass(frozen=True, kw_only=True)
class Particle:
    """Place, size and direction of one particle; half-axes and place in pixels, direction as a unit vector."""

    x_px: float
    y_px: float
    half_length_px: float
    half_width_px: float
    height_px: float
    cosine: float
    sine: float
    sag: float
    """Sideways displacement of the ends against the middle, in half-widths."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """The pixels that one particle covers."""

    pixels: IntArray
    """Shape (n,), indices into the flattened picture."""
    heights_px: FloatArray
    """Shape (n,), above the particle's own base, all positive."""


def draw_particle(material: Material, *, draws: Draws, x_px: float, y_px: float) -> Particle:
    """Return a particle of this material at this place, all else drawn at random.

    Args:
        material: Shape and size.
        draws: Random numbers.
        x_px: Place from the left.
        y_px: Place from the top.
    """
    size, stretch, sag = draws.normals(3).tolist()
    cosine, sine = draws.direction()
    half_width = 0.5 * material.width_px * exp2(material.size_spread * size)
    return Particle(
        x_px=x_px,
        y_px=y_px,
        half_length_px=half_width * max(1.0, material.aspect * exp2(material.aspect_spread * stretch)),
        half_width_px=half_width,
        height_px=2.0 * half_width * material.thickness,
        cosine=cosine,
        sine=sine,
        sag=material.bend * sag,
    )


def compute_footprint(
    particle: Particle, *, material: Material, draws: Draws, height_px: int, width_px: int
) -> Footprint:
    """Return the pixels that the particle covers in a picture of this size, and its heights there.

    Args:
        particle: Place and size.
        material: Outline, facets and texture.
        draws: Random numbers.
        height_px: Height of the picture.
        width_px: Width of the picture.
    """
    pixels, u, v = _compute_places(particle, height_px=height_px, width_px=width_px)
    along, across = u * particle.half_length_px, v * particle.half_width_px
    v = v + particle.sag * (u * u - _SAG_CENTRE)
    shrink = _compute_outline(u, v, draws=draws, roughness=material.outline_roughness)
    u, v = u * shrink, v * shrink
    body = _compute_body(u, v, material=material)
    if material.n_facets:
        body = np.minimum(body, _compute_facets(u, v, material=material, draws=draws))
    texture = _compute_texture(along, across, material=material, draws=draws)
    heights = body * particle.height_px + texture * particle.half_width_px
    is_solid = (body > 0.0) & (heights > 0.0)
    return Footprint(pixels=pixels[is_solid], heights_px=heights[is_solid])


def _compute_places(particle: Particle, *, height_px: int, width_px: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the picture's pixels near the particle, and their places in units of its half-axes, each (n,)."""
    reach_v = _REACH + abs(particle.sag)
    reach_along, reach_across = _REACH * particle.half_length_px, reach_v * particle.half_width_px
    cosine, sine = particle.cosine, particle.sine
    x = _find_span(particle.x_px, abs(cosine) * reach_along + abs(sine) * reach_across, limit_px=width_px)
    y = _find_span(particle.y_px, abs(sine) * reach_along + abs(cosine) * reach_across, limit_px=height_px)
    dx = (x.astype(np.float32) - particle.x_px)[None, :]
    dy = (y.astype(np.float32) - particle.y_px)[:, None]
    u = dx * (cosine / particle.half_length_px) + dy * (sine / particle.half_length_px)
    v = dy * (cosine / particle.half_width_px) - dx * (sine / particle.half_width_px)
    is_near = ((np.abs(u) < _REACH) & (np.abs(v) < reach_v)).reshape(-1)
    pixels = (y[:, None] * width_px + x[None, :]).reshape(-1)
    return pixels[is_near], u.reshape(-1)[is_near], v.reshape(-1)[is_near]


def _find_span(centre_px: float, reach_px: float, *, limit_px: int) -> IntArray:
    first = max(0, int(centre_px - reach_px))
    return np.arange(first, max(first, min(limit_px, int(centre_px + reach_px) + 1)), dtype=np.int64)


def _compute_outline(u: FloatArray, v: FloatArray, *, draws: Draws, roughness: float) -> FloatArray:
    """Return by what factor places move outwards: a random Fourier series of their angle, mean 1."""
    radius = np.maximum(np.sqrt(u * u + v * v), 1e-6)
    cosine, sine = u / radius, v / radius
    real, imaginary = cosine, sine  # (cosine + i sine)**k: the multiple angles without trigonometry
    factor = np.ones_like(u)
    for k, (a, b) in enumerate(draws.normals(_N_HARMONICS, 2).tolist(), start=2):
        real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
        weight = roughness * _HARMONIC_FALL / k
        factor += (weight * a) * real + (weight * b) * imaginary
    return factor


def _compute_body(u: FloatArray, v: FloatArray, *, material: Material) -> FloatArray:
    """Return heights from 0 to 1 over an outline between ellipse and rectangle, between dome and plateau."""
    uu, vv = np.minimum(u * u, 1.0), np.minimum(v * v, 1.0)
    inside = np.maximum(1.0 - uu - vv + material.boxiness * uu * vv, 0.0)
    body: FloatArray = np.sqrt(inside * (1.0 + material.flatness * (1.0 - inside)))
    return body


def _compute_facets(u: FloatArray, v: FloatArray, *, material: Material, draws: Draws) -> FloatArray:
    """Return the lowest of planes that lean inwards from all round: what they cut off is flat, with sharp edges."""
    directions = draws.directions(material.n_facets).tolist()
    numbers = draws.uniforms(material.n_facets, 2).tolist()
    planes = []
    for (x, y), (nearness, steepness) in zip(directions, numbers, strict=True):
        slope = _FLATTEST_FACET + _FACET_SLOPES * steepness * steepness
        planes.append((slope * (1.1 - 0.6 * material.facet_depth * nearness), slope * x, slope * y))
    tops, slopes_u, slopes_v = np.array(planes, dtype=np.float32).T[:, :, None]
    lowest: FloatArray = (tops - slopes_u * u - slopes_v * v).min(axis=0)
    return lowest


def _compute_texture(along: FloatArray, across: FloatArray, *, material: Material, draws: Draws) -> FloatArray:
    places = (draws.uniforms(6) * SHEET_PX).tolist()
    zoom = GRAIN_PX / material.grain_px
    grains = look_up(get_grain_sheet(), across * zoom + places[0], along * zoom + places[1])
    texture = material.graininess * grains
    if material.striation:
        squeeze, stretch = _GROOVES_PER_GRAIN
        grooves = look_up(get_grain_sheet(), across * squeeze + places[2], along * stretch + places[3])
        texture += material.striation * grooves
    if material.needles:
        texture += material.needles * look_up(get_needle_sheet(), across + places[4], along + places[5])
    return texture
