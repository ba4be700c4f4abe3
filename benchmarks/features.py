"""From pictures to stored features, against the bare forward pass over tiles that are already in memory.

Both engines and both precisions are measured side by side; where the processor has no bfloat16 products it only
imitates them. Compiling or opening the graph and finishing the files count as well: a small set pays for it. Converting
the network for ONNX Runtime does not count: that is done once, at the first call. The processor's time of the bare
pass, all threads together, is given as well: other work on the machine hardly changes it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.timing import measure_side_by_side
from sem_search.micrographs.catalogue import Catalogue, read_catalogue
from sem_search.micrographs.demo import DEMO_SIZES, write_demo_data
from sem_search.micrographs.reading.options import ReadingOptions
from sem_search.micrographs.tiles import FloatTiles, TileGrid, iter_image_tiles
from sem_search.places import get_cache_folder
from sem_search.transfer.backbones import get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.features import DEFAULT_BATCH_SIZE, get_features
from sem_search.transfer.trunk import COMPUTATIONS, compile_trunk, may_have_bfloat16, set_computation


def measure_features(backbone_name: str, *, n_tiles: int) -> dict[str, float]:
    """Return tiles per second of both, by each computation, over about `n_tiles` tiles of the demonstration set."""
    bar_px = DEMO_SIZES["small"].bar_height_px
    folder = write_demo_data(get_cache_folder() / "demo" / "benchmark", size="small", seed=0)
    catalogue, grid = read_catalogue(folder, reading=ReadingOptions(crop_bottom_px=bar_px)), TileGrid()
    backbone = get_backbone(backbone_name)
    exact = cut_network(backbone.build())
    cuts = {f"{one.engine}.{one.precision}": set_computation(exact, computation=one) for one in COMPUTATIONS}
    held = list(_iter_some(catalogue, grid=grid, bar_px=bar_px, n_tiles=n_tiles))
    tiles = np.concatenate(held)

    processor_s: dict[str, list[float]] = {name: [] for name in cuts}

    def run_bare(name: str, forward: Callable[[FloatTiles], list[Any]]) -> None:
        begun = time.process_time()
        for start in range(0, len(tiles), DEFAULT_BATCH_SIZE):
            forward(tiles[start : start + DEFAULT_BATCH_SIZE])
        processor_s[name].append(time.process_time() - begun)

    def run_store(cut: CutNetwork) -> None:
        with tempfile.TemporaryDirectory() as cache:
            get_features(
                cut,
                tiles=lambda: _iter_some(catalogue, grid=grid, bar_px=bar_px, n_tiles=n_tiles),
                n_tiles=len(tiles),
                backbone=backbone,
                content_key="benchmark",
                cache_folder=Path(cache),
            )

    actions = {}
    for name, cut in cuts.items():
        if cut.engine == "tensorflow":
            forward = tf.function(lambda batch, cut=cut: cut.trunk(backbone.preprocess(batch), training=False))
        else:
            forward = compile_trunk(cut, backbone=backbone, batch_size=DEFAULT_BATCH_SIZE)
        actions[f"{name}.store"] = partial(run_store, cut)
        actions[f"{name}.bare"] = partial(run_bare, name, forward)
    times_s = measure_side_by_side(actions)
    figures = {f"features.{backbone_name}.tiles": float(len(tiles))}
    for name in cuts:
        key, store_s, bare_s = f"features.{backbone_name}.{name}", times_s[f"{name}.store"], times_s[f"{name}.bare"]
        figures |= {
            f"{key}.tiles_per_s": len(tiles) / store_s,
            f"{key}.bare_tiles_per_s": len(tiles) / bare_s,
            f"{key}.share_of_forward": bare_s / store_s,
            f"{key}.bare_processor_ms_per_tile": 1000 * statistics.median(processor_s[name][1:]) / len(tiles),
        }
    exact_name, *others = cuts
    for name in others:
        for part in ("store", "bare"):
            gain = times_s[f"{exact_name}.{part}"] / times_s[f"{name}.{part}"]
            figures[f"features.{backbone_name}.{name}.{part}.vs_{exact_name}"] = gain
    return {**figures, f"features.{backbone_name}.has_bfloat16": float(may_have_bfloat16())}


def _iter_some(catalogue: Catalogue, *, grid: TileGrid, bar_px: int, n_tiles: int) -> Iterator[FloatTiles]:
    """Yield the tiles of image after image, over and over, until there are enough."""
    n_yielded = 0
    while n_yielded < n_tiles:
        for _, tiles in iter_image_tiles(catalogue, grid=grid):
            if n_yielded >= n_tiles:
                return
            n_yielded += len(tiles)
            yield tiles
