"""One trial: its value, how it ends and what it leaves behind for its log; what is never done twice."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from sem_search.errors import FailedTrialError, ReleasedTrialError, StoreError
from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.records import Cell, EpochFigures
from sem_search.search.folds.train import LocalFolds
from sem_search.search.results.trial_log import read_curves
from sem_search.search.trials import objective as objective_module
from sem_search.search.trials.attributes import (
    ACCURACIES,
    CURVES,
    DAMAGED,
    PROCESS,
    PRUNE_REASON,
    RANK,
    REASON,
    TRACEBACK,
)
from sem_search.search.trials.objective import CellObjective
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.ranks import holds_rank
from sem_search.search.trials.space import suggest_cell

CELL = Cell(learning_rate=0.1, batch_size=8)
N_EPOCHS = 40
PRUNES_ALL = optuna.pruners.ThresholdPruner(lower=2.0)


@dataclass
class FakeLog:
    """Remembers which trials it was asked to log, with what end."""

    logged: list[tuple[int, str]] = field(default_factory=list)

    def log_now(self, trial: optuna.Trial, *, state: str) -> None:
        self.logged.append((trial.number, state))


@pytest.fixture
def objective(prepared, progress) -> CellObjective:
    source = LocalFolds(prepared=prepared, progress=progress)
    return CellObjective(prepared=prepared, source=source, log=FakeLog(), progress=progress)


@pytest.fixture
def ask(study: optuna.Study) -> Callable[..., optuna.Trial]:
    """Gives the next trial, of the next rank, which was enqueued for a cell."""

    def ask(cell: Cell = CELL, **attributes: object) -> optuna.Trial:
        study.enqueue_trial(
            {"learning_rate": cell.learning_rate, "batch_size": cell.batch_size}, user_attrs=dict(attributes)
        )
        return study.ask()

    return ask


def set_settings(objective: CellObjective, **changes: object) -> None:
    object.__setattr__(objective.prepared, "settings", objective.prepared.settings.model_copy(update=changes))


def test_the_value_is_the_mean_f_measure_over_the_folds(objective, ask, store_folds, untouched_trainer) -> None:
    kept = store_folds(shares_right=(0.7, 0.3))
    tiles = objective.prepared.data.tiles
    scores = [compute_fold_f_measure(one.outcome, tiles=tiles, split="validation") for one in kept]
    trial = ask()
    assert objective(trial) == pytest.approx(np.mean(scores))
    assert trial.study.trials[0].intermediate_values == pytest.approx(dict(enumerate(scores)))
    assert 0.5 < np.mean(scores) < 0.9


def test_the_paper_s_choice_looks_at_the_test_tiles(objective, ask, store_folds, untouched_trainer) -> None:
    store_folds(shares_right=(0.0, 1.0))
    assert objective(ask()) == 0.0
    set_settings(objective, select_on="test")
    assert objective(ask(seed=1)) == 1.0


def test_a_complete_trial_is_logged_before_optuna_has_its_value(
    objective, ask, store_folds, untouched_trainer, study, progress
) -> None:
    store_folds()
    objective(ask())
    (trial,) = study.get_trials()
    assert objective.log.logged == [(0, "complete")]
    assert trial.state == TrialState.RUNNING
    assert trial.user_attrs[PROCESS] == describe_process()
    assert trial.user_attrs[ACCURACIES] == [0.5, 0.5, 0.5]
    assert progress.told[-1] == ("trial", f"{CELL.name}: F 1.0000 (validation tiles)", 1.0)


def test_a_pruned_trial_says_why(objective, ask, store_folds, untouched_trainer, study, progress) -> None:
    store_folds()
    study.pruner = PRUNES_ALL
    with pytest.raises(optuna.TrialPruned, match="after 1 of 3 folds"):
        objective(ask())
    (trial,) = study.get_trials()
    assert objective.log.logged == [(0, "pruned")]
    assert "after 1 of 3 folds" in trial.user_attrs[PRUNE_REASON]
    assert CURVES not in trial.user_attrs
    assert ("skip", 2) in progress.told
    assert trial.intermediate_values == {0: 1.0}


def test_a_trial_that_is_killed_while_it_is_logged_as_pruned_frees_its_rank(
    objective, ask, store_folds, untouched_trainer, study
) -> None:
    """It knows already why it is pruned, but Optuna does not know that it is: the next trial of its rank is pruned."""
    store_folds()
    study.pruner = PRUNES_ALL
    with pytest.raises(optuna.TrialPruned):
        objective(ask())
    study.tell(0, state=TrialState.FAIL)  # as the next start does with the trial of a process that is gone
    assert not holds_rank(study.get_trials()[0])


@pytest.fixture
def run_flat_epochs(trainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Every fold that is trained stays at an accuracy of 0.2; gives the epochs that each was trained."""
    trained: list[int] = []

    def train_fold(*_: object, on_epoch: Callable[[EpochFigures], None], **_options: object) -> None:
        trained.append(0)
        for _epoch in range(N_EPOCHS):
            trained[-1] += 1
            on_epoch(
                EpochFigures(training_loss=2.0, training_accuracy=0.2, validation_loss=2.5, validation_accuracy=0.2)
            )
        raise FailedTrialError("trained to the end")

    monkeypatch.setattr(trainer, "train_fold", train_fold)
    yield trained


