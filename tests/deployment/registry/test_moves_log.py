import getpass
import json
from typing import Any

import mlflow
import pytest

from sem_search.deployment.registry.moves_log import (
    Draft,
    describe_user,
    move,
    name_copy,
    read_journal,
    settle,
)
from sem_search.deployment.registry.tags import TAG_SETTLED
from sem_search.errors import ModelNotFoundError

DRAFT = Draft(action="promoted by hand", alias="champion", to_version="2", reason="r", scores={}, hashes={})


def test_a_move_is_written_copied_made_and_marked(laboratory: Any) -> None:
    laboratory.register()
    laboratory.register()
    run_id = laboratory.client.get_model_version(laboratory.name, "2").run_id
    journal = settle(laboratory.client, name=laboratory.name, run_id=run_id)
    entry = move(laboratory.client, Draft(**{**vars(DRAFT), "run_id": run_id}), journal=journal)
    tags = laboratory.client.get_registered_model(laboratory.name).tags
    assert tags[entry.key] == entry.to_json()
    assert tags[TAG_SETTLED] == entry.sha256
    assert entry.previous == journal.history.heads
    assert entry.from_version == "1"
    assert (entry.number, entry.model, entry.who) == (3, laboratory.name, "iwata")
    assert entry.at.endswith("+00:00")
    assert laboratory.get_aliases() == {"champion": "2"}
    copy = mlflow.artifacts.load_text(f"runs:/{run_id}/{name_copy(entry)}")
    assert json.loads(copy) == json.loads(entry.to_json())
    assert name_copy(entry) == f"registry/sem-search-tiny/000003.{entry.sha256[:8]}.json"


def test_the_time_of_an_entry_is_utc(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    before = datetime.now(UTC)
    entry = move(three.client, DRAFT, journal=read_journal(three.client, name=three.name))
    assert abs((datetime.fromisoformat(entry.at) - before).total_seconds()) < 60


def test_a_move_without_a_run_has_no_copy_and_is_made(three: Any) -> None:
    entry = move(three.client, DRAFT, journal=read_journal(three.client, name=three.name))
    assert entry.run_id is None
    assert three.get_aliases()["champion"] == "2"


def test_a_run_that_was_deleted_for_good_stops_no_move(three: Any) -> None:
    draft = Draft(**{**vars(DRAFT), "run_id": "0" * 32})
    move(three.client, draft, journal=read_journal(three.client, name=three.name))
    assert three.get_aliases()["champion"] == "2"


def test_settling_what_is_settled_writes_nothing(three: Any) -> None:
    before = three.client.get_registered_model(three.name).tags
    settle(three.client, name=three.name, run_id=None)
    assert three.client.get_registered_model(three.name).tags == before


def test_what_was_moved_elsewhere_is_found_once(three: Any) -> None:
    three.client.set_registered_model_alias(three.name, "champion", "2")
    for _ in range(2):
        journal = settle(three.client, name=three.name, run_id=None)
        assert journal.is_as_recorded
    assert three.list_moves()[3:] == [("found", "champion", "1", "2")]


def test_an_unmarked_last_entry_is_pending(three: Any) -> None:
    assert three.read_journal().pending is None
    three.client.delete_registered_model_tag(three.name, TAG_SETTLED)
    assert three.read_journal().pending.number == 3
    settle(three.client, name=three.name, run_id=None)
    assert three.read_journal().pending is None
    assert len(three.list_moves()) == 3


def test_no_model_no_journal(laboratory: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="no registered model 'm'"):
        read_journal(laboratory.client, name="m")


def test_the_user_is_mlflows_else_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "hayashi")
    assert describe_user() == "hayashi"
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    assert describe_user() == getpass.getuser()


@pytest.mark.parametrize("error", [OSError, KeyError])
def test_a_container_without_a_user_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail() -> str:
        raise error("no name")

    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.setattr(getpass, "getuser", fail)
    assert describe_user() == "unknown"
