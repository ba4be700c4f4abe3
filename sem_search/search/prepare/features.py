"""The trunk's outputs for every tile of a study: from the cache, from shared storage, or computed."""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.tiles import FloatTiles, TileGrid, iter_image_tiles
from sem_search.places import get_cache_folder, make_cache_folder
from sem_search.progress import ProgressMeter
from sem_search.search.cluster.feature_shards import Features, FeatureShards, compile_shard_computation, get_shard_range
from sem_search.search.cluster.object_store import open_shared
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.disk_space import check_disk_space
from sem_search.search.prepare.network import PreparedNetwork
from sem_search.search.trials.process_id import describe_process
from sem_search.settings import SearchSettings
from sem_search.transfer.feature_store import get_store_folder
from sem_search.transfer.features import FeatureStore, compute_feature_key, get_features
from sem_search.transfer.views import VIEWS, turn_tiles


def compute_views(
    settings: SearchSettings,
    *,
    data: PreparedData,
    network: PreparedNetwork,
    elsewhere: Callable[[], None] | None = None,
) -> tuple[FeatureStore, ...]:
    """Return the trunk's outputs for every view of every tile that `augment` asks for, view 0 first.

    Each view is a store of its own: what is known from the cache or from shared storage is not computed.

    Args:
        settings: Which views; where shared storage is, if anywhere.
        data: The tiles.
        network: The trunk.
        elsewhere: Makes other machines compute the shards of all views that shared storage lacks, and is called once;
            by default this process does.

    Raises:
        StoreError: They could not be written.
        SettingsError: Shared storage cannot be used, or the disk has no room for all views.
    """
    at_most_once = elsewhere and cache(elsewhere)
    views = range(VIEWS[settings.augment])
    missing = list_missing_views(settings, data=data, network=network)
    if missing:
        check_disk_space(data=data, network=network, n_views=len(missing))
    n_tiles = data.tiles.n_tiles
    with ProgressMeter(
        f"Features of {n_tiles} tiles" + (f" in {len(missing)} views" if len(views) > 1 else ""),
        total=len(missing) * n_tiles,
        unit="tiles",
        is_shown=bool(missing),
    ) as meter:
        return tuple(
            compute_features(settings, data=data, network=network, view=view, meter=meter, elsewhere=at_most_once)
            for view in views
        )


def compute_features(
    settings: SearchSettings,
    *,
    data: PreparedData,
    network: PreparedNetwork,
    view: int = 0,
    meter: ProgressMeter | None = None,
    elsewhere: Callable[[], None] | None = None,
) -> FeatureStore:
    """Return the trunk's outputs for one view of every tile.

    Args:
        settings: Where shared storage is, if anywhere.
        data: The tiles.
        network: The trunk.
        view: As `turn_tiles` numbers them.
        meter: Counts the tiles that are computed.
        elsewhere: See `compute_views`.

    Raises:
        StoreError: They could not be written.
        SettingsError: Shared storage cannot be used.
    """

    def get(computed: Callable[[], Iterator[Features]] | None) -> FeatureStore:
        """Return the store from the cache, else from what is given, else from the images."""
        return get_features(
            network.cut,
            tiles=lambda: _iter_tiles(data.catalogue, grid=data.grid, view=view),
            n_tiles=data.tiles.n_tiles,
            backbone=network.backbone,
            content_key=get_content_key(data, network=network, view=view),
            cache_folder=make_cache_folder(get_cache_folder()),
            meter=meter,
            computed=computed,
        )

    shared = open_shared(settings.shared)
    if shared is None:
        return get(None)
    shared.check()
    key = get_feature_key(data, network=network, view=view)
    shards = FeatureShards(shared=shared, key=key, n_tiles=data.tiles.n_tiles)
    store = get(lambda: _iter_shared(shards, data=data, network=network, view=view, elsewhere=elsewhere))
    shards.fill(lambda index: shards.cut(store.arrays, index=index))
    return store


def _iter_shared(
    shards: FeatureShards,
    *,
    data: PreparedData,
    network: PreparedNetwork,
    view: int,
    elsewhere: Callable[[], None] | None,
) -> Iterator[Features]:
    """Yield the features, shard by shard, once shared storage has all of them."""
    compute_shard = compile_shard_computation(network.cut, backbone=network.backbone, n_tiles=data.tiles.n_tiles)

    def compute(index: int) -> Features:
        """Return the features of one shard."""
        return compute_shard(turn_tiles(read_shard_tiles(data, index=index), view=view))

    if elsewhere is None:
        shards.fill(compute, first=zlib.crc32(describe_process().encode()) % len(shards))
    else:
        elsewhere()
    yield from shards.read_all(compute)


def list_missing_views(settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork) -> list[int]:
    """Return the views of the tiles that the cache does not hold yet."""
    keys = [get_feature_key(data, network=network, view=view) for view in range(VIEWS[settings.augment])]
    return [view for view, key in enumerate(keys) if not get_store_folder(get_cache_folder(), key).exists()]


def read_shard_tiles(data: PreparedData, *, index: int) -> FloatTiles:
    """Return the grey tiles of a feature shard, shape (n, tile_px, tile_px); its images alone are read."""
    begin, end = get_shard_range(index, n_tiles=data.tiles.n_tiles)
    first, last = (int(data.tiles.image_of_tile[place]) for place in (begin, end - 1))
    records = data.catalogue.records[first : last + 1]
    catalogue = dataclasses.replace(data.catalogue, records=records)
    tiles = np.concatenate(list(_iter_tiles(catalogue, grid=data.grid, view=0)))
    n_before = begin - int(np.searchsorted(data.tiles.image_of_tile, first))
    return tiles[n_before : n_before + end - begin]


def get_content_key(data: PreparedData, *, network: PreparedNetwork, view: int = 0) -> str:
    """Return what names one view of the tiles, and the network that looks at it."""
    identity = [
        data.pixels_digest,
        data.grid.size_px,
        data.grid.stride_px,
        network.backbone.name,
        network.cut.convolution,
        network.weights.sha256,
        *([f"{data.grid.per_image} tiles, seed {data.grid.seed}"] if data.grid.per_image else []),
        *([f"{pixel_size_nm} nm"] if (pixel_size_nm := data.catalogue.reading.pixel_size_nm) else []),
        *([view] if view else []),  # view 0 has the key that it had before there were others
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def get_feature_key(data: PreparedData, *, network: PreparedNetwork, view: int = 0) -> str:
    """Return the name of the feature store of one view."""
    return compute_feature_key(
        network.cut,
        backbone=network.backbone,
        content_key=get_content_key(data, network=network, view=view),
        n_tiles=data.tiles.n_tiles,
    )


def _iter_tiles(catalogue: Catalogue, *, grid: TileGrid, view: int) -> Iterator[FloatTiles]:
    for _, tiles in iter_image_tiles(catalogue, grid=grid):
        yield turn_tiles(tiles, view=view)
