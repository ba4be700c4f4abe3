"""Items that are delivered more than once leave what one delivery leaves: a real MLflow store."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sem_search.tracking.mlflow.delivery import DELIVERERS, TAG_NAME, TAG_SUPERSEDED_BY, find_run
from sem_search.tracking.mlflow.outbox import Item, RunNames
from sem_search.tracking.mlflow.posting import get_outbox, open_outbox, resolve_run

from sem_search.errors import StoreError
from sem_search.tracking.entries.types import JsonArtifact, MetricPoint, Metrics, Params, Tags
from sem_search.tracking.mlflow import delivery as delivering
from sem_search.tracking.mlflow import posting
from sem_search.tracking.mlflow.log import end_run, log_catalogue, log_entries, open_child_run
from sem_search.tracking.mlflow.runs import supersede_run


@pytest.fixture
def store(tmp_path: Path, make_mlflow_store: Callable[[Path], str]) -> Iterator[MlflowClient]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    yield MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def study_run(store: MlflowClient, tmp_path: Path) -> str:
    experiment = store.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    return str(store.create_run(experiment).info.run_id)


class Away:
    """Lets the store be away: each item's delivery fails before it, or after it was done."""

    def __init__(self) -> None:
        self.before = False
        self.after = False

    def wrap(self, deliver: Callable[[Item, RunNames], None]) -> Callable[[Item, RunNames], None]:
        def call(item: Item, runs: RunNames) -> None:
            if self.before:
                raise ConnectionError("away")
            deliver(item, runs)
            if self.after:
                raise ConnectionError("the answer was lost")

        return call

    def look(self) -> None:
        if self.before:
            raise ConnectionError("away")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    away = Away()
    monkeypatch.setattr(posting, "look_at_store", away.look)
    monkeypatch.setattr(posting, "EXIT_S", 0.0)
    return away


def open_box(folder: Path, away: Away, told: list[str] | None = None):
    return open_outbox(
        folder,
        deliverers={kind: away.wrap(deliver) for kind, deliver in DELIVERERS.items()},
        patience_s=0.0,
        tell=(told if told is not None else []).append,
    )


def log_all(study_run: str) -> str:
    run = open_child_run(parent_run_id=study_run, name="cell", tags={"a": "postgresql://me:secret@host/x"})
    log_entries(
        [
            Params(values={"p": 1}),
            Tags(values={"t": "v"}),
            Metrics(points=tuple(MetricPoint(key="m", value=step / 3, step=step) for step in range(900))),
            JsonArtifact(path="deep/file.json", content={"x": 1}),
        ],
        run_id=run,
    )
    log_catalogue(pd.DataFrame({"image": ["a"]}), name="d", digest="0" * 64, source="s", run_id=run)
    end_run(run, status="FINISHED")
    return run


def check(store: MlflowClient, study_run: str) -> str:
    """There is one child run, and in it everything once; return its id."""
    parent = store.get_run(study_run)
    (run,) = store.search_runs([parent.info.experiment_id], filter_string=f"tags.`mlflow.parentRunId` = '{study_run}'")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "cell"
    assert run.data.params == {"p": "1"}
    assert run.data.tags["t"] == "v"
    assert run.data.tags["a"] == "postgresql://me:***@host/x"
    history = sorted((point.step, point.value) for point in store.get_metric_history(run.info.run_id, "m"))
    assert history == [(step, step / 3) for step in range(900)]
    assert {entry.path for entry in store.list_artifacts(run.info.run_id)} == {"data", "deep"}
    assert len(run.inputs.dataset_inputs) == 1
    return str(run.info.run_id)


@pytest.mark.parametrize("is_box_open", [False, True])
def test_with_the_store_there_everything_is_logged_at_once(
    store: MlflowClient, study_run: str, tmp_path: Path, away: Away, is_box_open: bool
) -> None:
    if not is_box_open:
        assert log_all(study_run) == check(store, study_run)
        return
    with open_box(tmp_path / "outbox", away) as box:
        assert log_all(study_run) == check(store, study_run)
        assert box.count() == 0
        assert get_outbox() is box
    assert get_outbox() is None
    assert [path.name for path in (tmp_path / "outbox").iterdir()] == ["runs"]


def test_what_was_logged_with_the_store_away_is_there_afterwards(
    store: MlflowClient, study_run: str, tmp_path: Path, away: Away
) -> None:
    with open_box(tmp_path / "outbox", away) as box:
        away.before = True
        name = log_all(study_run)
        assert name.startswith("pending-")
        assert box.count() == 4
        assert resolve_run(name, root=box.root) == name
        with pytest.raises(StoreError, match="has not been opened yet"):
            find_run(name, box.runs)
        away.before = False
        assert box.flush(patience_s=5)
        assert resolve_run(name, root=box.root) == check(store, study_run)


def test_a_lost_answer_doubles_nothing(store: MlflowClient, study_run: str, tmp_path: Path, away: Away) -> None:
    """Each item is delivered twice: the first time its answer is lost."""
    with open_box(tmp_path / "outbox", away) as box:
        away.after = True
        log_all(study_run)
        for _ in range(4):
            box.deliver(at_once=True)
            away.after = False
            box.deliver(at_once=True)
            away.after = True
        away.after = False
        assert box.flush(patience_s=5)
        check(store, study_run)