def add_incumbent(study: optuna.Study, *, accuracies: list[float]) -> None:
    study.add_trial(
        optuna.trial.create_trial(
            params={"learning_rate": 0.01, "batch_size": 8},
            distributions={
                "learning_rate": optuna.distributions.CategoricalDistribution((0.1, 0.01)),
                "batch_size": optuna.distributions.CategoricalDistribution((8, 16)),
            },
            value=0.9,
            user_attrs={ACCURACIES: accuracies},
        )
    )


def test_a_cell_is_pruned_within_a_fold_and_its_curves_stay(
    objective, ask, study, store_folds, run_flat_epochs, progress
) -> None:
    store_folds(n_folds=1)
    set_settings(objective, pruner="extrapolation", epochs=N_EPOCHS)
    add_incumbent(study, accuracies=[0.6, 1.0, 1.0])
    with pytest.raises(optuna.TrialPruned, match=r"in fold 2, after epoch 10 of 40"):
        objective(ask())
    assert run_flat_epochs == [10]
    trial = study.get_trials()[-1]
    assert "in fold 2, after epoch 10" in trial.user_attrs[PRUNE_REASON]
    number, curves = read_curves(trial.user_attrs[CURVES])
    assert (number, curves.validation_accuracy.tolist()) == (1, [0.2] * 10)
    assert trial.intermediate_values.keys() == {0}
    assert objective.log.logged == [(1, "pruned")]
    assert ("skip", 2) in progress.told
    assert ("trial", f"{CELL.name}: pruned in fold 2", None) in progress.told


def test_a_cell_may_be_pruned_within_its_first_fold(objective, ask, study, run_flat_epochs) -> None:
    set_settings(objective, pruner="extrapolation", epochs=N_EPOCHS)
    add_incumbent(study, accuracies=[1.0, 1.0, 1.0])
    with pytest.raises(optuna.TrialPruned, match="in fold 1, after epoch 10"):
        objective(ask())
    assert study.get_trials()[-1].intermediate_values == {}


@pytest.mark.parametrize(("pruner", "accuracies"), [("wilcoxon", [1.0] * 3), ("extrapolation", [0.2] * 3)])
def test_another_pruner_and_no_better_incumbent_leave_a_fold_alone(
    objective, ask, study, run_flat_epochs, pruner: str, accuracies: list[float]
) -> None:
    set_settings(objective, pruner=pruner, epochs=N_EPOCHS)
    add_incumbent(study, accuracies=accuracies)
    with pytest.raises(FailedTrialError, match="trained to the end"):
        objective(ask())
    assert run_flat_epochs == [N_EPOCHS]


def test_a_trial_is_not_pruned_after_its_last_fold(objective, ask, store_folds, untouched_trainer, study) -> None:
    store_folds()
    study.pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=2)
    assert objective(ask()) == 1.0


