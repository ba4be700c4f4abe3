"""What MLflow's pages say of a study's run and of its winner's: the verdict, and links that lead on."""

from dataclasses import dataclass
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from sem_search.deployment.registry import RegisteredVersion
from sem_search.records import Cell, TrialOutcome
from sem_search.search.results.descriptions import describe_study_runs

VIEW = "?workflowType=machine_learning"
REGISTERED = RegisteredVersion(name="sem-search-vgg16", version="4", alias="champion", reason="champion: the first.")


@dataclass
class Said:
    headline: str = "4 of 5 unseen images correctly classified: 80 % (28 to 99 %), chance 40 %"
    sentence: str = "Usable for a_1; not for b*."


@dataclass
class Found:
    winner: TrialOutcome
    name: str = "vgg16-[quick]"


@pytest.fixture
def found(tracking: MlflowClient, run_id: str) -> Any:
    winner_id = tracking.create_run(tracking.get_run(run_id).info.experiment_id).info.run_id
    cell = Cell(head="linear")
    return Found(winner=TrialOutcome(number=2, cell=cell, state="complete", folds=(), run_id=winner_id))


def test_study_and_winner_begin_with_the_verdict_and_lead_to_each_other(
    found: Any, tracking: MlflowClient, run_id: str
) -> None:
    describe_study_runs(found, verdict=Said(), registered=REGISTERED, run_id=run_id)
    study, winner = (tracking.get_run(one).data.tags["mlflow.note.content"] for one in (run_id, found.winner.run_id))
    experiment = tracking.get_run(run_id).info.experiment_id
    runs = f"#/experiments/{experiment}/runs"
    for text in (study, winner):
        assert text.startswith(f"**{Said().headline}.** Usable for a_1; not for b\\*.\n\n")
        assert f"[Report]({runs}/{run_id}/artifacts/report.html{VIEW})" in text
        assert f"[sem-search-vgg16, version 4](#/models/sem-search-vgg16/versions/4{VIEW})" in text
    assert f"[linear]({runs}/{found.winner.run_id}{VIEW}), linear head\n" in study
    assert f"[vgg16-\\[quick\\]]({runs}/{run_id}{VIEW})" in winner
    assert study.endswith("champion: the first.")
