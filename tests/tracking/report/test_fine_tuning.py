"""Was fine-tuning worth it: by the paired interval, against a baseline that is settled beforehand."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sem_search.evaluation.baselines import ComparedBaseline
from sem_search.evaluation.comparison import Difference
from sem_search.records import Cell, StudyOutcome
from sem_search.tracking.report.fine_tuning import FineTuning, Gain, judge_fine_tuning

MakeBaselines = Callable[..., tuple[ComparedBaseline, ...]]


def judge(low: float, high: float, *, is_linear: bool = False, has_rivals: bool = True) -> FineTuning:
    difference = Difference(first=0.5 + (low + high) / 2, second=0.5, low=low, high=high)
    return FineTuning(difference=difference, is_linear=is_linear, has_rivals=has_rivals)


@pytest.mark.parametrize(
    ("ends", "gain"),
    [
        ((0.01, 0.05), "better"),
        ((-0.01, 0.05), "no difference"),
        ((-0.05, 0.01), "no difference"),
        ((0.0, 0.05), "no difference"),
        ((-0.05, 0.0), "no difference"),
        ((0.0, 0.0), "no difference"),
        ((-0.05, -0.01), "worse"),
    ],
)
def test_the_interval_decides(ends: tuple[float, float], gain: Gain) -> None:
    assert judge(*ends).gain == gain


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            judge(0.01, 0.05),
            "Was fine-tuning worth it? Yes, it beats logistic regression: F-measure over test tiles 0.530 against "
            "0.500, difference +0.030 (+0.010 to +0.050).",
        ),
        (judge(-0.05, 0.05), "Was fine-tuning worth it? No difference to logistic regression is seen: "),
        (judge(-0.05, -0.01), "Was fine-tuning worth it? No, logistic regression does better: "),
        (
            judge(0.01, 0.05, is_linear=True),
            "Was fine-tuning worth it? No: the winner is itself a linear head; it beats plain logistic regression: ",
        ),
        (
            judge(-0.05, 0.05, is_linear=True, has_rivals=False),
            "Was fine-tuning worth it? Not tried: the winner is a linear head; no difference to plain logistic "
            "regression is seen: ",
        ),
        (
            judge(-0.05, -0.01, is_linear=True),
            "Was fine-tuning worth it? No: the winner is itself a linear head; plain logistic regression does better: ",
        ),
    ],
)
def test_the_sentence_answers_the_question(found: FineTuning, sentence: str) -> None:
    assert found.sentence.startswith(sentence)
    assert found.sentence.endswith(").")


@pytest.mark.parametrize(
    ("left_out", "compared_with"),
    [
        ((), "logistic_all"),
        (("logistic_all",), "logistic_training"),
        (("logistic_training",), "logistic_all"),
        (("logistic_all", "logistic_training"), None),
    ],
)
def test_it_is_held_against_logistic_regression_on_most_images(
    study: StudyOutcome, make_baselines: MakeBaselines, left_out: tuple[str, ...], compared_with: str | None
) -> None:
    baselines = make_baselines(study)
    fitted = [replace(one, comparison=None) if one.name in left_out else one for one in baselines]
    found = judge_fine_tuning(study, baselines=fitted)
    scores = {one.name: one.comparison.f_measure for one in baselines if one.comparison is not None}
    assert len({score.second for score in scores.values()}) == 3, "else it would not matter which"
    assert (found and found.difference) == (scores[compared_with] if compared_with else None)


def test_a_study_without_baselines_has_no_answer(study: StudyOutcome) -> None:
    assert judge_fine_tuning(study, baselines=()) is None


@pytest.mark.parametrize(
    ("heads", "is_linear", "has_rivals"),
    [(("linear",), True, False), (("linear", "finetune"), True, True), (("finetune",), False, True)],
)
def test_a_linear_winner_is_known_and_whether_others_were_tried(
    study: StudyOutcome, make_baselines: MakeBaselines, heads: tuple[str, ...], is_linear: bool, has_rivals: bool
) -> None:
    """The first head is the winner's."""
    tried = tuple(
        replace(
            study.winner,
            number=number,
            cell=Cell(head="linear") if head == "linear" else Cell(learning_rate=0.1, batch_size=8),
        )
        for number, head in enumerate(heads)
    )
    found = judge_fine_tuning(replace(study, trials=tried, winner_number=0), baselines=make_baselines(study))
    assert found is not None
    assert (found.is_linear, found.has_rivals) == (is_linear, has_rivals)
