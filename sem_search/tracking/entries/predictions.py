"""Out-of-fold predictions as tables: one row per tile or per image, for any further statistics."""

from collections.abc import Iterator

import numpy as np

from sem_search.evaluation.metrics import combine_tiles, predict_classes
from sem_search.records import FloatVector, FoldOutcome, Split, TileTable, TrialOutcome
from sem_search.tracking.entries.tables import SPLITS
from sem_search.tracking.entries.types import EvaluationTable, Scalar, TableArtifact

PROBABILITY_DIGITS = 7
"""Decimals of a probability in a table: what a float32 resolves."""


def build_tile_predictions(trial: TrialOutcome, *, tiles: TileTable, path: str) -> TableArtifact:
    """Return every out-of-fold prediction of a trial per tile, both splits, as an artifact.

    `tile` is the index in the study's tile table, `tile_of_image` counts the tiles of one image, row by row.

    Args:
        trial: With its finished folds.
        tiles: The study's tiles.
        path: Of the file.
    """
    columns = ("split", "fold", "image_id", "tile", "tile_of_image", "true", "predicted", *_name_probabilities(tiles))
    rows = tuple(
        row for fold in trial.folds for split in SPLITS for row in _iter_tile_rows(fold, tiles=tiles, split=split)
    )
    return TableArtifact(path=path, columns=columns, rows=rows)


def build_image_predictions(trial: TrialOutcome, *, tiles: TileTable, path: str) -> EvaluationTable:
    """Return every out-of-fold prediction of a trial per image, both splits, as an artifact.

    MLflow's evaluation view begins with rows by the first column and compares the second.

    Args:
        trial: With its finished folds.
        tiles: The study's tiles.
        path: Of the file.
    """
    columns = ("image_id", "predicted", "true", "split", "fold", "n_tiles", *_name_probabilities(tiles))
    rows = tuple(
        row for fold in trial.folds for split in SPLITS for row in _iter_image_rows(fold, tiles=tiles, split=split)
    )
    return EvaluationTable(path=path, columns=columns, rows=rows)


def _name_probabilities(tiles: TileTable) -> tuple[str, ...]:
    """Return the columns that hold one probability each."""
    return tuple(f"probability of {name}" for name in tiles.class_names)


def _iter_tile_rows(fold: FoldOutcome, *, tiles: TileTable, split: Split) -> Iterator[tuple[Scalar, ...]]:
    """Yield one row per tile of one split of one fold."""
    indices, probabilities = fold.get_split(split)
    first_tile = np.searchsorted(tiles.image_of_tile, np.arange(len(tiles.image_ids)))
    for tile, predicted, row in zip(indices, predict_classes(probabilities), probabilities, strict=True):
        image = tiles.image_of_tile[tile]
        true = tiles.class_names[tiles.label_of_image[image]]
        place = (tiles.image_ids[image], int(tile), int(tile - first_tile[image]))
        yield (split, fold.fold + 1, *place, true, tiles.class_names[predicted], *_round_probabilities(row))


def _iter_image_rows(fold: FoldOutcome, *, tiles: TileTable, split: Split) -> Iterator[tuple[Scalar, ...]]:
    """Yield one row per image of one split of one fold."""
    indices, probabilities = fold.get_split(split)
    image_of_tile = tiles.image_of_tile[indices]
    images, combined = combine_tiles(probabilities, image_of_tile=image_of_tile)
    counts = np.bincount(image_of_tile)
    for image, predicted, row in zip(images, predict_classes(combined), combined, strict=True):
        true = tiles.class_names[tiles.label_of_image[image]]
        n_tiles = int(counts[image])
        answer = (tiles.image_ids[image], tiles.class_names[predicted], true)
        yield (*answer, split, fold.fold + 1, n_tiles, *_round_probabilities(row))


def _round_probabilities(row: FloatVector) -> list[float]:
    """Return probabilities as a table shows them."""
    return [round(float(value), PROBABILITY_DIGITS) for value in row]
