"""From a backbone's name to trunk features of every tile, and the trainer of heads on them."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.demo import DEMO_SIZES, MATERIALS, render_micrograph
from sem_search.micrographs.tiles import FloatTiles, TileGrid, cut_tiles, iter_image_tiles
from sem_search.places import get_cache_folder, make_cache_folder
from sem_search.records import TileTable
from sem_search.search.cluster.feature_shards import (
    Features,
    ShardComputer,
    compute_missing_shards,
    count_shards,
    get_shard_range,
    iter_shards,
    publish_shards,
)
from sem_search.search.cluster.object_store import SharedStore, open_shared
from sem_search.search.prepare.data import PreparedData
from sem_search.search.trials.process_id import describe_process
from sem_search.settings import SearchSettings
from sem_search.transfer.backbones import Backbone, get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.features import FeatureStore, compute_feature_key, get_features
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings
from sem_search.transfer.precision import choose_precision, set_precision
from sem_search.transfer.trunk import Precision, get_precision
from sem_search.transfer.weights.choice import WeightsRecord, build_weighted_backbone

N_CALIBRATION_TILES = 4
CALIBRATION_SEED = 20220135
"""Of no demonstration set: the pictures that scale random weights are nobody's training or test images."""


@dataclass(frozen=True, kw_only=True)
class PreparedNetwork:
    """A cut backbone with known weights."""

    backbone: Backbone
    cut: CutNetwork
    weights: WeightsRecord

    @property
    def precision(self) -> Precision:
        """In which precision the trunk computes."""
        return get_precision(self.cut.trunk)


def prepare_network(settings: SearchSettings) -> PreparedNetwork:
    """Build the backbone, load its weights, cut it, and let its trunk compute in the precision that was asked for.

    Raises:
        WeightsError: The weights asked for cannot be had or do not fit.
    """
    backbone = get_backbone(settings.backbone)
    model, weights = build_weighted_backbone(
        backbone,
        weights=settings.weights,
        tile_px=settings.tile_px,
        seed=settings.seed,
        calibration_tiles=render_calibration_tiles(settings.tile_px),
    )
    cut = cut_network(model)
    precision = settings.precision
    if precision == "auto":
        precision = choose_precision(cut, backbone=backbone, cache_folder=get_cache_folder())
    return PreparedNetwork(backbone=backbone, cut=set_precision(cut, precision=precision), weights=weights)


def compute_features(
    settings: SearchSettings,
    *,
    data: PreparedData,
    network: PreparedNetwork,
    elsewhere: Callable[[], None] | None = None,
) -> FeatureStore:
    """Return the trunk's outputs for every tile, from the cache or from shared storage where they are known.

    Args:
        settings: Where shared storage is, if anywhere.
        data: The tiles.
        network: The trunk.
        elsewhere: Lets other machines compute the shards that shared storage lacks; by default this process does.

    Raises:
        StoreError: They could not be written.
        SettingsError: Shared storage cannot be used.
    """
    shared = open_shared(settings.shared)
    n_tiles, key = data.tiles.n_tiles, get_feature_key(data, network=network)

    def iter_shared(shared: SharedStore) -> Iterator[Features]:
        computer = ShardComputer(network.cut, backbone=network.backbone, n_tiles=n_tiles)

        def compute(index: int) -> Features:
            return computer.compute(read_shard_tiles(settings, data=data, index=index))

        if elsewhere is None:
            first = zlib.crc32(describe_process().encode()) % count_shards(n_tiles)
            compute_missing_shards(shared, key=key, n_tiles=n_tiles, first=first, compute=compute)
        else:
            elsewhere()
        yield from iter_shards(shared, key=key, n_tiles=n_tiles, compute=compute)

    if shared is not None:
        shared.check()
    store = get_features(
        network.cut,
        tiles=lambda: _iter_tiles(settings, data=data, catalogue=data.catalogue),
        n_tiles=n_tiles,
        backbone=network.backbone,
        content_key=get_content_key(data, network=network),
        cache_folder=make_cache_folder(get_cache_folder()),
        progress=True,
        computed=None if shared is None else partial(iter_shared, shared),
    )
    if shared is not None:
        publish_shards(shared, store.arrays, key=key)
    return store