@pytest.mark.parametrize(
    ("error", "is_logged", "is_final"),
    [
        (FailedTrialError("no memory"), True, True),
        (ValueError("a fault"), True, False),  # of the program: the search ends, and the rank stays free
        (StoreError("full"), False, False),  # its sentence ends the search
        (ReleasedTrialError("an earlier rank has not begun"), False, False),
        (KeyboardInterrupt(), False, False),
        (SystemExit(), False, False),
    ],
)
def test_only_a_trial_that_fails_for_a_reason_of_its_own_keeps_its_rank(
    objective,
    ask,
    trainer,
    monkeypatch: pytest.MonkeyPatch,
    study,
    error: BaseException,
    is_logged: bool,
    is_final: bool,
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(trainer, "train_fold", fail)
    with pytest.raises(type(error), match=str(error)):
        objective(ask())
    attributes = study.get_trials()[0].user_attrs
    assert objective.log.logged == ([(0, "failed")] if is_logged else [])
    assert attributes.get(REASON) == (f"{type(error).__name__}: {error}" if is_final else None)
    assert (TRACEBACK in attributes) == is_logged
    if is_logged:
        assert attributes[TRACEBACK].startswith("Traceback")
        assert str(error) in attributes[TRACEBACK]


def test_a_damaged_fold_is_trained_again_with_a_warning(objective, ask, store_folds, trainer, study, progress) -> None:
    store_folds()
    path = objective.prepared.store.folder / CELL.name / "fold_1.bin"
    path.write_bytes(b"torn")
    objective(ask())
    warning = f"{CELL.name}, fold 2, was damaged on disk and is trained again"
    assert study.get_trials()[0].user_attrs[DAMAGED] == {"1": warning}
    assert ("trial", f"Warning: {warning}.", None) in progress.told


def test_the_folds_of_a_failed_cell_are_no_work_left(
    objective, ask, trainer, store_folds, monkeypatch: pytest.MonkeyPatch, progress
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise FailedTrialError("no memory")

    store_folds(n_folds=1)
    monkeypatch.setattr(trainer, "train_fold", fail)
    with pytest.raises(FailedTrialError):
        objective(ask())
    assert progress.told == [("fold", CELL.name, 0, False), ("skip", 2)]


def test_a_rank_that_another_worker_has_taken_trains_nothing(objective, ask, untouched_trainer) -> None:
    ask(**{RANK: 0})
    with pytest.raises(ReleasedTrialError, match="another worker has taken"):
        objective(ask(**{RANK: 0}))
    assert objective.log.logged == []


def test_a_trial_gives_way_to_an_earlier_rank_whose_worker_was_killed(
    objective, ask, study, store_folds, untouched_trainer, dead_process: str
) -> None:
    """Trained meanwhile, for no worker waits idly; its folds stay, and it is not logged."""
    store_folds()
    study.pruner = optuna.pruners.MedianPruner()
    first = ask(Cell(learning_rate=0.01, batch_size=8))
    first.set_user_attr(PROCESS, dead_process)
    second = ask()
    with pytest.raises(ReleasedTrialError, match="an earlier rank has not begun"):
        objective(second)
    assert study.get_trials()[0].state == TrialState.FAIL
    assert study.get_trials()[1].intermediate_values == {}
    assert objective.log.logged == []


def test_other_samplers_need_no_queue(objective, study, store_folds, untouched_trainer) -> None:
    settings = objective.prepared.settings
    for rate in settings.learning_rates:
        for size in settings.batch_sizes:
            store_folds(cell=Cell(learning_rate=rate, batch_size=size))
    set_settings(objective, sampler="random")
    assert objective(study.ask()) == 1.0


def test_a_cell_that_is_drawn_again_takes_its_known_result_without_a_run(
    objective, ask, study, store_folds, untouched_trainer, progress
) -> None:
    store_folds(shares_right=(0.5, 0.5))
    first = ask()
    study.tell(first, objective(first))
    again = ask(again=True)
    assert objective(again) == study.trials[0].value
    assert study.trials[1].user_attrs["repeats"] == 0
    assert objective.log.logged == [(0, "complete")]
    assert progress.told[-1] == ("skip", 3)


def test_a_cell_that_another_worker_is_training_is_waited_for(
    objective, ask, study, untouched_trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask()
    suggest_cell(first, settings=objective.prepared.settings)
    first.set_user_attr(PROCESS, "elsewhere:1:1.00")
    waits = []

    def wait(_seconds: float) -> None:
        waits.append(study.trials[1].user_attrs[PROCESS])
        if len(waits) == 2:
            study.tell(first, 0.25)

    monkeypatch.setattr(objective_module, "time", SimpleNamespace(sleep=wait))
    assert objective(ask(again=True)) == 0.25
    assert study.trials[1].user_attrs["repeats"] == 0
    assert waits == [describe_process()] * 2, "signed while it waits"


def test_a_cell_that_was_pruned_is_pruned_again_at_once(objective, ask, study, store_folds, untouched_trainer) -> None:
    store_folds()
    study.pruner = PRUNES_ALL
    first = ask()
    with pytest.raises(optuna.TrialPruned):
        objective(first)
    study.tell(first, state=TrialState.PRUNED)
    study.pruner = optuna.pruners.NopPruner()
    with pytest.raises(optuna.TrialPruned, match="trial 0 of the same cell was pruned"):
        objective(ask(again=True))
    assert study.trials[1].user_attrs["repeats"] == 0
