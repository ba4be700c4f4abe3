"""Doubtful labels of a study: named with group and probabilities, in a sentence that is true, and in a table."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sem_search.evaluation.label_errors import LabelNoise
from sem_search.evaluation.statistics import Interval
from sem_search.records import TileTable
from sem_search.tracking.entries.doubtful_labels import DoubtfulLabels, build_doubt_table, list_doubtful_labels

ANSWERS = np.array([[0.9, 0.1], [0.8, 0.2], [0.04, 0.96], [0.1, 0.9], [0.2, 0.8], [0.15, 0.85]])
"""Of three images of each class; the third image of the first class looks like the second class."""


@pytest.fixture
def find(make_tiles: Callable[..., TileTable]) -> Callable[..., DoubtfulLabels]:
    """Lists the doubtful labels, rows in another order than the images."""

    def find_with(*, answers: np.ndarray = ANSWERS, groups: tuple[str, ...] | None = None) -> DoubtfulLabels:
        tiles, order = make_tiles(), np.array([5, 2, 0, 1, 4, 3])
        names = groups or tiles.group_of_image
        return list_doubtful_labels(
            answers[order], image_of_row=order, group_of_row=[names[image] for image in order], tiles=tiles
        )

    return find_with


def test_an_image_is_named_with_both_classes_and_their_probabilities(find) -> None:
    (one,) = find().images
    assert (one.image_id, one.group, one.label, one.other_label) == ("fine/02.png", "fine/02.png", "fine", "rough")
    assert (one.label_probability, one.other_probability) == pytest.approx((0.04, 0.96))
    assert 0 < one.n_by_chance < 0.5


def test_the_sentence_counts_images_and_says_what_chance_shows(find) -> None:
    text = find().to_text()
    assert text.startswith("1 of 6 labels is doubtful. Were all labels right, the network would still doubt those of ")
    assert " images on average (0 to " in text
    assert "This does not show that any label is wrong (p = 0." in text
    none = find(answers=np.array([[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 3)).to_text()
    assert none.startswith("0 of 6 labels are doubtful. Were")
    assert "This does not show that any label is wrong (p = 1), nor that none is: where similar" in none


def test_sure_contradictions_are_more_than_chance_shows(find) -> None:
    found = find()
    noise = LabelNoise(share=Interval(value=0.3, low=0.11, high=0.49), p_value=0.004, temperature=1.0)
    text = replace(found, doubts=replace(found.doubts, noise=noise)).to_text()
    assert text.endswith(
        "But some answers are surer than mistakes would be (p = 0.004): about 2 labels are wrong (1 to 3, or more "
        "where similar classes were mixed up), or the network is sure where it is wrong. Only the images tell."
    )


def test_where_images_share_a_group_groups_are_counted(find) -> None:
    text = find(groups=("a", "b", "b", "c", "d", "e")).to_text()
    assert "1 of 6 labels is doubtful, in 1 group." in text
    assert " groups on average (0 to " in text


def test_the_table_has_what_inspection_found_of_each_image(find) -> None:
    faults = {"fine/02.png": ("clipped white", "few tiles"), "fine/00.png": ("data bar",)}
    found = find()
    table = build_doubt_table(found, path="mistakes/doubtful_labels.csv", faults=faults)
    (row,) = table.rows
    assert dict(zip(table.columns, row, strict=True)) == {
        "number": 1,
        "image_id": "fine/02.png",
        "group": "fine/02.png",
        "label": "fine",
        "other_class": "rough",
        "probability_of_label": 0.04,
        "probability_of_other": 0.96,
        "as_doubtful_by_chance": round(found.images[0].n_by_chance, 4),
        "inspection": "clipped white; few tiles",
    }
