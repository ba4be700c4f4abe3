"""Out-of-fold predictions as tables: one row per tile or per image, for any further statistics."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sem_search.evaluation.metrics import combine_tiles, predict_classes
from sem_search.records import FloatMatrix, IntVector, TileTable, TrialOutcome
from sem_search.tracking.entries.tables import SPLITS
from sem_search.tracking.entries.types import EvaluationTable

PROBABILITY_DIGITS = 7
"""Decimals of a probability in a table: what a float32 resolves."""

MAX_EVALUATED = 2000
"""Images in the evaluation table: MLflow's page reads the whole of it at once, for every run that it compares."""


def tabulate_tile_predictions(trial: TrialOutcome, *, tiles: TileTable) -> pd.DataFrame:
    """Return every out-of-fold prediction of a trial per tile, both splits.

    `tile` is the index in the study's tile table, `tile_of_image` counts the tiles of one image, row by row.

    Args:
        trial: With its finished folds.
        tiles: The study's tiles.
    """
    first_tile = np.searchsorted(tiles.image_of_tile, np.arange(len(tiles.image_ids)))
    parts = []
    for fold in trial.folds:
        for split in SPLITS:
            tile, probabilities = fold.get_split(split)
            image = tiles.image_of_tile[tile]
            answers = _tabulate(image, probabilities=probabilities, tiles=tiles)
            places = {"tile": tile, "tile_of_image": tile - first_tile[image]}
            parts.append(answers.assign(split=split, fold=fold.fold + 1, **places))
    first = ["split", "fold", "image_id", "tile", "tile_of_image", "true", "predicted"]
    return _join(parts, first=first)


def tabulate_image_predictions(trial: TrialOutcome, *, tiles: TileTable) -> pd.DataFrame:
    """Return every out-of-fold prediction of a trial per image, both splits.

    MLflow's evaluation view begins with rows by the first column and compares the second.

    Args:
        trial: With its finished folds.
        tiles: The study's tiles.
    """
    parts = []
    for fold in trial.folds:
        for split in SPLITS:
            tile, probabilities = fold.get_split(split)
            image_of_tile = tiles.image_of_tile[tile]
            image, combined = combine_tiles(probabilities, image_of_tile=image_of_tile)
            answers = _tabulate(image, probabilities=combined, tiles=tiles)
            parts.append(answers.assign(split=split, fold=fold.fold + 1, n_tiles=np.bincount(image_of_tile)[image]))
    return _join(parts, first=["image_id", "predicted", "true", "split", "fold", "n_tiles"])


def build_evaluation_table(predictions: pd.DataFrame, *, path: str) -> EvaluationTable:
    """Return the predictions of images as MLflow compares them: of many images some, the same ones in every trial.

    Args:
        predictions: From `tabulate_image_predictions`.
        path: Of the file.
    """
    ids = sorted(set(predictions["image_id"]))
    shown = ids[:: -(-len(ids) // MAX_EVALUATED)]
    rows = predictions[predictions["image_id"].isin(shown)].itertuples(index=False, name=None)
    return EvaluationTable(path=path, columns=tuple(map(str, predictions)), rows=tuple(rows))


def _tabulate(image: IntVector, *, probabilities: FloatMatrix, tiles: TileTable) -> pd.DataFrame:
    """Return the answers to images, or to tiles of these images, row by row."""
    names = np.array(tiles.class_names, dtype=object)
    columns = {
        "image_id": np.array(tiles.image_ids, dtype=object)[image],
        "true": names[tiles.label_of_image[image]],
        "predicted": names[predict_classes(probabilities)],
    }
    rounded = probabilities.round(PROBABILITY_DIGITS)
    return pd.DataFrame(columns | {f"probability of {name}": rounded[:, place] for place, name in enumerate(names)})


def _join(parts: Sequence[pd.DataFrame], *, first: list[str]) -> pd.DataFrame:
    """Return the parts below one another, these columns first and the probabilities after them."""
    joined = pd.concat(parts, ignore_index=True)
    return joined[first + [name for name in joined if name not in first]]
