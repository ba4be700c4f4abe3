"""How often are equal lots of rendered powder told apart, and which differences of the particles are found?

Whole pictures are rendered, cut into tiles and shown to a network, as `sem-search lots` does. Images of a lot are drawn
anew for each test from a pool; of equal lots, from one pool, so that lots are equal whatever the pool.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.tables import Table
from sem_search.evaluation.lots.two_sample import compare_lots
from sem_search.micrographs.reading.grey import FloatImage
from sem_search.micrographs.rendering.materials import MATERIALS, Material
from sem_search.micrographs.rendering.scan import render_scan
from sem_search.micrographs.tiles import TileGrid, cut_tiles
from sem_search.records import FloatMatrix
from sem_search.search.prepare.network import PreparedNetwork, prepare_network
from sem_search.seeds import derive_seed
from sem_search.settings import build_settings
from sem_search.transfer.features import embed_stored_features, get_features
from sem_search.transfer.runtime import configure_tensorflow

SIDE_PX, TILE_PX = 256, 128
"""Of a picture and of its tiles: four tiles, with some forty particles in all."""

POOL_SIZES = 160, 60
"""Pictures of the usual material, and of each that differs."""

N_IMAGES = (6, 10, 20)
P_VALUE = 0.05

USUAL = next(material for material in MATERIALS if material.name == "cellulose-irregular")

OTHERS: dict[str, Material] = {
    **{f"{100 * more:.0f} % wider": replace(USUAL, width_px=USUAL.width_px * (1 + more)) for more in (0.05, 0.1, 0.2)},
    **{f"{100 * more:.0f} % longer": replace(USUAL, aspect=USUAL.aspect * (1 + more)) for more in (0.1, 0.2, 0.4)},
    **{
        f"{100 * more:.0f} % rougher": replace(
            USUAL,
            graininess=USUAL.graininess * (1 + more),
            outline_roughness=USUAL.outline_roughness * (1 + more),
        )
        for more in (0.25, 0.5, 1.0)
    },
}
"""Lots that differ in the width of their particles, in their aspect, or in outline and surface."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Pictures of one lot as the network sees them."""

    features: FloatMatrix
    """Shape (n_images, n_tiles, n_features)."""


def embed_pool(
    material: Material, *, n_images: int, network: PreparedNetwork, name: str, tile_px: int = TILE_PX
) -> Pool:
    """Render pictures of a material and return what the network says of their tiles."""
    seeds = (derive_seed(0, "rendered lots", name, number) for number in range(n_images))
    pictures = [render_scan(material, height_px=SIDE_PX, width_px=SIDE_PX, seed=seed) for seed in seeds]
    return embed_pictures(pictures, network=network, name=name, tile_px=tile_px)


def embed_pictures(pictures: Sequence[FloatImage], *, network: PreparedNetwork, name: str, tile_px: int) -> Pool:
    """Return what the network says of the tiles of rendered pictures."""
    grid = TileGrid(size_px=tile_px, stride_px=tile_px)
    n_tiles = (SIDE_PX // tile_px) ** 2
    with tempfile.TemporaryDirectory() as folder:
        store = get_features(
            network.cut,
            tiles=lambda: (cut_tiles(picture, grid=grid) for picture in pictures),
            n_tiles=len(pictures) * n_tiles,
            backbone=network.backbone,
            content_key=name,
            cache_folder=Path(folder),
        )
        features = embed_stored_features(store.arrays)
    return Pool(features=features.reshape(len(pictures), n_tiles, -1))


def build_network(backbone: str, *, weights: str, tile_px: int = TILE_PX) -> PreparedNetwork:
    """Return a network as `sem-search lots` builds it."""
    settings = build_settings({"backbone": backbone, "weights": weights, "tile_px": tile_px, "precision": "float32"})
    return prepare_network(settings)


def simulate_pools(
    usual: Pool, other: Pool | None, *, n_images: int, n_tests: int, n_permutations: int = 99, seed: int = 0
) -> dict[str, float]:
    """Return how often lots of so many images are told apart, and how accurately; `other` None draws equal lots."""
    rng = np.random.default_rng(seed)
    p_values, accuracies, held = [], [], []
    for number in range(n_tests):
        features = _draw_lots(usual, other, n_images=n_images, rng=rng)
        (pair,) = compare_lots(
            features.reshape(-1, features.shape[-1]),
            image_of_tile=np.repeat(np.arange(2 * n_images), features.shape[1]),
            lot_of_image=np.repeat([0, 1], n_images),
            lot_names=("first", "second"),
            n_permutations=n_permutations,
            n_power_tests=0,
            seed=number,
        )
        p_values.append(pair.p_value)
        accuracies.append(pair.accuracy.value)
        held.append(pair.accuracy.low <= 0.5 <= pair.accuracy.high)
    return {
        "found": float(np.mean(np.array(p_values) <= P_VALUE)),
        "accuracy": float(np.mean(accuracies)),
        "held": float(np.mean(held)),
    }


def print_tables(*, n_studies: int, weights: str = "auto") -> None:
    """Print false alarms and power on rendered lots, seen by MobileNetV2."""
    configure_tensorflow(threads=1, seed=0)
    network = build_network("mobilenet_v2", weights=weights)
    usual = embed_pool(USUAL, n_images=POOL_SIZES[0], network=network, name="usual")
    pools = {name: embed_pool(one, n_images=POOL_SIZES[1], network=network, name=name) for name, one in OTHERS.items()}
    rows = []
    for name, other in {"the same": None, **pools}.items():
        found = [simulate_pools(usual, other, n_images=n, n_tests=n_studies) for n in N_IMAGES]
        rows.append([name, *(entry["found"] for entry in found), *(entry["accuracy"] for entry in found)])
    columns = ["second lot", *(f"{n} + {n} told apart" for n in N_IMAGES)]
    columns += [f"mean accuracy, {n} + {n}" for n in N_IMAGES]
    title = f"Rendered lots told apart (p <= 0.05) by MobileNetV2, weights {network.weights.used}"
    Table(title=title, columns=columns, rows=rows).show(percent=True)


def _draw_lots(usual: Pool, other: Pool | None, *, n_images: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the tiles of two lots, the first lot's images first, shape (2 * n_images, n_tiles, n_features)."""
    if other is None:
        return usual.features[rng.permutation(len(usual.features))[: 2 * n_images]]
    drawn = [pool.features[rng.permutation(len(pool.features))[:n_images]] for pool in (usual, other)]
    return np.concatenate(drawn)
