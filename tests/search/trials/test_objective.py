"""One trial: its value, its run and how that ends, and what is never done twice."""

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from sem_search.errors import FailedTrialError, HeldUpError
from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.records import Cell, EpochFigures
from sem_search.search.pruning.curve_extrapolation import ACCURACIES
from sem_search.search.results.grad_cam_sheet import choose_sheet_tiles
from sem_search.search.trials import objective as objective_module
from sem_search.search.trials.objective import CellObjective
from sem_search.search.trials.process_id import describe_process
from sem_search.search.trials.space import suggest_cell
from sem_search.search.trials.stale_trials import PROCESS
from sem_search.search.trials.study import QUEUED, REASON, RUN_ID
from sem_search.tracking.entries.types import Entry, FigureArtifact, Metrics, Params, Tags, TextArtifact

CELL = Cell(learning_rate=0.1, batch_size=8)
N_EPOCHS = 40
PRUNES_ALL = optuna.pruners.ThresholdPruner(lower=2.0)


class Log:
    """What was logged into which run, in order; nothing is drawn."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.models: list[dict[str, Any]] = []

    def log_entries(self, entries: Iterable[Entry], *, run_id: str) -> None:
        self.entries.setdefault(run_id, []).extend(entries)

    def log_model(self, _prepared: object, **arguments: Any) -> None:
        self.models.append(arguments)

    def get_texts(self, run_id: str) -> dict[str, str]:
        return {entry.path: entry.text for entry in self.entries[run_id] if isinstance(entry, TextArtifact)}

    def get_figures(self, run_id: str) -> list[str]:
        return [entry.path for entry in self.entries[run_id] if isinstance(entry, FigureArtifact)]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(objective_module, "log_entries", log.log_entries)
    monkeypatch.setattr(objective_module, "log_trial_model", log.log_model)
    return log


@pytest.fixture
def objective(prepared, trainer, run_id: str, progress, log: Log) -> CellObjective:
    sheet = choose_sheet_tiles(prepared.data.tiles, folds=prepared.data.folds)
    return CellObjective(
        prepared=prepared,
        trainer=trainer,
        study_run_id=run_id,
        progress=progress,
        sheet=sheet,
        sheet_pixels=np.zeros((len(sheet), 48, 48), np.float32),
        params={"backbone": "tiny", "seed": 0},
    )


@pytest.fixture
def ask(study: optuna.Study) -> Callable[..., optuna.Trial]:
    """Gives the next trial, which was queued for a cell."""

    def ask(cell: Cell = CELL, **attributes: object) -> optuna.Trial:
        study.enqueue_trial(
            {"learning_rate": cell.learning_rate, "batch_size": cell.batch_size},
            user_attrs={QUEUED: True, **attributes},
        )
        return study.ask()

    return ask


@pytest.fixture
def get_run(tracking: MlflowClient, study: optuna.Study) -> Iterator[Callable[[], Run]]:
    """Gives the run of the last trial."""
    yield lambda: tracking.get_run(study.trials[-1].user_attrs[RUN_ID])


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
    object.__setattr__(
        objective.prepared, "settings", objective.prepared.settings.model_copy(update={"select_on": "test"})
    )
    assert objective(ask(seed=1)) == 1.0


def test_a_complete_trial_is_a_finished_child_run_with_sheet_and_model(
    objective, ask, store_folds, untouched_trainer, log: Log, get_run, run_id: str, progress
) -> None:
    store_folds()
    objective(ask())
    run = get_run()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == CELL.name
    assert run.data.tags["mlflow.parentRunId"] == run_id
    assert run.data.tags["sem_search.cell"] == CELL.name
    assert run.data.tags["sem_search.process"] == describe_process()
    assert "grad_cam/sheet.jpg" in log.get_figures(run.info.run_id)
    (params,) = [entry for entry in log.entries[run.info.run_id] if isinstance(entry, Params)]
    assert params.values == {"backbone": "tiny", "seed": 0, "learning_rate": 0.1, "batch_size": 8, "trial": 0}
    (model,) = log.models
    assert model["run_id"] == run.info.run_id
    assert [kept.outcome.fold for kept in model["finished_folds"]] == [0, 1, 2]
    assert progress.told[-1] == ("trial", f"{CELL.name}: F 1.0000 (validation tiles)", 1.0)


def test_a_pruned_trial_is_a_killed_run_that_says_why_and_has_no_model(
    objective, ask, store_folds, untouched_trainer, study, log: Log, get_run, progress
) -> None:
    store_folds()
    study.pruner = PRUNES_ALL
    with pytest.raises(optuna.TrialPruned, match="after 1 of 3 folds"):
        objective(ask())
    run = get_run()
    assert run.info.status == "KILLED"
    assert "after 1 of 3 folds" in log.get_texts(run.info.run_id)["pruned.txt"]
    assert "after 1 of 3 folds" in study.trials[0].user_attrs[REASON]
    assert "traceback.txt" not in log.get_texts(run.info.run_id)
    assert "grad_cam/sheet.jpg" not in log.get_figures(run.info.run_id)
    assert log.models == []
    assert ("skip", 2) in progress.told
    assert study.trials[0].intermediate_values == {0: 1.0}


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


def add_rival(study: optuna.Study, *, accuracies: list[float]) -> None:
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


def set_race(objective: CellObjective, *, pruner: str = "race") -> None:
    settings = objective.prepared.settings.model_copy(update={"pruner": pruner, "epochs": N_EPOCHS})
    object.__setattr__(objective.prepared, "settings", settings)


def test_a_race_ends_a_cell_within_a_fold_and_keeps_the_curves(
    objective, ask, study, store_folds, run_flat_epochs, log: Log, get_run, progress
) -> None:
    store_folds(n_folds=1)
    set_race(objective)
    add_rival(study, accuracies=[0.6, 1.0, 1.0])
    with pytest.raises(optuna.TrialPruned, match=r"in fold 2, after epoch 10 of 40"):
        objective(ask())
    assert run_flat_epochs == [10]
    run = get_run()
    assert run.info.status == "KILLED"
    assert "in fold 2, after epoch 10" in log.get_texts(run.info.run_id)["pruned.txt"]
    names = {
        point.key: point.step
        for entry in log.entries[run.info.run_id]
        if isinstance(entry, Metrics)
        for point in entry.points
    }
    assert names["curves/fold_1/validation_accuracy"] == 10
    assert "fold/validation_f_measure" in names
    assert study.trials[-1].intermediate_values.keys() == {0}
    assert ("skip", 2) in progress.told
    assert ("trial", f"{CELL.name}: pruned in fold 2", None) in progress.told


def test_a_cell_may_be_ended_within_its_first_fold(objective, ask, study, run_flat_epochs, log: Log, get_run) -> None:
    set_race(objective)
    add_rival(study, accuracies=[1.0, 1.0, 1.0])
    with pytest.raises(optuna.TrialPruned, match="in fold 1, after epoch 10"):
        objective(ask())
    assert study.trials[-1].intermediate_values == {}
    assert any(
        entry.values == {"trial_state": "pruned", "n_folds_finished": "0"}
        for entry in log.entries[get_run().info.run_id]
        if isinstance(entry, Tags)
    )


@pytest.mark.parametrize(("pruner", "accuracies"), [("wilcoxon", [1.0] * 3), ("race", [0.2] * 3)])
def test_no_race_and_no_better_rival_leave_a_fold_alone(
    objective, ask, study, run_flat_epochs, pruner: str, accuracies: list[float]
) -> None:
    set_race(objective, pruner=pruner)
    add_rival(study, accuracies=accuracies)
    with pytest.raises(FailedTrialError, match="trained to the end"):
        objective(ask())
    assert run_flat_epochs == [N_EPOCHS]


def test_a_complete_trial_keeps_what_others_have_to_catch_up_with(
    objective, ask, study, store_folds, untouched_trainer
) -> None:
    store_folds()
    objective(ask())
    assert study.trials[-1].user_attrs[ACCURACIES] == [0.5, 0.5, 0.5]


def test_a_trial_is_not_pruned_after_its_last_fold(objective, ask, store_folds, untouched_trainer, study) -> None:
    store_folds()
    study.pruner = optuna.pruners.ThresholdPruner(lower=2.0, n_warmup_steps=2)
    assert objective(ask()) == 1.0


@pytest.mark.parametrize("error", [FailedTrialError("no memory"), ValueError("a fault")])
def test_a_failed_trial_is_a_failed_run_with_its_traceback(
    objective, ask, trainer, monkeypatch: pytest.MonkeyPatch, study, log: Log, get_run, error: Exception
) -> None:
    def fail(*_: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(trainer, "train_fold", fail)
    with pytest.raises(type(error), match=str(error)):
        objective(ask())
    run = get_run()
    assert run.info.status == "FAILED"
    traceback = log.get_texts(run.info.run_id)["traceback.txt"]
    assert traceback.startswith("Traceback")
    assert str(error) in traceback
    assert study.trials[0].user_attrs[REASON] == f"{type(error).__name__}: {error}"


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


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_trial_is_a_killed_run(
    objective, ask, trainer, monkeypatch: pytest.MonkeyPatch, log: Log, get_run, error: type[BaseException]
) -> None:
    def interrupt(*_: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(trainer, "train_fold", interrupt)
    with pytest.raises(error):
        objective(ask())
    run = get_run()
    assert run.info.status == "KILLED"
    assert "traceback.txt" not in log.get_texts(run.info.run_id)


def test_a_trial_that_finds_the_queue_empty_trains_nothing(
    objective, study, untouched_trainer, tracking: MlflowClient
) -> None:
    with pytest.raises(FailedTrialError, match="no cell was left"):
        objective(study.ask())
    experiment = tracking.get_experiment_by_name("searches")
    assert len(tracking.search_runs([experiment.experiment_id])) == 1, "the study's own run"


def test_other_samplers_need_no_queue(objective, study, store_folds, untouched_trainer) -> None:
    settings = objective.prepared.settings
    for rate in settings.learning_rates:
        for size in settings.batch_sizes:
            store_folds(cell=Cell(learning_rate=rate, batch_size=size))
    object.__setattr__(objective.prepared, "settings", settings.model_copy(update={"sampler": "random"}))
    assert objective(study.ask()) == 1.0


def test_a_cell_that_is_drawn_again_takes_its_known_result_without_a_run(
    objective, ask, study, store_folds, untouched_trainer, progress, log: Log
) -> None:
    store_folds(shares_right=(0.5, 0.5))
    first = ask()
    study.tell(first, objective(first))
    again = ask(again=True)
    assert objective(again) == study.trials[0].value
    assert study.trials[1].user_attrs["repeats"] == 0
    assert RUN_ID not in study.trials[1].user_attrs
    assert len(log.entries) == 1
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


def test_a_cell_whose_earlier_trial_went_back_into_the_queue_gives_way(objective, study, untouched_trainer) -> None:
    cell = {"learning_rate": CELL.learning_rate, "batch_size": CELL.batch_size}
    spaces = {
        "learning_rate": optuna.distributions.CategoricalDistribution(objective.prepared.settings.learning_rates),
        "batch_size": optuna.distributions.CategoricalDistribution(objective.prepared.settings.batch_sizes),
    }
    study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, params=cell, distributions=spaces))
    study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.RUNNING, params=cell, distributions=spaces, user_attrs={QUEUED: True}
        )
    )
    with pytest.raises(HeldUpError, match="same cell"):
        objective(optuna.Trial(study, study.trials[1]._trial_id))


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


def test_the_run_of_a_killed_process_is_superseded(
    objective, ask, store_folds, untouched_trainer, tracking: MlflowClient, run_id: str, get_run, dead_process: str
) -> None:
    store_folds()
    left = tracking.create_run(tracking.get_run(run_id).info.experiment_id).info.run_id
    objective(ask(**{RUN_ID: left, PROCESS: dead_process}))
    run = get_run()
    assert run.info.run_id != left
    superseded = tracking.get_run(left)
    assert superseded.info.status == "KILLED"
    assert superseded.data.tags["sem_search.superseded_by"] == run.info.run_id


def test_a_trial_that_is_taken_up_again_tells_only_what_it_had_not_told(
    objective, ask, store_folds, untouched_trainer, study, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_folds()
    trial = ask()
    trial.report(0.25, step=0)
    steps: list[int] = []
    report = trial.report
    monkeypatch.setattr(trial, "report", lambda value, step: (steps.append(step), report(value, step)))
    assert objective(trial) == 1.0, "the value is that of all folds"
    assert steps == [1, 2]
