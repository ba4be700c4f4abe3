from typing import Any

import pytest

from sem_search.deployment.registry import list_models, list_moves, list_versions
from sem_search.deployment.registry.tags import TAG_SETTLED
from sem_search.errors import ModelNotFoundError


def test_versions_with_their_aliases_and_scores(three: Any) -> None:
    overview = list_versions(three.name)
    assert (overview.name, overview.champion, overview.n_moves, overview.remarks) == (three.name, "1", 3, ())
    assert [(row.version, row.aliases) for row in overview.versions] == [
        ("1", ("champion",)),
        ("2", ()),
        ("3", ("challenger",)),
    ]
    last = overview.versions[-1]
    assert (last.score, last.validation_f_measure, last.test_f_measure) == (1.0, 1.0, 1.0)
    assert last.study == "tiny-quick-0123"
    assert last.decision.startswith("challenger: version 3 does not beat version 1")
    assert last.registered_at.endswith("+00:00")
    assert overview.head_sha256 == three.read_journal().history.heads[0]


def test_a_version_that_no_search_registered_has_no_scores(three: Any) -> None:
    source = three.client.get_model_version(three.name, "1").source
    three.client.create_model_version(three.name, source)
    row = list_versions(three.name).versions[-1]
    assert (row.version, row.score, row.study, row.decision) == ("4", None, None, None)


def test_a_deleted_champion_is_told(three: Any) -> None:
    three.client.delete_model_version(three.name, "1")
    overview = list_versions(three.name)
    assert overview.champion is None
    assert overview.remarks == (
        "by the history version 1 is champion, but version 1 was deleted, and MLflow dropped the alias with it: "
        "something else than sem-search did that.",
    )


def test_a_dropped_and_a_moved_alias_are_told(three: Any) -> None:
    three.client.delete_registered_model_alias(three.name, "champion")
    assert "by the history version 1 is champion, but the alias is gone" in list_versions(three.name).remarks[0]
    three.client.set_registered_model_alias(three.name, "champion", "2")
    assert (
        "by the history version 1 is champion, but the alias stands at version 2"
        in (list_versions(three.name).remarks[0])
    )


def test_an_interrupted_move_is_told(three: Any) -> None:
    three.client.set_registered_model_tag(three.name, TAG_SETTLED, "0" * 64)
    assert list_versions(three.name).remarks == (
        "the move of entry 3 (challenger to version 3) was interrupted: give its command again, or make another move, "
        "and it is finished first.",
    )


def test_an_altered_history_is_told(three: Any) -> None:
    entry = three.read_journal().history.entries[1]
    three.client.set_registered_model_tag(three.name, entry.key, entry.to_json().replace("iwata", "other"))
    assert list_versions(three.name).remarks[0].startswith("the history is not sound: entry 2 was altered")


def test_a_model_without_champion_cannot_be_loaded_by_that_name(laboratory: Any) -> None:
    laboratory.client.create_registered_model(laboratory.name)
    assert list_versions(laboratory.name).remarks == ()
    laboratory.client.create_model_version(laboratory.name, (laboratory.folder / "model").as_uri())
    assert list_versions(laboratory.name).remarks == (
        "there is no champion: models:/sem-search-tiny@champion cannot be loaded.",
    )
    assert list_moves(laboratory.name) == ()


def test_all_models_by_name(three: Any) -> None:
    three.client.create_registered_model("another")
    assert [overview.name for overview in list_models()] == ["another", three.name]


def test_moves_in_order(three: Any) -> None:
    assert [entry.to_version for entry in list_moves(three.name)] == ["1", "2", "3"]


def test_an_unknown_model_is_told(three: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="no registered model 'other'"):
        list_versions("other")
