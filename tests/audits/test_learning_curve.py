"""Growing numbers of images: drawn whole, nested, test images untouched; and the answer in words."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.trust.learning_curve import CurveWorld, measure_curve
from sem_search.audits.learning_curve import (
    SHARES,
    PlannedSize,
    check_target,
    count_kept,
    draw_split,
    measure_learning_curve,
    plan_half_tiles,
    plan_sizes,
)
from sem_search.audits.learning_curve_answer import LearningCurveAudit, iter_learning_curve_entries
from sem_search.audits.retraining import list_splits
from sem_search.audits.subject import AuditSubject
from sem_search.errors import ClassTooSmallError, SettingsError
from sem_search.evaluation.comparison import Difference
from sem_search.evaluation.learning_curve import Need
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.entries.types import FigureArtifact, JsonArtifact, Metrics, TextArtifact


@pytest.fixture(scope="module")
def served(subject: AuditSubject) -> AuditSubject:
    """The study as if its winner had been trained again on training and validation images."""
    return replace(subject, outcome=replace(subject.outcome, refitted=replace(subject.winner, is_refit=True)))


@pytest.fixture(scope="module")
def audit(served: AuditSubject) -> LearningCurveAudit:
    return measure_learning_curve(served)


def list_groups(subject: AuditSubject, tiles: np.ndarray) -> set[int]:
    return set(subject.group_number_of_tile[tiles].tolist())


@pytest.mark.parametrize(
    ("n_training", "n_validation", "share", "is_refit", "kept"),
    [
        (6, 2, 1.0, True, (6, 2)),
        (6, 2, 0.5, True, (3, 1)),
        (6, 2, 0.125, True, (1, 1)),
        (6, 2, 0.5, False, (3, 2)),
        (6, 2, 0.125, False, (1, 2)),
        (60, 20, 0.25, True, (15, 5)),
        (0, 3, 0.5, True, (0, 2)),
        (0, 0, 0.5, True, (0, 0)),
        (0, 2, 0.5, False, (0, 2)),
    ],
)
def test_training_and_validation_shrink_alike(
    n_training: int, n_validation: int, share: float, is_refit: bool, kept: tuple[int, int]
) -> None:
    assert count_kept(n_training, n_validation, share=share, is_refit=is_refit) == kept


@pytest.mark.parametrize("is_refit", [True, False])
@pytest.mark.parametrize(("n_training", "n_validation"), [(6, 2), (3, 1), (7, 5), (30, 10), (2, 1)])
def test_a_smaller_share_keeps_no_more_of_either(n_training: int, n_validation: int, is_refit: bool) -> None:
    kept = np.array([count_kept(n_training, n_validation, share=share, is_refit=is_refit) for share in SHARES])
    assert (np.diff(kept, axis=0) >= 0).all()
    assert kept[-1].tolist() == [n_training, n_validation]
    assert kept.min() >= 1


@pytest.mark.parametrize("is_refit", [True, False])
def test_draws_are_nested_and_leave_test_images_alone(subject: AuditSubject, is_refit: bool) -> None:
    asked = replace(subject, outcome=replace(subject.outcome, refitted=replace(subject.winner, is_refit=is_refit)))
    before = None
    for share in SHARES:
        splits = [draw_split(asked, split, share=share, draw=1) for split in list_splits(subject)]
        for split, whole in zip(splits, list_splits(subject), strict=True):
            assert np.array_equal(split.test, whole.test)
            assert np.isin(split.training, whole.training).all()
            assert np.isin(split.validation, whole.validation).all()
            assert set(subject.tiles.label_of_tile[split.training]) == {0, 1, 2}
            groups = list_groups(subject, split.training)
            assert np.array_equal(
                split.training, [tile for tile in whole.training if subject.group_number_of_tile[tile] in groups]
            ), "groups stay whole"
        if before is not None:
            assert all(set(small.training) <= set(large.training) for small, large in zip(before, splits, strict=True))
        before = splits
    assert all(
        np.array_equal(one.training, two.training) for one, two in zip(before, list_splits(subject), strict=True)
    )


def test_each_draw_and_fold_has_other_images(subject: AuditSubject) -> None:
    whole = list_splits(subject)[1]
    drawn = [draw_split(subject, whole, share=0.5, draw=draw).training for draw in range(6)]
    assert len({tuple(training) for training in drawn}) > 1
    assert np.array_equal(draw_split(subject, whole, share=0.5, draw=3).training, drawn[3])


def test_sizes_that_are_the_same_are_trained_once(served: AuditSubject) -> None:
    sizes = plan_sizes(served)
    numbers = [size.n_images for size in sizes]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == pytest.approx(10 / 3), "of five images of a class, a fold tests two, two or one"
    assert [len(size.draws) for size in sizes] == [3] * (len(sizes) - 1) + [1]


def test_a_class_of_too_few_images_is_refused(subject: AuditSubject) -> None:
    trained = [fold.training for fold in subject.folds.folds]
    one_of_each = [tuple({image.split("/")[0]: image for image in ids}.values()) for ids in trained]
    folds = tuple(replace(fold, training=ids) for fold, ids in zip(subject.folds.folds, one_of_each, strict=True))
    few = replace(subject, folds=replace(subject.folds, folds=folds))
    with pytest.raises(ClassTooSmallError, match="a head has only 1 of a class: add images"):
        plan_sizes(few)


HALVES = tuple(PlannedSize(n_images=n_images, draws=()) for n_images in (2.0, 4.0))


def test_half_of_the_tiles_are_spread_over_each_image(served: AuditSubject) -> None:
    (planned,) = plan_half_tiles(served, planned=HALVES)
    for split, whole in zip(planned.draws[0], list_splits(served), strict=True):
        assert len(split.training) == len(whole.training) / 2
        assert len(split.validation) == len(whole.validation) / 2
        assert np.array_equal(split.test, whole.test)
    assert planned.n_images == pytest.approx(plan_sizes(served)[-1].n_images)


def test_images_of_one_tile_have_no_half(subject: AuditSubject) -> None:
    n_images = len(subject.tiles.image_ids)
    tiles = replace(subject.tiles, image_of_tile=np.arange(n_images))
    single = replace(subject, outcome=replace(subject.outcome, tiles=tiles))
    assert plan_half_tiles(single, planned=HALVES) == ()


def test_half_of_the_tiles_is_not_compared_with_two_thirds_of_the_images(subject: AuditSubject) -> None:
    two_thirds = tuple(PlannedSize(n_images=n_images, draws=()) for n_images in (2.0, 3.0))
    assert plan_half_tiles(subject, planned=two_thirds) == ()


def test_without_refit_all_validation_tiles_stay(subject: AuditSubject) -> None:
    (planned,) = plan_half_tiles(subject, planned=HALVES)
    for split, whole in zip(planned.draws[0], list_splits(subject), strict=True):
        assert len(split.training) == len(whole.training) / 2
        assert np.array_equal(split.validation, whole.validation)


def test_with_all_images_the_score_is_the_study_s_own(audit: LearningCurveAudit, subject: AuditSubject) -> None:
    right = subject.pool_winner().is_right.mean()
    assert audit.table["image_accuracy"].iloc[-1] == pytest.approx(right)
    assert audit.share_learnt == pytest.approx(2 / 3)
    assert audit.curve.sizes[-1].n_images == pytest.approx(10 / 3)


def test_more_images_are_better_here_and_chance_is_not_the_start(audit: LearningCurveAudit) -> None:
    scores = audit.table["f_measure"].to_numpy()
    assert scores[-1] >= scores[0]
    assert scores[0] > 0.3
    assert (audit.table["f_measure_low"] <= scores).all()
    assert list(audit.table.columns[-3:]) == [f"f_measure of {name}" for name in ("blobs", "grains", "stripes")]


@pytest.mark.parametrize("target", [0.0, 1.0, 95.0])
def test_a_target_that_is_no_score_is_refused(target: float) -> None:
    with pytest.raises(SettingsError, match="must lie above 0 and below 1"):
        check_target(target)


def test_half_of_today_s_errors_gone_is_the_target(audit: LearningCurveAudit) -> None:
    assert 1 - audit.need.target == pytest.approx((1 - audit.curve.score) / 2)


@pytest.mark.parametrize(
    ("need", "verdict", "words"),
    [
        (Need(target=0.5, finding="reached"), "Enough", "and 0.500 was asked for."),
        (Need(target=0.99, finding="few sizes"), "Cannot say", "a curve needs 4 sizes: add images."),
        (Need(target=0.99, finding="flat"), "Cannot say", "was not seen to grow"),
        (
            Need(target=0.99, finding="near", n_images=Interval(value=4.0, low=4.0, high=5.0)),
            "A few more images of a class",
            "so few more should do: 8 at most.",
        ),
        (
            Need(target=0.99, finding="open", n_images=Interval(value=np.inf, low=5.0, high=np.inf)),
            "Cannot say",
            "0.990 may take 8, or more than 20: add images, and ask again.",
        ),
        (Need(target=0.99, finding="ceiling"), "More images alone will not do", "; 0.990 lies above all of that"),
        (Need(target=0.99, finding="far"), "More than 20 images of a class", "4 times as many"),
        (
            Need(target=0.99, finding="found", n_images=Interval(value=6.0, low=4.0, high=np.inf)),
            "About 9 images of a class",
            "reach 0.990 with 6 to more than 20; a head learns from 67 % of them.",
        ),
    ],
)
def test_each_finding_has_its_words(audit: LearningCurveAudit, need: Need, verdict: str, words: str) -> None:
    answer = replace(audit, need=need).to_answer()
    assert answer.verdict == verdict
    assert words in answer.sentence
    assert answer.light == {"reached": "good", "found": "plain", "near": "plain"}.get(need.finding, "unclear")


def make_difference(value: float, half: float) -> Difference:
    return Difference(first=0.5 + value, second=0.5, low=value - half, high=value + half)


def test_the_class_that_gains_most_is_named_only_if_it_clearly_gains(audit: LearningCurveAudit) -> None:
    clear = (make_difference(0.2, 0.1), make_difference(0.1, 0.05), make_difference(0.3, 0.4))
    assert "blobs gains most: +0.200." in replace(audit, gain_of_class=clear).to_text()
    unclear = (make_difference(0.2, 0.3),) * 3
    assert "Cannot say: of no class" in replace(audit, gain_of_class=unclear).to_text()


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (make_difference(-0.2, 0.1), "Images are worth more"),
        (make_difference(0.2, 0.1), "Tiles are worth more"),
        (make_difference(0.2, 0.3), "No clear difference."),
    ],
)
def test_images_are_weighed_against_tiles(audit: LearningCurveAudit, difference: Difference, words: str) -> None:
    assert words in replace(audit, tiles_difference=difference).to_text()


def test_where_a_law_is_fitted_more_images_are_foretold(audit: LearningCurveAudit) -> None:
    world = CurveWorld(name="usual", ceiling=0.95, at_first=0.5, exponent=0.8, n_classes=3)
    curve = measure_curve(world, rng=np.random.default_rng(0), n_resamples=100, seed=0)
    text = replace(audit, curve=curve, half=curve.sizes[3]).to_text()
    assert f"Fitted: {float(curve.law.ceiling):.3f} - {float(curve.law.gap):.3f} (n / 1)^-" in text
    assert curve.predict(2.0).to_text() in text
    assert "What would more images bring?" not in replace(audit, curve=replace(curve, sizes=curve.sizes[-3:])).to_text()


def test_what_is_logged(audit: LearningCurveAudit) -> None:
    found = Need(target=0.99, finding="found", n_images=Interval(value=6.0, low=4.0, high=np.inf))
    entries = list(iter_learning_curve_entries(replace(audit, need=found), command="sem-search learning-curve x"))
    paths = {entry.path for entry in entries if isinstance(entry, (TextArtifact, JsonArtifact, FigureArtifact))}
    assert paths == {f"learning_curve/learning_curve.{suffix}" for suffix in ("txt", "json", "png", "html")}
    (numbers,) = [entry.content for entry in entries if isinstance(entry, JsonArtifact)]
    assert json.loads(json.dumps(numbers, allow_nan=False))["need"]["n_images"]["high"] is None
    (metrics,) = [entry for entry in entries if isinstance(entry, Metrics)]
    points = {(point.key, point.step): point.value for point in metrics.points}
    assert points["learning_curve/images_needed", 0] == pytest.approx(9.0)
    assert points["learning_curve/f_measure", 3] == audit.curve.score
