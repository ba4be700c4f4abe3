import dataclasses
import getpass
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient

from sem_search.deployment.registry import (
    GateRule,
    RegisteredVersion,
    find_registered,
    list_versions,
    moves,
    promote_version,
    roll_back,
)
from sem_search.deployment.registry.moves import describe_user, locate_lock, lock_registry
from sem_search.deployment.registry.versions import TAG_DECISION
from sem_search.deployment.registry.views import NO_CARD, format_move
from sem_search.errors import ModelNotFoundError, NotPromotedError, SettingsError, StoreError

POOR, GOOD, BETTER = 0.5, 2.0, 9.0
FIRST = "champion: there was none, so there was no contest."
INTERRUPTED = (
    "the alias named another version than the history says: a move was interrupted, or another program made one."
)
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


def test_the_first_is_champion_without_a_contest_and_carries_its_tags(laboratory: Any) -> None:
    run_id = laboratory.log_run()
    registered = laboratory.register(run_id=run_id, score=0.7)
    assert registered == RegisteredVersion(name=laboratory.name, version="1", alias="champion", reason=FIRST)
    version = laboratory.client.get_model_version(laboratory.name, "1")
    record = laboratory.records[run_id]
    assert version.run_id == run_id
    scores = {"sem_search.validation_f_measure", "sem_search.test_f_measure", "sem_search.files_sha256"}
    assert scores <= set(version.tags)
    assert {key: value for key, value in version.tags.items() if key not in scores} == {
        "sem_search.study": "tiny-quick-0123",
        "sem_search.select_on": "validation",
        "sem_search.source_run_id": run_id,
        "sem_search.score": "0.7",
        "sem_search.data_sha256": record.catalogue.digest,
        "sem_search.folds_sha256": record.folds.digest,
        "sem_search.decision": FIRST,
    }
    assert version.description.startswith("# sem-search-tiny, version 1\n\ntiny with weights random")
    assert laboratory.list_moves() == [("registered", "champion", None, "1")]


def test_one_at_chance_is_no_champion_though_there_is_none(laboratory: Any) -> None:
    registered = laboratory.register(at_chance="5 of 50, chance 10 %")
    assert (registered.version, registered.alias, registered.uri) == (
        "1",
        "challenger",
        "models:/sem-search-tiny@challenger",
    )
    reason = "it is not shown to be better than chance (5 of 50, chance 10 %)."
    assert registered.reason == f"challenger: {reason}"
    assert laboratory.get_aliases() == {"challenger": "1"}
    assert laboratory.list_moves() == [("registered", "challenger", None, "1")]
    assert laboratory.read_history().entries[-1].reason == registered.reason
    with pytest.raises(NotPromotedError, match=r"version 1 was not promoted: it is not shown .*: --reason"):
        promote_version(laboratory.name, "1")
    made = promote_version(laboratory.name, "1", reason="for a demonstration")
    assert (made.reason, made.comparison) == ("for a demonstration", {"finding": reason})
    assert f"   the gate found: {reason}" in format_move(made)
    assert laboratory.get_aliases() == {"champion": "1"}
    assert laboratory.register(GOOD, seed=1, at_chance="5 of 50").alias == "challenger", "nor does it beat a champion"


def test_the_version_of_a_run_is_found(laboratory: Any) -> None:
    run_id = laboratory.log_run()
    assert find_registered(model_name=laboratory.name, run_ids=[run_id]) is None
    registered = laboratory.register(run_id=run_id)
    found = find_registered(model_name=laboratory.name, run_ids=["0" * 32, run_id])
    assert found == dataclasses.replace(registered, reason=FIRST)
    assert find_registered(model_name=laboratory.name, run_ids=[]) is None


def test_one_that_beats_the_champion_image_by_image_takes_its_place(laboratory: Any) -> None:
    laboratory.register(POOR)
    registered = laboratory.register(BETTER, seed=1)
    assert (registered.version, registered.alias) == ("2", "champion")
    assert registered.reason.startswith("champion: version 2 beats version 1: F-measure 1.0000 against 0.")
    assert laboratory.get_aliases() == {"champion": "2"}
    entry = laboratory.read_history().entries[-1]
    assert (entry.who, entry.run_id) == ("iwata", laboratory.client.get_model_version(laboratory.name, "2").run_id)
    assert set(entry.scores) == {"1", "2"}
    assert entry.comparison["is_better"] is True
    assert entry.comparison["validation"]["low"] > 0


