from typing import Any

import pytest
from mlflow import MlflowClient

from sem_search.deployment.registry import GateRule, RegisteredVersion
from sem_search.deployment.registry.showing import NO_CARD
from sem_search.deployment.registry.tags import TAG_DECISION
from sem_search.errors import ModelNotFoundError, StoreError

POOR, GOOD, BETTER = 0.5, 2.0, 9.0
FIRST = "champion: there was none, so there was no contest."


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


def test_one_that_beats_the_champion_image_by_image_takes_its_place(laboratory: Any) -> None:
    laboratory.register(POOR)
    registered = laboratory.register(BETTER, seed=1)
    assert (registered.version, registered.alias) == ("2", "champion")
    assert registered.reason.startswith("champion: version 2 beats version 1: F-measure 1.0000 against 0.")
    assert laboratory.get_aliases() == {"champion": "2"}
    assert laboratory.client.get_model_version(laboratory.name, "2").tags["sem_search.previous_champion"] == "1"
    entry = laboratory.read_journal().history.entries[-1]
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
            "versions 2 and 1 were not measured in the same split, so they were not compared (version 1 is champion).",
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
def test_any_other_is_challenger_and_told_why(
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
    assert f"0{'ä' * 59}..., " in registered.reason
    assert "and 5 more (version 1 is champion)." in registered.reason
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
    "before the copy": ("log_text", 0),
    "before the alias": ("set_registered_model_alias", 0),
    "before the mark": ("set_registered_model_tag", 1),
    "before the previous champion": ("set_model_version_tag", 0),
    "before the description": ("update_model_version", 0),
    "before the decision": ("set_model_version_tag", 1),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_search_killed_at_any_step_finishes_its_registration(
    laboratory: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    laboratory.register(POOR)
    run_id = laboratory.log_run(skill=BETTER, seed=1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kill_at(patched, *STEPS[step])
        laboratory.register(run_id=run_id)
    assert set(laboratory.get_aliases()) == {"champion"}, "there is a champion at every moment"
    registered = laboratory.register(run_id=run_id)
    assert (registered.version, registered.alias) == ("2", "champion")
    assert laboratory.get_aliases() == {"champion": "2"}
    assert laboratory.list_moves() == [("registered", "champion", None, "1"), ("registered", "champion", "1", "2")]
    version = laboratory.client.get_model_version(laboratory.name, "2")
    assert version.tags[TAG_DECISION] == registered.reason
    assert version.tags["sem_search.previous_champion"] == "1"
    assert version.description.startswith("# sem-search-tiny, version 2")
    assert laboratory.read_journal().pending is None


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, n_before: int) -> None:
    """Let a method of MLflow's client work so many times, and die at its next call."""
    method, calls = getattr(MlflowClient, name), []

    def call(*given: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) > n_before:
            raise KeyboardInterrupt
        return method(*given, **named)

    monkeypatch.setattr(MlflowClient, name, call)


def test_a_champion_of_before_the_history_is_written_down_as_found(laboratory: Any) -> None:
    laboratory.register(POOR)
    forget_history(laboratory)
    laboratory.register(BETTER)
    assert laboratory.list_moves() == [("found", "champion", None, "1"), ("registered", "champion", "1", "2")]
    assert laboratory.read_journal().history.entries[0].reason == (
        "the history begins here; the alias stood here already."
    )


def forget_history(laboratory: Any) -> None:
    for key in laboratory.client.get_registered_model(laboratory.name).tags:
        laboratory.client.delete_registered_model_tag(laboratory.name, key)


def test_where_the_champion_was_deleted_there_is_no_contest_and_it_is_said(laboratory: Any) -> None:
    laboratory.register(BETTER)
    laboratory.client.delete_model_version(laboratory.name, "1")
    registered = laboratory.register(POOR, seed=1)
    assert registered.alias == "champion"
    assert registered.reason == (
        "champion: nobody held the alias any more (version 1 did last), so there was no contest."
    )
    assert laboratory.list_moves()[1:] == [("found", "champion", "1", None), ("registered", "champion", None, "2")]


def test_names_with_an_apostrophe(laboratory: Any) -> None:
    run_id = laboratory.log_run()
    assert laboratory.register(run_id=run_id, model_name="o'hara").version == "1"
    assert laboratory.register(run_id=run_id, model_name="o'hara").version == "1"


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_that_is_none_is_refused(laboratory: Any, score: float) -> None:
    with pytest.raises(StoreError, match="is no objective: it must lie between 0 and 1"):
        laboratory.register(score=score)


def test_a_run_without_model_is_named(laboratory: Any) -> None:
    run_id = laboratory.log_run("another")
    with pytest.raises(ModelNotFoundError, match=f"Run {run_id} has no model 'classifier'"):
        laboratory.register(run_id=run_id)


def test_a_model_that_was_never_finished_is_none(laboratory: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="its trial was not finished"):
        laboratory.register(run_id=laboratory.log_run(is_finished=False))


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
