"""The loop that hands entries to MLflow, against a real store in a temporary folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import mlflow.data
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sem_search.records import StudyOutcome
from sem_search.tracking.entries.context import StudyContext
from sem_search.tracking.entries.run_contents import iter_fold_entries, iter_study_entries, iter_trial_entries
from sem_search.tracking.entries.types import (
    ChartImage,
    Entry,
    EvaluationTable,
    FigureArtifact,
    JsonArtifact,
    MetricPoint,
    Metrics,
    Params,
    TableArtifact,
    Tags,
    TextArtifact,
)
from sem_search.tracking.figures.style import make_figure
from sem_search.tracking.mlflow.datasets import build_datasets
from sem_search.tracking.mlflow.log import end_run, log_entries, open_child_run
from sem_search.tracking.mlflow.models import ModelLink


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Count what goes to the server: name of the call and number of metrics."""
    counted: list[tuple[str, int]] = []

    def count(name: str) -> None:
        original: Callable[..., Any] = getattr(MlflowClient, name)

        def wrapper(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
            counted.append((name, len(kwargs.get("metrics", ()))))
            return original(self, *args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, wrapper)

    for name in ("log_batch", "log_artifacts"):
        count(name)
    return counted


def read_artifact(client: MlflowClient, run_id: str, path: str) -> bytes:
    return Path(client.download_artifacts(run_id, path)).read_bytes()


def list_artifacts(client: MlflowClient, run_id: str, path: str | None = None) -> list[str]:
    found = []
    for item in client.list_artifacts(run_id, path):
        found += list_artifacts(client, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)


def test_every_kind_of_entry_arrives(client: MlflowClient, run_id: str) -> None:
    entries: list[Entry] = [
        Params(values={"epochs": 100, "weights": None, "rate": 1e-3, "is_on": True}),
        Metrics(points=(MetricPoint(key="test/f", value=0.5), MetricPoint(key="curve", value=1.5, step=7))),
        Tags(values={"state": "complete"}),
        JsonArtifact(path="a/b.json", content={"α": 1}),
        TextArtifact(path="a/report.html", text="<p>µ</p>"),
        TableArtifact(path="table.csv", columns=("x",), rows=((1,),)),
        FigureArtifact(path="a/picture.png", draw=lambda: make_figure(width_in=1, height_in=1)),
    ]
    log_entries(entries, run_id=run_id)
    data = client.get_run(run_id).data
    assert data.params == {"epochs": "100", "weights": "None", "rate": "0.001", "is_on": "True"}
    assert data.metrics == {"test/f": 0.5, "curve": 1.5}
    assert client.get_metric_history(run_id, "curve")[0].step == 7
    assert data.tags["state"] == "complete"
    assert list_artifacts(client, run_id) == ["a/b.json", "a/picture.png", "a/report.html", "table.csv"]
    assert json.loads(read_artifact(client, run_id, "a/b.json")) == {"α": 1}
    assert read_artifact(client, run_id, "table.csv") == b"x\n1\n"
    assert read_artifact(client, run_id, "a/picture.png").startswith(b"\x89PNG")


def test_all_of_a_fold_goes_in_one_call(
    client: MlflowClient, run_id: str, calls: list[tuple[str, int]], study: StudyOutcome
) -> None:
    log_entries(iter_fold_entries(study.winner.folds[0], tiles=study.tiles), run_id=run_id)
    assert calls == [("log_batch", 7 + 4 * 6)]
    history = client.get_metric_history(run_id, "curves/fold_0/validation_loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("n_metrics", "n_params", "batches"),
    [(800, 100, [800]), (801, 0, [800, 1]), (2000, 250, [800, 800, 400]), (0, 101, [0, 0]), (0, 0, [])],
)
def test_calls_are_as_full_as_mlflow_allows(
    client: MlflowClient,
    run_id: str,
    calls: list[tuple[str, int]],
    n_metrics: int,
    n_params: int,
    batches: list[int],
) -> None:
    points = tuple(MetricPoint(key="m", value=0.0, step=step) for step in range(n_metrics))
    params = Params(values={f"p{number}": number for number in range(n_params)})
    log_entries([Metrics(points=points), params], run_id=run_id)
    assert [n for _, n in calls] == batches
    assert len(client.get_run(run_id).data.params) == n_params
    if n_metrics:
        assert len(client.get_metric_history(run_id, "m")) == n_metrics


def test_files_go_in_one_call(run_id: str, calls: list[tuple[str, int]]) -> None:
    log_entries([TextArtifact(path=f"f{number}.txt", text="x") for number in range(5)], run_id=run_id)
    assert calls == [("log_artifacts", 0)]


@pytest.mark.parametrize("length", [6000, 6001])
def test_a_long_parameter_is_never_cut_in_silence(client: MlflowClient, run_id: str, length: int) -> None:
    log_entries([Params(values={"ex/clude": "x" * length})], run_id=run_id)
    value = client.get_run(run_id).data.params["ex/clude"]
    if length == 6000:
        assert value == "x" * length
    else:
        assert value == "6001 characters, in the artifact long_values/params/ex_clude.txt"
        assert read_artifact(client, run_id, "long_values/params/ex_clude.txt") == b"x" * length


def test_a_long_tag_is_never_cut_in_silence(client: MlflowClient, run_id: str) -> None:
    log_entries([Tags(values={"warnings": "x" * 9000}), Params(values={"warnings": "y" * 7000})], run_id=run_id)
    data = client.get_run(run_id).data
    assert data.tags["warnings"] == "9000 characters, in the artifact long_values/tags/warnings.txt"
    assert read_artifact(client, run_id, "long_values/tags/warnings.txt") == b"x" * 9000
    assert read_artifact(client, run_id, "long_values/params/warnings.txt") == b"y" * 7000


def test_no_password_reaches_the_store(client: MlflowClient, run_id: str) -> None:
    url = "postgresql://me:hunter2@host/db"
    log_entries(
        [
            Params(values={"storage": url}),
            Tags(values={"storage": url}),
            TextArtifact(path="failed.txt", text=f"cannot connect to {url}"),
            JsonArtifact(path="settings.json", content={"storage": url}),
            TableArtifact(path="table.csv", columns=("storage",), rows=((url,),)),
        ],
        run_id=run_id,
    )
    run = client.get_run(run_id)
    kept = [run.data.params["storage"], run.data.tags["storage"]]
    kept += [read_artifact(client, run_id, path).decode() for path in list_artifacts(client, run_id)]
    assert len(kept) == 5
    assert all("hunter2" not in text and "me:***@host" in text for text in kept)


def test_a_parameter_cannot_be_changed(run_id: str) -> None:
    log_entries([Params(values={"epochs": 1})], run_id=run_id)
    log_entries([Params(values={"epochs": 1})], run_id=run_id)
    with pytest.raises(MlflowException, match="epochs"):
        log_entries([Params(values={"epochs": 2})], run_id=run_id)


def test_a_chart_image_stands_under_its_key_and_is_stored_once(client: MlflowClient, run_id: str) -> None:
    """MLflow shows images of several runs side by side where a tag says that there are any."""
    entries = [ChartImage(key="confusion", draw=lambda: make_figure(width_in=1, height_in=1)), Tags(values={"a": "1"})]
    log_entries(entries, run_id=run_id, time_ms=1_700_000_000_000)
    whole, small = sorted(list_artifacts(client, run_id), key=lambda path: path.endswith(".webp"))
    assert whole.startswith("images/confusion+step+0+timestamp+1700000000000+")
    assert small.removesuffix("+compressed.webp") == whole.removesuffix(".png")
    assert read_artifact(client, run_id, whole).startswith(b"\x89PNG")
    assert client.get_run(run_id).data.tags["mlflow.loggedImages"] == "True"


def test_an_evaluation_table_is_found_by_mlflow_and_holds_no_password(client: MlflowClient, run_id: str) -> None:
    rows = (("a.png", 0.5), ("sftp://me:hunter2@host/b.png", None))
    log_entries([EvaluationTable(path="predictions/images.json", columns=("image_id", "p"), rows=rows)], run_id=run_id)
    frame = client.load_table(client.get_run(run_id).info.experiment_id, "predictions/images.json", run_ids=[run_id])
    assert frame["image_id"].tolist() == ["a.png", "sftp://me:***@host/b.png"]
    assert frame["p"].dropna().tolist() == [0.5]


def test_scores_are_the_model_s_and_all_else_is_the_run_s_alone(
    client: MlflowClient, run_id: str, calls: list[tuple[str, int]]
) -> None:
    experiment = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment, name="tiny", source_run_id=run_id)
    datasets = build_datasets(pd.DataFrame({"image_id": ["a"]}), name="lung", digest="ab" * 32, source="/data/lung")
    keys = ("test/f_measure", "validation/loss", "refit/test/loss", "objective")
    points = tuple(MetricPoint(key=key, value=0.5) for key in keys)
    link = ModelLink(model_id=model.model_id, datasets=datasets)
    log_entries([Metrics(points=points)], run_id=run_id, link=link)
    assert calls == [("log_batch", 4)]
    assert client.get_run(run_id).data.metrics == {point.key: 0.5 for point in points}
    linked = client.get_logged_model(model.model_id).metrics
    assert {one.key: (one.value, one.dataset_name, one.dataset_digest) for one in linked} == {
        "test/f_measure": (0.5, "lung", datasets["test"].digest),
        "validation/loss": (0.5, "lung", datasets["validation"].digest),
        "refit/test/loss": (0.5, "lung", datasets["test"].digest),
    }


