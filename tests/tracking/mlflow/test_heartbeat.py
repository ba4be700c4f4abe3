"""Runs of searches that are gone, told from those that live, without comparing any two clocks."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from sem_search.tracking.mlflow.delivery import SUPERSEDE, deliver_supersede
from sem_search.tracking.mlflow.heartbeat import TAG_ALIVE, RunWatch, end_silent_runs, watch_runs
from sem_search.tracking.mlflow.outbox import Item, RunNames
from sem_search.tracking.mlflow.posting import open_outbox

from sem_search.errors import StoreError
from sem_search.tracking.mlflow import heartbeat as run_watch
from sem_search.tracking.mlflow.runs import RUN_ID_VARIABLE, TAG_KIND, TAG_PROCESS, TAG_STUDY, TAG_SUPERSEDED_BY

ELSEWHERE = "a-machine-that-is-gone:4711:1"


@pytest.fixture
def store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_mlflow_store: Callable[[Path], str]
) -> Iterator[MlflowClient]:
    monkeypatch.delenv(RUN_ID_VARIABLE, raising=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(make_mlflow_store(tmp_path))
    yield MlflowClient()
    mlflow.set_tracking_uri(before)


def open_run(store: MlflowClient, process: str = ELSEWHERE) -> str:
    tags = {TAG_STUDY: "a", TAG_KIND: "study", TAG_PROCESS: process}
    return str(store.create_run("0", tags=tags).info.run_id)


def test_silence_is_counted_from_the_first_look_by_one_clock_that_only_goes_forward() -> None:
    now = [1000.0]
    watch = RunWatch(grace_s=180, clock=lambda: now[0])
    looks = [(0, "x", ()), (179, "x", ()), (180, "x", ("run",)), (181, "y", ()), (360, "y", ()), (361, "y", ("run",))]
    for second, sign, silent in looks:
        now[0] = 1000.0 + second
        assert watch.find_silent({"run": sign}) == silent, second


def test_a_run_that_is_seen_again_is_watched_anew() -> None:
    now = [0.0]
    watch = RunWatch(grace_s=10, clock=lambda: now[0])
    watch.find_silent({"run": "x"})
    watch.find_silent({})
    now[0] = 20.0
    assert watch.find_silent({"run": "x"}) == ()


def wait_until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends_at
        time.sleep(0.05)


def test_the_run_of_a_machine_that_is_gone_is_ended_and_one_that_lives_is_not(store: MlflowClient) -> None:
    gone, living, mine = open_run(store), open_run(store), open_run(store, process="me")
    with watch_runs(mine, study="a", is_known_dead=lambda _: False, beat_s=0.05, grace_s=3):
        n_signs = 0

        def is_gone_ended() -> bool:
            nonlocal n_signs
            n_signs += 1
            store.set_tag(living, TAG_ALIVE, str(n_signs))  # as its own search would, with a clock of its own
            return bool(store.get_run(gone).info.status == "KILLED")

        wait_until(is_gone_ended)
        first = store.get_run(mine).data.tags[TAG_ALIVE]
        wait_until(lambda: store.get_run(mine).data.tags[TAG_ALIVE] != first)
    assert store.get_run(gone).data.tags[TAG_SUPERSEDED_BY] == mine
    assert store.get_run(living).info.status == "RUNNING"
    assert store.get_run(mine).info.status == "RUNNING"


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(store: MlflowClient) -> None:
    gone, mine = open_run(store, process="dead"), open_run(store, process="me")
    with watch_runs(mine, study="a", is_known_dead=lambda process: process == "dead", beat_s=0.05, grace_s=3600):
        wait_until(lambda: store.get_run(gone).info.status == "KILLED")


def test_what_the_search_has_logged_is_refused_to_the_search_and_not_to_the_watch(
    store: MlflowClient, tmp_path: Path
) -> None:
    def refuse(_item: Item, _runs: RunNames) -> None:
        raise ValueError("no such thing")

    gone, mine = open_run(store, process="dead"), open_run(store, process="me")
    deliverers = {SUPERSEDE: deliver_supersede, "mine": refuse}
    with open_outbox(tmp_path / "outbox", deliverers=deliverers, patience_s=5, tell=lambda _: None) as outbox:
        outbox.add("mine", run=mine, write=lambda _: {})
        ended = end_silent_runs(RunWatch(), study="a", by=mine, is_known_dead=lambda process: process == "dead")
        assert ended == (gone,)
        with pytest.raises(ValueError, match="no such thing"):
            outbox.deliver()
    assert store.get_run(gone).info.status == "KILLED"


def test_a_sign_that_fails_for_whatever_reason_is_followed_by_the_next(
    store: MlflowClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = open_run(store, process="me")
    errors: list[Exception] = [ConnectionError(), OSError(28, "No space left on device"), StoreError("full")]

    def end(*_: object, **__: object) -> None:
        if errors:
            raise errors.pop(0)

    caplog.set_level(logging.INFO)
    monkeypatch.setattr(run_watch, "end_silent_runs", end)
    with watch_runs(mine, study="a", is_known_dead=lambda _: False, beat_s=0.02):
        wait_until(lambda: not errors)
        sign = store.get_run(mine).data.tags[TAG_ALIVE]
        wait_until(lambda: store.get_run(mine).data.tags[TAG_ALIVE] != sign)
    levels = [record.levelname for record in caplog.records if "No sign of life" in record.message]
    assert levels == ["INFO", "WARNING", "WARNING"], "an outage is told by the outbox"
