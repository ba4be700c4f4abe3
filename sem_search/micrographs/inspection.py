"""What is wrong with a catalogue (being written: signatures first)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.reading import DEFAULT_MAX_MEGAPIXELS
from sem_search.micrographs.similarity import SimilarPair


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or worth knowing."""

    kind: str
    severity: Literal["error", "warning", "note"]
    message: str
    images: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All that was found."""

    catalogue: Catalogue
    pairs: tuple[SimilarPair, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> str:
        """Return JSON."""
        raise NotImplementedError

    def to_text(self) -> str:
        """Return text."""
        raise NotImplementedError

    def to_html(self) -> str:
        """Return HTML."""
        raise NotImplementedError


def inspect_catalogue(
    catalogue: Catalogue,
    *,
    n_folds: int = 5,
    crop_bottom_px: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    pairs: Sequence[SimilarPair] | None = None,
    progress: bool = False,
) -> Inspection:
    """Return all findings."""
    raise NotImplementedError
