"""Negative controls: what must fall to chance falls, and an alarm is one."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from sem_search.audits import controls as controls_module
from sem_search.audits.controls import (
    Control,
    blur_particles,
    blur_tiles,
    iter_controls,
    permute_labels,
    show_constant_images,
)
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.comparison import Difference
from sem_search.evaluation.label_test import LabelTest
from sem_search.evaluation.statistics import Interval
from sem_search.micrographs.tiles import iter_image_tiles
from sem_search.transfer.views import VIEWS, turn_tiles


@pytest.fixture(scope="module")
def controls(subject: AuditSubject, show) -> dict[str, Control]:
    return {control.name: control for control in iter_controls(subject, show=show)}


def test_all_four_are_run(controls: dict[str, Control]) -> None:
    assert list(controls) == [
        "shuffled labels",
        "constant images",
        "particles blurred away",
        "tiles in random order",
    ]


def test_shuffled_labels_and_constant_images_fall_to_chance(controls: dict[str, Control]) -> None:
    for name in ("shuffled labels", "constant images"):
        control = controls[name]
        assert control.is_as_it_should_be
        assert control.scores.image_accuracy.low <= 1 / 3 < control.usual.image_accuracy.low
        assert "As it should be" in control.to_text()


def test_other_pictures_are_shown_to_the_trunk_in_every_view(
    subject: AuditSubject, show, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    monkeypatch.setattr(controls_module, "build_trainer", lambda _, *, features: shown.append(features))
    monkeypatch.setattr(controls_module, "retrain_winner", lambda *_, **__: subject.winner.folds)
    own = subject.features
    views = tuple(dataclasses.replace(own, key=f"{own.key} {view}") for view in range(VIEWS["dihedral"]))
    in_views = dataclasses.replace(subject, views=views)
    blur_particles(in_views, show=show)
    show_constant_images(in_views, show=show)
    blurred, constant = shown
    tiles = np.concatenate([tiles for _, tiles in iter_image_tiles(subject.catalogue, grid=subject.grid)])
    for view, (features,) in enumerate(blurred):
        turned = turn_tiles(blur_tiles(tiles), view=view)
        expected = np.asarray(subject.cut.trunk(subject.backbone.preprocess(turned)))
        np.testing.assert_allclose(features, expected, atol=1e-5)
    assert len(blurred) == len(views)
    ((features,),) = constant
    assert len(features) == len(tiles), "a tile of one grey is the same in every view"


def test_the_order_of_tiles_does_not_matter(controls: dict[str, Control]) -> None:
    control = controls["tiles in random order"]
    assert control.difference is not None
    assert control.difference.second == control.usual.image_accuracy.value
    assert control.is_as_it_should_be


def test_labels_are_dealt_by_group_and_as_many_as_before_in_every_split(subject: AuditSubject) -> None:
    ids = np.array(subject.tiles.image_ids)
    permutations = []
    for fold in subject.folds.folds:
        permuted = permute_labels(subject, fold=fold.number)
        for images in (fold.training, fold.validation, fold.test):
            members = np.isin(ids, images)
            assert sorted(permuted[members]) == sorted(subject.tiles.label_of_image[members])
        permutations.append(tuple(permuted))
    assert len({*permutations, tuple(subject.tiles.label_of_image)}) == len(permutations) + 1, (
        "another permutation in every fold"
    )


def test_images_of_one_group_are_dealt_one_label(subject: AuditSubject) -> None:
    part = {image: number for number, fold in enumerate(subject.folds.folds) for image in fold.test}
    groups = tuple(f"{image.split('/')[0]} {part[image]}" for image in subject.tiles.image_ids)
    tiles = dataclasses.replace(subject.tiles, group_of_image=groups)
    joined = dataclasses.replace(subject, outcome=dataclasses.replace(subject.outcome, tiles=tiles))
    assert len(set(groups)) < len(groups)
    for fold in subject.folds.folds:
        permuted = permute_labels(joined, fold=fold.number)
        assert len(set(zip(groups, permuted.tolist(), strict=True))) == len(set(groups))


def test_test_labels_are_dealt_by_chance_alone(subject: AuditSubject) -> None:
    """Over many seeds each label falls on each test image as often as there are images of it."""
    fold = subject.folds.folds[0]
    is_tested = np.isin(subject.tiles.image_ids, fold.test)
    share = np.bincount(subject.tiles.label_of_image[is_tested], minlength=3) / is_tested.sum()
    permutations = np.array(
        [permute_labels(dataclasses.replace(subject, seed=seed), fold=fold.number)[is_tested] for seed in range(200)]
    )
    for label in range(3):
        low, high = binom.interval(0.9999, 200, share[label])
        assert ((permutations == label).sum(axis=0) >= low).all() and (
            (permutations == label).sum(axis=0) <= high
        ).all()


def test_shuffled_labels_are_held_against_other_deals(controls: dict[str, Control]) -> None:
    control = controls["shuffled labels"]
    assert control.label_test is not None
    assert control.label_test.accuracy == control.scores.image_accuracy.value
    assert control.row.cells[2].startswith(f"other permutations: {100 * control.label_test.expected:.1f} %, p = ")


def test_blurring_leaves_brightness_and_nothing_small() -> None:
    tiles = np.random.default_rng(0).random((2, 48, 48)).astype(np.float32)
    blurred = blur_tiles(tiles)
    assert blurred.shape == tiles.shape and blurred.dtype == np.float32
    assert blurred.std() < tiles.std() / 10
    assert blurred.mean(axis=(1, 2)) == pytest.approx(tiles.mean(axis=(1, 2)), abs=0.01)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("constant images", "brightness alone gives classes away"),
        ("particles blurred away", "without any particle's texture or outline, give classes away"),
    ],
)
def test_a_score_above_chance_is_an_alarm(controls: dict[str, Control], name: str, words: str) -> None:
    control = dataclasses.replace(controls[name], chance=-1.0)
    assert not control.is_as_it_should_be
    assert words in control.to_text()


def test_dealt_labels_that_are_predicted_are_an_alarm(controls: dict[str, Control]) -> None:
    found = LabelTest(accuracy=0.6, expected=0.3, p_value=0.01)
    control = dataclasses.replace(controls["shuffled labels"], label_test=found)
    assert not control.is_as_it_should_be
    assert "ALARM: labels that mean nothing are recognised" in control.to_text()


def test_a_score_that_depends_on_the_order_is_told(controls: dict[str, Control]) -> None:
    clear = Difference(first=0.5, second=0.9, low=-0.6, high=-0.2)
    control = dataclasses.replace(controls["tiles in random order"], difference=clear)
    assert "another order of the training tiles changes the score" in control.to_text()


def at(value: float) -> Interval:
    return Interval(value=value, low=value - 0.05, high=value + 0.05)


@pytest.mark.parametrize(
    ("name", "accuracy", "changes", "light"),
    [
        ("constant images", 0.3, {}, "good"),
        ("constant images", 0.5, {}, "unclear"),
        ("constant images", 0.86, {}, "unclear"),
        ("shuffled labels", 0.5, {"label_test": LabelTest(accuracy=0.5, expected=0.3, p_value=0.01)}, "bad"),
        ("shuffled labels", 0.5, {"label_test": LabelTest(accuracy=0.5, expected=0.3, p_value=0.2)}, "good"),
        ("tiles in random order", 0.5, {"difference": Difference(first=0.5, second=0.9, low=-1, high=-0.2)}, "unclear"),
    ],
)
def test_the_light_follows_the_score_and_what_it_explains(
    controls: dict[str, Control], name: str, accuracy: float, changes: dict[str, Any], light: str
) -> None:
    control = controls[name]
    control = dataclasses.replace(
        control,
        scores=dataclasses.replace(control.scores, image_accuracy=at(accuracy)),
        usual=dataclasses.replace(control.usual, image_accuracy=at(0.9)),
        chance=1 / 3,
        **changes,
    )
    assert control.row.light == light
    assert control.row.cells[1] == f"{100 * accuracy:.1f} % ({100 * accuracy - 5:.1f} to {100 * accuracy + 5:.1f} %)"
