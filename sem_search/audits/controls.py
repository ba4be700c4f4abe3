"""Negative controls: data in which the material cannot be seen, on which the score must fall to chance.

- Shuffled labels: in every fold the classes of the training, the validation and the test groups are permuted, each
  among themselves. Test labels that are predicted more often than another permutation of them have leaked.
- Constant images: every image a single grey, its own mean. Only brightness is left.
- Particles blurred away: only shading and brightness are left.
- Tiles in random order: the same training with its tiles in another order. The score must stay as it is.

Cost: each trains the winner's cell once more on all folds; blurring also computes the trunk for every view of every
tile, once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sem_search.audits.answer import format_share
from sem_search.audits.retraining import build_trainer, list_splits, retrain_winner
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.answers import AnswerTable, number_groups
from sem_search.evaluation.comparison import Difference, compare_answers
from sem_search.evaluation.intervals import SplitIntervals, compute_intervals
from sem_search.evaluation.label_test import LabelTest, compute_label_test
from sem_search.evaluation.statistics import MAX_P_VALUE
from sem_search.micrographs.tiles import FloatTiles, iter_image_tiles
from sem_search.places import get_cache_folder
from sem_search.progress import ProgressMeter, Show
from sem_search.records import FoldOutcome, IntVector
from sem_search.seeds import derive_seed
from sem_search.tracking.report.answer_page import Light, Row
from sem_search.transfer.features import get_features
from sem_search.transfer.views import turn_tiles

ControlName = Literal["shuffled labels", "constant images", "particles blurred away", "tiles in random order"]

BLUR_SHARE = 1 / 8
"""Standard deviation of the blur as a share of the tile's side: 28 px of 224 leave no outline of a particle."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """What became of the score when the material could not be seen."""

    name: ControlName
    scores: SplitIntervals
    usual: SplitIntervals
    chance: float
    """Share of images correctly classified without looking: the largest class's."""
    difference: Difference | None = None
    """Of the share of images correctly classified, to the study's own; only where the score must stay as it is."""
    label_test: LabelTest | None = None
    """Against other permutations of the test labels; only for shuffled labels."""

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether the score fell to chance, or stayed, as this control demands."""
        if self.difference is not None:
            return not self.difference.is_clear
        if self.label_test is not None:
            return self.label_test.p_value > MAX_P_VALUE
        return self.scores.image_accuracy.low <= self.chance

    @property
    def row(self) -> Row:
        """The control among the other checks of an audit."""
        reference = f"always the largest class: {100 * self.chance:.1f} %"
        if self.difference is not None:
            reference = f"as measured: {100 * self.usual.image_accuracy.value:.1f} %"
        if (test := self.label_test) is not None:
            reference = f"other permutations: {100 * test.expected:.1f} %, p = {test.p_value:.3f}"
        light, result = self._judge()
        return Row(cells=(self.name, format_share(self.scores.image_accuracy), reference, result), light=light)

    def _judge(self) -> tuple[Light, str]:
        """Return the result in a few words; above chance, yet far below the score, it explains a part of it."""
        if self.is_as_it_should_be:
            return "good", "as it should be"
        if self.label_test is not None:
            return "bad", "ALARM"
        if self.difference is None and self.scores.image_accuracy.high < self.usual.image_accuracy.low:
            return "unclear", "take care: explains a part"
        return "unclear", "take care"

    def to_text(self) -> str:
        """Return what the result means in plain words."""
        share = format_share(self.scores.image_accuracy)
        verdict = _VERDICTS[self.name][0 if self.is_as_it_should_be else 1]
        return f"{self.name.capitalize()}: {share} of the images are correctly classified. {verdict}"


_VERDICTS: dict[ControlName, tuple[str, str]] = {
    "shuffled labels": (
        "As it should be: without true labels nothing is learnt.",
        "ALARM: labels that mean nothing are recognised, so something leaks from training to test.",
    ),
    "constant images": (
        "As it should be: brightness alone does not give the class away.",
        "Take care: brightness alone gives classes away, and may belong to the instrument's settings.",
    ),
    "particles blurred away": (
        "As it should be: shading and brightness alone do not give the class away.",
        "Take care: shading and brightness, without any particle's texture or outline, give classes away.",
    ),
    "tiles in random order": (
        "As it should be: the order of the tiles does not matter.",
        "Take care: another order of the training tiles changes the score more than other images would.",
    ),
}
"""The last sentence on each control: when all is well, and when not."""


def iter_controls(subject: AuditSubject, *, show: Show) -> Iterator[Control]:
    """Run all negative controls, one after the other."""
    yield shuffle_labels(subject, show=show)
    yield show_constant_images(subject, show=show)
    yield blur_particles(subject, show=show)
    yield reorder_tiles(subject, show=show)


def shuffle_labels(subject: AuditSubject, *, show: Show) -> Control:
    """Train on classes permuted among the groups of images, another permutation in every fold."""
    permuted = np.empty_like(subject.tiles.label_of_image)
    outcomes: list[FoldOutcome] = []
    for split in list_splits(subject):
        labels = permute_labels(subject, fold=split.number)
        is_tested = subject.fold_of_image == split.number
        permuted[is_tested] = labels[is_tested]
        outcomes += retrain_winner(
            subject,
            splits=[split],
            name=f"shuffled labels, permutation {split.number + 1}",
            show=show,
            trainer=build_trainer(subject, labels=labels[subject.tiles.image_of_tile]),
        )
    answers = subject.pool(outcomes, labels=permuted)
    test = compute_label_test(answers, seed=derive_seed(subject.seed, "audit", "label test"))
    return _build_control("shuffled labels", subject=subject, answers=answers, label_test=test)


def show_constant_images(subject: AuditSubject, *, show: Show) -> Control:
    """Train on images of one grey each, the image's own mean; all views of such a tile are one."""
    shape = (1, subject.grid.size_px, subject.grid.size_px)
    levels = [np.float32(record.mean_grey) for record in subject.catalogue.records]

    def iter_tiles() -> Iterator[FloatTiles]:
        return (np.full(shape, level, dtype=np.float32) for level in levels)

    (of_image,) = _compute_features(subject, iter_tiles, n_tiles=len(levels), key="constant", n_views=1)
    features = [array[subject.tiles.image_of_tile] for array in of_image]
    return _retrain(subject, name="constant images", features=[features], show=show)


