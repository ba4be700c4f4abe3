import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from sem_search.deployment.registry import promote_version, roll_back
from sem_search.deployment.registry.history import count_forks
from sem_search.errors import ModelNotFoundError, NotPromotedError, SettingsError

POOR, BETTER = 0.5, 9.0
ROOT = Path(__file__).parents[3]


def kill_at(patched: pytest.MonkeyPatch, name: str, n_before: int) -> None:
    """Let a method of MLflow's client work so many times, and die at its next call."""
    method, calls = getattr(MlflowClient, name), []

    def call(*given: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) > n_before:
            raise KeyboardInterrupt
        return method(*given, **named)

    patched.setattr(MlflowClient, name, call)


def test_the_gate_lets_a_better_one_through(three: Any) -> None:
    made = promote_version(three.name, "challenger")
    assert made.warnings == ()
    assert (made.entry.action, made.entry.from_version, made.entry.to_version) == ("promoted", "1", "3")
    assert made.entry.reason.startswith("version 3 beats version 1: F-measure 1.0000 against 0.")
    assert three.get_aliases() == {"champion": "3"}, "a champion is challenger no more"
    assert three.list_moves()[-1] == ("promoted", "champion", "1", "3")
    assert three.client.get_model_version(three.name, "3").tags["sem_search.previous_champion"] == "1"


def test_the_gate_stops_one_that_is_no_better_and_says_what_can_be_done(three: Any) -> None:
    moves = three.list_moves()
    with pytest.raises(
        NotPromotedError, match=r"version 2 was not promoted: version 2 does not beat version 1: .*say why: --reason"
    ):
        promote_version(three.name, "2")
    assert three.list_moves() == moves
    assert three.get_aliases() == {"champion": "1", "challenger": "3"}


def test_the_gate_never_compares_what_was_measured_otherwise(laboratory: Any) -> None:
    laboratory.register(POOR)
    laboratory.register(BETTER, n_images=10)
    with pytest.raises(NotPromotedError, match="were not measured on the same data, so they were not compared"):
        promote_version(laboratory.name, "2")


def test_by_hand_with_a_reason_it_is_written_down_beside_what_the_gate_found(three: Any) -> None:
    made = promote_version(three.name, "2", reason="the client's own lot")
    assert (made.entry.action, made.entry.reason) == ("promoted by hand", "the client's own lot")
    assert made.entry.comparison["is_better"] is False
    assert set(made.entry.scores) == {"1", "2"}
    assert three.get_aliases()["champion"] == "2"


def test_by_hand_even_what_cannot_be_compared(laboratory: Any) -> None:
    laboratory.register(BETTER)
    laboratory.register(POOR, n_images=10)
    assert promote_version(laboratory.name, "2", reason="new instrument").entry.comparison is None
    assert laboratory.get_aliases() == {"champion": "2"}


def test_where_nobody_holds_the_alias_there_is_no_contest(three: Any) -> None:
    three.client.delete_registered_model_alias(three.name, "champion")
    made = promote_version(three.name, "2")
    assert made.entry.reason == "nobody held the alias, so there was no contest."
    assert three.list_moves()[-2:] == [("found", "champion", "1", None), ("promoted", "champion", None, "2")]


def test_the_champion_is_not_promoted_again(three: Any) -> None:
    with pytest.raises(NotPromotedError, match="version 1 of sem-search-tiny is champion already; nothing was moved"):
        promote_version(three.name, "1", reason="again")


@pytest.mark.parametrize(
    ("reason", "message"), [("", "the reason is empty"), ("  ", "the reason is empty"), ("x" * 6000, "too long")]
)
def test_a_reason_that_says_nothing_or_too_much_is_refused(three: Any, reason: str, message: str) -> None:
    moves = three.list_moves()
    with pytest.raises(SettingsError, match=message):
        promote_version(three.name, "2", reason=reason)
    with pytest.raises(SettingsError, match=message):
        roll_back(promote(three, "2"), reason=reason)
    assert three.list_moves()[: len(moves)] == moves


def promote(laboratory: Any, version: str) -> str:
    promote_version(laboratory.name, version, reason="r")
    return str(laboratory.name)


def test_a_password_in_a_reason_is_not_kept(three: Any) -> None:
    made = promote_version(three.name, "2", reason="see postgresql://me:secret@host/db")
    assert made.entry.reason == "see postgresql://me:***@host/db"


def test_rolling_back_goes_step_by_step_to_the_first(three: Any) -> None:
    promote_version(three.name, "2", reason="r")
    promote_version(three.name, "3")
    made = roll_back(three.name, reason="it mistakes starch for lactose")
    assert (made.entry.action, made.entry.from_version, made.entry.to_version) == ("rolled back", "3", "2")
    assert made.entry.reason == "it mistakes starch for lactose"
    assert roll_back(three.name).entry.to_version == "1"
    with pytest.raises(NotPromotedError, match="no other version was champion before version 1"):
        roll_back(three.name)
    assert three.get_aliases()["champion"] == "1"


def test_rolling_back_to_a_deleted_version_is_refused_with_its_reason(three: Any) -> None:
    promote_version(three.name, "3")
    three.client.delete_model_version(three.name, "1")
    with pytest.raises(NotPromotedError, match=r"version 1, the champion before, was deleted\. Choose another with: "):
        roll_back(three.name)
    assert three.get_aliases() == {"champion": "3"}


