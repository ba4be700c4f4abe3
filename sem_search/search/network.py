"""From a backbone's name to trunk features of every tile, and the trainer of heads on them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sem_search.micrographs.demo import DEMO_SIZES, MATERIALS, render_micrograph
from sem_search.micrographs.tiles import FloatTiles, TileGrid, cut_tiles, iter_image_tiles
from sem_search.places import get_cache_folder
from sem_search.search.data import PreparedData
from sem_search.settings import SearchSettings
from sem_search.transfer.backbones import Backbone, get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.features import FeatureStore, get_features
from sem_search.transfer.precision import choose_precision, set_precision
from sem_search.transfer.training import HeadTrainer, TrainingSettings
from sem_search.transfer.trunk import Precision, get_precision
from sem_search.transfer.weights import WeightsRecord, build_weighted_backbone

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
        calibration_tiles=_render_calibration_tiles(settings.tile_px),
    )
    cut = cut_network(model)
    precision = settings.precision
    if precision == "auto":
        precision = choose_precision(cut, backbone=backbone, cache_folder=get_cache_folder())
    return PreparedNetwork(backbone=backbone, cut=set_precision(cut, precision=precision), weights=weights)


def compute_features(settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork) -> FeatureStore:
    """Return the trunk's outputs for every tile, from the cache where they are known."""

    def iter_tiles() -> Iterator[FloatTiles]:
        for _, tiles in iter_image_tiles(
            data.catalogue,
            grid=data.grid,
            crop_bottom_px=data.crop_bottom_px,
            max_megapixels=settings.max_megapixels,
        ):
            yield tiles

    identity = [
        data.pixels_digest,
        data.grid.size_px,
        data.grid.stride_px,
        network.backbone.name,
        network.cut.convolution,
        network.weights.sha256,
    ]
    return get_features(
        network.cut,
        tiles=iter_tiles,
        n_tiles=data.tiles.n_tiles,
        backbone=network.backbone,
        content_key=hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        cache_folder=get_cache_folder(),
        progress=True,
    )


def build_trainer(
    settings: SearchSettings, *, data: PreparedData, network: PreparedNetwork, features: FeatureStore
) -> HeadTrainer:
    """Return the trainer that every fold of every cell shares in this process."""
    tiles = data.tiles
    return HeadTrainer(
        network.cut,
        features=features.arrays,
        labels=tiles.label_of_tile,
        groups=[tiles.group_of_image[image] for image in tiles.image_of_tile],
        n_classes=len(tiles.class_names),
        settings=TrainingSettings(epochs=settings.epochs, patience=settings.patience, momentum=settings.momentum),
        seed=settings.seed,
        hidden_units=settings.hidden_units,
        dropout=settings.dropout,
    )


def _render_calibration_tiles(tile_px: int) -> FloatTiles:
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
