"""The trunk's outputs for every tile of a study: from the cache, from shared storage, or computed."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator

import numpy as np

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.tiles import FloatTiles, TileGrid, iter_image_tiles
from sem_search.places import get_cache_folder, make_cache_folder
from sem_search.search.cluster.feature_shards import Features, FeatureShards, compile_shard_computation, get_shard_range
from sem_search.search.cluster.object_store import open_shared
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.search.trials.process_id import describe_process
from sem_search.settings import SearchSettings
from sem_search.transfer.features import FeatureStore, compute_feature_key, get_features


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
        elsewhere: Makes other machines compute the shards that shared storage lacks; by default this process does.

    Raises:
        StoreError: They could not be written.
        SettingsError: Shared storage cannot be used.
    """
    shared = open_shared(settings.shared)
    if shared is None:
        return _get_features(data, network=network, computed=None)
    shared.check()
    shards = FeatureShards(shared=shared, key=get_feature_key(data, network=network), n_tiles=data.tiles.n_tiles)

    def iter_shared() -> Iterator[Features]:
        """Yield the features, shard by shard, once shared storage has all of them."""
        compute_shard = compile_shard_computation(network.cut, backbone=network.backbone, n_tiles=data.tiles.n_tiles)

        def compute(index: int) -> Features:
            """Return the features of one shard."""
            return compute_shard(read_shard_tiles(data, index=index))

        if elsewhere is None:
            shards.fill(compute, first=zlib.crc32(describe_process().encode()) % len(shards))
        else:
            elsewhere()
        yield from shards.read_all(compute)

    store = _get_features(data, network=network, computed=iter_shared)
    shards.fill(lambda index: shards.cut(store.arrays, index=index))
    return store


def _get_features(
    data: PreparedData,
    *,
    network: PreparedNetwork,
    computed: Callable[[], Iterator[Features]] | None,
) -> FeatureStore:
    return get_features(
        network.cut,
        tiles=lambda: _iter_tiles(data.catalogue, grid=data.grid),
        n_tiles=data.tiles.n_tiles,
        backbone=network.backbone,
        content_key=get_content_key(data, network=network),
        cache_folder=make_cache_folder(get_cache_folder()),
        progress=True,
        computed=computed,
    )


def read_shard_tiles(data: PreparedData, *, index: int) -> FloatTiles:
    """Return the grey tiles of a feature shard, shape (n, tile_px, tile_px); its images alone are read."""
    begin, end = get_shard_range(index, n_tiles=data.tiles.n_tiles)
    first, last = (int(data.tiles.image_of_tile[place]) for place in (begin, end - 1))
    records = data.catalogue.records[first : last + 1]
    catalogue = dataclasses.replace(data.catalogue, records=records)
    tiles = np.concatenate(list(_iter_tiles(catalogue, grid=data.grid)))
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


def _iter_tiles(catalogue: Catalogue, *, grid: TileGrid) -> Iterator[FloatTiles]:
    for _, tiles in iter_image_tiles(catalogue, grid=grid):
        yield tiles
