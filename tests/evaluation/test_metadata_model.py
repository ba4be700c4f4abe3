"""What gives the class away is found out, what does not is at chance, and both out of fold."""

from types import SimpleNamespace

import numpy as np
import pytest

from sem_search.evaluation.answers import tabulate_image_answers
from sem_search.evaluation.intervals import compute_intervals
from sem_search.evaluation.metadata_model import predict_from_metadata

LABELS = np.repeat(np.arange(3), 15)
PARTS = np.arange(45) % 5


def score(columns: dict, *, group_of_image: np.ndarray | None = None, seed: int = 0) -> SimpleNamespace:
    """What metadata alone predict, out of fold, and how well."""
    predicted, attributes = predict_from_metadata(columns, labels=LABELS, n_classes=3, part_of_image=PARTS, seed=seed)
    answers = tabulate_image_answers(predicted, labels=LABELS, n_classes=3, group_of_row=group_of_image)
    intervals = compute_intervals(answers, seed=seed)
    return SimpleNamespace(
        attributes=attributes,
        answers=answers,
        f_measure=intervals.image_f_measure,
        accuracy=intervals.image_accuracy,
    )


def test_a_session_per_class_gives_it_away() -> None:
    found = score({"session": [f"day {label}" for label in LABELS], "detector": ["ETD"] * 45})
    assert found.f_measure.value == found.accuracy.value == 1.0
    assert found.f_measure.low > 0.85
    assert found.attributes == ("session",)


def test_a_number_gives_it_away_as_well() -> None:
    rng = np.random.default_rng(0)
    found = score({"pixel size": list(10.0 + LABELS + 0.1 * rng.random(45)), "noise": list(rng.random(45))})
    assert found.f_measure.value > 0.95


def test_metadata_dealt_by_chance_tell_nothing() -> None:
    values = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        columns = {"session": [f"day {day}" for day in rng.integers(0, 4, 45)], "noise": list(rng.random(45))}
        values.append(score(columns).f_measure)
    assert 0.25 < np.mean([value.value for value in values]) < 0.42
    assert np.mean([value.low < 1 / 3 < value.high for value in values]) >= 0.75


def test_images_are_named_by_forests_that_did_not_see_them() -> None:
    """A value of its own for each image can be learnt by heart, and helps no other."""
    found = score({"file": [f"name {number}" for number in range(45)]})
    assert found.f_measure.value < 0.5


def test_a_value_that_is_not_told_is_told_by_that() -> None:
    words = score({"detector": [None if label == 1 else "ETD" for label in LABELS]})
    numbers = score({"pixel size": [None if label == 1 else 5.0 for label in LABELS]})
    assert words.answers.is_right[LABELS == 1].all()
    assert numbers.answers.is_right[LABELS == 1].all()


def test_words_and_numbers_in_one_column_are_categories() -> None:
    found = score({"voltage": [5.0 if label == 0 else f"{label} kV" for label in LABELS]})
    assert found.accuracy.value == 1.0


@pytest.mark.parametrize("columns", [{}, {"detector": ["ETD"] * 45, "bits": [8.0] * 45, "size": [float("nan")] * 45}])
def test_nothing_to_learn_from_names_every_image_alike(columns: dict) -> None:
    found = score(columns)
    assert found.attributes == ()
    assert found.accuracy.value == pytest.approx(1 / 3)
    assert len(set(found.answers.answer_of_row)) == 1


def test_groups_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    columns = {"noise": list(LABELS + 0.8 * rng.normal(size=45))}
    single, grouped = score(columns), score(columns, group_of_image=np.arange(45) // 5)
    assert single.f_measure.value == grouped.f_measure.value
    assert grouped.f_measure.high - grouped.f_measure.low > single.f_measure.high - single.f_measure.low


def test_the_same_seed_gives_the_same_score() -> None:
    columns = {"noise": list(np.random.default_rng(0).random(45))}
    assert score(columns, seed=3).f_measure == score(columns, seed=3).f_measure
