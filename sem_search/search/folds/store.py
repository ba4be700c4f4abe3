"""Finished folds on disk: what makes it safe to kill a search at any moment.

A fold is written once, whole, under its hash, before anything else is told of it. So whatever happens afterwards, a
fold either is finished, and is never trained again, or is not there.

    studies/<study>/study.json              what the study was asked to do
    studies/<study>/<cell>/fold_<k>.bin     one finished fold: sha256 of the rest, newline, NumPy archive
"""

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sem_search.files import seal, unseal, write_atomically
from sem_search.records import Cell, FoldOutcome, TrainingCurves

DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading an archive raises that is none of ours, pickled objects included: they are never loaded."""


class ObjectStore(Protocol):
    """Objects by name, each whole or not there."""

    def read(self, name: str) -> bytes | None:
        """Return an object's content; None if it is not there or damaged."""

    def write(self, name: str, content: bytes) -> None:
        """Keep an object; raises StoreError."""


@dataclass(frozen=True, kw_only=True)
class FinishedFold:
    """A finished fold: what its head answered, and the head itself."""

    outcome: FoldOutcome
    head_weights: tuple[NDArray[np.float32], ...]
    """As Keras' `get_weights` gives them, of the epoch that was kept."""


@dataclass(frozen=True, kw_only=True)
class FoldStore:
    """The finished folds of one study."""

    folder: Path
    shared: ObjectStore | None = None
    """A second place, which other machines reach: what is not here is fetched from it, what is written goes to both."""

    def read(self, *, cell: Cell, fold: int) -> FinishedFold | None:
        """Return a finished fold, or None if it is not there, does not match its hash, or is no fold.

        One from the shared place is brought here.
        """
        archive = self._read_archive(self._locate(cell, fold))
        kept = None if archive is None else unpack_fold(archive, fold=fold)
        if kept is None and self.shared is not None:
            archive = self.shared.read(name_fold(self.folder.name, cell=cell, fold=fold))
            kept = None if archive is None else unpack_fold(archive, fold=fold)
            if archive is not None and kept is not None:
                self._write_archive(archive, cell=cell, fold=fold)
        return kept

    def is_whole(self, *, cell: Cell, fold: int) -> bool:
        """Tell whether a fold is there and can be read."""
        return self.read(cell=cell, fold=fold) is not None

    def is_damaged(self, *, cell: Cell, fold: int) -> bool:
        """Tell whether a fold is there that cannot be read."""
        return self._locate(cell, fold).exists() and self.read(cell=cell, fold=fold) is None

    def write(self, kept: FinishedFold, *, cell: Cell) -> None:
        """Keep a finished fold.

        Raises:
            StoreError: The disk is full or the folder cannot be written; nothing half-written is left.
        """
        archive = pack_fold(kept)
        self._write_archive(archive, cell=cell, fold=kept.outcome.fold)
        if self.shared is not None:
            self.shared.write(name_fold(self.folder.name, cell=cell, fold=kept.outcome.fold), archive)

    def _locate(self, cell: Cell, fold: int) -> Path:
        return self.folder / cell.name / f"fold_{fold}.bin"

    def _write_archive(self, archive: bytes, *, cell: Cell, fold: int) -> None:
        write_atomically(self._locate(cell, fold), seal(archive))

    def _read_archive(self, path: Path) -> bytes | None:
        try:
            return unseal(path.read_bytes())
        except OSError:  # not there, or on a disk that cannot be read any more
            return None


def name_fold(study: str, *, cell: Cell, fold: int) -> str:
    """Return the name of a finished fold in the shared place."""
    return f"studies/{study}/{cell.name}/fold_{fold}.bin"


def pack_fold(kept: FinishedFold) -> bytes:
    """Return a finished fold as a NumPy archive."""
    outcome = kept.outcome
    facts = {
        "fold": outcome.fold,
        "best_epoch": outcome.best_epoch,
        "is_diverged": outcome.is_diverged,
        "training_s": outcome.training_s,
        "n_head_weights": len(kept.head_weights),
    }
    arrays: dict[str, NDArray[Any]] = {
        "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
        "validation_tiles": outcome.validation_tiles,
        "validation_probabilities": outcome.validation_probabilities,
        "test_tiles": outcome.test_tiles,
        "test_probabilities": outcome.test_probabilities,
        "training_loss": outcome.curves.training_loss,
        "training_accuracy": outcome.curves.training_accuracy,
        "validation_loss": outcome.curves.validation_loss,
        "validation_accuracy": outcome.curves.validation_accuracy,
    }
    arrays |= {f"head_{index}": weight for index, weight in enumerate(kept.head_weights)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_fold(archive: bytes, *, fold: int) -> FinishedFold | None:
    """Return the fold of this number that was packed; None where it is none, or another."""
    try:
        kept = _unpack(archive)
    except DAMAGE:
        return None
    return kept if kept.outcome.fold == fold else None


def _unpack(archive: bytes) -> FinishedFold:
    with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        outcome = FoldOutcome(
            fold=facts["fold"],
            validation_tiles=arrays["validation_tiles"],
            validation_probabilities=arrays["validation_probabilities"],
            test_tiles=arrays["test_tiles"],
            test_probabilities=arrays["test_probabilities"],
            curves=TrainingCurves(
                training_loss=arrays["training_loss"],
                training_accuracy=arrays["training_accuracy"],
                validation_loss=arrays["validation_loss"],
                validation_accuracy=arrays["validation_accuracy"],
            ),
            best_epoch=facts["best_epoch"],
            is_diverged=facts["is_diverged"],
            training_s=facts["training_s"],
        )
        weights = tuple(arrays[f"head_{index}"] for index in range(facts["n_head_weights"]))
    return FinishedFold(outcome=outcome, head_weights=weights)
