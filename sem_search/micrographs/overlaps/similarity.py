"""Which micrographs show the same place of the specimen: copies, overlapping fields, one field at two magnifications.

Such images must never be divided between training and test, and no file name shows which they are. All pairs are
registered (`registration`), at the magnifications that the pixel sizes in the metadata give; where they are not known,
with equal pixels and, for images of different size, with equal fields.

Missed, because they look like chance: lattices, stripes, and about half of the overlaps between fields where
a few particles lie on bare ground. What was measured stands in docs/decisions/010-same-places.md and 022-overlaps.md.

Cost: 1.5 ms of one processor per pair of one magnification. 100 images of 1280 x 960 px, 4,950 pairs: 16 s of processor
time with reading; it grows with the square of the number of images.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sem_search.errors import DataError
from sem_search.micrographs.catalogue import Catalogue, ImageRecord
from sem_search.micrographs.overlaps.registration import Plane, Scene, Shape, build_plane, build_scene, register
from sem_search.micrographs.threads import MAX_THREADS, map_in_threads
from sem_search.progress import ProgressMeter

PairKind = Literal["identical_file", "identical_pixels", "overlapping"]

BLOCK_IMAGES = 16  # pairs are taken in blocks of 16 x 16 images, so that their planes stay in the cache
MAX_PLANES = 192  # about 1 MB each; enough for two blocks at several magnifications
SAME_SIZE = 0.01  # widths that differ by less are one width


@dataclass(frozen=True, kw_only=True)
class SimilarPair:
    """Two images that show, in part or whole, the same place."""

    first: str
    second: str
    """Image ids, in the catalogue's order."""
    kind: PairKind
    overlap: float
    """Share of the smaller field's area that both show, in (0, 1]."""
    shift_px: tuple[int, int] | None
    """Row and column, in pixels of the first, where the second's upper left corner lies."""
    correlation: float
    """Normalised correlation over the overlap, local brightness and contrast taken out, in [-1, 1]."""
    scale: float = 1.0
    """Size on the specimen of the second's pixels, in pixels of the first: 10 where the first is magnified 10 times."""


def find_similar_pairs(catalogue: Catalogue, *, progress: bool = False) -> tuple[SimilarPair, ...]:
    """Return all pairs of images that show the same place, in the catalogue's order.

    Args:
        catalogue: The images; their files are read again.
        progress: Show bars.

    Raises:
        UnreadableImageError: A file cannot be read any more.
        DataError: A file's pixels are not those that were catalogued.
    """
    records = catalogue.records
    n_images = len(records)
    scenes = tuple(
        map_in_threads(
            lambda record: build_scene(catalogue.read_image(record)),
            records,
            label="Reducing images",
            is_shown=progress,
        )
    )
    pool = ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1))
    try:
        find = partial(_find_in_block, records=records, scenes=scenes, get_plane=lru_cache(MAX_PLANES)(build_plane))
        blocks = tuple(_iter_blocks(n_images))
        found: list[SimilarPair] = []
        n_pairs = n_images * (n_images - 1) // 2
        with ProgressMeter("Comparing images", total=n_pairs, unit="pairs", is_shown=progress) as meter:
            for block, pairs in zip(blocks, pool.map(find, blocks), strict=True):
                found.extend(pairs)
                meter.update(len(block))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)  # on Ctrl-C, only what is being compared is waited for
    return tuple(sorted(found, key=lambda pair: (pair.first, pair.second)))


