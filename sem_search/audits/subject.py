"""A finished study as the audits see it: what was measured, and all that is needed to train its winner again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sem_search.evaluation.answers import AnswerTable, number_groups, tabulate_tile_answers
from sem_search.micrographs.catalogue import Catalogue
from sem_search.micrographs.folds import FoldTable
from sem_search.micrographs.tiles import TileGrid
from sem_search.records import FoldOutcome, IntVector, StudyOutcome, TileTable, TrialOutcome
from sem_search.transfer.backbones import Backbone
from sem_search.transfer.cut import CutNetwork
from sem_search.transfer.features import FeatureStore
from sem_search.transfer.heads.training import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class AuditSubject:
    """What is audited."""

    outcome: StudyOutcome
    """What the search found out."""
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
    def winner(self) -> TrialOutcome:
        """With the heads that are served."""
        return self.outcome.winner

    @property
    def tiles(self) -> TileTable:
        """The study's tiles."""
        return self.outcome.tiles

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
        """
        tiles = self.tiles
        tested = np.concatenate([fold.test_tiles for fold in folds])
        probabilities = np.concatenate([fold.test_probabilities for fold in folds])[np.argsort(tested)]
        answers = tabulate_tile_answers([(np.arange(tiles.n_tiles), probabilities)], tiles=tiles)
        labels = answers.label_of_row if labels is None else labels
        return replace(answers, fold_of_row=self.fold_of_image, label_of_row=labels)
