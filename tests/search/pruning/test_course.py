"""A cell's folds: accepted in order, none told of before it may be, the same ones whenever they are judged."""

from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from sem_search.records import EpochFigures, FinishedFold
from sem_search.search.pruning.course import CellCourse
from sem_search.search.pruning.curve_extrapolation import WINDOW, FoldRace, Rival
from tests.search.conftest import make_outcome

N_EPOCHS = 40
STRONG = Rival(trial=0, accuracy=1.0)


class FakeJudge:
    """Says what it is told to say."""

    def __init__(self, *, is_settled: bool = True, hopeless_after: int = 99, rivals: dict[int, Rival] | None = None):
        self.is_settled = is_settled
        self._hopeless_after = hopeless_after
        self._rivals = rivals or {}
        self.finished: list[int] = []

    def find_rival(self, *, fold: int, finished: list[Any]) -> Rival | None:
        self.finished = [outcome.fold for outcome in finished]
        return self._rivals.get(fold)

    def is_hopeless(self, values: list[float]) -> bool:
        return len(values) >= self._hopeless_after


@pytest.fixture
def folds(data) -> list[FinishedFold]:
    """Three finished folds whose validation accuracy stayed at 0.2."""
    flat = np.full(N_EPOCHS, 0.2)
    kept = []
    for fold in data.folds.folds:
        outcome = make_outcome(data.tiles, fold=fold)
        curves = replace(outcome.curves, validation_accuracy=flat, validation_loss=flat, training_loss=flat)
        kept.append(
            FinishedFold(outcome=replace(outcome, curves=replace(curves, training_accuracy=flat)), head_weights=())
        )
    return kept


def begin(course: CellCourse, number: int) -> FoldRace:
    race = FoldRace(fold=number, n_epochs=N_EPOCHS, n_tiles=400)
    course.begin_fold(race)
    return race


def run(judge: FakeJudge, folds: list[FinishedFold], *, settles_before: int = 0) -> tuple[CellCourse, list[int]]:
    """Bring all folds onto a course whose judge can judge from a fold on; return it, and what was accepted."""
    told: list[int] = []
    course = CellCourse(judge=judge, n_folds=3, accept=lambda kept: told.append(kept.outcome.fold) or 0.5)
    try:
        for number, kept in enumerate(folds):
            judge.is_settled = number >= settles_before
            begin(course, number)
            course.finish_fold(kept)
        judge.is_settled = True
        course.settle()
    except optuna.TrialPruned as error:
        told.append(-1)
        course.reason = str(error)
    return course, told


@pytest.mark.parametrize("settles_before", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("judge", "expected", "reason"),
    [
        ({}, [0, 1, 2], None),
        ({"hopeless_after": 2}, [0, 1, -1], "after 2 of 3 folds: worse than the best cell"),
        ({"hopeless_after": 3}, [0, 1, 2], None),
        ({"rivals": {1: STRONG}}, [0, -1], "in fold 2, after epoch 10 of 40"),
        ({"rivals": {2: STRONG}, "hopeless_after": 1}, [0, -1], "after 1 of 3 folds"),
        ({"rivals": {0: STRONG}, "hopeless_after": 1}, [-1], "in fold 1, after epoch 10 of 40"),
    ],
)
def test_the_same_folds_are_accepted_whenever_they_are_judged(
    folds, judge: dict[str, Any], expected: list[int], reason: str | None, settles_before: int
) -> None:
    course, told = run(FakeJudge(**judge), folds, settles_before=settles_before)
    assert told == expected
    assert [kept.outcome.fold for kept in course.accepted] == [number for number in expected if number >= 0]
    assert (course.ended is not None) == (reason is not None and reason.startswith("in fold"))
    if course.ended is not None:
        assert course.ended.curves.validation_accuracy.tolist() == [0.2] * WINDOW
    if reason is not None:
        assert course.reason.startswith(reason)


def test_nothing_is_told_before_the_cell_can_be_judged(folds) -> None:
    told: list[int] = []
    course = CellCourse(
        judge=FakeJudge(is_settled=False), n_folds=3, accept=lambda kept: told.append(kept.outcome.fold) or 0.5
    )
    begin(course, 0)
    course.finish_fold(folds[0])
    begin(course, 1)
    course.watch(EpochFigures(training_loss=1.0, training_accuracy=0.2, validation_loss=1.0, validation_accuracy=0.2))
    assert (told, course.accepted, course.n_finished) == ([], [], 1)
    assert course.find_rival() is None


def test_a_fold_in_training_is_ended_by_one_before_it(folds) -> None:
    """The earlier trials end while the second fold is trained, and then the first one turns out to be too weak."""
    judge = FakeJudge(is_settled=False, rivals={0: STRONG})
    course = CellCourse(judge=judge, n_folds=3, accept=lambda _: 0.5)
    begin(course, 0)
    course.finish_fold(folds[0])
    begin(course, 1)
    judge.is_settled = True
    figures = EpochFigures(training_loss=1.0, training_accuracy=0.2, validation_loss=1.0, validation_accuracy=0.2)
    with pytest.raises(optuna.TrialPruned, match="in fold 1"):
        course.watch(figures)
    assert course.ended is not None
    assert course.ended.fold == 0


def test_a_rival_is_asked_for_with_the_folds_before(folds) -> None:
    judge = FakeJudge(rivals={1: STRONG})
    course = CellCourse(judge=judge, n_folds=3, accept=lambda _: 0.5)
    begin(course, 0)
    course.finish_fold(folds[0])
    begin(course, 1)
    assert course.find_rival() == STRONG
    assert judge.finished == [0]


def test_epochs_of_no_fold_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="A fold is to be begun before"):
        CellCourse(judge=FakeJudge(), n_folds=3, accept=lambda _: 0.5).find_rival()
