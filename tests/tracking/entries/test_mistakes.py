"""Which images and tiles are wrong: found as by hand, the surest mistakes first."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from sem_search.records import TileTable, TrialOutcome
from sem_search.tracking.entries.mistakes import build_mistake_table, list_answers, list_worst_tiles

CLASSES = ("a", "b", "c")
ANSWERS = {
    "a/00.png": (0.7, 0.2, 0.1),
    "b/00.png": (0.5, 0.1, 0.4),
    "c/00.png": (0.1, 0.5, 0.4),
    "a/01.png": (0.05, 0.05, 0.9),
    "b/01.png": (0.3, 0.4, 0.3),
    "c/01.png": (0.0, 0.0, 1.0),
}
"""What every tile of an image is answered."""


@pytest.fixture
def tiles(make_tiles: Callable[..., TileTable]) -> TileTable:
    return make_tiles(CLASSES, n_images=2)


@pytest.fixture
def answer_with(tiles: TileTable, make_trial: Callable[..., TrialOutcome]) -> Callable[..., TrialOutcome]:
    """Makes a trial of two folds that answers the tiles of each image as told."""

    def answer(answers: dict[str, Sequence[float]]) -> TrialOutcome:
        trial = make_trial(tiles, n_folds=2)
        rows = np.array([answers[tiles.image_ids[image]] for image in tiles.image_of_tile])
        folds = tuple(replace(fold, test_probabilities=rows[fold.test_tiles]) for fold in trial.folds)
        return replace(trial, folds=folds)

    return answer


def test_the_surest_mistakes_come_first_and_the_surest_correct_answers_last(tiles, answer_with) -> None:
    answers = list_answers(answer_with(ANSWERS), tiles=tiles)
    assert [(one.image_id, one.is_wrong) for one in answers] == [
        ("a/01.png", True),
        ("b/00.png", True),
        ("c/00.png", True),
        ("b/01.png", False),
        ("a/00.png", False),
        ("c/01.png", False),
    ]


def test_an_answer_names_both_classes_with_their_probabilities_and_the_fold_that_tested(tiles, answer_with) -> None:
    wrong, *_, right = list_answers(answer_with(ANSWERS), tiles=tiles)
    assert (wrong.true_label, wrong.predicted_label, wrong.other_label) == ("a", "c", "c")
    assert (wrong.true_probability, wrong.other_probability) == pytest.approx((0.05, 0.9))
    assert (wrong.fold, tiles.image_ids[wrong.image]) == (1, "a/01.png")
    assert (right.true_label, right.predicted_label, right.other_label) == ("c", "c", "a")


def test_a_diverged_network_answers_the_first_class(tiles, answer_with) -> None:
    answers = list_answers(answer_with(dict.fromkeys(ANSWERS, (np.nan,) * 3)), tiles=tiles)
    assert {one.predicted_label for one in answers} == {"a"}
    assert {one.true_probability for one in answers} == {0.0}
    assert all(one.other_label == "a" for one in answers if one.is_wrong)


def test_the_worst_tiles_are_those_of_the_highest_log_loss(tiles, answer_with) -> None:
    trial = answer_with(ANSWERS)
    last = trial.folds[1].test_probabilities.copy()
    last[-1] = (0.02, 0.97, 0.01)  # the last tile of c/01.png
    trial = replace(trial, folds=(trial.folds[0], replace(trial.folds[1], test_probabilities=last)))
    worst = list_worst_tiles(trial, tiles=tiles, n_most=3)
    assert [(one.image_id, one.place) for one in worst] == [("c/01.png", 3), ("a/01.png", 0), ("a/01.png", 1)]
    assert worst[0].tile == tiles.n_tiles - 1
    assert worst[0].log_loss == pytest.approx(-np.log(0.01))
    assert (worst[0].predicted_label, worst[0].other_probability) == ("b", 0.97)


def test_the_table_lists_every_mistake_and_counts_folds_from_1(tiles, answer_with) -> None:
    table = build_mistake_table(answer_with(ANSWERS), tiles=tiles, path="mistakes/images.csv")
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "number": 1,
        "image_id": "a/01.png",
        "fold": 2,
        "true": "a",
        "predicted": "c",
        "probability_of_true": 0.05,
        "probability_of_predicted": 0.9,
    }
    assert [row[1] for row in table.rows] == ["a/01.png", "b/00.png", "c/00.png"]
