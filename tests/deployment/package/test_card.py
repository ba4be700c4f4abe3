import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sem_search.deployment.package.card import ModelCard
from sem_search.deployment.package.record import ModelRecord
from sem_search.errors import StoreError


@pytest.fixture
def card(tmp_path: Path, make_record: Callable[..., ModelRecord]) -> ModelCard:
    return make_record(tmp_path).card


def test_a_card_survives_being_written_and_read(card: ModelCard) -> None:
    assert ModelCard.from_json(card.to_json()) == card


def test_totals(card: ModelCard) -> None:
    assert (card.n_images, card.n_tiles) == (27, 108)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}', "{not json"])
def test_a_damaged_card_is_named(text: str) -> None:
    with pytest.raises(StoreError, match=r"card\.json is damaged: it does not hold a model card"):
        ModelCard.from_json(text)


def test_a_card_with_an_unknown_field_is_damaged(card: ModelCard) -> None:
    with pytest.raises(StoreError, match="damaged"):
        ModelCard.from_json(json.dumps({**json.loads(card.to_json()), "mood": "good"}))


def test_a_card_of_a_later_format_is_named(card: ModelCard) -> None:
    with pytest.raises(StoreError, match=r"card\.json has format 2, and this sem_search reads format 1"):
        ModelCard.from_json(card.to_json().replace('"format_version": 1', '"format_version": 2'))


def test_a_confusion_matrix_of_other_classes_is_damage(card: ModelCard) -> None:
    with pytest.raises(ValueError, match="does not fit the 2 classes"):
        dataclasses.replace(card, classes=card.classes[:2])
    values = json.loads(card.to_json())
    values["confusions"][0]["counts"][0] = [1, 2]
    with pytest.raises(StoreError, match="damaged"):
        ModelCard.from_json(json.dumps(values))
