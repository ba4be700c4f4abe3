"""A trial's run: made in one go from finished folds, now or later, once, and superseded where it was cut off."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from filelock import Timeout
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.records import Cell, TrainingCurves
from sem_search.search.prepare.study_folder import lock_stores
from sem_search.search.results import trial_log
from sem_search.search.results.outcome import read_study_outcome
from sem_search.search.results.trial_log import TrialLog, read_curves, write_curves
from sem_search.search.trials.attributes import CURVES, DAMAGED, RANK, REASON, RUN_ID, TRACEBACK, TRIAL_RUNS
from sem_search.search.trials.results import OUTCOME_STATES
from sem_search.tracking.entries.types import Tags
from sem_search.tracking.mlflow.runs import describe_trial

GONE = "0" * 32
CELLS = {
    TrialState.COMPLETE: Cell(learning_rate=0.1, batch_size=8),
    TrialState.PRUNED: Cell(learning_rate=0.01, batch_size=8),
    TrialState.FAIL: Cell(learning_rate=0.01, batch_size=16),
}
N_FOLDS = {TrialState.COMPLETE: 3, TrialState.PRUNED: 2, TrialState.FAIL: 1}
STATUSES = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "FINISHED", TrialState.FAIL: "FAILED"}


def finish_trial(study: optuna.Study, *, state: TrialState, run: str = GONE, **attributes: object) -> None:
    cell = CELLS[state]
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=1.0 if state == TrialState.COMPLETE else None,
            params={"learning_rate": cell.learning_rate, "batch_size": cell.batch_size},
            distributions={
                "learning_rate": optuna.distributions.CategoricalDistribution([0.1, 0.01]),
                "batch_size": optuna.distributions.CategoricalDistribution([8, 16]),
            },
            intermediate_values=dict.fromkeys(range(N_FOLDS[state]), 1.0),
            user_attrs={RUN_ID: run, REASON: "the reason", **attributes},
        )
    )


@pytest.fixture
def log(prepared, untouched_trainer, run_id: str, monkeypatch: pytest.MonkeyPatch) -> TrialLog:
    return TrialLog(prepared=prepared, study_run_id=run_id)


@pytest.fixture
def finished(study: optuna.Study, store_folds: Callable[..., object]) -> optuna.Study:
    """A complete, a pruned and a failed trial, whose runs are gone."""
    for state, cell in CELLS.items():
        store_folds(cell=cell, n_folds=N_FOLDS[state])
        finish_trial(study, state=state)
    return study


def list_children(tracking: MlflowClient, run_id: str):
    experiment = tracking.get_run(run_id).info.experiment_id
    runs = tracking.search_runs([experiment], filter_string=f"tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(runs, key=lambda run: int(run.data.tags["sem_search.trial"]))


def begin_study_run(tracking: MlflowClient, *, experiment: str = "searches") -> str:
    found = tracking.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else tracking.create_experiment(experiment)
    return str(tracking.create_run(experiment_id).info.run_id)


def test_each_trial_has_all_of_its_run_again_and_only_once(
    finished, log, prepared, tracking: MlflowClient, run_id: str
) -> None:
    """The tracking store was cleared, then the same command is given twice."""
    assert log.log_missing(finished) == 3
    runs = list_children(tracking, run_id)
    assert [run.info.status for run in runs] == [STATUSES[state] for state in CELLS]
    assert [run.data.tags["sem_search.trial_state"] for run in runs] == ["complete", "pruned", "failed"]
    for run, state in zip(runs, CELLS, strict=True):
        name = CELLS[state].name
        assert run.info.run_name == (name if state == TrialState.COMPLETE else f"{name} ({OUTCOME_STATES[state]})")
        assert run.data.params["backbone"] == "tiny"
        history = tracking.get_metric_history(run.info.run_id, "fold/validation_f_measure")
        folds = [prepared.store.read(cell=CELLS[state], fold=fold) for fold in range(N_FOLDS[state])]
        assert [point.value for point in history] == [
            compute_fold_f_measure(one.outcome, tiles=prepared.data.tiles, split="validation") for one in folds
        ]
    complete, pruned, failed = ({file.path for file in tracking.list_artifacts(run.info.run_id)} for run in runs)
    assert {"images", "predictions", "grad_cam.json"} <= complete
    assert "pruned.txt" in pruned
    assert "failed.txt" in failed
    assert [one.run_id for one in read_study_outcome(finished, prepared=prepared).trials] == [
        run.info.run_id for run in runs
    ]
    (model,) = tracking.search_logged_models([runs[0].info.experiment_id])
    assert (model.source_run_id, model.status) == (runs[0].info.run_id, "READY")

    again = begin_study_run(tracking)
    assert TrialLog(prepared=prepared, study_run_id=again).log_missing(finished) == 0
    assert [run.info.run_id for run in list_children(tracking, again)] == [run.info.run_id for run in runs]
    finished.set_user_attr(TRIAL_RUNS, {})  # the database was put back from a copy of before
    assert TrialLog(prepared=prepared, study_run_id=again).log_missing(finished) == 0
    assert finished.user_attrs[TRIAL_RUNS] == {str(n): [run.info.run_id] for n, run in enumerate(runs)}


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures and no models: they were tried above."""
    monkeypatch.setattr(trial_log, "iter_trial_entries", lambda outcome, **_: iter([tag_state(outcome)]))
    monkeypatch.setattr(trial_log, "explain_sheet", lambda *_, **__: None)
    monkeypatch.setattr(trial_log, "log_trial_model", lambda *_, **__: None)


