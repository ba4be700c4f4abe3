"""From pictures to stored features, against the bare forward pass over tiles that are already in memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.timing import measure_side_by_side
from sem_search.micrographs.catalogue import Catalogue, read_catalogue
from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data
from sem_search.micrographs.tiles import FloatTiles, TileGrid, iter_image_tiles
from sem_search.places import get_cache_folder
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import cut_network
from sem_search.transfer.features import DEFAULT_BATCH_SIZE, get_features


def measure_features(backbone_name: str, *, n_tiles: int) -> dict[str, float]:
    """Return tiles per second of both, over about `n_tiles` tiles of the demonstration set."""
    bar_px = DEMO_SIZES["small"].bar_height_px
    folder = write_demo_data(get_cache_folder() / "demo" / "benchmark", size="small", seed=0)
    catalogue, grid = read_catalogue(folder, crop_bottom_px=bar_px), TileGrid()
    backbone = get_backbone(backbone_name)
    cut = cut_network(backbone.build())
    held = list(_iter_some(catalogue, grid=grid, bar_px=bar_px, n_tiles=n_tiles))
    tiles = np.concatenate(held)

    @tf.function
    def forward(batch: tf.Tensor) -> list[tf.Tensor]:
        return cut.trunk(backbone.preprocess(batch), training=False)

    def run_bare() -> None:
        for start in range(0, len(tiles), DEFAULT_BATCH_SIZE):
            forward(tf.constant(tiles[start : start + DEFAULT_BATCH_SIZE]))

    def run_store() -> None:
        with tempfile.TemporaryDirectory() as cache:
            get_features(
                cut,
                tiles=lambda: _iter_some(catalogue, grid=grid, bar_px=bar_px, n_tiles=n_tiles),
                n_tiles=len(tiles),
                backbone=backbone,
                content_key="benchmark",
                cache_folder=Path(cache),
            )

    times_s = measure_side_by_side({"store": run_store, "bare": run_bare})
    key = f"features.{backbone_name}.float32"
    return {
        f"{key}.tiles": float(len(tiles)),
        f"{key}.tiles_per_s": len(tiles) / times_s["store"],
        f"{key}.bare_tiles_per_s": len(tiles) / times_s["bare"],
        f"{key}.share_of_forward": times_s["bare"] / times_s["store"],
    }


def _iter_some(catalogue: Catalogue, *, grid: TileGrid, bar_px: int, n_tiles: int) -> Iterator[FloatTiles]:
    """Yield the tiles of image after image until there are enough."""
    n_yielded = 0
    for _, tiles in iter_image_tiles(catalogue, grid=grid, crop_bottom_px=bar_px):
        if n_yielded >= n_tiles:
            return
        n_yielded += len(tiles)
        yield tiles
