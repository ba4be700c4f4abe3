"""The numbers behind the figures as lists and mappings, fit for JSON; NaN and infinity become None."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from sem_search.records import FoldOutcome, TileTable
from sem_search.tracking.entries.context import ExampleImage, HeatMapSheet, TilingExample
from sem_search.tracking.entries.tables import ConfusionTable, FoldRow, GridTable, IndexTable
from sem_search.tracking.mlflow.names import make_metric_names

HEAT_DIGITS = 4
"""Decimals of a heat map: finer than the eye can see in the overlay."""


def list_class_names(tiles: TileTable) -> list[dict[str, Any]]:
    """Return each class with its index and the name that stands for it in metrics."""
    names = make_metric_names(tiles.class_names)
    return [{"index": index, "class": name, "metric_name": names[name]} for index, name in enumerate(tiles.class_names)]


def list_confusion(table: ConfusionTable) -> dict[str, Any]:
    """Return a confusion matrix: counts, and shares of the true class's row."""
    return {
        "split": "test",
        "unit": table.unit,
        "rows": "true class",
        "columns": "predicted class",
        "classes": list(table.class_names),
        "counts": table.counts.tolist(),
        "shares": to_json(table.shares),
    }


def list_indices(table: IndexTable) -> dict[str, Any]:
    """Return the four indices of each class, as means over the folds and fold by fold."""
    return {
        "split": "test",
        "classes": list(table.class_names),
        "mean_of_folds": to_json(table.mean),
        "per_fold": to_json(table.per_fold),
    }


def list_grid(tables: Sequence[GridTable]) -> list[dict[str, Any]]:
    """Return every cell, head by head and split by split; the linear head has no learning rate and no batch size."""
    return [
        {
            "split": table.split,
            "head": table.head,
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
        {"fold": fold.fold, "best_epoch": fold.best_epoch + 1, "is_diverged": fold.is_diverged, **to_json(fold.curves)}
        for fold in folds
    ]


def list_heat_maps(sheet: HeatMapSheet) -> dict[str, Any]:
    """Return the heat maps as numbers, with what the network answered."""
    pictures = [
        {
            "image_id": picture.image_id,
            "tile": picture.tile,
            "fold": picture.fold,
            "true": picture.true_label,
            "predicted": picture.predicted_label,
            "explained": picture.explained_label,
            "probability": to_json(picture.probability),
            "is_zero": picture.is_zero,
            "heat_map": to_json(picture.heat_map, digits=HEAT_DIGITS),
        }
        for picture in sheet.pictures
    ]
    return {"convolution": sheet.convolution, "pictures": pictures}


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


def to_json(value: Any, *, digits: int | None = None) -> Any:
    """Return records, arrays, mappings and sequences as JSON has them; what is not finite becomes None.

    Args:
        value: Any depth; a record becomes an object with the names of its fields.
        digits: Decimals of the numbers; None for all.
    """
    if is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name), digits=digits) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item, digits=digits) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_json(value.tolist(), digits=digits)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [to_json(item, digits=digits) for item in value]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return value if digits is None else round(value, digits)
