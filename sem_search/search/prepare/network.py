"""From a backbone's name to a cut network with known weights, and the trainer of heads on its features."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sem_search.micrographs.demo import DEMO_SIZES, MATERIALS, render_micrograph
from sem_search.micrographs.tiles import FloatTiles, TileGrid, cut_tiles
from sem_search.places import get_cache_folder
from sem_search.records import TileTable
from sem_search.settings import AUTO, SearchSettings
from sem_search.transfer.backbones import Backbone, get_backbone
from sem_search.transfer.cut import CutNetwork, cut_network
from sem_search.transfer.engine import EngineError
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads.training import HeadTrainer, TrainingSettings
from sem_search.transfer.trunk import Computation, choose_computation, get_precision, set_computation
from sem_search.transfer.weights.choice import WeightsRecord, build_weighted_backbone

N_CALIBRATION_TILES = 4
CALIBRATION_SEED = 20220135
"""Of no demonstration set: random weights are scaled with images that no study trains or tests on."""


@dataclass(frozen=True, kw_only=True)
class PreparedNetwork:
    """A cut backbone with known weights."""

    backbone: Backbone
    cut: CutNetwork
    weights: WeightsRecord
    obstacle: str | None = None
    """Why ONNX Runtime was not weighed, if it should have been."""

    @property
    def computation(self) -> Computation:
        """How the trunk is computed."""
        return Computation(engine=self.cut.engine, precision=get_precision(self.cut.trunk))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that was replaced or fell back."""
        if self.obstacle is None:
            return self.weights.warnings
        return (*self.weights.warnings, f"engine=auto takes tensorflow. {self.obstacle}")


def prepare_network(settings: SearchSettings) -> PreparedNetwork:
    """Build the backbone, load its weights, cut it, and let its trunk be computed as was asked for.

    Raises:
        WeightsError: The weights asked for cannot be had or do not fit.
        EngineError: The engine asked for is not installed, or cannot compute the network.
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
    choose = partial(
        choose_computation, cut, backbone=backbone, cache_folder=get_cache_folder(), precision=settings.precision
    )
    obstacle = None
    try:
        computation = choose(engine=settings.engine)
    except EngineError as error:
        if settings.engine != AUTO:
            raise
        computation, obstacle = choose(engine="tensorflow"), str(error)
    cut = set_computation(cut, computation=computation)
    return PreparedNetwork(backbone=backbone, cut=cut, weights=weights, obstacle=obstacle)


def build_trainer(
    settings: Mapping[str, Any], *, cut: CutNetwork, tiles: TileTable, views: Sequence[FeatureStore]
) -> HeadTrainer:
    """Return the trainer that every fold of every cell shares in one process.

    Args:
        settings: Values by the names of `SearchSettings`.
        cut: The network whose head is trained.
        tiles: The study's tiles.
        views: Features of all tiles from this network's trunk, view by view.
    """
    return HeadTrainer(
        cut,
        features=[view.arrays for view in views],
        labels=tiles.label_of_tile,
        groups=[tiles.group_of_image[image] for image in tiles.image_of_tile],
        n_classes=len(tiles.class_names),
        settings=get_training_settings(settings),
        seed=settings["seed"],
        hidden_units=settings["hidden_units"],
        dropout=settings["dropout"],
    )


def get_training_settings(settings: Mapping[str, Any]) -> TrainingSettings:
    """Return what of the settings decides how a fold is trained.

    Args:
        settings: Values by the names of `SearchSettings`.
    """
    return TrainingSettings(**{field.name: settings[field.name] for field in dataclasses.fields(TrainingSettings)})


def render_calibration_tiles(tile_px: int) -> FloatTiles:
    """Return rendered particle tiles, shape (N_CALIBRATION_TILES, tile_px, tile_px): any user's data stay unseen."""
    size = DEMO_SIZES["small"]
    grid = TileGrid(size_px=min(tile_px, size.scan_height_px), stride_px=tile_px)
    tiles = []
    for index in range(N_CALIBRATION_TILES):
        picture = render_micrograph(MATERIALS[index * 3], size=size, seed=CALIBRATION_SEED + index)
        grey = picture[: size.scan_height_px].astype(np.float32) / np.float32(255)
        tiles.append(cut_tiles(grey, grid=grid)[0])
    missing = tile_px - grid.size_px  # tiles are mirrored outwards where the rendered picture is smaller
    return np.pad(np.stack(tiles), ((0, 0), (0, missing), (0, missing)), mode="symmetric")
