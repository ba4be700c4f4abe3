"""The Grad-CAM sheet of a trial: one test tile per class, always the same ones, so that sheets can be compared.

Each tile is explained by the head of the fold that never trained on its image.
"""

from dataclasses import dataclass

import numpy as np

from sem_search.micrographs.folds import FoldTable
from sem_search.micrographs.tiles import FloatTiles, cut_tiles
from sem_search.records import FinishedFold, TileTable
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.tracking.entries.context import HeatMapPicture, HeatMapSheet
from sem_search.transfer.gradcam import compute_heat_maps


@dataclass(frozen=True, kw_only=True)
class SheetTile:
    """One tile of the sheet: the same in every trial of a study."""

    fold: int
    image: int
    """Index into the tile table's images."""
    tile: int
    """Index into the tile table's tiles."""


def choose_sheet_tiles(tiles: TileTable, *, folds: FoldTable) -> tuple[SheetTile, ...]:
    """Return one test tile of every class: the first of the class's first test image, in the first fold with one."""
    number_of = {image_id: number for number, image_id in enumerate(tiles.image_ids)}
    chosen: dict[int, SheetTile] = {}
    for fold in folds.folds:
        for image in (number_of[image_id] for image_id in sorted(fold.test)):
            label = int(tiles.label_of_image[image])
            if label not in chosen:
                first_tile = int(np.searchsorted(tiles.image_of_tile, image))
                chosen[label] = SheetTile(fold=fold.number, image=image, tile=first_tile)
    return tuple(chosen[label] for label in range(len(tiles.class_names)))


def read_sheet_pixels(data: PreparedData, *, sheet: tuple[SheetTile, ...]) -> FloatTiles:
    """Return the sheet's tiles, shape (n_sheet, tile_px, tile_px)."""
    pixels = []
    for place in sheet:
        shown = data.catalogue.read_image(data.catalogue.records[place.image])
        first_of_image = int(np.flatnonzero(data.tiles.image_of_tile == place.image)[0])
        pixels.append(cut_tiles(shown, grid=data.grid)[place.tile - first_of_image])
    return np.stack(pixels)


def explain_sheet(
    prepared: PreparedSearch,
    *,
    finished_folds: tuple[FinishedFold, ...],
    sheet: tuple[SheetTile, ...],
    pixels: FloatTiles,
) -> HeatMapSheet:
    """Return where the heads of a trial looked, each class explained by its own logit.

    Args:
        prepared: The search.
        finished_folds: The trial's finished folds; tiles of folds that it did not reach are left out.
        sheet: The tiles.
        pixels: Their pictures, shape (n_sheet, tile_px, tile_px).
    """
    pictures = []
    for kept in finished_folds:
        members = [index for index, place in enumerate(sheet) if place.fold == kept.outcome.fold]
        if members:
            pictures += _explain_fold(prepared, kept=kept, members=members, sheet=sheet, pixels=pixels)
    pictures.sort(key=lambda picture: (picture.true_label, picture.image_id))
    return HeatMapSheet(convolution=prepared.network.cut.convolution, pictures=tuple(pictures))


def _explain_fold(
    prepared: PreparedSearch,
    *,
    kept: FinishedFold,
    members: list[int],
    sheet: tuple[SheetTile, ...],
    pixels: FloatTiles,
) -> list[HeatMapPicture]:
    tiles = prepared.data.tiles
    at = np.array([sheet[index].tile for index in members])
    labels = tiles.label_of_tile[at]
    prepared.trainer.set_weights(kept.head_weights)
    maps = compute_heat_maps(
        prepared.trainer.head,
        features=[np.asarray(array[at]) for array in prepared.features.arrays],
        class_index=labels,
        convolution=prepared.network.cut.convolution,
    )
    answers = kept.outcome.test_probabilities[np.searchsorted(kept.outcome.test_tiles, at)]
    return [
        HeatMapPicture(
            image_id=tiles.image_ids[sheet[index].image],
            tile=int(at[row]),
            fold=kept.outcome.fold,
            true_label=tiles.class_names[labels[row]],
            predicted_label=tiles.class_names[int(answers[row].argmax())],
            explained_label=tiles.class_names[labels[row]],
            probability=float(answers[row].max()),
            pixels=pixels[index],
            heat_map=maps.values[row],
            is_zero=bool(maps.is_zero[row]),
        )
        for row, index in enumerate(members)
    ]