def blur_particles(subject: AuditSubject, *, show: Show) -> Control:
    """Train on tiles blurred so far that no particle is left."""

    def iter_tiles() -> Iterator[FloatTiles]:
        return (blur_tiles(tiles) for _, tiles in iter_image_tiles(subject.catalogue, grid=subject.grid))

    show("particles blurred away: features")
    features = _compute_features(
        subject,
        iter_tiles,
        n_tiles=subject.tiles.n_tiles,
        key=f"blurred {BLUR_SHARE}",
        n_views=len(subject.views),
    )
    return _retrain(subject, name="particles blurred away", features=features, show=show)


def reorder_tiles(subject: AuditSubject, *, show: Show) -> Control:
    """Train on the same tiles in another order."""
    rng = np.random.default_rng(derive_seed(subject.seed, "audit", "order"))
    splits = [
        replace(split, training=rng.permutation(split.training), validation=rng.permutation(split.validation))
        for split in list_splits(subject)
    ]
    outcomes = retrain_winner(subject, splits=splits, name="tiles in random order", show=show)
    answers = subject.pool(outcomes)
    comparison = compare_answers(answers, subject.pool_winner(), class_names=subject.tiles.class_names)
    return _build_control(
        "tiles in random order", subject=subject, answers=answers, difference=comparison.image_accuracy
    )


def permute_labels(subject: AuditSubject, *, fold: int) -> IntVector:
    """Return a class for each image, shape (n_images,), permuted among the groups of each split of a fold.

    Each split has as many groups of each class as before. The test labels are independent of all others, so that
    another permutation of them was as likely, whatever the network has learnt.
    """
    groups = number_groups(subject.tiles.group_of_image)
    _, first_image = np.unique(groups, return_index=True)
    permuted = subject.tiles.label_of_image[first_image]
    division = next(one for one in subject.folds.folds if one.number == fold)
    rng = np.random.default_rng(derive_seed(subject.seed, "audit", "labels", fold))
    for images in (division.training, division.validation, division.test):
        members = np.unique(groups[np.isin(subject.tiles.image_ids, images)])
        permuted[members] = rng.permutation(permuted[members])
    labels: IntVector = permuted[groups]
    return labels


def blur_tiles(tiles: FloatTiles) -> FloatTiles:
    """Return tiles, shape (n, size_px, size_px), without anything as small as a particle."""
    sigma = BLUR_SHARE * tiles.shape[1]
    blurred: FloatTiles = gaussian_filter(tiles, sigma=(0, sigma, sigma), mode="reflect").astype(np.float32)
    return blurred


def _compute_features(
    subject: AuditSubject, iter_tiles: Callable[[], Iterator[FloatTiles]], *, n_tiles: int, key: str, n_views: int
) -> list[Sequence[NDArray[np.float32]]]:
    """Return the trunk's outputs for other tiles, view by view; those of the same key are read from the cache."""

    def iter_view(view: int) -> Iterator[FloatTiles]:
        return (turn_tiles(tiles, view=view) for tiles in iter_tiles())

    with ProgressMeter("Features", total=n_views * n_tiles, unit="tiles", is_shown=True) as meter:
        return [
            get_features(
                subject.cut,
                tiles=partial(iter_view, view),
                n_tiles=n_tiles,
                backbone=subject.backbone,
                content_key=f"{subject.views[view].key} {key}",
                cache_folder=get_cache_folder(),
                meter=meter,
            ).arrays
            for view in range(n_views)
        ]


def _retrain(
    subject: AuditSubject,
    *,
    name: ControlName,
    features: Sequence[Sequence[NDArray[np.float32]]],
    show: Show,
) -> Control:
    """Train the winner's cell on the trunk's outputs for other pictures, view by view."""
    trainer = build_trainer(subject, features=features)
    outcomes = retrain_winner(subject, splits=list_splits(subject), name=name, show=show, trainer=trainer)
    answers = subject.pool(outcomes)
    return _build_control(name, subject=subject, answers=answers)


def _build_control(
    name: ControlName,
    *,
    subject: AuditSubject,
    answers: AnswerTable,
    difference: Difference | None = None,
    label_test: LabelTest | None = None,
) -> Control:
    return Control(
        name=name,
        scores=compute_intervals(answers),
        usual=compute_intervals(subject.pool_winner()),
        chance=subject.largest_class_share,
        difference=difference,
        label_test=label_test,
    )
