"""What MLflow's pages say of a study's run and of its winner's: the verdict, and links that lead on."""

from dataclasses import dataclass
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from sem_search.deployment.registry import RegisteredVersion, read_headline
from sem_search.evaluation.comparison import Difference
from sem_search.records import Cell, TrialOutcome
from sem_search.search.results.descriptions import describe_study_runs
from sem_search.tracking.report.fine_tuning import FineTuning

VIEW = "?workflowType=machine_learning"
REGISTERED = RegisteredVersion(name="sem-search-vgg16", version="1", alias="champion", reason="champion: the first.")


@dataclass
class Said:
    headline: str = "4 of 5 unseen images correctly classified: 80 % (28 to 99 %), chance 40 %"
    sentence: str = "Usable for a_1; not for b*."
    fine_tuning: Any = None


@dataclass
class Found:
    winner: TrialOutcome
    name: str = "vgg16-[quick]"


@pytest.fixture
def found(tracking: MlflowClient, run_id: str) -> Any:
    winner_id = tracking.create_run(tracking.get_run(run_id).info.experiment_id).info.run_id
    tracking.create_registered_model(REGISTERED.name)
    tracking.create_model_version(REGISTERED.name, source="file:///models/a", run_id=winner_id)
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
        assert f"[sem-search-vgg16, version 1](#/models/sem-search-vgg16/versions/1{VIEW})" in text
    assert f"[linear]({runs}/{found.winner.run_id}{VIEW}), linear head\n" in study
    assert f"[vgg16-\\[quick\\]]({runs}/{run_id}{VIEW})" in winner
    assert study.endswith("champion: the first.")
    assert read_headline(f"models:/{REGISTERED.name}/1") == "Usable for a_1; not for b*"


def test_both_say_whether_fine_tuning_was_worth_it(found: Any, tracking: MlflowClient, run_id: str) -> None:
    difference = Difference(first=0.9, second=0.7, low=0.1, high=0.3)
    verdict = Said(fine_tuning=FineTuning(difference=difference, fair=difference, is_linear=False, has_rivals=True))
    describe_study_runs(found, verdict=verdict, registered=REGISTERED, run_id=run_id)
    for one in (run_id, found.winner.run_id):
        text = tracking.get_run(one).data.tags["mlflow.note.content"]
        assert (
            "not for b\\*.\n\nWas fine-tuning worth it? Yes, it beats logistic regression: F-measure over test" in text
        )
