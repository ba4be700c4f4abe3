"""What travels with a model beside what answers: the card, the data it was made from, and what it answered to them.

    artifacts/record/
        card.json          the model card, see `card`
        catalogue.json     every image: id, class, group, hashes, metadata; paths relative to the data's folder
        folds.json         which images trained, validated and tested in each fold
        out_of_fold.npz    what each fold's head answered where it was not trained: the winner's predictions

With these a version in the registry explains itself on any machine, two versions are compared image by image, and
`verify` has something to check against. The server reads the hashes of the catalogue's pixels, and nothing else.
"""

import io
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sem_search.deployment.package.card import ModelCard
from sem_search.errors import StoreError
from sem_search.files import ARCHIVE_DAMAGE, unpack_arrays
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.folds import FoldTable
from sem_search.records import Cell, FoldOutcome, TileTable, TrainingCurves, TrialOutcome

RECORD_FOLDER = "record"
CARD_FILE = "card.json"
CATALOGUE_FILE = "catalogue.json"
FOLDS_FILE = "folds.json"
OUT_OF_FOLD_FILE = "out_of_fold.npz"

CURVES = ("training_loss", "training_accuracy", "validation_loss", "validation_accuracy")
SPLITS = ("validation", "test")


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """A trial's answers, and the images they belong to."""

    trial: TrialOutcome
    tiles: TileTable


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """Everything in the record's folder."""

    card: ModelCard
    catalogue: Catalogue
    folds: FoldTable
    out_of_fold: OutOfFold


def write_record(record: ModelRecord, *, folder: Path) -> None:
    """Write a record into a new folder."""
    folder.mkdir(parents=True)
    (folder / CARD_FILE).write_text(record.card.to_json(), encoding="utf-8")
    (folder / CATALOGUE_FILE).write_text(record.catalogue.to_json(), encoding="utf-8")
    (folder / FOLDS_FILE).write_text(record.folds.to_json(), encoding="utf-8")
    (folder / OUT_OF_FOLD_FILE).write_bytes(pack_out_of_fold(record.out_of_fold))


def read_card(folder: Path) -> ModelCard:
    """Return the model card.

    Raises:
        StoreError: The file is missing or damaged.
    """
    return ModelCard.from_json(_read_text(folder / CARD_FILE))


def read_catalogue_record(folder: Path, *, root: Path) -> Catalogue:
    """Return the catalogue, its files now below `root`.

    Raises:
        StoreError: The file is missing or damaged.
    """
    return Catalogue.from_json(_read_text(folder / CATALOGUE_FILE), root=root)


def read_folds_record(folder: Path) -> FoldTable:
    """Return the fold table.

    Raises:
        StoreError: The file is missing or damaged.
    """
    return FoldTable.from_json(_read_text(folder / FOLDS_FILE))


def read_out_of_fold(folder: Path) -> OutOfFold:
    """Return what the model's heads answered where they were not trained.

    Raises:
        StoreError: The file is missing or damaged.
    """
    path = folder / OUT_OF_FOLD_FILE
    try:
        return unpack_out_of_fold(path.read_bytes())
    except ARCHIVE_DAMAGE as error:
        raise StoreError(f"{path.name} of the model's record is missing or damaged ({error!r}).") from error


def pack_out_of_fold(answers: OutOfFold) -> bytes:
    """Return a NumPy archive of a trial and its tiles; nothing in it is pickled."""
    trial, tiles = answers.trial, answers.tiles
    facts = {
        "number": trial.number,
        **trial.cell.params,
        "run_id": trial.run_id,
        "class_names": tiles.class_names,
        "image_ids": tiles.image_ids,
        "group_of_image": tiles.group_of_image,
        "folds": [
            {"fold": each.fold, "best_epoch": each.best_epoch, "is_diverged": each.is_diverged} for each in trial.folds
        ],
    }
    arrays: dict[str, NDArray[Any]] = {
        "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
        "label_of_image": tiles.label_of_image,
        "image_of_tile": tiles.image_of_tile,
    }
    for index, fold in enumerate(trial.folds):
        for split in SPLITS:
            arrays[f"{split}_tiles_{index}"] = getattr(fold, f"{split}_tiles")
            arrays[f"{split}_probabilities_{index}"] = getattr(fold, f"{split}_probabilities")
        arrays |= {f"{name}_{index}": getattr(fold.curves, name) for name in CURVES}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_out_of_fold(content: bytes) -> OutOfFold:
    """Return what `pack_out_of_fold` packed. `training_s` is 0: a wall-clock time is no part of what was found.

    Raises:
        ValueError: The content is no such archive.
        KeyError: Something is missing in it.
    """
    arrays = unpack_arrays(content)
    facts = json.loads(arrays["facts"].tobytes())
    tiles = TileTable(
        class_names=tuple(facts["class_names"]),
        image_ids=tuple(facts["image_ids"]),
        label_of_image=arrays["label_of_image"],
        group_of_image=tuple(facts["group_of_image"]),
        image_of_tile=arrays["image_of_tile"],
    )
    folds = tuple(
        FoldOutcome(
            fold=fold["fold"],
            best_epoch=fold["best_epoch"],
            is_diverged=fold["is_diverged"],
            training_s=0.0,
            curves=TrainingCurves(**{name: arrays[f"{name}_{index}"] for name in CURVES}),
            **{
                f"{split}_{what}": arrays[f"{split}_{what}_{index}"]
                for split in SPLITS
                for what in ("tiles", "probabilities")
            },
        )
        for index, fold in enumerate(facts["folds"])
    )
    trial = TrialOutcome(
        number=facts["number"],
        cell=Cell(**{field.name: facts[field.name] for field in fields(Cell) if field.name in facts}),
        state="complete",
        folds=folds,
        run_id=facts["run_id"],
    )
    return OutOfFold(trial=trial, tiles=tiles)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path.name} of the model's record is missing or damaged ({error!r}).") from error
