"""Pictures of what the winner classified wrongly: images under the heat maps of both classes, and the worst tiles.

Each image is explained by the head of the fold that never trained on it, from the stored trunk features of all its
tiles. Only what is shown is read and explained, so that the cost does not grow with the number of images.
"""

import math
from itertools import accumulate, takewhile

import numpy as np
from numpy.typing import NDArray

from sem_search.deployment.classifier.overlay import ByteImage, draw_overlays
from sem_search.micrographs.reading.grey import resize, stretch_contrast, to_bytes
from sem_search.micrographs.reading.micrograph import encode_jpeg
from sem_search.micrographs.tiles import cut_tiles
from sem_search.records import FinishedFold, IntVector, StudyOutcome
from sem_search.search.prepare.data import PreparedData
from sem_search.search.prepare.prepared_search import PreparedSearch
from sem_search.tracking.entries.context import MistakeGallery, ShownImage, ShownTile
from sem_search.tracking.entries.mistakes import Answer, AnsweredTile, list_answers, list_worst_tiles
from sem_search.tracking.entries.types import Picture
from sem_search.transfer.gradcam import compute_heat_maps

MAX_IMAGES = 40
"""Three pictures of 15 kB each: the report stays below 4 MB."""

MAX_TILES = 2000
"""Of all images shown, both classes explained: about a minute with VGG16. Images of thousands of tiles are fewer."""

N_LEAST_SURE = 6
"""Images shown where none is wrong."""

N_WORST_TILES = 12

SIDE_PX = 320
"""Longer side of a picture: two stand side by side in the report."""

JPEG_QUALITY = 70
CSS_PX_PER_IN = 96

CHUNK_TILES = 64
"""Tiles whose features are read at once."""


def show_mistakes(
    outcome: StudyOutcome, *, prepared: PreparedSearch, finished_folds: tuple[FinishedFold, ...]
) -> MistakeGallery:
    """Return the winner's mistakes in pictures; where no image is wrong, the least sure images.

    Args:
        outcome: The study.
        prepared: Its images, features and head.
        finished_folds: Of the winner.
    """
    answers = list_answers(outcome.winner, tiles=outcome.tiles)
    n_wrong = sum(answer.is_wrong for answer in answers)
    chosen = answers[: min(n_wrong, MAX_IMAGES) or N_LEAST_SURE]
    n_tiles = np.bincount(outcome.tiles.image_of_tile)
    totals = accumulate(int(n_tiles[answer.image]) for answer in chosen)
    shown = chosen[: max(1, sum(1 for _ in takewhile(lambda total: total <= MAX_TILES, totals)))]
    heads = {one.outcome.fold: one.head_weights for one in finished_folds}
    worst_tiles = list_worst_tiles(outcome.winner, tiles=outcome.tiles, n_most=N_WORST_TILES)
    images = []
    for answer in sorted(shown, key=lambda answer: answer.fold):
        prepared.trainer.set_weights(heads[answer.fold])
        images.append(_show_image(answer, prepared=prepared))
    return MistakeGallery(
        images=tuple(sorted(images, key=lambda image: shown.index(image.answer))),
        tiles=tuple(_show_tile(answer, data=prepared.data) for answer in worst_tiles),
        n_wrong=n_wrong,
        n_tested=len(answers),
    )


def _show_image(answer: Answer, *, prepared: PreparedSearch) -> ShownImage:
    """Return one image, explained by the head whose weights the trainer has."""
    data = prepared.data
    record = data.catalogue.records[answer.image]
    pixels = stretch_contrast(data.catalogue.read_image(record))
    at = np.flatnonzero(data.tiles.image_of_tile == answer.image)
    labels = [data.tiles.class_names.index(name) for name in (answer.true_label, answer.other_label)]
    corners = tuple(data.grid.iter_corners(*pixels.shape))
    overlays = draw_overlays(
        pixels,
        heat_maps=[_explain(label, at=at, prepared=prepared) for label in labels],
        corners=corners,
        tile_px=data.grid.size_px,
        max_side_px=SIDE_PX,
    )
    true_heat, other_heat = (_encode(overlay) for overlay in overlays)
    lowest, rightmost = (max(ends) + data.grid.size_px for ends in zip(*corners, strict=True))
    has_gaps = data.grid.stride_px > data.grid.size_px or len(corners) < math.prod(data.grid.count(*pixels.shape))
    return ShownImage(
        answer=answer,
        picture=_encode(to_bytes(resize(pixels, shape=overlays[0].shape[:2]))),
        true_heat=true_heat,
        other_heat=other_heat,
        is_partly_unseen=(lowest, rightmost) != pixels.shape or has_gaps,
    )


def _explain(label: int, *, at: IntVector, prepared: PreparedSearch) -> NDArray[np.float32]:
    """Return where the head looks for a class in these tiles, shape (n_tiles, height, width), all on one scale."""
    maps = []
    for start in range(0, len(at), CHUNK_TILES):
        part = at[start : start + CHUNK_TILES]
        found = compute_heat_maps(
            prepared.trainer.head,
            features=[np.asarray(array[part]) for array in prepared.features.arrays],
            class_index=np.full(len(part), label, dtype=np.int64),
            convolution=prepared.network.cut.convolution,
        )
        maps.append(found.strengths)
    return np.concatenate(maps)


def _show_tile(answer: AnsweredTile, *, data: PreparedData) -> ShownTile:
    """Return one tile, with the contrast of its image."""
    pixels = stretch_contrast(data.catalogue.read_image(data.catalogue.records[answer.image]))
    side_px = min(data.grid.size_px, SIDE_PX)
    tile = resize(cut_tiles(pixels, grid=data.grid)[answer.place], shape=(side_px, side_px))
    return ShownTile(answer=answer, picture=_encode(to_bytes(tile)))


def _encode(pixels: ByteImage) -> Picture:
    """Return a picture as a page shows it."""
    return Picture(
        content=encode_jpeg(pixels, quality=JPEG_QUALITY),
        width_in=round(pixels.shape[1] / CSS_PX_PER_IN, 2),
        media_type="image/jpeg",
    )
