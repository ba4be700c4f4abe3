"""Which images train, validate and test in each fold (being written: signatures first)."""

from dataclasses import dataclass

from sem_search.micrographs.catalogue import Catalogue


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One division of the images."""

    number: int
    training: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FoldTable:
    """All folds of a study."""

    folds: tuple[Fold, ...]
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 of the table."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Return the table as JSON."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, text: str) -> "FoldTable":
        """Return the table that `to_json` wrote."""
        raise NotImplementedError


def draw_folds(catalogue: Catalogue, *, n_folds: int, seed: int) -> FoldTable:
    """Return the fold table."""
    raise NotImplementedError


def check_folds(table: FoldTable, *, catalogue: Catalogue) -> None:
    """Raise LeakError if the table leaks."""
    raise NotImplementedError
