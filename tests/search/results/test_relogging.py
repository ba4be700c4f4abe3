"""Finished trials whose runs are not here any more are logged anew, once, from what is on disk."""

from collections.abc import Callable

import optuna
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from sem_search.search.results.relogging import log_missing_trials

from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.records import Cell
from sem_search.search.results import relogging
from sem_search.search.results.outcome import read_study_outcome
from sem_search.search.trials.study import REASON, RUN_ID, TRIAL_RUNS
from sem_search.tracking.mlflow.runs import describe_trial

GONE = "0" * 32
CELLS = {
    TrialState.COMPLETE: Cell(learning_rate=0.1, batch_size=8),
    TrialState.PRUNED: Cell(learning_rate=0.01, batch_size=8),
    TrialState.FAIL: Cell(learning_rate=0.01, batch_size=16),
}
N_TOLD = {TrialState.COMPLETE: 3, TrialState.PRUNED: 2, TrialState.FAIL: 1}
STATUSES = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}


def finish_trial(study: optuna.Study, *, state: TrialState, run: str = GONE) -> None:
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
            intermediate_values=dict.fromkeys(range(N_TOLD[state]), 1.0),
            user_attrs={RUN_ID: run, REASON: "the reason"},
        )
    )


@pytest.fixture
def finished(study: optuna.Study, store_folds: Callable[..., object]) -> optuna.Study:
    """A complete, a pruned and a failed trial, whose runs are gone."""
    for state, cell in CELLS.items():
        store_folds(cell=cell, n_folds=N_TOLD[state])
        finish_trial(study, state=state)
    return study


def list_children(tracking: MlflowClient, run_id: str):
    experiment = tracking.get_run(run_id).info.experiment_id
    runs = tracking.search_runs([experiment], filter_string=f"tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(runs, key=lambda run: int(run.data.params["trial"]))


def begin_study_run(tracking: MlflowClient, *, experiment: str = "searches") -> str:
    found = tracking.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else tracking.create_experiment(experiment)
    return str(tracking.create_run(experiment_id).info.run_id)


def test_each_trial_has_all_of_its_run_again_and_only_once(
    finished, prepared, untouched_trainer, tracking: MlflowClient, run_id: str
) -> None:
    """The tracking store was cleared, then the same command is given twice."""
    assert log_missing_trials(finished, prepared=prepared, trainer=untouched_trainer, run_id=run_id) == 3
    runs = list_children(tracking, run_id)
    assert [run.info.status for run in runs] == [STATUSES[state] for state in CELLS]
    assert [run.data.tags["trial_state"] for run in runs] == ["complete", "pruned", "failed"]
    for run, state in zip(runs, CELLS, strict=True):
        assert run.info.run_name == CELLS[state].name
        assert run.data.params["backbone"] == "tiny"
        history = tracking.get_metric_history(run.info.run_id, "fold/validation_f_measure")
        kept = [prepared.store.read(cell=CELLS[state], fold=fold) for fold in range(N_TOLD[state])]
        assert [point.value for point in history] == [
            compute_fold_f_measure(one.outcome, tiles=prepared.data.tiles, split="validation") for one in kept
        ]
    complete, pruned, failed = ({file.path for file in tracking.list_artifacts(run.info.run_id)} for run in runs)
    assert {"confusion", "predictions", "grad_cam"} <= complete
    assert "pruned.txt" in pruned
    assert "failed.txt" in failed
    assert [one.run_id for one in read_study_outcome(finished, prepared=prepared).trials] == [
        run.info.run_id for run in runs
    ]
    (model,) = tracking.search_logged_models([runs[0].info.experiment_id])
    assert (model.source_run_id, model.status) == (runs[0].info.run_id, "READY")

    again = begin_study_run(tracking)
    assert log_missing_trials(finished, prepared=prepared, trainer=untouched_trainer, run_id=again) == 0
    assert [run.info.run_id for run in list_children(tracking, again)] == [run.info.run_id for run in runs]
    finished.set_user_attr(TRIAL_RUNS, {})  # the database was put back from a copy of before
    assert log_missing_trials(finished, prepared=prepared, trainer=untouched_trainer, run_id=again) == 0
    assert finished.user_attrs[TRIAL_RUNS] == {str(n): [run.info.run_id] for n, run in enumerate(runs)}


@pytest.fixture
def log_end_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures and no models: they were tried above."""

    def tag(outcome, *, run_id: str, **_: object) -> None:
        MlflowClient().set_tag(run_id, "trial_state", outcome.state)

    monkeypatch.setattr(relogging, "log_trial_end", tag)


@pytest.mark.usefixtures("log_end_of_nothing")
def test_an_experiment_has_its_own_runs_and_finds_them_again(
    study, prepared, trainer, store_folds, tracking: MlflowClient, run_id: str
) -> None:
    """Logged in one experiment, asked for in others, and in each again: three runs, each below its latest study run."""
    store_folds()
    tags = describe_trial(study=prepared.name, cell="cell", process="me")
    experiment = tracking.get_run(run_id).info.experiment_id
    first = tracking.create_run(experiment, tags={**tags, "mlflow.parentRunId": run_id}).info.run_id
    finish_trial(study, state=TrialState.COMPLETE, run=first)
    seen = set()
    for name, n_new in (("other", 1), ("third", 1), ("searches", 0), ("other", 0), ("searches", 0)):
        asked = begin_study_run(tracking, experiment=name)
        assert log_missing_trials(study, prepared=prepared, trainer=trainer, run_id=asked) == n_new
        (outcome,) = read_study_outcome(study, prepared=prepared).trials
        assert (outcome.run_id == first) == (name == "searches")
        assert tracking.get_run(outcome.run_id).data.tags["mlflow.parentRunId"] == asked
        seen.add(outcome.run_id)
    assert len(seen) == 3
    assert set(study.user_attrs[TRIAL_RUNS]["0"]) == seen, "each is known: the model may be registered from any"


@pytest.mark.usefixtures("log_end_of_nothing")
@pytest.mark.parametrize("harm", ["deleted", "half logged"])
def test_what_is_deleted_or_half_logged_does_not_count(
    study, prepared, trainer, store_folds, tracking: MlflowClient, run_id: str, harm: str
) -> None:
    store_folds()
    finish_trial(study, state=TrialState.COMPLETE)
    log_missing_trials(study, prepared=prepared, trainer=trainer, run_id=run_id)
    (before,) = list_children(tracking, run_id)
    if harm == "deleted":
        tracking.delete_run(before.info.run_id)
    else:
        tracking.update_run(before.info.run_id, status="RUNNING")
        study.set_user_attr(TRIAL_RUNS, {})  # the process was killed before it came to that
    assert log_missing_trials(study, prepared=prepared, trainer=trainer, run_id=run_id) == 1
    runs = [run for run in list_children(tracking, run_id) if run.info.run_id != before.info.run_id]
    assert [run.info.status for run in runs] == ["FINISHED"]
    if harm == "half logged":
        assert tracking.get_run(before.info.run_id).data.tags["sem_search.superseded_by"] == runs[0].info.run_id
