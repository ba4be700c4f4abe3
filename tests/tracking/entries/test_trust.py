"""How far a score can be trusted: computed once, true to the statistics."""

import json
from dataclasses import replace

import numpy as np

from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.intervals import compute_intervals
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.evaluation.selection import compute_selection_bias
from sem_search.records import StudyOutcome
from sem_search.tracking.entries import trust as room
from sem_search.tracking.entries.trust import StudyTrust, gather_image_answers, iter_trust_numbers


def test_intervals_and_choices_are_those_of_the_winner(study: StudyOutcome, trust: StudyTrust) -> None:
    for split in ("validation", "test"):
        answers = tabulate_answers(study.winner, tiles=study.tiles, split=split)
        assert trust.get_split(split) == compute_intervals(answers)
    assert trust.chosen_on_test == compute_selection_bias(study, select_on="test")
    assert trust.choice is trust.chosen_on_validation
    assert replace(trust, select_on="test").choice is trust.chosen_on_test


def test_every_test_image_answers_once_in_its_own_fold(study: StudyOutcome) -> None:
    answers = gather_image_answers(study)
    scores = compute_split_scores(study.winner, tiles=study.tiles, split="test")
    assert (answers.probabilities.argmax(axis=1) == answers.labels).mean() == scores.image_accuracy
    assert sorted(answers.group_of_row) == sorted(study.tiles.group_of_image)
    assert np.bincount(answers.fold_of_row).tolist() == [2, 2, 2]


def test_calibration_is_of_images_and_scaling_keeps_the_order(study: StudyOutcome, trust: StudyTrust) -> None:
    assert trust.calibration.n_answers == len(study.tiles.image_ids)
    assert trust.scaled_calibration.accuracy == trust.calibration.accuracy
    assert len(trust.temperatures) == 3


def test_sets_say_where_there_are_too_few_images(trust: StudyTrust) -> None:
    """Four images outside each fold can promise 80 %, and no more."""
    assert [(entry.coverage, entry.is_attainable) for entry in trust.sets] == [(0.8, True), (0.9, False), (0.95, False)]
    assert trust.sets[1].scores.mean_size == 2
    assert trust.sets[1].scores.coverage == 1


def test_numbers_have_names_of_their_own(trust: StudyTrust) -> None:
    rows = list(iter_trust_numbers(trust))
    values = {key: value for key, value, step in rows if step == 0}
    assert len(values) == len(rows)
    assert values["trust/test/f_measure_low"] == trust.test.f_measure.low
    assert values["trust/chosen_on_test/corrected"] == trust.chosen_on_test.corrected.value
    assert values["trust/chosen_on_validation/optimism"] == trust.chosen_on_validation.optimism
    assert values["trust/sets_90/coverage"] == trust.sets[1].scores.coverage
    assert values["trust/calibration/expected_calibration_error"] == trust.calibration.expected_calibration_error
    assert values["trust/risk/coverage_at_5_percent"] == trust.risk.get_coverage_at(0.05)


def test_what_pruning_left_unknown_has_no_number(trust: StudyTrust) -> None:
    alone = {
        f"chosen_on_{split}": replace(getattr(trust, f"chosen_on_{split}"), n_candidates=1, n_left_out=3)
        for split in ("validation", "test")
    }
    names = {key for key, _, _ in iter_trust_numbers(replace(trust, **alone))}
    assert not {name for name in names if "/corrected" in name or "/optimism" in name}
    assert "trust/chosen_on_test/naive" in names


def test_lists_name_class_split_and_choice(trust: StudyTrust) -> None:
    intervals = room.list_intervals(trust)["test"]
    assert [row["class"] for row in intervals["classes"]] == ["fine", "rough"]
    assert intervals["image_accuracy"]["high"] == trust.test.image_accuracy.high
    assert [(row["chosen_on"], row["is_this_study_s_choice"]) for row in room.list_selection(trust)] == [
        ("validation", True),
        ("test", False),
    ]
    sets = room.list_sets(trust)
    assert sets[0]["coverage_of_class"].keys() == {"fine", "rough"}
    assert json.loads(json.dumps(sets, allow_nan=False)) == sets


def test_the_table_of_intervals_has_all_classes_and_each(trust: StudyTrust) -> None:
    table = room.build_interval_table(trust)
    assert len(table.rows) == 2 * (4 + 2 * 5)
    rows = {row[:3]: row[3:] for row in table.rows}
    f_measure = trust.test.f_measure
    assert rows["test", "all classes", "f_measure"] == (f_measure.value, f_measure.low, f_measure.high)
    assert rows["validation", "rough", "recall"][0] == trust.validation.of_class[1].recall.value
