import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sem_search.deployment.package.card import ModelCard
from sem_search.deployment.package.card_text import render_card
from sem_search.deployment.package.record import ModelRecord
from sem_search.errors import StoreError
from sem_search.records import Cell


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
    with pytest.raises(StoreError, match=r"card\.json has format 3, and this sem_search reads formats up to 2"):
        ModelCard.from_json(card.to_json().replace('"format_version": 2', '"format_version": 3'))


def test_a_card_of_the_first_format_is_of_a_fine_tuned_head(card: ModelCard) -> None:
    values = {**json.loads(card.to_json()), "format_version": 1}
    del values["head"]
    assert ModelCard.from_json(json.dumps(values)) == card
    assert card.cell == Cell(learning_rate=card.learning_rate, batch_size=card.batch_size)


def test_the_card_of_a_linear_head_survives_and_is_in_words(card: ModelCard) -> None:
    linear = dataclasses.replace(card, head="linear", learning_rate=None, batch_size=None)
    assert ModelCard.from_json(linear.to_json()) == linear
    assert "with weights" in render_card(linear, name="a", version="1").split(", linear head; chosen among")[0]


def test_a_confusion_matrix_of_other_classes_is_damage(card: ModelCard) -> None:
    with pytest.raises(ValueError, match="does not fit the 2 classes"):
        dataclasses.replace(card, classes=card.classes[:2])
    values = json.loads(card.to_json())
    values["confusions"][0]["counts"][0] = [1, 2]
    with pytest.raises(StoreError, match="damaged"):
        ModelCard.from_json(json.dumps(values))
