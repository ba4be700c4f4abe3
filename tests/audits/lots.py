"""Lots as a reference keeps them, made up."""

import numpy as np

from sem_search.audits.heat_maps.particles import MEASURES
from sem_search.audits.lot_reference import Lot, LotReference

N_FEATURES, N_IMAGES = 12, 6


def make_lot(
    number: int, *, step: float = 0.0, larger: float = 0.0, pixel_size: str = "5 nm", acquired_at: str | None = None
) -> Lot:
    """A lot of one process; a step moves its features, and its particles may be larger by a share."""
    rng = np.random.default_rng(number)
    measures = 0.02 * rng.normal() + 0.03 * rng.normal(size=(len(MEASURES), N_IMAGES))
    measures[0] += 4 + np.log1p(larger)
    return Lot(
        name=f"lot-{number}",
        features=step + rng.normal(size=N_FEATURES) + rng.normal(size=(N_IMAGES, N_FEATURES)),
        measures=dict(zip(MEASURES, measures, strict=True)),
        pixels=tuple(f"{number} {image}" for image in range(N_IMAGES)),
        acquired_at=acquired_at,
        attributes={"pixel size": [pixel_size], "detector": ["SE"]},
    )


def make_reference(n_lots: int = 8) -> LotReference:
    """Lots of one process; the first is the latest."""
    lots = tuple(make_lot(number, acquired_at=f"2026-{n_lots - number:02d}-03") for number in range(n_lots))
    return LotReference(lots=lots, looked_at={"backbone": "tiny", "weights_sha256": "abc"})
