"""Studies of made-up answers: as many classes, images, tiles and folds as a test asks for."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax

from sem_search.records import Cell, FoldOutcome, TileTable, TrainingCurves, TrialOutcome

BuildTiles = Callable[..., TileTable]
BuildTrial = Callable[..., TrialOutcome]

NO_CURVES = TrainingCurves(
    training_loss=np.zeros(1),
    training_accuracy=np.zeros(1),
    validation_loss=np.zeros(1),
    validation_accuracy=np.zeros(1),
)


@pytest.fixture(scope="session")
def build_tiles() -> BuildTiles:
    """Builds a tile table; `images_per_group` neighbours of one class share a group."""

    def build(
        *, n_classes: int = 3, images_per_class: int = 8, tiles_per_image: int = 4, images_per_group: int = 1
    ) -> TileTable:
        n_images = n_classes * images_per_class
        return TileTable(
            class_names=tuple("abcdefghij"[:n_classes]),
            image_ids=tuple(f"image{number:03}" for number in range(n_images)),
            label_of_image=np.repeat(np.arange(n_classes), images_per_class),
            group_of_image=tuple(f"group{number // images_per_group:03}" for number in range(n_images)),
            image_of_tile=np.repeat(np.arange(n_images), tiles_per_image),
        )

    return build


@pytest.fixture(scope="session")
def build_trial() -> BuildTrial:
    """Builds a trial whose answers are right the more often, the greater `strength` is.

    Group g is tested in fold g modulo n_folds, counted anew in each class, and validates the fold before.
    """

    def build(
        tiles: TileTable,
        *,
        n_folds: int = 4,
        strength: float = 2.0,
        image_spread: float = 1.0,
        seed: int = 0,
        number: int = 0,
        folds: tuple[int, ...] | None = None,
    ) -> TrialOutcome:
        rng = np.random.default_rng(seed)
        shape = (tiles.n_tiles, len(tiles.class_names))
        truth = strength * np.eye(shape[1])[tiles.label_of_tile]

        def answer() -> np.ndarray:
            noise = image_spread * rng.normal(size=(len(tiles.image_ids), shape[1]))[tiles.image_of_tile]
            return softmax(truth + noise + rng.normal(size=shape), axis=1)

        part = _assign_groups(tiles, n_folds=n_folds)[tiles.image_of_tile]
        outcomes = [
            _build_fold(
                fold,
                tested=np.flatnonzero(part == fold),
                validated=np.flatnonzero(part == (fold + 1) % n_folds),
                tested_as=answer(),
                validated_as=answer(),
            )
            for fold in range(n_folds)
        ]
        kept = range(n_folds) if folds is None else folds
        return TrialOutcome(
            number=number,
            cell=Cell(learning_rate=1e-3, batch_size=16),
            state="complete" if folds is None else "pruned",
            folds=tuple(outcomes[fold] for fold in kept),
        )

    return build


def _assign_groups(tiles: TileTable, *, n_folds: int) -> np.ndarray:
    """Return the part of each image, shape (n_images,)."""
    part = np.zeros(len(tiles.image_ids), dtype=np.int64)
    for label in range(len(tiles.class_names)):
        members = np.flatnonzero(tiles.label_of_image == label)
        groups = np.unique([tiles.group_of_image[image] for image in members], return_inverse=True)[1]
        part[members] = groups % n_folds
    return part


def _build_fold(
    number: int, *, tested: np.ndarray, validated: np.ndarray, tested_as: np.ndarray, validated_as: np.ndarray
) -> FoldOutcome:
    """Return a fold that answers these tiles with their rows of the answers to all tiles."""
    return FoldOutcome(
        fold=number,
        validation_tiles=validated,
        validation_probabilities=validated_as[validated],
        test_tiles=tested,
        test_probabilities=tested_as[tested],
        curves=NO_CURVES,
        best_epoch=0,
        is_diverged=False,
        training_s=0.0,
    )
