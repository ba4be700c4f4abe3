"""Simple classifiers on a study's own folds: computed once at its end, and kept beside its finished folds.

    studies/<study>/baselines.bin     the answers of each, below their hash

What is kept are answers, not scores: a study that goes on may find another winner to compare them with. A file that is
damaged or of another version is computed again, in seconds: features and folds are there.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.audits.metadata import list_metadata
from sem_search.evaluation.answers import AnswerTable, tabulate_tile_answers
from sem_search.evaluation.baselines import NAMES, Baseline, BaselineName
from sem_search.evaluation.metadata_model import Value, predict_from_metadata
from sem_search.files import ARCHIVE_DAMAGE, pack_arrays, seal, unpack_arrays, unseal, write_atomically
from sem_search.records import FloatMatrix, IntVector, TileSplits, TileTable
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.search.prepare.study_folder import get_study_folder
from sem_search.settings import SearchSettings
from sem_search.transfer.heads.linear import ClassWeight, choose_rows, fit_linear
from sem_search.transfer.heads.training import get_tile_splits

BASELINES = "baselines.bin"

ARRAYS = ("image_of_row", "label_of_row", "fold_of_row", "group_of_row", "tile_counts", "answer_of_row")
"""Of an `AnswerTable`."""

Answers = list[FloatMatrix]
"""For each fold the probabilities of its test tiles, shape (n_test, n_classes)."""

ALIKE = "no attribute differs between the images"
NOT_FINITE = "the features are not all finite numbers"
ONE_CLASS = "the images that it would learn from are of one class in some fold"


def get_baselines(prepared: PreparedSearch) -> tuple[Baseline, ...]:
    """Return the baselines of a study, from beside its folds, or computed and kept there."""
    kept = read_baselines(prepared.settings, name=prepared.name)
    if kept is not None:
        return kept
    data = prepared.data
    baselines = compute_baselines(
        data.tiles,
        folds=[get_tile_splits(fold, tiles=data.tiles) for fold in data.folds.folds],
        pooled=prepared.trainer.pool(),
        metadata=list_metadata(data.catalogue.records),
        class_weight=prepared.settings.class_weight,
        seed=prepared.settings.seed,
    )
    write_atomically(_locate(prepared.settings, name=prepared.name), seal(_pack(baselines)))
    return baselines


def read_baselines(settings: SearchSettings, *, name: str) -> tuple[Baseline, ...] | None:
    """Return the baselines that lie beside a study's folds; None where they are not there whole."""
    try:
        content = unseal(_locate(settings, name=name).read_bytes())
        return None if content is None else _unpack(content)
    except ARCHIVE_DAMAGE:
        return None


def compute_baselines(
    tiles: TileTable,
    *,
    folds: Sequence[TileSplits],
    pooled: NDArray[np.floating],
    metadata: Mapping[str, Sequence[Value]],
    class_weight: ClassWeight,
    seed: int,
) -> tuple[Baseline, ...]:
    """Return what simple classifiers answer to the test images of each fold, which none of them has seen.

    Args:
        tiles: The study's tiles.
        folds: In their order; each image is tested once.
        pooled: Features of every tile as it is, shape (n_tiles, n_features).
        metadata: Attribute to its value for each image.
        class_weight: Of logistic regression, as the study has it.
        seed: Of the forest on metadata.
    """
    learn = partial(_predict_by_features, tiles, folds=folds, pooled=pooled, class_weight=class_weight)
    found: dict[BaselineName, Answers | str] = {
        "largest_class": [_name_largest_class(tiles, fold=fold) for fold in folds],
        "metadata": _predict_by_metadata(tiles, folds=folds, metadata=metadata, seed=seed),
        "logistic_training": learn(training=[fold.training for fold in folds]),
        "logistic_all": learn(training=[np.concatenate([fold.training, fold.validation]) for fold in folds]),
    }
    return tuple(_build(name, answers, tiles=tiles, folds=folds) for name, answers in found.items())


