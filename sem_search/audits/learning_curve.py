"""How many images a study needs: its winner's cell trained on growing numbers of images of each class.

In each fold some groups of each class are drawn from those that the winner learnt from; a smaller number lies within
the larger, and the test images stay as they are. With `refit` a head learns from training and validation images, so
both shrink in the study's own proportion; without it the validation images only say when to stop, and stay. With all
images the splits are the study's, and so is the score: that size is not trained again.

Cost: about six cross-validations of the winner's cell; the trunk is not computed again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sem_search.audits.learning_curve_answer import LearningCurveAudit
from sem_search.audits.retraining import iter_retrained, list_splits
from sem_search.audits.subject import AuditSubject
from sem_search.errors import ClassTooSmallError, SettingsError
from sem_search.evaluation.answers import AnswerTable
from sem_search.evaluation.learning_curve import Size, compare_sizes, fit_learning_curve, measure_size
from sem_search.evaluation.statistics import LEVEL
from sem_search.progress import iter_measured
from sem_search.records import BoolVector, TileSplits
from sem_search.seeds import derive_seed

SHARES = (1 / 8, 1 / 4, 0.35, 1 / 2, 0.7, 1.0)
"""Of the groups of each class that a head learns from."""

MOST_APART = 0.1
"""Of the shares of tiles that are compared: half of the images, and every second tile of all."""

N_DRAWS = 3
"""Of training images for each size, each with other images in every fold."""


@dataclass(frozen=True, kw_only=True)
class PlannedSize:
    """What is trained for one number of images."""

    n_images: float
    """Of a class, learnt from; mean over classes, folds and draws."""
    draws: tuple[tuple[TileSplits, ...], ...]
    """The folds of each draw."""


def measure_learning_curve(subject: AuditSubject, *, target: float | None = None) -> LearningCurveAudit:
    """Train the winner's cell on growing numbers of images, and say how many a target needs.

    Args:
        subject: The study.
        target: F-measure over test tiles, in (0, 1); by default half of today's errors gone.

    Raises:
        ClassTooSmallError: There are too few images to leave any out.
    """
    planned = plan_sizes(subject)
    half_tiles = plan_half_tiles(subject, planned=planned)
    tables = _train(subject, planned=(*planned[:-1], *half_tiles))
    measured = [
        measure_size(draws, n_images=size.n_images, seed=derive_seed(subject.seed, "learning curve", "resamples"))
        for size, draws in zip(
            (*planned[:-1], *half_tiles, planned[-1]), (*tables, [subject.pool_winner()]), strict=True
        )
    ]
    sizes = [*measured[: len(planned) - 1], measured[-1]]
    return _conclude(subject, sizes=sizes, half_tiles=measured[-2] if half_tiles else None, target=target)


def check_target(target: float | None) -> None:
    """Raise SettingsError unless this is a score that can be asked for."""
    if target is not None and not 0 < target < 1:
        raise SettingsError(f"target={target:g} must lie above 0 and below 1: it is an F-measure, such as 0.95.")


def plan_sizes(subject: AuditSubject) -> tuple[PlannedSize, ...]:
    """Return what is trained, in ascending order; the last size has all images, and the study's own splits.

    Raises:
        ClassTooSmallError: There are too few images to leave any out.
    """
    sizes: dict[float, PlannedSize] = {}
    splits = list_splits(subject)
    for share in SHARES:
        draws = tuple(
            tuple(draw_split(subject, split, share=share, draw=draw) for split in splits)
            for draw in range(N_DRAWS if share < 1 else 1)
        )
        counts = [_count_images(subject, split) for folds in draws for split in folds]
        n_images = round(float(np.mean(counts)), 9)  # equal means of other numbers of draws differ in the last bit
        sizes[n_images] = PlannedSize(n_images=n_images, draws=draws)
    if len(sizes) < 2:
        raise ClassTooSmallError(
            f"A learning curve of study {subject.outcome.name!r} leaves out images to learn from, but a head has only "
            f"{max(sizes):.3g} of a class: add images, and search again."
        )
    return tuple(sizes[n_images] for n_images in sorted(sizes))


def draw_split(subject: AuditSubject, split: TileSplits, *, share: float, draw: int) -> TileSplits:
    """Return one fold with a share of the groups of each class that a head learns from.

    A smaller share of the same draw lies within the larger. At least one group of each class trains, and with `refit`
    one validates. A group of several classes counts to that of its first tile.

    Args:
        subject: The study.
        split: One of its folds.
        share: In (0, 1].
        draw: Number of the draw.
    """
    group_of_tile = subject.group_number_of_tile
    class_of_group = subject.tiles.label_of_tile[np.unique(group_of_tile, return_index=True)[1]]
    rng = np.random.default_rng(derive_seed(subject.seed, "learning curve", draw, split.number))
    order = rng.permutation(len(class_of_group))
    is_kept = np.zeros(len(class_of_group), dtype=bool)
    for label in range(subject.n_classes):
        of_class = order[class_of_group[order] == label]
        parts = [of_class[np.isin(of_class, group_of_tile[tiles])] for tiles in (split.training, split.validation)]
        numbers = count_kept(len(parts[0]), len(parts[1]), share=share, is_refit=subject.winner.is_refit)
        for part, n_kept in zip(parts, numbers, strict=True):
            is_kept[part[:n_kept]] = True
    return _keep(split, is_kept=is_kept[group_of_tile])


def count_kept(n_training: int, n_validation: int, *, share: float, is_refit: bool) -> tuple[int, int]:
    """Return how many training and validation groups of a class stay.

    Args:
        n_training: Groups of the class that train.
        n_validation: Groups that validate.
        share: In (0, 1].
        is_refit: Whether heads learn from both.
    """
    if not is_refit:
        return min(max(_round(share * n_training), 1), n_training), n_validation
    n_both = n_training + n_validation
    n_kept = max(_round(share * n_both), 2)
    n_judging = min(max(_round(n_kept * n_validation / max(n_both, 1)), 1), n_validation)
    return min(n_kept - n_judging, n_training), n_judging


def find_half(numbers: Sequence[float]) -> int:
    """Return which of ascending numbers of images, but for the last, is nearest to half of the last."""
    return min(range(len(numbers) - 1), key=lambda place: abs(numbers[place] - numbers[-1] / 2))


def plan_half_tiles(subject: AuditSubject, *, planned: Sequence[PlannedSize]) -> tuple[PlannedSize, ...]:
    """Return all images with every second tile of each, row by row, to learn from.

    Nothing where that is another share of the tiles than about half of the images have: images of one tile or three.
    """
    image_of_tile = subject.tiles.image_of_tile
    place = np.arange(len(image_of_tile)) - np.searchsorted(image_of_tile, image_of_tile)
    numbers = [size.n_images for size in planned]
    share_of_images, share_of_tiles = numbers[find_half(numbers)] / numbers[-1], float((place % 2 == 0).mean())
    if abs(share_of_images - share_of_tiles) > MOST_APART * share_of_tiles:
        return ()
    splits = [_keep(split, is_kept=place % 2 == 0) for split in list_splits(subject)]
    if not subject.winner.is_refit:
        splits = [
            replace(half, validation=split.validation) for half, split in zip(splits, list_splits(subject), strict=True)
        ]
    n_images = float(np.mean([_count_images(subject, split) for split in splits]))
    return (PlannedSize(n_images=n_images, draws=(tuple(splits),)),)


def _keep(split: TileSplits, *, is_kept: BoolVector) -> TileSplits:
    """Return a fold that learns from some tiles only; is_kept has shape (n_tiles,)."""
    training, validation = (tiles[is_kept[tiles]] for tiles in (split.training, split.validation))
    return replace(split, training=training, validation=validation)


def _count_images(subject: AuditSubject, split: TileSplits) -> float:
    """Return how many images of a class a head learns from, mean over the classes."""
    learnt = [split.training, split.validation] if subject.winner.is_refit else [split.training]
    return len(np.unique(subject.tiles.image_of_tile[np.concatenate(learnt)])) / subject.n_classes


def _round(number: float) -> int:
    """Return the nearest whole number; halves go up."""
    return int(number + 0.5)


def _train(subject: AuditSubject, *, planned: Sequence[PlannedSize]) -> list[list[AnswerTable]]:
    """Return what is answered after each draw of each size; trained draw by draw, so that the time left can be told."""
    jobs = sorted((draw, -place) for place, size in enumerate(planned) for draw in range(len(size.draws)))
    splits = [split for draw, place in jobs for split in planned[-place].draws[draw]]
    trained = iter_retrained(subject, splits=splits)
    folds = list(iter_measured(trained, label="Learning curve", total=len(splits), unit="heads", is_shown=True))
    tables: list[list[AnswerTable]] = [[] for _ in planned]
    n_folds = len(subject.folds.folds)
    for number, (_, place) in enumerate(jobs):
        tables[-place].append(subject.pool(folds[number * n_folds : (number + 1) * n_folds]))
    return tables


def _conclude(
    subject: AuditSubject, *, sizes: list[Size], half_tiles: Size | None, target: float | None
) -> LearningCurveAudit:
    curve = fit_learning_curve(sizes)
    whole, half = sizes[-1], sizes[find_half([size.n_images for size in sizes])]
    compare = partial(compare_sizes, table=subject.pool_winner())
    return LearningCurveAudit(
        study=subject.outcome.name,
        class_names=subject.tiles.class_names,
        n_folds=len(subject.folds.folds),
        images_per_class=len(subject.tiles.image_ids) / subject.n_classes,
        curve=curve,
        need=curve.find_need(1 - (1 - curve.score) / 2 if target is None else target),
        half=half,
        gain_of_class=compare(whole, half, level=1 - (1 - LEVEL) / subject.n_classes)[1],
        tiles_difference=None if half_tiles is None else compare(half, half_tiles)[0]["f_measure"],
    )