@pytest.mark.parametrize(
    ("skill", "changes", "reason"),
    [
        (BETTER, {}, "version 2 does not beat version 1: F-measure 1.0000 against 1.0000 on the same test tiles"),
        (POOR, {"seed": 1}, "version 2 does not beat version 1: F-measure 0."),
        (
            BETTER,
            {"n_images": 10},
            "versions 2 and 1 were not measured on the same data, so they were not compared (version 1 is champion).",
        ),
        (
            BETTER,
            {"folds_seed": 1},
            "versions 2 and 1 were not measured on the same folds, so they were not compared (version 1 is champion).",
        ),
        (
            BETTER,
            {"select_on": "test"},
            "versions 2 and 1 were not measured on the same split, so they were not compared (version 1 is champion).",
        ),
        (
            BETTER,
            {"class_names": ("cellulose", "lactose", "mannitol")},
            "versions 2 and 1 were not measured on the same data and classes, so they were not compared: only the "
            "first knows mannitol and only the second knows starch (version 1 is champion).",
        ),
    ],
    ids=["equal", "worse", "other data", "other folds", "other split", "other classes"],
)
def test_any_other_is_challenger_and_the_reason_says_why(
    laboratory: Any, skill: float, changes: dict[str, Any], reason: str
) -> None:
    laboratory.register(BETTER)
    registered = laboratory.register(skill, **changes)
    assert registered.alias == "challenger"
    assert registered.reason.startswith(f"challenger: {reason}")
    assert laboratory.get_aliases() == {"champion": "1", "challenger": "2"}
    assert laboratory.list_moves()[-1] == ("registered", "challenger", None, "2")


def test_long_names_of_many_classes_fit_into_the_history(laboratory: Any) -> None:
    laboratory.register(class_names=tuple(f"{number}{'ä' * 100}" for number in range(9)), n_images=3)
    registered = laboratory.register(class_names=tuple(f"x{number}{'ö' * 100}" for number in range(9)), n_images=3)
    assert f"only the second knows 0{'ä' * 100}, 1{'ä' * 100}, and more (version 1 is champion)." in registered.reason
    assert max(map(len, laboratory.client.get_registered_model(laboratory.name).tags.values())) < 5000


def test_a_lead_that_chance_may_explain_is_not_enough(laboratory: Any) -> None:
    laboratory.register(GOOD)
    assert laboratory.register(GOOD + 0.2, seed=9).alias == "challenger"
    assert laboratory.register(GOOD + 0.2, seed=9, rule=GateRule(confidence=0.51)).alias == "champion"


def test_a_lead_within_the_margin_is_not_enough(laboratory: Any) -> None:
    laboratory.register(POOR)
    registered = laboratory.register(BETTER, rule=GateRule(margin=0.9))
    assert registered.alias == "challenger"
    assert registered.reason.endswith("where more than 0.9 was needed.")


def test_the_score_alone_decides_nothing(laboratory: Any) -> None:
    laboratory.register(GOOD, score=0.1)
    assert laboratory.register(GOOD, score=1.0).alias == "challenger"


def test_a_champion_without_record_is_not_compared(laboratory: Any) -> None:
    laboratory.register(run_id=laboratory.log_run(with_record=False))
    assert laboratory.client.get_model_version(laboratory.name, "1").description == NO_CARD
    assert laboratory.register(BETTER).reason == (
        "challenger: version 1 carries no out-of-fold answers, so nothing could be paired by image (version 1 is "
        "champion)."
    )


def test_the_model_s_page_says_which_version_is_champion_unless_a_user_has_written_it(three: Any) -> None:
    def read() -> str:
        return str(three.client.get_registered_model(three.name).description)

    def name(version: str) -> str:
        return (
            f"**Champion: [version {version}](#/models/{three.name}/versions/{version}?workflowType=machine_learning)**"
        )

    champion = str(three.client.get_registered_model(three.name).aliases["champion"])
    assert read().startswith("Classifier of SEM micrographs, made by sem_search.")
    assert name(champion) in read()
    other = next(version for version in ("1", "2", "3") if version != champion)
    promote_version(three.name, other, reason="for the page")
    assert name(other) in read()
    three.client.update_registered_model(three.name, description="Ours, see the wiki.")
    roll_back(three.name)
    assert read() == "Ours, see the wiki."


def test_the_same_run_is_registered_once(laboratory: Any) -> None:
    run_id = laboratory.log_run()
    first = laboratory.register(run_id=run_id)
    again = laboratory.register(run_id=run_id)
    assert (again.version, again.alias) == (first.version, "champion")
    assert again.reason == f"as before: {FIRST}"
    assert len(laboratory.client.search_model_versions(f"name = '{laboratory.name}'")) == 1
    assert len(laboratory.list_moves()) == 1