def find_copies(catalogue: Catalogue) -> tuple[SimilarPair, ...]:
    """Return all pairs of images that hold the same picture, pixel for pixel, in the catalogue's order.

    Nothing is read: their hashes are equal.
    """
    same: dict[str, list[ImageRecord]] = {}
    for record in catalogue.records:
        same.setdefault(record.pixels_sha256, []).append(record)
    pairs = [_describe_copy(*ends) for records in same.values() for ends in combinations(records, 2)]
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def group_similar(catalogue: Catalogue, pairs: Sequence[SimilarPair]) -> Catalogue:
    """Return the catalogue with images that show the same place in one group.

    Groups that the catalogue already has are never divided: they are joined, whole, where a pair connects them, and
    what connects A with B and B with C connects A with C. A joined group takes the name that sorts first.

    Args:
        catalogue: The images.
        pairs: Pairs among them.

    Raises:
        DataError: A pair names an image that is not in the catalogue.
    """
    group_of_image = {record.image_id: record.group for record in catalogue.records}
    names = sorted(set(group_of_image.values()))
    ids = sorted({image_id for pair in pairs for image_id in (pair.first, pair.second)} - set(group_of_image))
    if ids:
        raise DataError(f"similar images are given for {len(ids)} images that are not in the catalogue: {ids[0]}")
    index = {name: i for i, name in enumerate(names)}
    ends = [(index[group_of_image[pair.first]], index[group_of_image[pair.second]]) for pair in pairs]
    rows, columns = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(ends)), (rows, columns)), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    joined: dict[int, str] = {}
    for name, number in zip(names, component, strict=True):
        joined.setdefault(int(number), name)
    return catalogue.with_groups(
        {image_id: joined[int(component[index[group]])] for image_id, group in group_of_image.items()}
    )


def _iter_blocks(n_images: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yield all pairs (i, j) with i < j, in blocks that share few images."""
    starts = range(0, n_images, BLOCK_IMAGES)
    for top in starts:
        for left in range(top, n_images, BLOCK_IMAGES):
            firsts = range(top, min(top + BLOCK_IMAGES, n_images))
            seconds = range(left, min(left + BLOCK_IMAGES, n_images))
            yield tuple((i, j) for i in firsts for j in seconds if i < j)


def _find_in_block(
    block: Sequence[tuple[int, int]],
    *,
    records: Sequence[ImageRecord],
    scenes: Sequence[Scene],
    get_plane: Callable[[Scene, Shape], Plane],
) -> list[SimilarPair]:
    """Return the similar ones among these pairs."""
    compared = (_compare(records[i], records[j], scenes=(scenes[i], scenes[j]), get_plane=get_plane) for i, j in block)
    return [pair for pair in compared if pair is not None]


def _compare(
    first: ImageRecord,
    second: ImageRecord,
    *,
    scenes: tuple[Scene, Scene],
    get_plane: Callable[[Scene, Shape], Plane],
) -> SimilarPair | None:
    """Return how two images are similar, None if they are not."""
    if first.pixels_sha256 == second.pixels_sha256:
        return _describe_copy(first, second)
    for scale in _guess_scales(first, second):
        found = register(*scenes, scale=scale, get_plane=get_plane)
        if found is not None and found.is_match:
            return SimilarPair(
                first=first.image_id,
                second=second.image_id,
                kind="overlapping",
                overlap=found.overlap,
                shift_px=(round(found.row_px), round(found.column_px)),
                correlation=found.correlation,
                scale=scale,
            )
    return None


def _describe_copy(first: ImageRecord, second: ImageRecord) -> SimilarPair:
    """Return the pair of two images whose pixels are equal."""
    return SimilarPair(
        first=first.image_id,
        second=second.image_id,
        kind="identical_file" if first.sha256 == second.sha256 else "identical_pixels",
        overlap=1.0,
        shift_px=(0, 0),
        correlation=1.0,
    )


def _guess_scales(first: ImageRecord, second: ImageRecord) -> tuple[float, ...]:
    """Return the sizes that the second's pixels may have, in pixels of the first, likeliest first."""
    if first.pixel_size_nm and second.pixel_size_nm:
        return (second.pixel_size_nm / first.pixel_size_nm,)
    same_field = first.width_px / second.width_px
    return (1.0,) if abs(same_field - 1) < SAME_SIZE else (1.0, same_field)
