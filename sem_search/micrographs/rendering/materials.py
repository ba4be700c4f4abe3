"""The ten materials of the demonstration set, as parameters of the renderer."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the particles of one material look like."""

    name: str


_NAMES = (
    "cellulose-fibrous",
    "cellulose-elongated",
    "cellulose-irregular",
    "cellulose-rounded",
    "starch-polyhedral",
    "mannitol-spherical",
    "mannitol-rugged",
    "lactose-fine",
    "lactose-medium",
    "lactose-coarse",
)
MATERIALS: tuple[Material, ...] = tuple(Material(name=name) for name in _NAMES)
