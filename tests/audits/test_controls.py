"""Negative controls: what must fall to chance falls, and an alarm is one."""

import dataclasses

import numpy as np
import pytest

from sem_search.audits.controls import Control, blur_tiles, deal_labels, iter_controls
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.comparing import Difference


@pytest.fixture(scope="module")
def controls(subject: AuditSubject, tell) -> dict[str, Control]:
    return {control.name: control for control in iter_controls(subject, tell=tell)}


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


def test_the_order_of_tiles_does_not_matter(controls: dict[str, Control]) -> None:
    control = controls["tiles in random order"]
    assert control.difference is not None
    assert control.difference.second == control.usual.image_accuracy.value
    assert control.is_as_it_should_be


def test_labels_are_dealt_by_group_and_as_many_as_before(subject: AuditSubject) -> None:
    dealt = deal_labels(subject)
    assert sorted(dealt) == sorted(subject.tiles.label_of_image)
    assert (dealt != subject.tiles.label_of_image).any()
    groups = tuple(f"pair {place // 5}-{place % 5 // 2}" for place in range(15))
    joined = dataclasses.replace(subject, tiles=dataclasses.replace(subject.tiles, group_of_image=groups))
    of_group = {(group, int(label)) for group, label in zip(groups, deal_labels(joined), strict=True)}
    assert len(of_group) == len(set(groups))


def test_new_labels_tell_neither_the_material_nor_the_session(subject: AuditSubject, take_in_sessions) -> None:
    dated = take_in_sessions(subject, lambda place, _: "monday" if place % 5 < 3 else "tuesday")
    for seed in range(20):
        dealt = deal_labels(dataclasses.replace(dated, seed=seed))
        for label in range(3):
            counts = np.bincount(dealt[subject.tiles.label_of_image == label], minlength=3)
            assert counts.min() >= 1 and counts.max() <= 3, "of five images two of each class, as near as can be"


def test_blurring_leaves_brightness_and_nothing_small() -> None:
    tiles = np.random.default_rng(0).random((2, 48, 48)).astype(np.float32)
    blurred = blur_tiles(tiles)
    assert blurred.shape == tiles.shape and blurred.dtype == np.float32
    assert blurred.std() < tiles.std() / 10
    assert blurred.mean(axis=(1, 2)) == pytest.approx(tiles.mean(axis=(1, 2)), abs=0.01)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shuffled labels", "ALARM: labels that mean nothing are recognised"),
        ("constant images", "brightness alone gives classes away"),
        ("particles blurred away", "without any particle's texture or outline, give classes away"),
    ],
)
def test_a_score_above_chance_is_an_alarm(controls: dict[str, Control], name: str, words: str) -> None:
    control = dataclasses.replace(controls[name], chance=-1.0)
    assert not control.is_as_it_should_be
    assert words in control.to_text()


def test_a_score_that_depends_on_the_order_is_told(controls: dict[str, Control]) -> None:
    clear = Difference(first=0.5, second=0.9, low=-0.6, high=-0.2)
    control = dataclasses.replace(controls["tiles in random order"], difference=clear)
    assert "another order of the training tiles changes the score" in control.to_text()
