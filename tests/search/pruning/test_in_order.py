"""In-order pruning: by earlier ranks alone, all with their results; folds are accepted in order, whenever that is."""

from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from sem_search.records import EpochFigures, FinishedFold
from sem_search.search.pruning import in_order
from sem_search.search.pruning.curve_extrapolation import WINDOW, FoldExtrapolation, Incumbent
from sem_search.search.pruning.in_order import CellCourse, EarlierTrials
from sem_search.search.pruning.pruners import build_pruner
from sem_search.search.trials.attributes import ACCURACIES, RANK, REASON
from sem_search.settings import SearchSettings
from tests.search.conftest import make_outcome

SPACE = {"learning_rate": CategoricalDistribution((0.1, 0.01)), "batch_size": CategoricalDistribution((8, 16))}
GOOD, BAD = [0.9, 0.92, 0.91], [0.3, 0.31, 0.29]


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "ASK_EVERY_S", 0.0)


@pytest.fixture
def extrapolating(settings: SearchSettings) -> SearchSettings:
    return settings.model_copy(update={"pruner": "extrapolation"})


@pytest.fixture
def study(extrapolating: SearchSettings) -> optuna.Study:
    return optuna.create_study(direction="maximize", pruner=build_pruner(extrapolating))


def add(
    study: optuna.Study,
    values: list[float],
    *,
    state: TrialState = TrialState.COMPLETE,
    rank: int | None = None,
    reason: str | None = None,
) -> None:
    attributes = {ACCURACIES: values, RANK: rank, REASON: reason}
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            params={"learning_rate": 0.1, "batch_size": 8},
            distributions=SPACE,
            value=sum(values) / len(values) if state == TrialState.COMPLETE else None,
            intermediate_values=dict(enumerate(values)),
            user_attrs={name: value for name, value in attributes.items() if value is not None},
        )
    )


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL])
def test_a_cell_is_decidable_when_every_earlier_rank_has_its_result(study, extrapolating, state: TrialState) -> None:
    """One that has not begun, or whose worker was killed, holds it up; with its result it is decidable."""
    add(study, GOOD)
    add(study, GOOD, state=state)
    assert EarlierTrials(study, rank=1, head="finetune", settings=extrapolating).is_decidable
    earlier = EarlierTrials(study, rank=2, head="finetune", settings=extrapolating)
    assert not earlier.is_decidable
    assert earlier.is_held_up == (state != TrialState.RUNNING)
    if state == TrialState.RUNNING:
        study.tell(1, state=TrialState.FAIL)
        assert not earlier.is_decidable
        assert earlier.is_held_up
    elif state == TrialState.WAITING:
        study.tell(study.ask(), 0.9)
    if state != TrialState.WAITING:
        add(study, GOOD, rank=1)
    assert earlier.is_decidable
    assert not earlier.is_held_up


def test_a_trial_that_failed_for_good_is_a_result(study, extrapolating) -> None:
    add(study, GOOD)
    add(study, BAD, state=TrialState.FAIL, reason="no memory")
    assert EarlierTrials(study, rank=2, head="finetune", settings=extrapolating).is_decidable


def test_a_later_rank_is_no_incumbent_whatever_its_number(study, extrapolating) -> None:
    """The trial of rank 0 was killed, and trained again when rank 2 had finished."""
    add(study, GOOD, state=TrialState.FAIL)
    add(study, BAD, state=TrialState.RUNNING)
    add(study, GOOD, rank=2)
    add(study, BAD, rank=0)
    earlier = EarlierTrials(study, rank=1, head="finetune", settings=extrapolating)
    assert earlier.is_decidable
    incumbent = earlier.find_incumbent(fold=1)
    assert incumbent is not None
    assert (incumbent.trial, incumbent.accuracy) == (3, 0.31)
    assert not earlier.should_prune([0.3, 0.31]), "worse than the later one alone"


def test_what_was_known_when_a_cell_became_decidable_stays_known(study, extrapolating) -> None:
    add(study, BAD)
    earlier = EarlierTrials(study, rank=1, head="finetune", settings=extrapolating)
    assert earlier.is_decidable
    add(study, GOOD)
    assert earlier.is_decidable
    assert earlier.find_incumbent(fold=0).accuracy == 0.3


@pytest.mark.parametrize("pruner", ["extrapolation", "wilcoxon", "median", "none"])
def test_between_folds_it_says_what_the_pruner_says_to_one_process(settings, pruner: str) -> None:
    chosen = settings.model_copy(update={"pruner": pruner})
    study = optuna.create_study(direction="maximize", pruner=build_pruner(chosen))
    for _ in range(3):
        add(study, GOOD)
    for values in (BAD, GOOD, [0.95, 0.3, 0.3]):
        trial = study.ask()
        earlier = EarlierTrials(study, rank=trial.number, head="finetune", settings=chosen)
        assert earlier.is_decidable
        for step, value in enumerate(values):
            trial.report(value, step=step)
            assert earlier.should_prune(values[: step + 1]) == trial.should_prune(), (values, step)
        study.tell(trial, state=TrialState.PRUNED)


def test_where_nothing_is_pruned_no_cell_waits(settings) -> None:
    study = optuna.create_study(direction="maximize", pruner=build_pruner(settings))
    add(study, GOOD, state=TrialState.WAITING)
    earlier = EarlierTrials(study, rank=1, head="finetune", settings=settings)
    assert earlier.is_decidable
    assert not earlier.is_held_up
    assert earlier.find_incumbent(fold=0) is None


