"""How are new lots of rendered powder judged by a reference of accepted ones, and are their particles described?

Lots of one process differ a little in the width, aspect and roughness of their particles, as they do in a factory. The
lots of each reference and the new one are drawn anew for each test from a pool of lots.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from benchmarks.trust.rendered_lots import SIDE_PX, TILE_PX, USUAL, build_network, embed_pictures
from benchmarks.trust.tables import Table
from sem_search.audits.heat_maps.particles import MEASURES, find_particles
from sem_search.evaluation.lots.control_chart import place_lot
from sem_search.evaluation.lots.equivalence import compute_interval, decide, measure_distances
from sem_search.evaluation.lots.measure_shifts import Measures, compute_shifts
from sem_search.evaluation.lots.reference import measure_spread
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.rendering.materials import Material
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.records import FloatMatrix
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.seeds import derive_seed
from sem_search.transfer.runtime import configure_tensorflow

N_LOTS, N_OTHERS, N_IMAGES = 24, 4, 10
"""Lots of the process, lots of each kind that differs, and pictures of each."""

N_REFERENCE = (5, 20)
MARGIN = 3.0

USUAL_CHANGES = {"wider": 0.04, "longer": 0.04, "rougher": 0.1}
"""Standard deviation of each between lots of the process, in logarithms."""

KINDS: dict[str, dict[str, float]] = {
    "the same process": {},
    "40 % wider": {"wider": 0.4},
    "40 % longer": {"longer": 0.4},
    "100 % rougher": {"rougher": 1.0},
}
"""What else is different about a new lot, besides what differs between all lots."""


@dataclass(frozen=True, kw_only=True)
class RenderedLot:
    """One lot as the network sees it, and as its particles are measured."""

    images: FloatMatrix
    """Mean features of each picture, shape (N_IMAGES, n_features)."""
    measures: Measures


def render_lots(
    kind: str, *, n_lots: int, network: PreparedNetwork, n_images: int = N_IMAGES, tile_px: int = TILE_PX
) -> list[RenderedLot]:
    """Return lots of one kind."""
    rng = np.random.default_rng(derive_seed(0, "rendered reference", kind))
    pictures: list[FloatImage] = []
    for lot in range(n_lots):
        material = _change(USUAL, changes=KINDS[kind], rng=rng)
        seeds = [derive_seed(0, "rendered reference", kind, lot, number) for number in range(n_images)]
        pictures += [render_scan(material, height_px=SIDE_PX, width_px=SIDE_PX, seed=seed) for seed in seeds]
    pool = embed_pictures(pictures, network=network, name=f"reference {kind}", tile_px=tile_px)
    features = pool.features.mean(axis=1).reshape(n_lots, n_images, -1)
    logarithms = np.log([_measure(picture) for picture in pictures]).reshape(n_lots, n_images, -1)
    return [
        RenderedLot(images=images, measures=dict(zip(MEASURES, measured.T, strict=True)))
        for images, measured in zip(features, logarithms, strict=True)
    ]


def simulate_reference(
    usual: list[RenderedLot], others: list[RenderedLot] | None, *, n_reference: int, n_tests: int, seed: int = 0
) -> Mapping[str, float]:
    """Return how often each verdict is given, each limit crossed, and each measure called different.

    Args:
        usual: Lots of the process.
        others: Where the new lot comes from; None: from the process.
        n_reference: Lots of each reference.
        n_tests: References and new lots drawn.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for number in range(n_tests):
        order = rng.permutation(len(usual))
        lots = [usual[place] for place in order[:n_reference]]
        new = usual[order[n_reference]] if others is None else others[rng.integers(len(others))]
        spread = measure_spread([lot.images for lot in lots])
        found[decide(compute_interval(measure_distances(spread, new.images), seed=number), margin=MARGIN)] += 1
        point = place_lot(spread, new.images)
        found["action"] += point.distance > point.action_limit
        shifts = compute_shifts([lot.measures for lot in lots], new.measures)
        found.update(shift.name for shift in shifts if shift.is_clear)
        found["any measure"] += any(shift.is_clear for shift in shifts)
    names = ("equivalent", "different", "unclear", "action", "any measure", *MEASURES)
    return {name: found[name] / n_tests for name in names}


def print_tables(*, n_studies: int, weights: str = "auto") -> None:
    """Print how rendered lots are judged and described by references of several sizes."""
    configure_tensorflow(threads=1, seed=0)
    network = build_network("mobilenet_v2", weights=weights)
    render = cache(lambda kind: render_lots(kind, n_lots=N_OTHERS if KINDS[kind] else N_LOTS, network=network))
    usual = render("the same process")
    rows = []
    for n_reference in N_REFERENCE:
        for kind, changes in KINDS.items():
            others = render(kind) if changes else None
            found = simulate_reference(usual, others, n_reference=n_reference, n_tests=n_studies)
            rows.append([str(n_reference), kind, *found.values()])
    columns = ["reference lots", "new lot", *found]
    title = f"Rendered lots judged by MobileNetV2, weights {network.weights.used} (margin {MARGIN:g})"
    Table(title=title, columns=columns, rows=rows).show(percent=True)


def _change(material: Material, *, changes: Mapping[str, float], rng: np.random.Generator) -> Material:
    """Return the material of one more lot."""
    factors = {
        name: (1 + changes.get(name, 0.0)) * float(np.exp(usual * rng.normal()))
        for name, usual in USUAL_CHANGES.items()
    }
    return replace(
        material,
        width_px=material.width_px * factors["wider"],
        aspect=material.aspect * factors["longer"],
        graininess=material.graininess * factors["rougher"],
        outline_roughness=material.outline_roughness * factors["rougher"],
    )


def _measure(picture: FloatImage) -> list[float]:
    """Return the median of each particle measure."""
    particles = find_particles(picture)
    return [float(np.median(particles.measures[name])) for name in MEASURES]