def test_a_champion_whose_alias_was_dropped_comes_back_by_rolling_back(three: Any) -> None:
    promote_version(three.name, "3")
    three.client.delete_registered_model_alias(three.name, "champion")
    assert roll_back(three.name).entry.to_version == "3"


def test_a_deleted_champion_is_written_down_before_the_next_move(three: Any) -> None:
    promote_version(three.name, "3")
    three.client.delete_model_version(three.name, "3")
    promote_version(three.name, "2", reason="3 was deleted")
    assert three.list_moves()[-2:] == [("found", "champion", "3", None), ("promoted by hand", "champion", None, "2")]


def test_an_alias_moved_by_something_else_is_written_down_before_the_next_move(three: Any) -> None:
    three.client.set_registered_model_alias(three.name, "champion", "2")
    promote_version(three.name, "3")
    assert three.list_moves()[-2:] == [("found", "champion", "1", "2"), ("promoted", "champion", "2", "3")]


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [("other", "1", "no registered model 'other'"), ("sem-search-tiny", "9", "no version '9'")],
)
def test_what_is_not_there_is_told(three: Any, name: str, version: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message):
        promote_version(name, version, reason="r")


STEPS = {
    "before the entry": ("set_registered_model_tag", 0),
    "before the copy": ("log_text", 0),
    "before the alias": ("set_registered_model_alias", 0),
    "before the challenger is none": ("delete_registered_model_alias", 0),
    "before the mark": ("set_registered_model_tag", 1),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_promotion_killed_at_any_step_is_finished_by_giving_it_again(
    three: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, *STEPS[step])
        promote_version(three.name, "3")
    assert "champion" in three.get_aliases()
    assert promote_version(three.name, "3").entry.to_version == "3"
    assert three.get_aliases() == {"champion": "3"}
    assert three.list_moves()[3:] == [("promoted", "champion", "1", "3")]
    assert three.read_journal().pending is None


@pytest.mark.parametrize("step", ["before the copy", "before the alias", "before the mark"])
def test_a_rollback_killed_at_any_step_goes_back_once(three: Any, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    promote_version(three.name, "2", reason="r")
    promote_version(three.name, "3")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, *STEPS[step])
        roll_back(three.name)
    assert roll_back(three.name).entry.to_version == "2"
    assert three.get_aliases()["champion"] == "2"
    assert [move[0] for move in three.list_moves()].count("rolled back") == 1


def test_another_move_finishes_the_interrupted_one_first(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, *STEPS["before the alias"])
        promote_version(three.name, "3")
    promote_version(three.name, "2", reason="r")
    assert three.list_moves()[3:] == [("promoted", "champion", "1", "3"), ("promoted by hand", "champion", "3", "2")]


def test_an_interrupted_move_to_a_version_deleted_since_blocks_nothing(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, *STEPS["before the alias"])
        promote_version(three.name, "3")
    three.client.delete_model_version(three.name, "3")
    promote_version(three.name, "2", reason="r")
    assert three.list_moves()[3:] == [
        ("promoted", "champion", "1", "3"),
        ("found", "champion", "3", "1"),
        ("promoted by hand", "champion", "1", "2"),
    ]


PROMOTE = """
import sys, time
from sem_search.deployment.registry import promote_version
print("ready", flush=True)
sys.stdin.readline()
for turn in range(3):
    try:
        promote_version("sem-search-tiny", sys.argv[1], reason=f"{sys.argv[1]}, turn {turn}")
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_two_processes_that_promote_at_the_same_moment_lose_no_entry_and_fork_nothing(three: Any) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{three.folder}/mlflow.db", "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROMOTE, version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for version in ("2", "3")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    refused = [line for lines in answers for line in lines]
    assert all("is champion already" in line for line in refused), refused
    moves = three.list_moves()[3:]
    assert len(moves) + len(refused) == 6, "every promotion is either written down or refused"
    assert count_forks(three.read_journal().history) == 0
    assert three.get_aliases()["champion"] == moves[-1][3]


def test_a_move_of_another_machine_at_the_same_moment_is_kept_and_told(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock that reaches it: the other writes its entry between our reading and our writing."""
    from sem_search.deployment.registry import moves_log as journal

    complete = journal._complete

    def complete_late(draft: Any, *, journal: Any) -> Any:
        entry = complete(draft, journal=journal)
        if draft.to_version == "3":
            monkeypatch.undo()
            other = type(draft)(**{**draft.__dict__, "to_version": "2", "reason": "of the other machine"})
            written = complete(other, journal=journal)
            three.client.set_registered_model_tag(three.name, written.key, written.to_json())
        return entry

    monkeypatch.setattr(journal, "_complete", complete_late)
    made = promote_version(three.name, "3")
    assert "somebody else moved an alias of sem-search-tiny at the same moment" in made.warnings[0]
    history = three.read_journal().history
    assert len(history.entries) == 5
    assert len(history.heads) == 2
    made = promote_version(three.name, "2", reason="this one shall hold")
    assert made.warnings == ()
    assert three.list_moves()[-1] == ("promoted by hand", "champion", "3", "2")
    assert count_forks(three.read_journal().history) == 1
