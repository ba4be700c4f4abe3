from typing import Any

import pytest

from sem_search.deployment.package.card_text import LEFT_OUT
from sem_search.deployment.registry import show_version
from sem_search.deployment.registry.showing import NO_CARD, describe_version
from sem_search.deployment.registry.tags import DESCRIPTION_LENGTH
from sem_search.errors import ModelNotFoundError, StoreError


def test_a_version_with_its_card_and_its_moves(old_laboratory: Any) -> None:
    view = show_version(old_laboratory.name, "3")
    run_id = old_laboratory.client.get_model_version(old_laboratory.name, "3").run_id
    assert (view.name, view.version, view.aliases) == (old_laboratory.name, "3", ("champion",))
    assert view.card == old_laboratory.records[run_id].card
    assert [(entry.action, entry.from_version, entry.to_version) for entry in view.moves] == [
        ("registered", "1", "3"),
        ("promoted by hand", "3", "2"),
        ("rolled back", "2", "3"),
    ]
    assert show_version(old_laboratory.name, "champion") == view


def test_a_version_without_a_card(laboratory: Any) -> None:
    laboratory.register(run_id=laboratory.log_run(with_record=False))
    assert show_version(laboratory.name, "1").card is None
    assert describe_version(laboratory.client.get_model_version(laboratory.name, "1")) == NO_CARD


def test_a_description_is_no_longer_than_a_database_keeps(laboratory: Any) -> None:
    names = tuple(f"a material with a long name, number {number:03d}" for number in range(40))
    run_id = laboratory.log_run(class_names=names, n_images=3)
    laboratory.register(run_id=run_id)
    description = laboratory.client.get_model_version(laboratory.name, "1").description
    assert len(description) <= DESCRIPTION_LENGTH
    assert description.endswith(LEFT_OUT)


def test_a_damaged_card_is_named(laboratory: Any) -> None:
    laboratory.register()
    path = laboratory.find_model_folder("1") / "artifacts" / "record" / "card.json"
    path.write_text("{")
    with pytest.raises(StoreError, match=r"card\.json is damaged"):
        show_version(laboratory.name, "1")
    assert describe_version(laboratory.client.get_model_version(laboratory.name, "1")).startswith(
        "card.json is damaged"
    )


def test_what_is_not_there_is_told(old_laboratory: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="no version '9'"):
        show_version(old_laboratory.name, "9")
