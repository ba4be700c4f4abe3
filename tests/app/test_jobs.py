"""Commands in processes of their own: started, watched, stopped, found again."""

import json
import time
from pathlib import Path

import pytest

from sem_search.app.jobs import Jobs, Kind, State
from sem_search.errors import DataError, RefusedRequestError

LIMIT_S = 60.0


def wait(jobs: Jobs, kind: Kind, *states: State) -> State:
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        view = jobs.view(kind)
        assert view is not None
        if view.state in states:
            return view.state
        assert time.monotonic() < deadline_s, view
        time.sleep(0.05)


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.chdir(tmp_path)
    return Jobs(tmp_path / "work")


def test_a_command_runs_and_its_words_can_be_read(jobs: Jobs, tmp_path: Path) -> None:
    assert jobs.view("demo") is None
    jobs.start("demo", ["--version"], about={"data": "a b"})
    assert wait(jobs, "demo", "done", "failed") == "done"
    view = jobs.view("demo")
    assert view is not None
    assert "version" in view.line
    assert view.command.endswith("sem-search --version")
    assert view.about == {"data": "a b"}
    again = Jobs(tmp_path / "work").view("demo")
    assert again is not None
    assert (again.state, again.line) == ("ended", view.line)


def test_a_command_that_fails_says_why_in_whole(jobs: Jobs) -> None:
    jobs.start("search", ["search", "--data", "no such folder", "--folds", "2"])
    assert wait(jobs, "search", "done", "failed") == "failed"
    view = jobs.view("search")
    assert view is not None
    assert view.line == "folds='2': it must be at least 3."


def test_one_of_a_kind_runs_at_a_time_and_can_be_stopped(jobs: Jobs, tmp_path: Path) -> None:
    from tests.conftest import write_tiny_folder

    write_tiny_folder(tmp_path / "data", n_images=40)
    words = ["inspect", "--output", "out", "--tile-px", "32", "--", "data"]
    jobs.start("inspection", words)
    with pytest.raises(RefusedRequestError, match="An inspection is running") as refusal:
        jobs.start("inspection", words)
    assert refusal.value.status == 409
    found = Jobs(tmp_path / "work").view("inspection")
    assert found is not None
    assert found.state == "running", "a page that is started again finds it"
    time.sleep(1.5)  # until the command listens to signals
    jobs.stop("inspection")
    assert wait(jobs, "inspection", "stopped", "done", "failed") == "stopped"
    jobs.stop("inspection")  # nothing runs
    jobs.start_again("inspection")
    jobs.stop("inspection")
    wait(jobs, "inspection", "stopped", "done", "failed")


def test_what_was_never_begun_cannot_go_on(jobs: Jobs) -> None:
    with pytest.raises(RefusedRequestError, match="Nothing was begun") as refusal:
        jobs.start_again("search")
    assert refusal.value.status == 404


def test_a_word_that_no_command_can_be_given_changes_nothing(jobs: Jobs) -> None:
    jobs.start("demo", ["--version"])
    wait(jobs, "demo", "done")
    before = jobs.view("demo")
    with pytest.raises(DataError, match="no command can be given"):
        jobs.start("demo", ["a\0b"])
    assert jobs.view("demo") == before


def test_a_record_of_no_process_is_of_one_that_has_ended(tmp_path: Path) -> None:
    record = {"kind": "search", "arguments": [], "about": {}, "pid": 2**22, "created_s": 0.0, "started_at": ""}
    (tmp_path / "search.json").write_text(json.dumps(record))
    jobs = Jobs(tmp_path)
    view = jobs.view("search")
    assert view is not None
    assert view.state == "ended"
    jobs.stop("search")


def test_a_record_that_is_torn_is_none(tmp_path: Path) -> None:
    for torn in ("", "{", "[]", '{"kind": "search"}'):
        (tmp_path / "search.json").write_text(torn)
        assert Jobs(tmp_path).view("search") is None


def test_the_name_of_the_study_is_read_from_what_a_search_says(jobs: Jobs, tmp_path: Path) -> None:
    jobs.start("search", ["--version"])
    wait(jobs, "search", "done")
    log = tmp_path / "work" / "search.log"
    early = jobs.view("search")
    assert early is not None
    assert early.study is None
    said = "Preset quick\nStudy powder-\u00e4: its finished folds lie in studies/x.\n"
    log.write_text("a warning\n" * 9000 + said + "x\r" * 30_000 + "last\x1b[2J\n")
    view = jobs.view("search")
    assert view is not None
    assert view.study == "powder-\u00e4"
    assert view.line == "last\\u001b[2J"
    assert len(view.log) < 25_000
