"""Whole micrographs in, one answer per micrograph out, with nothing of MLflow in it.

Reading, tiling and combining are the functions that the search itself uses, so that what was measured is what is
served.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from sem_search.deployment.classifier.ensemble import FloatMatrices, HeadEnsemble, TileRun
from sem_search.deployment.classifier.overlay import MAX_SIDE_PX, ByteImage, draw_overlays
from sem_search.deployment.package.calibration_record import Calibration
from sem_search.deployment.package.description import ClassifierDescription
from sem_search.errors import ImageTooSmallError, RefusedRequestError
from sem_search.evaluation.calibration import apply_temperature
from sem_search.evaluation.metrics import combine_tiles
from sem_search.evaluation.novelty import score_novelty
from sem_search.micrographs.catalogue import compute_pixels_sha256
from sem_search.micrographs.reading.grey import FloatImage, stretch_contrast
from sem_search.micrographs.reading.micrograph import Micrograph, encode_png, read_micrograph
from sem_search.micrographs.tiles import FloatTiles, cut_tiles, iter_batches
from sem_search.records import FloatMatrix, FloatVector

BATCH_TILES = 10
"""Tiles computed at once: half of those of a 1280 x 960 px micrograph. More are no quicker and take more memory: with
20, VGG16's process has 1.25 GB in place of 0.72."""

KEPT_TILES = 256
"""An image of up to so many tiles is explained from the features that its answer was made of, about 100 MB; of a larger
one the trunk is computed again, batch by batch."""


LARGEST = float(np.finfo(np.float64).max)
"""Stands for an infinite score: JSON has no infinity."""


