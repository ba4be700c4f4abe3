"""The numbers behind the figures as lists and mappings, fit for JSON; NaN and infinity become None."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sem_search.records import FoldOutcome, TileTable
from sem_search.tracking.entries.context import ExampleImage, HeatMapPicture, HeatMapSheet, TilingExample
from sem_search.tracking.entries.tables import INDEX_NAMES, ConfusionTable, FoldRow, GridTable, IndexTable
from sem_search.tracking.mlflow.names import make_metric_names

HEAT_DIGITS = 4
"""Decimals of a heat map: finer than the eye tells in the overlay."""


def list_class_names(tiles: TileTable) -> list[dict[str, Any]]:
    """Return each class with its index and the name that stands for it in metrics."""
    names = make_metric_names(tiles.class_names)
    return [{"index": index, "class": name, "metric_name": names[name]} for index, name in enumerate(tiles.class_names)]


def list_confusion(table: ConfusionTable) -> dict[str, Any]:
    """Return a confusion matrix: counts, and shares of the true class's row."""
    return {
        "split": table.split,
        "unit": table.unit,
        "rows": "true class",
        "columns": "predicted class",
        "classes": list(table.class_names),
        "counts": table.counts.tolist(),
        "shares": list_numbers(table.shares),
    }


def list_indices(table: IndexTable) -> dict[str, Any]:
    """Return the four indices of each class, as means over the folds and fold by fold."""
    return {
        "split": table.split,
        "classes": list(table.class_names),
        "mean_of_folds": {name: list_numbers(getattr(table.mean, name)) for name in INDEX_NAMES},
        "per_fold": [
            {name: list_numbers(getattr(indices, name)) for name in INDEX_NAMES} for indices in table.per_fold
        ],
    }


def list_grid(tables: Sequence[GridTable]) -> list[dict[str, Any]]:
    """Return every cell of the grid, side by side."""
    return [
        {
            "split": table.split,
            "learning_rate": cell.cell.learning_rate,
            "batch_size": cell.cell.batch_size,
            "state": cell.state,
            "f_measure": cell.f_measure,
            "n_folds": cell.n_folds,
            "is_winner": cell.cell == table.winner,
        }
        for table in tables
        for cell in table.cells
    ]


def list_curves(folds: Sequence[FoldOutcome]) -> list[dict[str, Any]]:
    """Return the training curves of each fold."""
    return [
        {
            "fold": fold.fold,
            "best_epoch": fold.best_epoch + 1,
            "is_diverged": fold.is_diverged,
            "training_loss": list_numbers(fold.curves.training_loss),
            "training_accuracy": list_numbers(fold.curves.training_accuracy),
            "validation_loss": list_numbers(fold.curves.validation_loss),
            "validation_accuracy": list_numbers(fold.curves.validation_accuracy),
        }
        for fold in folds
    ]


def list_heat_maps(sheet: HeatMapSheet) -> dict[str, Any]:
    """Return the heat maps as numbers, with what the network answered."""
    return {"convolution": sheet.convolution, "pictures": [_list_heat_map(picture) for picture in sheet.pictures]}


def list_examples(examples: Sequence[ExampleImage]) -> list[dict[str, Any]]:
    """Return which originals are shown."""
    return [
        {
            "image_id": example.image_id,
            "class": example.label,
            "width_px": example.width_px,
            "height_px": example.height_px,
            "pixel_size_nm": example.pixel_size_nm,
        }
        for example in examples
    ]


def list_tiling(example: TilingExample) -> dict[str, Any]:
    """Return where the tiles of one original lie."""
    return {
        "image_id": example.image.image_id,
        "tile_px": example.tile_px,
        "corners_px": [{"top": top, "left": left} for top, left in example.corners_px],
    }


def list_folds(rows: Sequence[FoldRow]) -> list[dict[str, Any]]:
    """Return the splits of each image."""
    return [
        {"image_id": row.image_id, "class": row.label, "group": row.group, "splits": list(row.splits)} for row in rows
    ]


def list_numbers(values: ArrayLike, *, digits: int | None = None) -> list[Any]:
    """Return an array as nested lists, with None for what is not finite."""
    return [_clean(value, digits=digits) for value in np.asarray(values, dtype=np.float64).tolist()]


def _list_heat_map(picture: HeatMapPicture) -> dict[str, Any]:
    """Return one heat map."""
    return {
        "image_id": picture.image_id,
        "tile": picture.tile,
        "fold": picture.fold,
        "true": picture.true_label,
        "predicted": picture.predicted_label,
        "explained": picture.explained_label,
        "probability": _clean(picture.probability, digits=None),
        "is_zero": picture.is_zero,
        "heat_map": list_numbers(picture.heat_map, digits=HEAT_DIGITS),
    }


def _clean(value: Any, *, digits: int | None) -> Any:
    """Return one number, or a list of them."""
    if isinstance(value, list):
        return [_clean(item, digits=digits) for item in value]
    if not math.isfinite(value):
        return None
    return value if digits is None else round(value, digits)