def test_a_run_whose_id_was_lost_is_found_again(
    store: MlflowClient, study_run: str, tmp_path: Path, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was opened, and the process was killed before it could write down which one."""
    real = RunNames.set
    with open_box(tmp_path / "outbox", away) as box:
        monkeypatch.setattr(RunNames, "set", lambda *_: (_ for _ in ()).throw(ConnectionError("killed")))
        name = open_child_run(parent_run_id=study_run, name="cell", tags={})
        monkeypatch.setattr(RunNames, "set", real)
        assert box.flush(patience_s=5)
        run_id = resolve_run(name, root=box.root)
    experiment = store.get_run(study_run).info.experiment_id
    (found,) = store.search_runs([experiment], filter_string=f"tags.`{TAG_NAME}` = '{name}'")
    assert found.info.run_id == run_id


def test_what_is_left_at_the_end_is_told_and_logged_by_the_next_process(
    store: MlflowClient, study_run: str, tmp_path: Path, away: Away
) -> None:
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt), open_box(tmp_path / "outbox", away, told):
        away.before = True
        log_all(study_run)
        raise KeyboardInterrupt
    assert "4 entries are kept in" in told[-1]
    away.before = False
    with open_box(tmp_path / "outbox", away) as box:
        assert box.deliver()
        check(store, study_run)


def test_an_end_with_the_store_away_is_an_error_that_says_what_to_do(
    study_run: str, tmp_path: Path, away: Away
) -> None:
    with pytest.raises(StoreError, match=r"1 entries are kept in .*the same command again"):  # noqa: SIM117
        with open_box(tmp_path / "outbox", away):
            away.before = True
            end_run(study_run, status="FINISHED")


def test_a_refusal_is_raised_and_the_next_entry_goes_on(
    store: MlflowClient, study_run: str, tmp_path: Path, away: Away
) -> None:
    with open_box(tmp_path / "outbox", away):
        log_entries([Params(values={"p": 1})], run_id=study_run)
        with pytest.raises(MlflowException, match="Changing param"):
            log_entries([Params(values={"p": 2})], run_id=study_run)
        log_entries([Tags(values={"t": "v"})], run_id=study_run)
    assert store.get_run(study_run).data.params == {"p": "1"}
    assert store.get_run(study_run).data.tags["t"] == "v"
    (refused,) = (tmp_path / "outbox").glob("*/refused_*")
    assert "Changing param" in (refused / "error.txt").read_text()
    assert json.loads((refused / "item.json").read_bytes().partition(b"\n")[2])["facts"]["params"] == {"p": "2"}


def test_a_run_is_superseded_under_the_real_ids(
    store: MlflowClient, study_run: str, tmp_path: Path, away: Away
) -> None:
    with open_box(tmp_path / "outbox", away) as box:
        away.before = True
        old = open_child_run(parent_run_id=study_run, name="old", tags={})
        new = open_child_run(parent_run_id=study_run, name="new", tags={})
        supersede_run(old, by=new)
        away.before = False
        assert box.flush(patience_s=5)
        ended = store.get_run(resolve_run(old, root=box.root))
        assert ended.data.tags[TAG_SUPERSEDED_BY] == resolve_run(new, root=box.root)
    assert ended.info.status == "KILLED"


def test_every_kind_of_item_has_its_deliverer() -> None:
    kinds = {delivering.OPEN, delivering.ENTRIES, delivering.CATALOGUE, delivering.SUPERSEDE, delivering.END}
    assert set(DELIVERERS) == kinds


def name_data(run: str) -> None:
    log_catalogue(pd.DataFrame({"image": ["a"]}), name="d", digest="0" * 64, source="s", run_id=run)


def test_two_searches_that_name_the_same_data_at_once_both_do(
    store: MlflowClient, study_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow looks whether it knows the data, then writes; the other search is quicker here, in between."""
    other = open_child_run(parent_run_id=study_run, name="other", tags={})
    log_inputs, refusals = MlflowClient.log_inputs, []

    def lose(client: MlflowClient, run_id: str, **inputs: object) -> None:
        log_inputs(client, other if not refusals else run_id, **inputs)  # type: ignore[arg-type]
        if not refusals:
            refusals.append(MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name"))
            raise refusals[0]

    monkeypatch.setattr(MlflowClient, "log_inputs", lose)
    name_data(study_run)
    assert refusals
    for run in (study_run, other):
        assert [one.dataset.name for one in store.get_run(run).inputs.dataset_inputs] == ["d"]


def test_data_that_mlflow_refuses_for_another_reason_are_an_error(
    store: MlflowClient, study_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def refuse(client: MlflowClient, run_id: str, **inputs: object) -> None:
        calls.append(run_id)
        raise MlflowException("no such run")

    monkeypatch.setattr(MlflowClient, "log_inputs", refuse)
    with pytest.raises(MlflowException, match="no such run"):
        name_data(study_run)
    assert calls == [study_run]


def test_what_a_dead_process_left_for_a_run_that_is_gone_is_left_out_and_said(
    store: MlflowClient, study_run: str, tmp_path: Path, away: Away, make_mlflow_store: Callable[[Path], str]
) -> None:
    """Killed while the server was away; then the store was cleared. What is logged afterwards is logged."""
    with pytest.raises(StoreError), open_box(tmp_path / "outbox", away):
        away.before = True
        name = log_all(study_run)
    away.before = False
    (tmp_path / "new").mkdir()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path / "new"))
    client = MlflowClient()
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    other = str(client.create_run(experiment).info.run_id)
    told: list[str] = []
    with open_box(tmp_path / "outbox", away, told) as box:
        box.deliver()
        assert log_all(other) == check(client, other)
        assert box.count() == 0
    assert sum("is not in this tracking store any more" in text for text in told) == 4
    assert resolve_run(name, root=tmp_path / "outbox") == "0" * 32
