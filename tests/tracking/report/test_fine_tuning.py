"""Was fine-tuning worth it: by the paired interval, against a baseline that is settled beforehand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sem_search.evaluation.baselines import ComparedBaseline
from sem_search.evaluation.comparison import Difference, compare_trials
from sem_search.records import Cell, Split, StudyOutcome, TrialState
from sem_search.tracking.report.fine_tuning import FineTuning, Gain, judge_fine_tuning

MakeBaselines = Callable[..., tuple[ComparedBaseline, ...]]


ANOTHER = Difference(first=0.9, second=0.1, low=0.7, high=0.9)
"""An interval that decides another question than the one that is asked."""


def judge(low: float, high: float, *, is_linear: bool = False, has_rivals: bool = True, **more: Any) -> FineTuning:
    fair = Difference(first=0.5 + (low + high) / 2, second=0.5, low=low, high=high)
    return FineTuning(difference=ANOTHER, fair=fair, is_linear=is_linear, has_rivals=has_rivals, **more)


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
    assert replace(judge(0.3, 0.4), difference=judge(*ends).fair).gain == gain


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            judge(0.01, 0.05),
            "Was fine-tuning worth it? Yes, it beats logistic regression: F-measure over test tiles 0.530 against "
            "0.500, difference +0.030 (+0.010 to +0.050).",
        ),
        (judge(0.01, 0.05, is_own=True), "Was fine-tuning worth it? Yes, it beats the linear head: "),
        (judge(-0.05, 0.05, is_own=True), "Was fine-tuning worth it? No difference to the linear head is seen: "),
        (judge(-0.05, -0.01, is_own=True), "Was fine-tuning worth it? No, the linear head does better: "),
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


def test_what_else_is_in_the_difference_follows_the_numbers() -> None:
    sentence = judge(0.01, 0.05, caveats=("One thing.", "Another.")).sentence
    assert sentence.endswith("difference +0.030 (+0.010 to +0.050). One thing. Another.")


@pytest.mark.parametrize(
    ("left_out", "refit", "most_images", "as_many", "words"),
    [
        ((), True, "logistic_all", "logistic_all", None),
        ((), False, "logistic_all", "logistic_training", None),
        (("logistic_all",), True, "logistic_training", "logistic_training", "learnt from fewer images"),
        (("logistic_all",), False, "logistic_training", "logistic_training", None),
        (("logistic_training",), True, "logistic_all", "logistic_all", None),
        (("logistic_training",), False, "logistic_all", "logistic_all", "learnt from more images"),
        (("logistic_all", "logistic_training"), True, None, None, None),
    ],
)
def test_logistic_regression_is_fair_on_as_many_images_and_no_simpler_one_may_be_better_on_most(
    study: StudyOutcome,
    make_baselines: MakeBaselines,
    left_out: tuple[str, ...],
    refit: bool,
    most_images: str | None,
    as_many: str | None,
    words: str | None,
) -> None:
    baselines = make_baselines(study)
    fitted = [replace(one, comparison=None) if one.name in left_out else one for one in baselines]
    refitted = replace(study.winner, is_refit=True) if refit else None
    found = judge_fine_tuning(replace(study, refitted=refitted), baselines=fitted)
    scores = {one.name: one.comparison.f_measure for one in baselines if one.comparison is not None}
    assert len({score.second for score in scores.values()}) == 3, "else it would not matter which"
    assert (found and found.difference) == (scores[most_images] if most_images else None)
    assert (found and found.fair) == (scores[as_many] if as_many else None)
    if found is not None:
        assert [words in caveat for caveat in found.caveats] == [True] if words else not found.caveats


@pytest.mark.parametrize("state", ["complete", "pruned"])
@pytest.mark.parametrize("select_on", ["validation", "test"])
def test_fine_tuning_is_held_against_the_study_s_own_linear_head(
    study: StudyOutcome, make_baselines: MakeBaselines, state: TrialState, select_on: Split
) -> None:
    """In the same views and on as many images, so that neither is credited to fine-tuning."""
    wrong = [replace(fold, test_probabilities=np.roll(fold.test_probabilities, 1)) for fold in study.winner.folds]
    linear = replace(study.winner, number=99, cell=Cell(head="linear"), folds=tuple(wrong), state=state)
    tried = replace(study, trials=(*study.trials, linear), select_on=select_on)
    found = judge_fine_tuning(tried, baselines=make_baselines(study), has_views=True)
    assert found is not None
    own = compare_trials(study.winner, linear, tiles=study.tiles, split="test").f_measure
    assert own != found.difference
    assert (found.fair == own, found.is_own) == ((True, True) if state == "complete" else (False, False))
    assert any("eight views" in caveat for caveat in found.caveats) is (state != "complete")
    assert any("which favours it" in caveat for caveat in found.caveats) is (select_on == "test")


def test_heads_of_as_many_images_are_compared_where_the_winner_was_trained_again(
    study: StudyOutcome, make_baselines: MakeBaselines
) -> None:
    linear = replace(study.trials[1], number=99, cell=Cell(head="linear"))
    wrong = [replace(fold, test_probabilities=np.roll(fold.test_probabilities, 1)) for fold in study.winner.folds]
    served = replace(study.winner, folds=tuple(wrong), is_refit=True)
    tried = replace(study, trials=(*study.trials, linear), refitted=served)
    found = judge_fine_tuning(tried, baselines=make_baselines(study))
    assert found is not None
    assert found.fair == compare_trials(study.winner, linear, tiles=study.tiles, split="test").f_measure
    assert found.caveats == ("Both are heads of the search, which learnt from training images alone.",)


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