def test_registering_again_moves_nothing(laboratory: Any) -> None:
    run_id = laboratory.log_run(skill=POOR)
    laboratory.register(run_id=run_id)
    laboratory.register(BETTER)
    assert laboratory.register(run_id=run_id).alias is None
    assert laboratory.get_aliases() == {"champion": "2"}
    assert len(laboratory.list_moves()) == 2


STEPS = {
    "before the entry": ("set_registered_model_tag", 0),
    "before the alias": ("set_registered_model_alias", 0),
    "before the description": ("update_model_version", 0),
    "before the decision": ("set_model_version_tag", 0),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("skill", [POOR, BETTER])
def test_a_search_killed_at_any_step_finishes_its_registration(
    laboratory: Any, monkeypatch: pytest.MonkeyPatch, step: str, skill: float
) -> None:
    laboratory.register(POOR)
    run_id = laboratory.log_run(skill=skill, seed=1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, *STEPS[step])
        laboratory.register(run_id=run_id)
    assert "champion" in laboratory.get_aliases(), "there is a champion at every moment"
    registered = laboratory.register(run_id=run_id)
    alias = "champion" if skill == BETTER else "challenger"
    assert (registered.version, registered.alias) == ("2", alias)
    assert laboratory.get_aliases() == ({"champion": "2"} if skill == BETTER else {"champion": "1", "challenger": "2"})
    version = laboratory.client.get_model_version(laboratory.name, "2")
    assert registered.reason.removeprefix("as before: ") == version.tags[TAG_DECISION]
    assert version.description.startswith("# sem-search-tiny, version 2")
    (*_, last) = laboratory.list_moves()
    assert last[:2] == ("registered", alias)


def test_a_champion_of_before_the_history_is_written_down_as_found(laboratory: Any) -> None:
    laboratory.register(POOR)
    forget_history(laboratory)
    laboratory.register(BETTER)
    assert laboratory.list_moves() == [("found", "champion", None, "1"), ("registered", "champion", "1", "2")]
    assert laboratory.read_history().entries[0].reason == ("the history begins here; the alias stood here already.")


def forget_history(laboratory: Any) -> None:
    for key in laboratory.client.get_registered_model(laboratory.name).tags:
        laboratory.client.delete_registered_model_tag(laboratory.name, key)


def test_where_the_champion_was_deleted_there_is_no_contest_and_it_is_said(laboratory: Any) -> None:
    laboratory.register(BETTER)
    laboratory.client.delete_model_version(laboratory.name, "1")
    registered = laboratory.register(POOR, seed=1)
    assert registered.alias == "champion"
    assert registered.reason == ("champion: there was none any more (version 1 was the last), so there was no contest.")
    assert laboratory.list_moves()[1:] == [("found", "champion", "1", None), ("registered", "champion", None, "2")]


def test_names_with_an_apostrophe(laboratory: Any) -> None:
    run_id = laboratory.log_run()
    assert laboratory.register(run_id=run_id, model_name="o'hara").version == "1"
    assert laboratory.register(run_id=run_id, model_name="o'hara").version == "1"


def test_a_model_that_was_never_finished_is_none(laboratory: Any) -> None:
    run_id = laboratory.log_run(is_finished=False)
    with pytest.raises(ModelNotFoundError, match=f"Run {run_id} has no model: its trial was not finished"):
        laboratory.register(run_id=run_id)


def test_a_run_that_is_not_there_is_named(laboratory: Any) -> None:
    laboratory.records["0123"] = laboratory.records[laboratory.log_run()]
    with pytest.raises(ModelNotFoundError, match="There is no run 0123"):
        laboratory.register(run_id="0123")


@pytest.mark.parametrize("first_is_there", [True, False])
def test_a_model_that_was_logged_anew_is_registered_once_where_its_first_run_is_there(
    laboratory: Any, first_is_there: bool
) -> None:
    """The same search under another experiment; where the first run was deleted, its files may be gone, too."""
    nowhere = "0" * 32
    first, second = laboratory.log_run(), laboratory.log_run()
    laboratory.register(run_id=first)
    if not first_is_there:
        laboratory.client.delete_run(first)
    again = laboratory.register(run_id=second, earlier_run_ids=[nowhere, first])
    assert again.version == ("1" if first_is_there else "2")
    assert laboratory.register(run_id=second, earlier_run_ids=[nowhere, first]).version == again.version


def test_the_gate_lets_a_better_one_through(three: Any) -> None:
    made = promote_version(three.name, "challenger")
    assert (made.action, made.from_version, made.to_version) == ("promoted", "1", "3")
    assert made.reason.startswith("version 3 beats version 1: F-measure 1.0000 against 0.")
    assert three.get_aliases() == {"champion": "3"}, "a champion is challenger no more"
    assert three.list_moves()[-1] == ("promoted", "champion", "1", "3")


def test_the_gate_stops_one_that_is_no_better_and_says_what_can_be_done(three: Any) -> None:
    before = three.list_moves()
    with pytest.raises(
        NotPromotedError, match=r"version 2 was not promoted: version 2 does not beat version 1: .*say why: --reason"
    ):
        promote_version(three.name, "2")
    assert three.list_moves() == before
    assert three.get_aliases() == {"champion": "1", "challenger": "3"}


def test_the_gate_never_compares_what_was_measured_otherwise(laboratory: Any) -> None:
    laboratory.register(POOR)
    laboratory.register(BETTER, n_images=10)
    with pytest.raises(NotPromotedError, match="were not measured on the same data, so they were not compared"):
        promote_version(laboratory.name, "2")


def test_by_hand_with_a_reason_it_is_written_down_beside_what_the_gate_found(three: Any) -> None:
    made = promote_version(three.name, "2", reason="the client's own lot")
    assert (made.action, made.reason) == ("promoted by hand", "the client's own lot")
    assert made.comparison["is_better"] is False
    assert made.comparison["finding"].startswith("version 2 does not beat version 1: ")
    assert set(made.scores) == {"1", "2"}
    assert three.get_aliases()["champion"] == "2"


def test_by_hand_even_what_cannot_be_compared(laboratory: Any) -> None:
    laboratory.register(BETTER)
    laboratory.register(POOR, n_images=10)
    made = promote_version(laboratory.name, "2", reason="new instrument")
    assert list(made.comparison) == ["finding"]
    assert "(version 1 is champion)" in made.comparison["finding"]
    assert laboratory.get_aliases() == {"champion": "2"}


def test_where_no_version_holds_the_alias_there_is_no_contest(three: Any) -> None:
    three.client.delete_registered_model_alias(three.name, "champion")
    made = promote_version(three.name, "2")
    assert made.reason == "there was none any more (version 1 was the last), so there was no contest."
    assert three.list_moves()[-2:] == [("found", "champion", "1", None), ("promoted", "champion", None, "2")]


def test_the_champion_is_not_promoted_again(three: Any) -> None:
    with pytest.raises(NotPromotedError, match="version 1 of sem-search-tiny is champion already; nothing was moved"):
        promote_version(three.name, "1", reason="again")


@pytest.mark.parametrize(
    ("reason", "message"), [("", "the reason is empty"), ("  ", "the reason is empty"), ("x" * 6000, "too long")]
)
def test_a_reason_that_says_nothing_or_too_much_is_refused(three: Any, reason: str, message: str) -> None:
    before = three.list_moves()
    with pytest.raises(SettingsError, match=message):
        promote_version(three.name, "2", reason=reason)
    with pytest.raises(SettingsError, match=message):
        roll_back(promote(three, "2"), reason=reason)
    assert three.list_moves()[: len(before)] == before


def promote(laboratory: Any, version: str) -> str:
    promote_version(laboratory.name, version, reason="r")
    return str(laboratory.name)


def test_a_password_in_a_reason_is_not_kept(three: Any) -> None:
    made = promote_version(three.name, "2", reason="see postgresql://me:secret@host/db")
    assert made.reason == "see postgresql://me:***@host/db"


def test_rolling_back_goes_step_by_step_to_the_first(three: Any) -> None:
    promote_version(three.name, "2", reason="r")
    promote_version(three.name, "3")
    made = roll_back(three.name, reason="it mistakes starch for lactose")
    assert (made.action, made.from_version, made.to_version) == ("rolled back", "3", "2")
    assert made.reason == "it mistakes starch for lactose"
    assert roll_back(three.name).to_version == "1"
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
    assert roll_back(three.name).to_version == "3"


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
    ("step", "found"),
    [
        (("set_registered_model_tag", 0), []),
        (("set_registered_model_alias", 0), [("found", "champion", "3", "1")]),
    ],
    ids=["before the entry", "before the alias"],
)
def test_a_promotion_killed_before_the_alias_moved_is_made_by_giving_it_again(
    three: Any, monkeypatch: pytest.MonkeyPatch, step: tuple[str, int], found: list[Any]
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, *step)
        promote_version(three.name, "3")
    assert three.get_aliases()["champion"] == "1", "there is a champion at every moment"
    assert promote_version(three.name, "3").to_version == "3"
    assert three.get_aliases() == {"champion": "3"}
    promotion = ("promoted", "champion", "1", "3")
    assert three.list_moves()[3:] == [*([promotion] if found else []), *found, promotion]
    assert all(entry.reason == INTERRUPTED for entry in three.read_history().entries if entry.action == "found")


