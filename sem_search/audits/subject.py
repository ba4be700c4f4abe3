"""A finished study as the audits see it: what was measured, and all that is needed to train its winner again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sem_search.evaluation.answers import AnswerTable, combine_answers, number_groups
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.folds import FoldTable
from sem_search.micrographs.tiles import TileGrid
from sem_search.records import FoldOutcome, IntVector, Split, StudyOutcome, TileTable, TrialOutcome
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads.training import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class AuditSubject:
    """What is audited."""

    study: str
    winner: TrialOutcome
    """With the heads that are served."""
    trials: tuple[TrialOutcome, ...]
    """All that the winner was chosen among, and the winner, with the heads of the search."""
    select_on: Split
    tiles: TileTable
    folds: FoldTable
    catalogue: Catalogue
    grid: TileGrid
    backbone: Backbone
    cut: CutNetwork
    views: tuple[FeatureStore, ...]
    """The trunk's outputs for every view of every tile that the study learnt from, view 0 first."""
    training: TrainingSettings
    hidden_units: int
    dropout: float
    seed: int

    @property
    def features(self) -> FeatureStore:
        """Those of view 0, the tiles as they are."""
        return self.views[0]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.tiles.class_names)

    @property
    def fold_of_image(self) -> IntVector:
        """The fold that tests each image, shape (n_images,)."""
        number_of = {image_id: fold.number for fold in self.folds.folds for image_id in fold.test}
        return np.array([number_of[image_id] for image_id in self.tiles.image_ids], dtype=np.int64)

    @property
    def group_of_tile(self) -> list[str]:
        """The group of each tile's image."""
        return [self.tiles.group_of_image[image] for image in self.tiles.image_of_tile]

    @property
    def group_number_of_tile(self) -> IntVector:
        """The same as a number, 0 to n_groups - 1, shape (n_tiles,): what counts as independent."""
        numbers: IntVector = number_groups(self.tiles.group_of_image)[self.tiles.image_of_tile]
        return numbers

    @property
    def largest_class_share(self) -> float:
        """Share of images in the largest class: what always naming that class would get right."""
        return float(np.bincount(self.tiles.label_of_image).max() / len(self.tiles.image_ids))

    @property
    def outcome(self) -> StudyOutcome:
        """What the search found out."""
        return StudyOutcome(
            name=self.study,
            backbone=self.backbone.name,
            select_on=self.select_on,
            tiles=self.tiles,
            trials=self.trials,
            winner_number=self.winner.number,
            refitted=self.winner if self.winner.is_refit else None,
        )

    def pool_winner(self) -> AnswerTable:
        """Return what the winner's networks answered to the test images, one row per image."""
        return self.pool(self.winner.folds)

    def pool(self, folds: Sequence[FoldOutcome], *, labels: IntVector | None = None) -> AnswerTable:
        """Return the test answers of all folds with one row per image, whichever fold tested each of its tiles.

        Two such tables can be paired image by image, even if one of them was made with other folds: each image counts
        in the fold of the study that tests it.

        Args:
            folds: Together they test every tile once.
            labels: Classes of the images, shape (n_images,); their own by default.

        Raises:
            ValueError: A tile was tested twice or never.
        """
        tiles = self.tiles
        tested = np.concatenate([fold.test_tiles for fold in folds])
        if not np.array_equal(np.sort(tested), np.arange(tiles.n_tiles)):
            raise ValueError(f"{len(tested)} answers do not test each of {tiles.n_tiles} tiles once.")
        probabilities = np.concatenate([fold.test_probabilities for fold in folds])[np.argsort(tested)]
        images, counts, answers = combine_answers(probabilities, image_of_tile=tiles.image_of_tile)
        return AnswerTable(
            n_classes=self.n_classes,
            image_of_row=images,
            label_of_row=tiles.label_of_image if labels is None else labels,
            fold_of_row=self.fold_of_image,
            group_of_row=number_groups(tiles.group_of_image),
            tile_counts=counts,
            answer_of_row=answers,
        )
