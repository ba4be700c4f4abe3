"""A cell is judged by the trials before it, all of them finished, and by nothing else."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from sem_search.search.pruning import in_order as judging
from sem_search.search.pruning.curve_extrapolation import ACCURACIES
from sem_search.search.pruning.in_order import CellJudge
from sem_search.search.pruning.pruners import build_pruner
from sem_search.settings import SearchSettings

SPACE = {"learning_rate": CategoricalDistribution((0.1, 0.01)), "batch_size": CategoricalDistribution((8, 16))}
GOOD, BAD = [0.9, 0.92, 0.91], [0.3, 0.31, 0.29]


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "ASK_EVERY_S", 0.0)


@pytest.fixture
def racing(settings: SearchSettings) -> SearchSettings:
    return settings.model_copy(update={"pruner": "race"})


@pytest.fixture
def study(racing: SearchSettings) -> optuna.Study:
    return optuna.create_study(direction="maximize", pruner=build_pruner(racing))


def add(study: optuna.Study, values: list[float], *, state: TrialState = TrialState.COMPLETE) -> None:
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            params={"learning_rate": 0.1, "batch_size": 8},
            distributions=SPACE,
            value=sum(values) / len(values) if state == TrialState.COMPLETE else None,
            intermediate_values=dict(enumerate(values)),
            user_attrs={ACCURACIES: values},
        )
    )


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.WAITING])
def test_nobody_is_judged_before_every_earlier_trial_has_ended(study, racing, state: TrialState) -> None:
    add(study, GOOD)
    add(study, GOOD, state=state)
    add(study, GOOD)
    assert CellJudge(study, number=1, settings=racing).is_settled
    judge = CellJudge(study, number=2, settings=racing)
    assert not judge.is_settled
    assert judge.is_held_up == (state == TrialState.WAITING)
    study._storage.set_trial_state_values(1, state=TrialState.FAIL)
    assert judge.is_settled
    assert not judge.is_held_up


def test_a_later_trial_is_nobody_s_rival(study, racing) -> None:
    add(study, BAD)
    add(study, BAD, state=TrialState.RUNNING)
    add(study, GOOD)
    judge = CellJudge(study, number=1, settings=racing)
    assert judge.is_settled
    incumbent = judge.find_incumbent(fold=1)
    assert incumbent is not None
    assert (incumbent.trial, incumbent.accuracy) == (0, 0.31)
    assert not judge.should_prune([0.3, 0.31]), "worse than the later one alone"


def test_what_was_known_when_it_was_settled_stays_known(study, racing) -> None:
    add(study, BAD)
    judge = CellJudge(study, number=1, settings=racing)
    assert judge.is_settled
    add(study, GOOD)
    assert judge.is_settled
    assert judge.find_incumbent(fold=0).accuracy == 0.3


@pytest.mark.parametrize("pruner", ["race", "wilcoxon", "median", "none"])
def test_between_folds_it_says_what_the_pruner_says_to_one_process(settings, pruner: str) -> None:
    chosen = settings.model_copy(update={"pruner": pruner})
    study = optuna.create_study(direction="maximize", pruner=build_pruner(chosen))
    for _ in range(3):
        add(study, GOOD)
    for values in (BAD, GOOD, [0.95, 0.3, 0.3]):
        trial = study.ask()
        judge = CellJudge(study, number=trial.number, settings=chosen)
        assert judge.is_settled
        for step, value in enumerate(values):
            trial.report(value, step=step)
            assert judge.should_prune(values[: step + 1]) == trial.should_prune(), (values, step)
        study.tell(trial, state=TrialState.PRUNED)


def test_where_nothing_is_pruned_nobody_waits(settings) -> None:
    study = optuna.create_study(direction="maximize", pruner=build_pruner(settings))
    add(study, GOOD, state=TrialState.WAITING)
    judge = CellJudge(study, number=1, settings=settings)
    assert judge.is_settled
    assert not judge.is_held_up
    assert judge.find_incumbent(fold=0) is None


def test_the_database_is_not_asked_after_every_epoch(study, racing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "ASK_EVERY_S", 1000.0)
    add(study, GOOD, state=TrialState.RUNNING)
    judge = CellJudge(study, number=1, settings=racing)
    assert not judge.is_settled
    monkeypatch.setattr(study, "get_trials", lambda **_: pytest.fail("asked again"))
    assert not judge.is_settled