def test_a_rollback_killed_before_the_alias_moved_goes_back_once(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    promote_version(three.name, "2", reason="r")
    promote_version(three.name, "3")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, "set_registered_model_alias", 0)
        roll_back(three.name)
    assert roll_back(three.name).to_version == "2"
    assert three.get_aliases()["champion"] == "2"


def test_an_interrupted_move_to_a_version_deleted_since_blocks_nothing(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, "set_registered_model_alias", 0)
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
    made = three.list_moves()[3:]
    assert len(made) + len(refused) == 6, "every promotion is either written down or refused"
    assert len(three.read_history().heads) == 1
    assert three.get_aliases()["champion"] == made[-1][3]


def test_a_move_of_another_machine_at_the_same_moment_is_kept_and_reported(
    three: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock that reaches it: the other writes its entry between our reading and our writing."""
    settle = moves._settle

    def settle_and_wait(client: Any, *, name: str) -> Any:
        history = settle(client, name=name)
        monkeypatch.undo()
        promote_elsewhere(history)
        return history

    def promote_elsewhere(history: Any) -> None:
        version = three.client.get_model_version(three.name, "2")
        moves._move_alias(three.client, history, action="promoted", version=version, reason="of the other machine")

    monkeypatch.setattr(moves, "_settle", settle_and_wait)
    promote_version(three.name, "3")
    assert "the history forks: entry 4" in list_versions(three.name).remarks[0]
    assert len(three.read_history().entries) == 5
    assert len(three.read_history().heads) == 2
    promote_version(three.name, "1", reason="this one shall hold")
    assert list_versions(three.name).remarks == ()
    assert three.list_moves()[-1] == ("promoted by hand", "champion", "3", "1")
    assert len(three.read_history().entries[-1].previous) == 2


def test_an_entry_holds_user_time_and_origin(three: Any) -> None:
    run_id = three.client.get_model_version(three.name, "2").run_id
    heads, before = three.read_history().heads, datetime.now(UTC)
    entry = promote_version(three.name, "2", reason="r")
    assert three.client.get_registered_model(three.name).tags[entry.key] == entry.to_json()
    assert (entry.number, entry.previous, entry.model, entry.who, entry.run_id) == (
        4,
        heads,
        three.name,
        "iwata",
        run_id,
    )
    assert entry.at.endswith("+00:00")
    assert abs((datetime.fromisoformat(entry.at) - before).total_seconds()) < 60


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


def test_the_lock_of_a_file_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_lock(f"sqlite:///{tmp_path}/mlflow.db") == tmp_path / "mlflow.db.registry.lock"
    monkeypatch.chdir(tmp_path)
    assert locate_lock("sqlite:///mlflow.db") == tmp_path / "mlflow.db.registry.lock"


@pytest.mark.parametrize("uri", ["http://host:5000", "postgresql://user:secret@host/name", "sqlite:///:memory:"])
def test_the_lock_of_a_server_lies_in_the_cache_and_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("SEM_SEARCH_CACHE", str(tmp_path))
    path = locate_lock(uri)
    assert path.parent == tmp_path / "locks"
    assert "secret" not in path.name
    assert locate_lock(uri) == path
    assert locate_lock(f"{uri}/other") != path


def test_a_process_that_hangs_is_reported_after_the_wait(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "WAIT_S", 0.1)
    with (
        FileLock(laboratory.folder / "mlflow.db.registry.lock"),
        pytest.raises(StoreError, match=r"holds mlflow\.db\.registry\.lock: end it, and give the command again"),
    ):
        promote_version(laboratory.name, "1")


def test_the_lock_is_free_after_an_error(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), lock_registry():
        raise ZeroDivisionError
    monkeypatch.setattr(moves, "WAIT_S", 0.1)
    with lock_registry():
        pass


HOLD = """
import sys, time
from filelock import FileLock
FileLock(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_lock_ends_with_a_process_that_is_killed(laboratory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = laboratory.folder / "mlflow.db.registry.lock"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    monkeypatch.setattr(moves, "WAIT_S", 5)
    with lock_registry():
        pass