def test_the_database_is_not_asked_after_every_epoch(study, extrapolating, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_order, "ASK_EVERY_S", 1000.0)
    add(study, GOOD, state=TrialState.RUNNING)
    earlier = EarlierTrials(study, rank=1, head="finetune", settings=extrapolating)
    assert not earlier.is_decidable
    monkeypatch.setattr(study, "get_trials", lambda **_: pytest.fail("asked again"))
    assert not earlier.is_decidable


N_EPOCHS = 40
STRONG = Incumbent(trial=0, accuracy=1.0)


class FakeEarlier:
    """Earlier trials with these answers."""

    def __init__(
        self, *, is_decidable: bool = True, pruned_after: int = 99, incumbents: dict[int, Incumbent] | None = None
    ):
        self.is_decidable = is_decidable
        self._pruned_after = pruned_after
        self._incumbents = incumbents or {}
        self.finished: list[int] = []

    def find_incumbent(self, *, fold: int, finished: list[Any]) -> Incumbent | None:
        self.finished = [outcome.fold for outcome in finished]
        return self._incumbents.get(fold)

    def should_prune(self, values: list[float]) -> bool:
        return len(values) >= self._pruned_after


@pytest.fixture
def folds(data) -> list[FinishedFold]:
    """Three finished folds whose validation accuracy stayed at 0.2."""
    flat = np.full(N_EPOCHS, 0.2)
    finished = []
    for fold in data.folds.folds:
        outcome = make_outcome(data.tiles, fold=fold)
        curves = replace(outcome.curves, validation_accuracy=flat, validation_loss=flat, training_loss=flat)
        finished.append(
            FinishedFold(outcome=replace(outcome, curves=replace(curves, training_accuracy=flat)), head_weights=())
        )
    return finished


def begin(course: CellCourse, number: int) -> FoldExtrapolation:
    extrapolation = FoldExtrapolation(fold=number, n_epochs=N_EPOCHS, n_tiles=400)
    course.begin_fold(extrapolation)
    return extrapolation


def run(earlier: FakeEarlier, folds: list[FinishedFold], *, decidable_from: int = 0) -> tuple[CellCourse, list[int]]:
    """Bring all folds onto a course that is decidable from a fold on; return it, and what was reported."""
    reported: list[int] = []
    course = CellCourse(earlier=earlier, n_folds=3, accept=lambda fold: reported.append(fold.outcome.fold) or 0.5)
    try:
        for number, fold in enumerate(folds):
            earlier.is_decidable = number >= decidable_from
            begin(course, number)
            course.finish_fold(fold)
        earlier.is_decidable = True
        course.accept_waiting()
    except optuna.TrialPruned as error:
        reported.append(-1)
        course.reason = str(error)
    return course, reported


@pytest.mark.parametrize("decidable_from", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("earlier", "expected", "reason"),
    [
        ({}, [0, 1, 2], None),
        ({"pruned_after": 2}, [0, 1, -1], "after 2 of 3 folds: worse than the best cell"),
        ({"pruned_after": 3}, [0, 1, 2], None),
        ({"incumbents": {1: STRONG}}, [0, -1], "in fold 2, after epoch 10 of 40"),
        ({"incumbents": {2: STRONG}, "pruned_after": 1}, [0, -1], "after 1 of 3 folds"),
        ({"incumbents": {0: STRONG}, "pruned_after": 1}, [-1], "in fold 1, after epoch 10 of 40"),
    ],
)
def test_the_same_folds_are_accepted_whenever_the_cell_is_decidable(
    folds, earlier: dict[str, Any], expected: list[int], reason: str | None, decidable_from: int
) -> None:
    course, reported = run(FakeEarlier(**earlier), folds, decidable_from=decidable_from)
    assert reported == expected
    assert [fold.outcome.fold for fold in course.accepted] == [number for number in expected if number >= 0]
    assert (course.pruned is not None) == (reason is not None and reason.startswith("in fold"))
    if course.pruned is not None:
        assert course.pruned.curves.validation_accuracy.tolist() == [0.2] * WINDOW
    if reason is not None:
        assert course.reason.startswith(reason)


def test_nothing_is_reported_before_the_cell_is_decidable(folds) -> None:
    reported: list[int] = []
    course = CellCourse(
        earlier=FakeEarlier(is_decidable=False),
        n_folds=3,
        accept=lambda fold: reported.append(fold.outcome.fold) or 0.5,
    )
    begin(course, 0)
    course.finish_fold(folds[0])
    begin(course, 1)
    course.watch(EpochFigures(training_loss=1.0, training_accuracy=0.2, validation_loss=1.0, validation_accuracy=0.2))
    assert (reported, course.accepted, course.n_finished) == ([], [], 1)
    assert course.find_incumbent() is None


def test_a_cell_in_training_is_pruned_by_one_before_it(folds) -> None:
    """The earlier trials end while the second fold is trained, and then the first one turns out to be too weak."""
    earlier = FakeEarlier(is_decidable=False, incumbents={0: STRONG})
    course = CellCourse(earlier=earlier, n_folds=3, accept=lambda _: 0.5)
    begin(course, 0)
    course.finish_fold(folds[0])
    begin(course, 1)
    earlier.is_decidable = True
    figures = EpochFigures(training_loss=1.0, training_accuracy=0.2, validation_loss=1.0, validation_accuracy=0.2)
    with pytest.raises(optuna.TrialPruned, match="in fold 1"):
        course.watch(figures)
    assert course.pruned is not None
    assert course.pruned.fold == 0


def test_the_incumbent_is_asked_for_with_the_folds_before(folds) -> None:
    earlier = FakeEarlier(incumbents={1: STRONG})
    course = CellCourse(earlier=earlier, n_folds=3, accept=lambda _: 0.5)
    begin(course, 0)
    course.finish_fold(folds[0])
    begin(course, 1)
    assert course.find_incumbent() == STRONG
    assert earlier.finished == [0]
