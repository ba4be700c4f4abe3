"""The report's words about trust: every figure beside its numbers, every sentence true to them."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sem_search.records import StudyOutcome
from sem_search.tracking.report.trust import StudyTrust, compute_trust
from sem_search.tracking.report.trust_text import (
    build_interval_table,
    build_set_artifact,
    list_trust_figures,
    write_trust_words,
)


@pytest.fixture(scope="module")
def trust(study: StudyOutcome) -> StudyTrust:
    return compute_trust(study)


def test_picture_and_numbers_stand_split_by_split(trust: StudyTrust) -> None:
    figures = list_trust_figures(trust)
    assert [figure.number for figure in figures] == ["T1", "T2", "T3", "T4"]
    for figure in figures:
        assert figure.artifact.path.removesuffix(".png") == figure.numbers.path.removesuffix(".json")
        assert json.loads(json.dumps(figure.numbers.content, allow_nan=False)) == figure.numbers.content
        assert figure.caption.endswith(".")


def test_the_table_has_all_classes_and_each(trust: StudyTrust) -> None:
    table = build_interval_table(trust)
    assert len(table.rows) == 2 * (4 + 2 * 5)
    rows = {row[:3]: row[3:] for row in table.rows}
    f_measure = trust.test.f_measure
    assert rows["test", "all classes", "f_measure"] == (f_measure.value, f_measure.low, f_measure.high)
    assert rows["validation", "rough", "recall"][0] == trust.validation.of_class[1].recall.value
    assert build_set_artifact(trust).path == "trust/prediction_sets.json"


def test_the_words_begin_with_the_test_split(trust: StudyTrust) -> None:
    words = write_trust_words(trust)
    assert words.rows[0].name == "test tiles, mean F-measure"
    assert words.rows[0].interval == trust.test.f_measure
    assert [row.name.split()[0] for row in words.rows] == ["test"] * 4 + ["validation"] * 4
    assert "rest on 6 images." in words.intervals


def test_groups_are_told_where_images_hang_together(trust: StudyTrust) -> None:
    words = write_trust_words(replace(trust, test=replace(trust.test, n_groups=5)))
    assert "rest on 6 images in 5 groups." in words.intervals


@pytest.mark.parametrize(
    ("naive", "expected"),
    [(0.95, "The choice flatters by 0.050."), (0.9, "flatters by nothing that could be measured")],
)
def test_what_choosing_flatters(trust: StudyTrust, naive: float, expected: str) -> None:
    corrected = replace(trust.chosen_on_validation.corrected, value=0.9)
    bias = replace(trust.chosen_on_validation, naive=naive, corrected=corrected)
    sentence = write_trust_words(replace(trust, chosen_on_validation=bias)).choice[0]
    assert "best of 2 complete trials on the validation tiles" in sentence
    assert f"its score there is {naive:.3f}" in sentence
    assert expected in sentence


@pytest.mark.parametrize(("n_left_out", "is_told"), [(0, False), (18, True)])
def test_what_pruned_trials_may_have_added_is_told(trust: StudyTrust, n_left_out: int, is_told: bool) -> None:
    bias = replace(trust.chosen_on_validation, n_left_out=n_left_out)
    sentence = write_trust_words(replace(trust, chosen_on_validation=bias)).choice[0]
    told = f"Trials that ended early or failed, {n_left_out} of them, are not counted: it may be more."
    assert (told in sentence) is is_told


@pytest.mark.parametrize(
    ("n_left_out", "first", "second"),
    [
        (0, "so nothing was chosen and the score owes nothing to a choice.", "would have claimed no more"),
        (1, "1 other was ended early or failed. They did not answer all images", "is not known either"),
        (3, "3 others were ended early or failed. They did not answer all images", "is not known either"),
    ],
)
def test_where_one_trial_answered_all_images_the_choice_is_told_as_far_as_it_is_known(
    trust: StudyTrust, n_left_out: int, first: str, second: str
) -> None:
    alone = {
        f"chosen_on_{split}": replace(getattr(trust, f"chosen_on_{split}"), n_candidates=1, n_left_out=n_left_out)
        for split in ("validation", "test")
    }
    words = write_trust_words(replace(trust, **alone))
    assert first in words.choice[0]
    assert second in words.choice[1]


@pytest.mark.parametrize(
    ("error", "expected"), [(0.2, "do not read the probabilities as they stand"), (0.05, "chance alone could show")]
)
def test_an_error_of_calibration_is_held_against_chance(trust: StudyTrust, error: float, expected: str) -> None:
    scores = replace(trust.calibration, expected_calibration_error=error, highest_error_if_calibrated=0.1)
    assert expected in write_trust_words(replace(trust, calibration=scores)).calibration[0]


@pytest.mark.parametrize(
    ("log_loss", "error", "expected"),
    [
        (0.4, 0.1, "it helps on images"),
        (0.6, 0.3, "it does not help"),
        (0.4, 0.3, "it helps in one respect and not in the other"),
        (0.6, 0.1, "it helps in one respect and not in the other"),
        (0.4999, 0.3, "it does not help"),  # printed as 0.500: no gain that can be seen
    ],
)
def test_scaling_is_judged_by_both_figures_as_they_are_printed(
    trust: StudyTrust, log_loss: float, error: float, expected: str
) -> None:
    before = replace(trust.calibration, log_loss=0.5, expected_calibration_error=0.2)
    after = replace(trust.calibration, log_loss=log_loss, expected_calibration_error=error)
    words = write_trust_words(
        replace(trust, calibration=before, scaled_calibration=after, temperatures=np.array([1.5, 2.0]))
    )
    assert expected in words.calibration[1]
    assert "temperature 1.50 to 2.00" in words.calibration[1]


@pytest.mark.parametrize(
    ("risk", "expected"),
    [
        ([0.0, 0.04], "4.0 % of the answers are wrong."),
        ([0.0, 0.2], "50 % of the images can be answered with at most 5 % wrong"),
        ([0.3, 0.2], "confidence does not tell which to believe"),
    ],
)
def test_what_leaving_images_to_a_person_gains(trust: StudyTrust, risk: list[float], expected: str) -> None:
    curve = replace(trust.risk, coverage=np.array([0.5, 1.0]), risk=np.array(risk))
    assert expected in write_trust_words(replace(trust, risk=curve)).refusals


def test_figures_fit_long_and_foreign_names(
    make_tiles: Callable[..., object], make_study: Callable[..., StudyOutcome]
) -> None:
    names = ["a very long name of a material that never ends, grade 1", "乳糖", "$x$ and $y$"]
    for figure in list_trust_figures(compute_trust(make_study(make_tiles(names)))):
        figure.artifact.draw().canvas.draw()
