"""Finished folds on disk: what makes it safe to kill a search at any moment.

A fold is written once, whole, below its hash, before it is reported anywhere. So whatever happens afterwards, a fold
either is finished, and is never trained again, or is not there.

    studies/<study>/study.json              what the study was asked to do
    studies/<study>/<cell>/fold_<k>.bin     one finished fold: sha256 of the rest, newline, NumPy archive
    studies/<study>/<cell>/refit_<k>.bin    the same of a winner, its head trained again
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sem_search.errors import StoreError
from sem_search.files import ARCHIVE_DAMAGE, pack_arrays, seal, unpack_arrays, unseal, write_atomically
from sem_search.records import Cell, FinishedFold, FoldOutcome, TrainingCurves
from sem_search.search.cluster.object_store import SharedStore

FACTS = ("fold", "best_epoch", "is_diverged", "training_s")
ANSWERS = ("validation_tiles", "validation_probabilities", "test_tiles", "test_probabilities")
CURVES = ("training_loss", "training_accuracy", "validation_loss", "validation_accuracy")
"""Fields of an outcome: values in JSON, arrays under their own names."""


FoldKind = Literal["fold", "refit"]
"""As the search trained it, or trained again on training and validation tiles."""


@dataclass(frozen=True, kw_only=True)
class FoldStore:
    """The finished folds of one study."""

    folder: Path
    shared: SharedStore | None = None
    """A second place, which other machines reach: what is not here is fetched from it, what is written goes to both."""
    kind: FoldKind = "fold"

    @property
    def refits(self) -> "FoldStore":
        """The same cells' folds with heads that were trained again."""
        return replace(self, kind="refit")

    def read(self, *, cell: Cell, fold: int) -> FinishedFold | None:
        """Return a finished fold, or None if it is not there, does not match its hash, or is no fold.

        One from the shared place is brought here.
        """
        path = self._locate(cell, fold)
        try:
            finished = unpack_fold(unseal(path.read_bytes()), fold=fold)
        except OSError:  # not there, or on a disk that cannot be read any more
            finished = None
        if finished is None and self.shared is not None:
            archive = self.shared.read(self.name_shared(cell, fold=fold))
            finished = unpack_fold(archive, fold=fold)
            if archive is not None and finished is not None:
                write_atomically(path, seal(archive))
        return finished

    def get(self, *, cell: Cell, fold: int) -> FinishedFold:
        """Return a finished fold; raises StoreError if it is not there or damaged."""
        finished = self.read(cell=cell, fold=fold)
        if finished is None:
            raise StoreError(
                f"{self._locate(cell, fold)} is not there, or damaged. Start the search's own command again: it trains "
                "this fold."
            )
        return finished

    def has(self, *, cell: Cell, fold: int) -> bool:
        """Tell whether a fold is there, without reading it: it may yet turn out to be damaged."""
        if self._locate(cell, fold).exists():
            return True
        return self.shared is not None and self.shared.has(self.name_shared(cell, fold=fold))

    def is_whole(self, *, cell: Cell, fold: int) -> bool:
        """Tell whether a fold is there and can be read."""
        return self.read(cell=cell, fold=fold) is not None

    def is_damaged(self, *, cell: Cell, fold: int) -> bool:
        """Tell whether a fold is there that cannot be read."""
        return self._locate(cell, fold).exists() and not self.is_whole(cell=cell, fold=fold)

    def write(self, finished: FinishedFold, *, cell: Cell) -> None:
        """Write a finished fold.

        Raises:
            StoreError: The disk is full or the folder cannot be written; nothing half-written is left.
        """
        archive, number = pack_fold(finished), finished.outcome.fold
        write_atomically(self._locate(cell, number), seal(archive))
        if self.shared is not None:
            self.shared.write(self.name_shared(cell, fold=number), archive)

    def _locate(self, cell: Cell, fold: int) -> Path:
        return self.folder / cell.name / f"{self.kind}_{fold}.bin"

    def name_shared(self, cell: Cell, *, fold: int) -> str:
        """Return the name of a fold in the shared place."""
        return name_fold(self.folder.name, cell=cell, fold=fold, kind=self.kind)


def name_fold(study: str, *, cell: Cell, fold: int, kind: FoldKind = "fold") -> str:
    """Return the name of a finished fold in the shared place.

    Args:
        study: Name of the study.
        cell: What was tried.
        fold: Number of the fold, from 0.
        kind: Which head of it.
    """
    return f"studies/{study}/{cell.name}/{kind}_{fold}.bin"


def pack_fold(finished: FinishedFold) -> bytes:
    """Return a finished fold as a NumPy archive."""
    outcome = finished.outcome
    facts = {name: getattr(outcome, name) for name in FACTS} | {"n_head_weights": len(finished.head_weights)}
    arrays: dict[str, NDArray[Any]] = {"facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)}
    arrays |= {name: getattr(outcome, name) for name in ANSWERS}
    arrays |= {name: getattr(outcome.curves, name) for name in CURVES}
    arrays |= {f"head_{index}": weight for index, weight in enumerate(finished.head_weights)}
    return pack_arrays(arrays)


def unpack_fold(archive: bytes | None, *, fold: int) -> FinishedFold | None:
    """Return the fold of this number that was packed; None where it is none, or another."""
    if archive is None:
        return None
    try:
        finished = _unpack(archive)
    except ARCHIVE_DAMAGE:
        return None
    return finished if finished.outcome.fold == fold else None


def _unpack(archive: bytes) -> FinishedFold:
    arrays = unpack_arrays(archive)
    facts = json.loads(arrays["facts"].tobytes())
    fields: dict[str, Any] = {name: facts[name] for name in FACTS} | {name: arrays[name] for name in ANSWERS}
    outcome = FoldOutcome(**fields, curves=TrainingCurves(**{name: arrays[name] for name in CURVES}))
    weights = tuple(arrays[f"head_{index}"] for index in range(facts["n_head_weights"]))
    return FinishedFold(outcome=outcome, head_weights=weights)
