"""Which micrographs show the same place of the specimen (being written: signatures first)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.reading import DEFAULT_MAX_MEGAPIXELS

PairKind = Literal["identical_file", "identical_pixels", "overlapping"]


@dataclass(frozen=True, kw_only=True)
class SimilarPair:
    """Two images that show, in part or whole, the same place."""

    first: str
    second: str
    kind: PairKind
    overlap: float
    shift_px: tuple[int, int] | None
    correlation: float


def find_similar_pairs(
    catalogue: Catalogue,
    *,
    crop_bottom_px: int = 0,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = False,
) -> tuple[SimilarPair, ...]:
    """Return all pairs."""
    raise NotImplementedError


def group_similar(catalogue: Catalogue, pairs: Sequence[SimilarPair]) -> Catalogue:
    """Return the catalogue with similar images in one group."""
    raise NotImplementedError