def _build(name: BaselineName, answers: Answers | str, *, tiles: TileTable, folds: Sequence[TileSplits]) -> Baseline:
    """Return a baseline from its answers to the test tiles of each fold, or from why it has none."""
    if isinstance(answers, str):
        return Baseline(name=name, reason=answers)
    answered = [(fold.test, rows) for fold, rows in zip(folds, answers, strict=True)]
    return Baseline(name=name, answers=tabulate_tile_answers(answered, tiles=tiles))


def _name_largest_class(tiles: TileTable, *, fold: TileSplits) -> FloatMatrix:
    """Return, for each test tile, the class that most training images have; of equals, the first."""
    images = np.unique(tiles.image_of_tile[fold.training])
    n_classes = len(tiles.class_names)
    largest = np.bincount(tiles.label_of_image[images], minlength=n_classes).argmax()
    return np.eye(n_classes)[np.full(len(fold.test), largest)]


def _predict_by_metadata(
    tiles: TileTable, *, folds: Sequence[TileSplits], metadata: Mapping[str, Sequence[Value]], seed: int
) -> Answers | str:
    """Return, for each test tile, the class of its image as the images that are not tested with it tell it."""
    fold_of_image = np.zeros(len(tiles.image_ids), dtype=np.int64)
    for place, fold in enumerate(folds):
        fold_of_image[tiles.image_of_tile[fold.test]] = place
    n_classes = len(tiles.class_names)
    predicted, attributes = predict_from_metadata(
        metadata, labels=tiles.label_of_image, n_classes=n_classes, part_of_image=fold_of_image, seed=seed
    )
    of_tile = np.eye(n_classes)[predicted[tiles.image_of_tile]]
    return [of_tile[fold.test] for fold in folds] if attributes else ALIKE


def _predict_by_features(
    tiles: TileTable,
    *,
    folds: Sequence[TileSplits],
    pooled: NDArray[np.floating],
    class_weight: ClassWeight,
    training: Sequence[IntVector],
) -> Answers | str:
    """Return what logistic regression answers to each test tile, having learnt from these tiles of each fold."""
    labels, groups = tiles.label_of_tile, np.asarray(tiles.group_of_image)[tiles.image_of_tile]
    if not np.isfinite(pooled).all():
        return NOT_FINITE
    training = [choose_rows(learnt, n_tiles=tiles.n_tiles) for learnt in training]
    if any(len(np.unique(labels[learnt])) < 2 for learnt in training):
        return ONE_CLASS
    solutions = [
        fit_linear(
            pooled[learnt],
            labels=labels[learnt],
            groups=groups[learnt],
            n_classes=len(tiles.class_names),
            class_weight=class_weight,
        )
        for learnt in training
    ]
    return [solution.predict(pooled[fold.test]) for solution, fold in zip(solutions, folds, strict=True)]


def _locate(settings: SearchSettings, *, name: str) -> Path:
    return get_study_folder(settings, name=name) / BASELINES


def _pack(baselines: Sequence[Baseline]) -> bytes:
    """Return baselines as a NumPy archive."""
    facts = [
        {"name": one.name, "reason": one.reason, "n_classes": one.answers and one.answers.n_classes}
        for one in baselines
    ]
    arrays: dict[str, NDArray[Any]] = {"facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)}
    for one in baselines:
        if one.answers is not None:
            arrays |= {f"{one.name}_{array}": getattr(one.answers, array) for array in ARRAYS}
    return pack_arrays(arrays)


def _unpack(content: bytes) -> tuple[Baseline, ...] | None:
    """Return the baselines that were packed; None where they are not those of this version."""
    arrays = unpack_arrays(content)
    facts = json.loads(arrays["facts"].tobytes())
    baselines = tuple(
        Baseline(
            name=fact["name"],
            reason=fact["reason"],
            answers=None
            if fact["n_classes"] is None
            else AnswerTable(
                n_classes=fact["n_classes"], **{array: arrays[f"{fact['name']}_{array}"] for array in ARRAYS}
            ),
        )
        for fact in facts
    )
    return baselines if tuple(one.name for one in baselines) == NAMES else None