def read_shard_tiles(settings: SearchSettings, *, data: PreparedData, index: int) -> FloatTiles:
    """Return the grey tiles of a feature shard, shape (n, tile_px, tile_px); its images alone are read."""
    begin, end = get_shard_range(index, n_tiles=data.tiles.n_tiles)
    first, last = (int(data.tiles.image_of_tile[place]) for place in (begin, end - 1))
    records = data.catalogue.records[first : last + 1]
    catalogue = dataclasses.replace(data.catalogue, records=records)
    tiles = np.concatenate(list(_iter_tiles(settings, data=data, catalogue=catalogue)))
    n_before = begin - int(np.searchsorted(data.tiles.image_of_tile, first))
    return tiles[n_before : n_before + end - begin]


def get_content_key(data: PreparedData, *, network: PreparedNetwork) -> str:
    """Return what names the tiles, and the network that looks at them."""
    identity = [
        data.pixels_digest,
        data.grid.size_px,
        data.grid.stride_px,
        network.backbone.name,
        network.cut.convolution,
        network.weights.sha256,
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def get_feature_key(data: PreparedData, *, network: PreparedNetwork) -> str:
    """Return the name of the feature store."""
    return compute_feature_key(
        network.cut,
        backbone=network.backbone,
        content_key=get_content_key(data, network=network),
        n_tiles=data.tiles.n_tiles,
    )


def build_trainer(
    settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork, features: FeatureStore
) -> HeadTrainer:
    """Return the trainer that every fold of every cell shares in this process."""
    return build_head_trainer(settings.model_dump(), cut=network.cut, tiles=data.tiles, features=features)


def build_head_trainer(
    settings: Mapping[str, Any], *, cut: CutNetwork, tiles: TileTable, features: FeatureStore
) -> HeadTrainer:
    """Return the same from settings by name, as a machine has them that knows no micrographs."""
    return HeadTrainer(
        cut,
        features=features.arrays,
        labels=tiles.label_of_tile,
        groups=[tiles.group_of_image[image] for image in tiles.image_of_tile],
        n_classes=len(tiles.class_names),
        settings=TrainingSettings(
            epochs=settings["epochs"], patience=settings["patience"], momentum=settings["momentum"]
        ),
        seed=settings["seed"],
        hidden_units=settings["hidden_units"],
        dropout=settings["dropout"],
    )


def _iter_tiles(settings: SearchSettings, *, data: PreparedData, catalogue: Catalogue) -> Iterator[FloatTiles]:
    for _, tiles in iter_image_tiles(catalogue, grid=data.grid):
        yield tiles


def render_calibration_tiles(tile_px: int) -> FloatTiles:
    """Return rendered particle tiles, shape (N_CALIBRATION_TILES, tile_px, tile_px): any user's data stay unseen."""
    size = DEMO_SIZES["small"]
    grid = TileGrid(size_px=min(tile_px, size.scan_height_px), stride_px=tile_px)
    tiles = []
    for index in range(N_CALIBRATION_TILES):
        picture = render_micrograph(MATERIALS[index * 3], size=size, seed=CALIBRATION_SEED + index)
        grey = picture[: size.scan_height_px].astype(np.float32) / np.float32(255)
        tiles.append(cut_tiles(grey, grid=grid)[0])
    return _fit(np.stack(tiles), tile_px=tile_px)


def _fit(tiles: FloatTiles, *, tile_px: int) -> FloatTiles:
    """Mirror tiles outwards where the rendered picture is smaller than a tile."""
    missing = tile_px - tiles.shape[1]
    return np.pad(tiles, ((0, 0), (0, missing), (0, missing)), mode="symmetric") if missing > 0 else tiles