@dataclass(frozen=True, kw_only=True)
class ImageAnswer:
    """The classifier's answer to one micrograph."""

    probabilities: FloatVector
    """Shape (n_classes,), sums to one: tiles and heads together, calibrated."""
    head_probabilities: FloatMatrix
    """Shape (n_heads, n_classes): each head's answer to the image, calibrated."""
    tile_probabilities: FloatMatrix
    """Shape (n_tiles, n_classes): all heads together, not calibrated, since only images were calibrated on."""
    novelty: float | None
    """How unlike the training images it is: unknown above 1; None where that is not known."""
    corners: tuple[tuple[int, int], ...]
    """(top, left) of each tile in px."""
    overlay_png: bytes | None = None
    """The micrograph with the Grad-CAM map of `label`, where that was asked for."""

    @property
    def label(self) -> int:
        """Index of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def agreement(self) -> float:
        """Share of the heads that predict the same class as all of them together."""
        return float((self.head_probabilities.argmax(axis=1) == self.label).mean())

    @property
    def spread(self) -> float:
        """Standard deviation over the heads of the probability of the class predicted."""
        return float(self.head_probabilities[:, self.label].std())


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """Until when an answer must be there: a request may take long, but not for ever."""

    limit_s: float
    ends_s: float
    """On the clock of `time.monotonic`."""

    @classmethod
    def start(cls, limit_s: float) -> "Deadline":
        """Return the deadline that is so many seconds ahead."""
        return cls(limit_s=limit_s, ends_s=time.monotonic() + limit_s)

    @property
    def left_s(self) -> float:
        """Seconds that are left, 0 if none."""
        return max(0.0, self.ends_s - time.monotonic())

    def check(self) -> None:
        """Do nothing while there is time.

        Raises:
            RefusedRequestError: There is none left.
        """
        if self.left_s == 0:
            raise RefusedRequestError(
                f"The images of this request take longer than the {self.limit_s:.0f} s that there are: send fewer at "
                "once, or start the server with a longer --timeout. A model of a search with augment=none needs less "
                "time for each.",
                status=400,
            )


NO_DEADLINE = Deadline(limit_s=np.inf, ends_s=np.inf)


class MicrographClassifier:
    """A classifier that is ready to answer; safe to share between threads.

    Args:
        description: What it is.
        ensemble: Its network.
        calibration: How its answers are to be taken; None for heads that all diverged.
        pixel_hashes: Of the images that it was made from; None where no record of them came with the model.
    """

    def __init__(
        self,
        *,
        description: ClassifierDescription,
        ensemble: HeadEnsemble,
        calibration: Calibration | None = None,
        pixel_hashes: Collection[str] | None = None,
    ) -> None:
        self.description = description
        self.calibration = calibration
        self._pixel_hashes = pixel_hashes
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
        micrograph = read_micrograph(content, name=name, reading=description.reading)
        height_px, width_px = micrograph.pixels.shape
        if min(height_px, width_px) < description.tile_px:
            at = "" if description.pixel_size_nm is None else f" at {description.pixel_size_nm:.4g} nm per pixel"
            raise ImageTooSmallError(
                f"{name}: is {width_px} x {height_px} px without its data bar{at}, and the classifier looks at tiles "
                f"of {description.tile_px} x {description.tile_px} px: give a larger image"
            )
        return micrograph

    def is_training_image(self, image: FloatImage) -> bool | None:
        """Return whether the model was made from this very image, as its file has it; None where that is not known."""
        return None if self._pixel_hashes is None else compute_pixels_sha256(image) in self._pixel_hashes

    def classify(self, images: Sequence[FloatImage], *, deadline: Deadline = NO_DEADLINE) -> tuple[ImageAnswer, ...]:
        """Answer for several micrographs, their tiles computed together in full batches.

        Args:
            images: Grey levels in [0, 1], each of shape (height_px, width_px), data bar removed.
            deadline: Looked at before each view of each batch.

        Raises:
            RefusedRequestError: The deadline has passed.
        """
        if not images:
            return ()
        batches = iter_batches((self._cut(image) for image in images), batch_size=BATCH_TILES)
        runs = [_drop_features(self._ensemble.run(batch, check=deadline.check)) for batch in batches]
        corners = [self._find_corners(image) for image in images]
        head_probabilities = np.concatenate([run.head_probabilities for run in runs], axis=1)
        embeddings = np.concatenate([run.embeddings for run in runs])
        ends = accumulate((len(some) for some in corners), initial=0)
        return tuple(
            self._combine(head_probabilities[:, start:end], embeddings=embeddings[start:end], corners=some)
            for some, (start, end) in zip(corners, pairwise(ends), strict=True)
        )

    def explain(self, image: FloatImage, *, deadline: Deadline = NO_DEADLINE) -> ImageAnswer:
        """Answer for one micrograph, with a picture of where the heads look for the class they predict.

        Raises:
            RefusedRequestError: The deadline has passed.
        """
        tiles = self._cut(image)
        is_kept = len(tiles) <= KEPT_TILES
        runs = [
            self._ensemble.run(batch, check=deadline.check) for batch in iter_batches([tiles], batch_size=BATCH_TILES)
        ]
        runs = runs if is_kept else [_drop_features(run) for run in runs]
        corners = self._find_corners(image)
        answer = self._combine(
            np.concatenate([run.head_probabilities for run in runs], axis=1),
            embeddings=np.concatenate([run.embeddings for run in runs]),
            corners=corners,
        )
        heat_maps = []
        for run, batch in zip(runs, iter_batches([tiles], batch_size=BATCH_TILES), strict=True):
            deadline.check()
            features = run.features or self._ensemble.compute_features(batch)
            heat_maps.append(self._ensemble.compute_heat_maps(features, label=answer.label))
        (overlay,) = draw_overlays(
            image, heat_maps=[np.concatenate(heat_maps)], corners=corners, tile_px=self.description.tile_px
        )
        return replace(answer, overlay_png=encode_png(overlay))

    def draw_heat(
        self, image: FloatImage, *, labels: Sequence[int], head: int | None = None, max_side_px: int = MAX_SIDE_PX
    ) -> tuple[ByteImage, ...]:
        """Return where the heads look for some classes, a picture for each, all on one scale; no answer is computed.

        Args:
            image: As `classify` takes it.
            labels: Indices of the classes.
            head: Number of the fold, from 0, whose head alone is asked: the one that was not trained on the image.
            max_side_px: A longer side is reduced to this.
        """
        tiles, maps = self._cut(image), []
        for batch in iter_batches([tiles], batch_size=BATCH_TILES):
            features = self._ensemble.compute_features(batch)
            maps.append([self._ensemble.compute_heat_maps(features, label=label, head=head) for label in labels])
        return draw_overlays(
            stretch_contrast(image),
            heat_maps=[np.concatenate(of_label) for of_label in zip(*maps, strict=True)],
            corners=self._find_corners(image),
            tile_px=self.description.tile_px,
            max_side_px=max_side_px,
        )

    def _combine(
        self, head_probabilities: FloatMatrices, *, embeddings: FloatMatrix, corners: tuple[tuple[int, int], ...]
    ) -> ImageAnswer:
        """Return one image's answer from each head's answers to its tiles, (n_heads, n_tiles, n_classes)."""
        n_heads, n_tiles, n_classes = head_probabilities.shape
        rows = head_probabilities.reshape(-1, n_classes)
        _, of_image = combine_tiles(rows, image_of_tile=np.zeros(len(rows), dtype=np.int64))
        _, of_heads = combine_tiles(rows, image_of_tile=np.repeat(np.arange(n_heads), n_tiles))
        _, of_tiles = combine_tiles(rows, image_of_tile=np.tile(np.arange(n_tiles), n_heads))
        temperature = self.calibration.temperature if self.calibration is not None else 1.0
        return ImageAnswer(
            probabilities=apply_temperature(of_image, temperature=temperature)[0],
            head_probabilities=apply_temperature(of_heads, temperature=temperature),
            tile_probabilities=of_tiles,
            novelty=self._score_novelty(embeddings),
            corners=corners,
        )

    def _score_novelty(self, embeddings: FloatMatrix) -> float | None:
        """Return how unlike the training images an image is, from its tiles, shape (n_tiles, n_features)."""
        if self.calibration is None or self.calibration.novelty is None:
            return None
        one_image = np.zeros(len(embeddings), dtype=np.int64)
        _, scores = score_novelty(self.calibration.novelty, embeddings, image_of_tile=one_image)
        return float(min(scores[0], LARGEST))

    def _cut(self, image: FloatImage) -> FloatTiles:
        return cut_tiles(image, grid=self.description.grid)

    def _find_corners(self, image: FloatImage) -> tuple[tuple[int, int], ...]:
        height_px, width_px = image.shape
        return tuple(self.description.grid.iter_corners(height_px, width_px))


def _drop_features(run: TileRun) -> TileRun:
    """Return the run without its features, which take a hundred times as much memory as the answers."""
    return replace(run, features=())
