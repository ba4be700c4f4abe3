"""The report's section on trust: every sentence true to the numbers."""

import html
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.trust import StudyTrust
from sem_search.tracking.figures.catalogue import list_trust_figures
from sem_search.tracking.report.page import render_page

Write = Callable[..., str]


@pytest.fixture
def write(trust: StudyTrust, study: StudyOutcome, context: StudyContext, without_drawing: None) -> Write:
    """Return the text of the section about a study's trust with other values in it."""

    def write_section(**changes: object) -> str:
        changed = replace(trust, **changes)
        figures = {figure.number: figure for figure in list_trust_figures(changed)}
        page = render_page("trust.html", trust=changed, figures=figures, context=context, study=study)
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))

    return write_section


def test_the_table_begins_with_the_test_split(trust: StudyTrust, write: Write) -> None:
    text = write()
    interval = trust.test.f_measure
    assert f"test tiles, mean F-measure {interval.value:.3f} {interval.low:.3f} to {interval.high:.3f}" in text
    names = re.findall(r"(test|validation) (?:tiles|images), (?:mean F-measure|accuracy)", text)
    assert names == ["test"] * 4 + ["validation"] * 4
    assert "rest on 6 images." in text
    assert "90.0 % (too few images: all classes)" in text
    assert "100.0 % fine, 100.0 %" in text


def test_groups_are_named_where_images_belong_together(trust: StudyTrust, write: Write) -> None:
    assert "rest on 6 images in 5 groups." in write(test=replace(trust.test, n_groups=5))


@pytest.mark.parametrize(
    ("naive", "expected"),
    [(0.95, "The choice makes the score too high by 0.050."), (0.9, "The choice does not raise the score measurably.")],
)
def test_what_the_choice_adds(trust: StudyTrust, write: Write, naive: float, expected: str) -> None:
    corrected = replace(trust.chosen_on_validation.corrected, value=0.9)
    text = write(chosen_on_validation=replace(trust.chosen_on_validation, naive=naive, corrected=corrected))
    assert "best of 2 complete trials on the validation tiles" in text
    assert f"where it scores {naive:.3f}" in text
    assert expected in text


@pytest.mark.parametrize(
    ("n_left_out", "words"), [(0, None), (1, "1 pruned or failed trial:"), (18, "18 pruned or failed trials:")]
)
def test_what_pruned_trials_may_have_added_is_said(
    trust: StudyTrust, write: Write, n_left_out: int, words: str | None
) -> None:
    text = write(
        chosen_on_validation=replace(trust.chosen_on_validation, n_left_out=n_left_out),
        chosen_on_test=replace(trust.chosen_on_test, n_left_out=0),
    )
    assert ("the effect may be larger" in text) is (words is not None)
    assert words is None or f"This does not count {words}" in text


@pytest.mark.parametrize(
    ("n_left_out", "first", "second"),
    [
        (0, "There was no choice that could raise the score.", "would give the same score"),
        (1, "1 other was pruned or failed. These trials did not classify all images", "is not known either"),
        (3, "3 others were pruned or failed. These trials did not classify all images", "is not known either"),
    ],
)
def test_where_one_trial_is_complete_the_text_says_what_is_known(
    trust: StudyTrust, write: Write, n_left_out: int, first: str, second: str
) -> None:
    alone = {
        f"chosen_on_{split}": replace(getattr(trust, f"chosen_on_{split}"), n_candidates=1, n_left_out=n_left_out)
        for split in ("validation", "test")
    }
    text = write(**alone)
    assert first in text
    assert second in text


@pytest.mark.parametrize(
    ("error", "expected"), [(0.2, "do not take the probabilities literally"), (0.05, "chance alone could give")]
)
def test_an_error_of_calibration_is_compared_with_chance(
    trust: StudyTrust, write: Write, error: float, expected: str
) -> None:
    scores = replace(trust.calibration, expected_calibration_error=error, highest_error_if_calibrated=0.1)
    assert expected in write(calibration=scores)


@pytest.mark.parametrize(
    ("log_loss", "error", "expected"),
    [
        (0.4, 0.1, "both are improved."),
        (0.6, 0.3, "neither is improved."),
        (0.4, 0.3, "one of the two is improved."),
        (0.6, 0.1, "one of the two is improved."),
        (0.4999, 0.3, "neither is improved."),  # printed as 0.500: no gain that can be seen
    ],
)
def test_scaling_is_judged_by_both_figures_as_they_are_printed(
    trust: StudyTrust, write: Write, log_loss: float, error: float, expected: str
) -> None:
    before = replace(trust.calibration, log_loss=0.5, expected_calibration_error=0.2)
    after = replace(trust.calibration, log_loss=log_loss, expected_calibration_error=error)
    text = write(calibration=before, scaled_calibration=after, temperatures=np.array([1.5, 2.0]))
    assert f"from 0.500 to {log_loss:.3f}: {expected}" in text
    assert "(here 1.50 to 2.00)" in text


@pytest.mark.parametrize(
    ("risk", "expected"),
    [
        ([0.0, 0.04], "4.0 % of the answers are wrong. Figure T4"),
        ([0.0, 0.2], "50 % of the images can be answered with at most 5 % wrong"),
        ([0.3, 0.2], "the confidence does not show which answers to believe"),
    ],
)
def test_what_leaving_images_to_a_person_gains(
    trust: StudyTrust, write: Write, risk: list[float], expected: str
) -> None:
    assert expected in write(risk=replace(trust.risk, coverage=np.array([0.5, 1.0]), risk=np.array(risk)))