def tag_state(outcome) -> Tags:
    return Tags(values={"sem_search.trial_state": outcome.state})


@pytest.mark.usefixtures("without_figures")
def test_an_experiment_has_its_own_runs_and_finds_them_again(
    study, prepared, trainer, store_folds, tracking: MlflowClient, run_id: str
) -> None:
    """Logged in one experiment, asked for in others, and in each again: three runs, each below its latest study run."""
    store_folds()
    tags = describe_trial(study=prepared.name, cell="cell", process="me")
    experiment = tracking.get_run(run_id).info.experiment_id
    tags |= {"mlflow.parentRunId": run_id, "trial_state": "complete"}
    first = tracking.create_run(experiment, tags=tags).info.run_id
    tracking.log_param(first, "trial", 0)
    tracking.set_terminated(first)
    finish_trial(study, state=TrialState.COMPLETE, run=first)
    seen = set()
    for name, n_new in (("other", 1), ("third", 1), ("searches", 0), ("other", 0), ("searches", 0)):
        asked = begin_study_run(tracking, experiment=name)
        assert TrialLog(prepared=prepared, study_run_id=asked).log_missing(study) == n_new
        (outcome,) = read_study_outcome(study, prepared=prepared).trials
        assert (outcome.run_id == first) == (name == "searches")
        assert tracking.get_run(outcome.run_id).data.tags["mlflow.parentRunId"] == asked
        seen.add(outcome.run_id)
    assert len(seen) == 3
    assert {first, *study.user_attrs[TRIAL_RUNS]["0"]} == seen, "each is known: the model may be registered from any"


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("harm", ["deleted", "cut off", "superseded"])
def test_what_is_deleted_or_cut_off_does_not_count(
    study, log, store_folds, tracking: MlflowClient, run_id: str, harm: str
) -> None:
    store_folds()
    finish_trial(study, state=TrialState.COMPLETE)
    log.log_missing(study)
    (before,) = list_children(tracking, run_id)
    if harm == "deleted":
        tracking.delete_run(before.info.run_id)
    elif harm == "cut off":
        tracking.update_run(before.info.run_id, status="RUNNING")
    else:
        tracking.set_tag(before.info.run_id, "sem_search.superseded_by", run_id)
    assert log.log_missing(study) == 1
    runs = [run for run in list_children(tracking, run_id) if run.info.run_id != before.info.run_id]
    assert [run.info.status for run in runs] == ["FINISHED"]
    if harm == "cut off":
        assert tracking.get_run(before.info.run_id).data.tags["sem_search.superseded_by"] == runs[0].info.run_id
        assert tracking.get_run(before.info.run_id).data.tags["sem_search.trial_state"] == "superseded"