def test_a_whole_trial_and_study_can_be_logged(
    client: MlflowClient, run_id: str, study: StudyOutcome, context: StudyContext
) -> None:
    entries = iter_trial_entries(
        study.winner, tiles=study.tiles, select_on=study.select_on, heat_maps=context.heat_maps
    )
    log_entries(entries, run_id=run_id)
    log_entries(iter_study_entries(study, context=context), run_id=run_id)
    metrics = client.get_run(run_id).data.metrics
    assert metrics["winner/test/f_measure"] == metrics["test/f_measure"]
    artifacts = list_artifacts(client, run_id)
    assert {
        "report.html",
        "trials.csv",
        "grad_cam.json",
        "predictions/tiles.parquet",
        "predictions/images.json",
    } <= set(artifacts)
    keys = {path.partition("+")[0] for path in artifacts if path.startswith("images/")}
    assert keys == {"images/grad_cam", "images/confusion_test_tiles", "images/confusion_test_images"}
    assert read_artifact(client, run_id, "report.html").startswith(b"<!DOCTYPE html>")
    trials = pd.read_csv(client.download_artifacts(run_id, "trials.csv"))
    assert trials["state"].tolist() == ["complete", "complete", "pruned"]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_child_run_stands_below_its_parent(client: MlflowClient, run_id: str, status: Any) -> None:
    child_id = open_child_run(parent_run_id=run_id, name="lr1e-03_bs48", tags={"cell": "x", "url": "a://b:c@d"})
    child = client.get_run(child_id)
    assert child.info.status == "RUNNING"
    assert child.info.run_name == "lr1e-03_bs48"
    assert child.info.experiment_id == client.get_run(run_id).info.experiment_id
    assert child.data.tags["mlflow.parentRunId"] == run_id
    assert child.data.tags["mlflow.user"] == "somebody"
    assert (child.data.tags["cell"], child.data.tags["url"]) == ("x", "a://b:***@d")
    end_run(child_id, status=status)
    assert client.get_run(child_id).info.status == status


def test_no_run_is_ever_active(run_id: str) -> None:
    log_entries([Params(values={"a": 1})], run_id=run_id)
    open_child_run(parent_run_id=run_id, name="child", tags={})
    assert mlflow.active_run() is None


def test_numbers_that_are_logged_again_under_their_time_count_once(client: MlflowClient, run_id: str) -> None:
    for _ in range(2):
        entries = [Metrics(points=tuple(MetricPoint(key="m", value=step / 3, step=step) for step in range(900)))]
        log_entries(entries, run_id=run_id, time_ms=1_700_000_000_000)
    history = sorted((point.step, point.value) for point in client.get_metric_history(run_id, "m"))
    assert history == [(step, step / 3) for step in range(900)]


def test_a_child_run_has_the_times_that_it_is_given(client: MlflowClient, run_id: str) -> None:
    child = open_child_run(parent_run_id=run_id, name="cell", tags={}, start_ms=1_700_000_000_000)
    end_run(child, status="FINISHED", end_ms=1_700_000_001_000)
    info = client.get_run(child).info
    assert (info.start_time, info.end_time) == (1_700_000_000_000, 1_700_000_001_000)
