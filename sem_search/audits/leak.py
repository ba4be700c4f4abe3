"""What a careless split would have claimed: the winner trained and tested with folds over tiles instead of images.

Tiles of one micrograph share specimen, focus and brightness. In two splits of one fold they let a network
remember the image instead of knowing the material, and the score that comes out is one that no new image will give.

This is the one place that trains across a leak. `HeadTrainer` refuses groups in two splits; here every tile is declared
a group of its own, on purpose.
"""

from dataclasses import dataclass

import numpy as np

from sem_search.audits.retraining import build_trainer, retrain_winner
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.comparison import Comparison, compare_answers
from sem_search.progress import Show
from sem_search.records import IntVector, TileSplits
from sem_search.seeds import derive_seed
from sem_search.tracking.report.answer_page import Row, Table


@dataclass(frozen=True, kw_only=True)
class LeakAudit:
    """The same cell, split over tiles and split over images, on the same tiles."""

    comparison: Comparison
    """First: over tiles (careless); second: over images. Paired image by image, counted in the study's own folds."""

    @property
    def row(self) -> Row:
        """The claim among the checks of an audit; it is a warning against such splits and no fault of the study."""
        accuracy, tiles = self.comparison.image_accuracy, self.comparison.f_measure
        measured = f"as measured: {100 * accuracy.second:.1f} %"
        claim = f"F-measure of tiles {tiles.value:+.3f}: not a result"
        name = "split over tiles, wrong on purpose"
        return Row(cells=(name, f"{100 * accuracy.first:.1f} %", measured, claim), light="plain")

    @property
    def table(self) -> Table:
        """Both splits, figure by figure."""
        figures = {"F-measure, tiles": self.comparison.f_measure, "accuracy, tiles": self.comparison.tile_accuracy}
        figures |= {"accuracy, images": self.comparison.image_accuracy}
        return Table(
            columns=("Figure", "Split over tiles", "Split over images", "Difference (95 % interval)"),
            rows=tuple(
                Row(cells=(name, f"{entry.first:.3f}", f"{entry.second:.3f}", entry.to_text()))
                for name, entry in figures.items()
            ),
        )

    def to_text(self) -> str:
        """Return what a careless split would have claimed."""
        tiles = self.comparison.f_measure
        verdict = (
            "That much of a careless score is memory of single images, not knowledge of the material."
            if tiles.low > 0
            else "On these data the difference is within what other images could have changed."
        )
        return (
            f"What a careless split would have claimed: F-measure {tiles.first:.3f} with tiles of one image in two "
            f"splits, where {tiles.second:.3f} was measured on images never seen. {verdict}"
        )


def audit_leak(subject: AuditSubject, *, show: Show) -> LeakAudit:
    """Train the winner's cell with folds over tiles, and compare with what the study measured over images."""
    splits = split_tiles(subject.tiles.label_of_tile, n_folds=len(subject.folds.folds), seed=subject.seed)
    each_tile = [f"tile {tile}" for tile in range(subject.tiles.n_tiles)]  # no division of such groups is a leak
    trainer = build_trainer(subject, groups=each_tile)
    outcomes = retrain_winner(subject, splits=splits, name="split over tiles", show=show, trainer=trainer)
    comparison = compare_answers(subject.pool(outcomes), subject.pool_winner(), class_names=subject.tiles.class_names)
    return LeakAudit(comparison=comparison)


def split_tiles(label_of_tile: IntVector, *, n_folds: int, seed: int) -> tuple[TileSplits, ...]:
    """Return folds over tiles, alike for every class: test on part f, validate on part f + 1, train on the rest.

    Args:
        label_of_tile: Shape (n_tiles,).
        n_folds: Number of parts.
        seed: Of the permutation.
    """
    part_of_tile = np.empty(len(label_of_tile), dtype=np.int64)
    for label in np.unique(label_of_tile):
        members = np.flatnonzero(label_of_tile == label)
        rng = np.random.default_rng(derive_seed(seed, "leak", int(label)))
        part_of_tile[rng.permutation(members)] = np.arange(len(members)) % n_folds
    return tuple(_build_splits(part_of_tile, fold=fold, n_folds=n_folds) for fold in range(n_folds))


def _build_splits(part_of_tile: IntVector, *, fold: int, n_folds: int) -> TileSplits:
    is_test, is_validation = part_of_tile == fold, part_of_tile == (fold + 1) % n_folds
    return TileSplits(
        number=fold,
        training=np.flatnonzero(~is_test & ~is_validation),
        validation=np.flatnonzero(is_validation),
        test=np.flatnonzero(is_test),
    )
