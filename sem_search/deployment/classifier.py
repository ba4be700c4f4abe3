"""Whole micrographs in, one answer per micrograph out, with nothing of MLflow in it.

Reading, tiling and combining are the functions that the search itself uses, so that what was measured is what is
served.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from sem_search.deployment.description import ClassifierDescription
from sem_search.deployment.ensemble import HeadEnsemble, TileRun
from sem_search.deployment.overlays import draw_overlay
from sem_search.errors import ImageTooSmallError
from sem_search.evaluation.images import combine_tiles
from sem_search.evaluation.outcomes import FloatMatrix, FloatVector
from sem_search.micrographs.reading import FloatImage, Micrograph, read_micrograph
from sem_search.micrographs.tiles import FloatTiles, cut_tiles

BATCH_TILES = 16
"""Tiles computed at once: more are hardly quicker on a processor, and need memory for each request that is answered."""

KEPT_TILES = 256
"""An image of up to so many tiles is explained from the features that its answer was made of, about 100 MB; of a larger
one the trunk is computed again, batch by batch."""


@dataclass(frozen=True, kw_only=True)
class ImageAnswer:
    """What the classifier says of one micrograph."""

    probabilities: FloatVector
    """Shape (n_classes,), sums to one: mean of the tiles' log probabilities, renormalised."""
    tile_probabilities: FloatMatrix
    """Shape (n_tiles, n_classes)."""
    corners: tuple[tuple[int, int], ...]
    """(top, left) of each tile in px."""
    overlay_png: bytes | None = None
    """The micrograph with the Grad-CAM map of `label`, where that was asked for."""

    @property
    def label(self) -> int:
        """Index of the most probable class."""
        return int(self.probabilities.argmax())


class MicrographClassifier:
    """A classifier that is ready to answer; safe to share between threads.

    Args:
        description: What it is.
        ensemble: Its network.
    """

    def __init__(self, *, description: ClassifierDescription, ensemble: HeadEnsemble) -> None:
        self.description = description
        self._ensemble = ensemble

    def read(self, content: bytes, *, name: str) -> Micrograph:
        """Decode a file as it was decoded for training.

        Args:
            content: The file.
            name: What messages call it.

        Raises:
            UnreadableImageError: It is not a usable micrograph.
            ImageTooSmallError: No tile fits into it.
        """
        description = self.description
        micrograph = read_micrograph(
            content,
            name=name,
            crop_bottom_px=description.crop_bottom_px,
            max_megapixels=description.max_megapixels,
        )
        height_px, width_px = micrograph.pixels.shape
        if min(height_px, width_px) < description.tile_px:
            raise ImageTooSmallError(
                f"{name}: is {width_px} x {height_px} px without its data bar, and the classifier looks at tiles of "
                f"{description.tile_px} x {description.tile_px} px: give a larger image"
            )
        return micrograph

    def classify(self, images: Sequence[FloatImage]) -> tuple[ImageAnswer, ...]:
        """Answer for several micrographs, their tiles computed together in full batches.

        Args:
            images: Grey levels in [0, 1], each of shape (height_px, width_px), data bar removed.
        """
        if not images:
            return ()
        batches = _iter_batches(self._cut(image) for image in images)
        probabilities = np.concatenate([self._ensemble.run(batch).probabilities for batch in batches])
        corners = [self._find_corners(image) for image in images]
        ends = accumulate((len(some) for some in corners), initial=0)
        return tuple(
            _combine(probabilities[start:end], corners=some)
            for some, (start, end) in zip(corners, pairwise(ends), strict=True)
        )

    def explain(self, image: FloatImage) -> ImageAnswer:
        """Answer for one micrograph, with a picture of where the heads look for the class they name."""
        tiles = self._cut(image)
        runs = [_drop_features(self._ensemble.run(batch), n_tiles=len(tiles)) for batch in _iter_batches([tiles])]
        corners = self._find_corners(image)
        answer = _combine(np.concatenate([run.probabilities for run in runs]), corners=corners)
        heat_maps = [
            self._ensemble.compute_heat_maps(run.features or self._ensemble.run(batch).features, label=answer.label)
            for run, batch in zip(runs, _iter_batches([tiles]), strict=True)
        ]
        overlay_png = draw_overlay(
            image, heat_maps=np.concatenate(heat_maps), corners=corners, tile_px=self.description.tile_px
        )
        return ImageAnswer(
            probabilities=answer.probabilities,
            tile_probabilities=answer.tile_probabilities,
            corners=corners,
            overlay_png=overlay_png,
        )

    def _cut(self, image: FloatImage) -> FloatTiles:
        return cut_tiles(image, grid=self.description.grid)

    def _find_corners(self, image: FloatImage) -> tuple[tuple[int, int], ...]:
        height_px, width_px = image.shape
        return tuple(self.description.grid.iter_corners(height_px, width_px))


def _iter_batches(tile_sets: Iterable[FloatTiles]) -> Iterator[FloatTiles]:
    """Yield the tiles of all sets in order, BATCH_TILES at a time; the last batch is what is left."""
    waiting: list[FloatTiles] = []
    n_waiting = 0
    for tiles in tile_sets:
        start = 0
        while start < len(tiles):
            part = tiles[start : start + BATCH_TILES - n_waiting]
            start += len(part)
            waiting.append(part)
            n_waiting += len(part)
            if n_waiting == BATCH_TILES:
                yield np.concatenate(waiting)
                waiting, n_waiting = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _combine(tile_probabilities: FloatMatrix, *, corners: tuple[tuple[int, int], ...]) -> ImageAnswer:
    one_image = np.zeros(len(tile_probabilities), dtype=np.int64)
    _, probabilities = combine_tiles(tile_probabilities, image_of_tile=one_image)
    return ImageAnswer(probabilities=probabilities[0], tile_probabilities=tile_probabilities, corners=corners)


def _drop_features(run: TileRun, *, n_tiles: int) -> TileRun:
    """Return the run without its features if those of the whole image would need too much memory."""
    return run if n_tiles <= KEPT_TILES else TileRun(probabilities=run.probabilities, features=())
