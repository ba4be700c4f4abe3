"""The ten materials of the demonstration set, as parameters of the renderer.

After Table 1 of Iwata, Hayashi et al., Int. J. Pharm. X 4 (2022) 100135: four celluloses from fibrous elongated to
nearly round, one starch, two mannitols and three grades of lactose, named by material and form.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the particles of one material look like; `dataclasses.replace` makes a lot that differs slightly.

    Lengths are in pixels of the scan. Amplitudes are parts of the particle's own half-width.
    """

    name: str
    width_px: float
    """Median full width across the long axis."""
    size_spread: float
    """Standard deviation of the size, in doublings."""
    aspect: float
    """Median of length over width, at least 1."""
    aspect_spread: float = 0.1
    """Standard deviation of the aspect, in doublings."""
    thickness: float = 0.7
    """Height over width."""
    boxiness: float = 0.0
    """0 is an ellipse, 1 a rectangle."""
    flatness: float = 0.0
    """0 is a dome, 1 a plateau."""
    bend: float = 0.0
    """Sideways sag of the long axis."""
    outline_roughness: float = 0.04
    """How far the outline strays from the smooth one."""
    n_facets: int = 0
    """Number of planes that cut each particle."""
    facet_depth: float = 0.3
    """How deep they cut, 0 to 1."""
    striation: float = 0.0
    """Amplitude of grooves along the long axis."""
    graininess: float = 0.02
    """Amplitude of isotropic surface grains."""
    grain_px: float = 6.0
    """Size of the grains."""
    needles: float = 0.0
    """Amplitude of a felt of small needles on the surface."""
    fines: float = 0.3
    """Adhering small particles per 1,000 px² of covered ground."""
    fines_px: float = 5.0
    """Median width of the fines."""
    cover: float = 0.6
    """Share of the ground that is covered."""


_CELLULOSE = Material(
    name="cellulose-elongated",
    width_px=24.0,
    size_spread=0.5,
    aspect=2.9,
    aspect_spread=0.45,
    thickness=0.6,
    boxiness=0.5,
    bend=0.35,
    outline_roughness=0.08,
    striation=0.12,
    graininess=0.06,
    grain_px=7.0,
    fines=1.0,
    cover=0.6,
)
_LACTOSE = Material(
    name="lactose-medium",
    width_px=44.0,
    size_spread=0.45,
    aspect=1.45,
    aspect_spread=0.25,
    thickness=0.75,
    boxiness=0.7,
    flatness=0.6,
    n_facets=10,
    facet_depth=0.8,
    outline_roughness=0.015,
    graininess=0.012,
    fines=2.5,
    cover=0.65,
)

MATERIALS: tuple[Material, ...] = (
    replace(_CELLULOSE, name="cellulose-fibrous", width_px=19.0, aspect=4.1, bend=0.45, striation=0.14),
    _CELLULOSE,
    replace(_CELLULOSE, name="cellulose-irregular", width_px=29.0, aspect=2.0, bend=0.2, striation=0.09, boxiness=0.4),
    replace(
        _CELLULOSE,
        name="cellulose-rounded",
        width_px=35.0,
        aspect=1.45,
        aspect_spread=0.3,
        thickness=0.7,
        boxiness=0.2,
        bend=0.05,
        outline_roughness=0.065,
        striation=0.05,
        graininess=0.07,
    ),
    Material(
        name="starch-polyhedral",
        width_px=32.0,
        size_spread=0.35,
        aspect=1.12,
        thickness=0.85,
        n_facets=7,
        facet_depth=0.4,
        graininess=0.006,
        fines=0.3,
        cover=0.68,
    ),
    Material(
        name="mannitol-spherical",
        width_px=85.0,
        size_spread=0.35,
        aspect=1.06,
        aspect_spread=0.06,
        thickness=0.92,
        outline_roughness=0.015,
        graininess=0.015,
        grain_px=5.0,
        needles=0.03,
        fines=1.0,
        cover=0.65,
    ),
    Material(
        name="mannitol-rugged",
        width_px=80.0,
        size_spread=0.4,
        aspect=1.2,
        thickness=0.8,
        outline_roughness=0.06,
        graininess=0.06,
        grain_px=9.0,
        needles=0.08,
        fines=1.0,
        cover=0.65,
    ),
    replace(_LACTOSE, name="lactose-fine", width_px=26.0, fines=3.0),
    _LACTOSE,
    replace(_LACTOSE, name="lactose-coarse", width_px=74.0, fines=2.0),
)