@pytest.mark.usefixtures("without_figures")
def test_a_trial_is_logged_with_all_that_its_attributes_hold(
    study, log, store_folds, tracking: MlflowClient, run_id: str
) -> None:
    """Start and end are the trial's; the curves of the fold that was stopped, damage and traceback are there."""
    store_folds(cell=CELLS[TrialState.PRUNED], n_folds=2)
    curve = np.array([0.5, 0.25])
    curves = TrainingCurves(
        training_loss=curve, training_accuracy=curve, validation_loss=curve, validation_accuracy=curve
    )
    assert read_curves(write_curves(curves, fold=2))[1].training_loss.tolist() == curve.tolist()
    attributes = {CURVES: write_curves(curves, fold=2), DAMAGED: {"1": "was damaged"}, TRACEBACK: "Traceback ..."}
    finish_trial(study, state=TrialState.PRUNED, **attributes)
    log.log_missing(study)
    (run,) = list_children(tracking, run_id)
    (trial,) = study.get_trials()
    assert run.info.start_time == int(trial.datetime_start.timestamp() * 1000)
    assert run.info.end_time == int(trial.datetime_complete.timestamp() * 1000)
    history = tracking.get_metric_history(run.info.run_id, "curves/fold_2/validation_loss")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.25)]
    assert run.data.tags["sem_search.damaged_fold.1"] == "was damaged"
    assert Path(tracking.download_artifacts(run.info.run_id, "traceback.txt")).read_text() == "Traceback ..."


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The tracking store is away as long as this holds True."""
    is_away = [True]

    def look() -> None:
        if is_away[-1]:
            raise MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE)

    monkeypatch.setattr(trial_log, "look_at_store", look)
    return is_away


def begin_trial(study: optuna.Study, *, rank: int) -> optuna.Trial:
    cell = list(CELLS.values())[rank]
    study.enqueue_trial({"learning_rate": cell.learning_rate, "batch_size": cell.batch_size}, user_attrs={RANK: rank})
    trial = study.ask()
    trial.suggest_categorical("learning_rate", [0.1, 0.01])
    trial.suggest_categorical("batch_size", [8, 16])
    for fold in range(3):
        trial.report(1.0, step=fold)
    return trial


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("is_search", [True, False])
def test_a_trial_that_ended_while_the_store_was_away_is_logged_by_the_search(
    study,
    prepared,
    trainer,
    store_folds,
    tracking: MlflowClient,
    run_id: str,
    away: list[bool],
    recwarn: pytest.WarningsRecorder,
    is_search: bool,
) -> None:
    """Before its next trial's own log; a helping worker leaves it to the search."""
    log = TrialLog(prepared=prepared, study_run_id=run_id, is_search=is_search)
    for rank in range(3):
        store_folds(cell=list(CELLS.values())[rank])
        trial = begin_trial(study, rank=rank)
        away.append(rank < 2)
        log.log_now(trial, state="complete")
        study.tell(trial, 1.0)
    numbers = [run.data.tags["sem_search.trial"] for run in list_children(tracking, run_id)]
    assert numbers == (["0", "1", "2"] if is_search else ["2"])
    shown = " ".join(str(one.message) for one in recwarn)
    assert shown.count("The tracking store does not answer. Training goes on") == 1
    assert shown.count("The tracking store answers again") == 1
    search = TrialLog(prepared=prepared, study_run_id=run_id)
    assert search.log_missing(study) == (0 if is_search else 2)
    assert [run.data.tags["sem_search.trial"] for run in list_children(tracking, run_id)] == ["0", "1", "2"]
    assert search.log_missing(study) == 0


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    "error", [MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE), MlflowException("no"), KeyboardInterrupt()]
)
def test_a_run_that_is_cut_off_is_superseded(
    study,
    log,
    store_folds,
    tracking: MlflowClient,
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    """An outage leaves the trial to a later log; a refusal and Ctrl-C end the search."""
    store_folds()
    trial = begin_trial(study, rank=0)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(trial_log, "log_trial_model", fail)
    if getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE":
        log.log_now(trial, state="complete")
    else:
        with pytest.raises(type(error)):
            log.log_now(trial, state="complete")
    (cut_off,) = list_children(tracking, run_id)
    assert (cut_off.info.status, cut_off.data.tags["sem_search.superseded_by"]) == ("KILLED", run_id)
    monkeypatch.setattr(trial_log, "log_trial_model", lambda *_, **__: None)
    log.log_now(trial, state="complete")
    statuses = [run.info.status for run in list_children(tracking, run_id)]
    assert sorted(statuses) == ["FINISHED", "KILLED"]


@pytest.mark.usefixtures("without_figures")
def test_the_run_of_a_killed_attempt_is_superseded(
    study, log, store_folds, tracking: MlflowClient, run_id: str
) -> None:
    """The process was killed while it logged; the rank's next trial logs it again."""
    store_folds()
    experiment = tracking.get_run(run_id).info.experiment_id
    cut_off = tracking.create_run(experiment).info.run_id
    first = begin_trial(study, rank=0)
    first.set_user_attr(RUN_ID, cut_off)
    study.tell(first, state=TrialState.FAIL)
    log.log_now(begin_trial(study, rank=0), state="complete")
    (run,) = list_children(tracking, run_id)
    superseded: Run = tracking.get_run(cut_off)
    assert superseded.info.status == "KILLED"
    assert superseded.data.tags["sem_search.superseded_by"] == run.info.run_id


@pytest.mark.usefixtures("without_figures")
def test_an_attempt_before_is_superseded_though_the_store_goes_away_just_then(
    study, log, store_folds, tracking: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt was killed after its run was whole, before Optuna had its value: one of both runs counts."""
    store_folds()
    log.log_now(begin_trial(study, rank=0), state="complete")
    study.tell(0, state=TrialState.FAIL)
    again = begin_trial(study, rank=0)

    def fail(*_: object, **__: object) -> None:
        raise MlflowException("away", error_code=TEMPORARILY_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(trial_log, "supersede_run", fail)
        log.log_now(again, state="complete")
    study.tell(again, 1.0)
    log.log_missing(study)
    states = [run.data.tags["sem_search.trial_state"] for run in list_children(tracking, run_id)]
    assert (states.count("complete"), states.count("superseded")) == (1, len(states) - 1)


@pytest.mark.usefixtures("without_figures")
def test_two_searches_do_not_log_one_trial_each(
    study, log, store_folds, run_id: str, away: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the store back at one moment, and the same trials without a run."""
    store_folds()
    log.log_now(begin_trial(study, rank=0), state="complete")
    study.tell(0, 1.0)
    away.append(False)
    is_locked, list_runs = [], trial_log.list_trial_runs

    def list_under_lock(**options: str):
        with pytest.raises(Timeout), lock_stores(log.prepared.settings).acquire(timeout=0):
            pass
        is_locked.append(True)
        return list_runs(**options)

    monkeypatch.setattr(trial_log, "list_trial_runs", list_under_lock)
    log.log_now(begin_trial(study, rank=1), state="failed")
    assert is_locked == [True]


def test_a_trial_that_another_process_has_ended_is_not_logged(
    study, log, store_folds, tracking: MlflowClient, run_id: str
) -> None:
    """This process was taken for stale; the worker that took the rank over logs the cell."""
    store_folds()
    trial = begin_trial(study, rank=0)
    study.tell(0, state=TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        log.log_now(trial, state="complete")
    runs = tracking.search_runs([tracking.get_run(run_id).info.experiment_id])
    assert [run.info.status for run in runs if run.info.run_id != run_id] == ["KILLED"]
