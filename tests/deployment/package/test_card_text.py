from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sem_search.deployment.package.card import ModelCard
from sem_search.deployment.package.card_text import (
    COST_OF_VIEWS,
    HEADS_TRAINED_AGAIN,
    LEFT_OUT,
    cite,
    format_table,
    render_card,
)
from sem_search.deployment.package.record import ModelRecord


@pytest.fixture
def card(tmp_path: Path, make_record: Callable[..., ModelRecord]) -> ModelCard:
    return make_record(tmp_path).card


def test_the_whole_card(card: ModelCard) -> None:
    text = render_card(card, name="sem-search-tiny", version="7")
    for said in (
        "# sem-search-tiny, version 7",
        "tiny with weights random, learning rate 0.01, batch size 16; chosen among 4 cells by the F-measure on "
        "validation tiles.",
        "- RANDOM weights are used.",
        "| validation | tiles  | macro F-measure | 0.9100 [0.8500, 0.9500] |",
        "excipients: 27 images, 108 tiles.",
        "| cellulose | 9      | 9      | 36    | 2.5, 5            |",
        "3 folds, each of 9 training, 9 validation and 9 test images.",
        "## Confusion of test images",
        "| 3 starch    | 2   | 0   | 7   |",
        "- class 'starch' was imaged on one day.",
        "## How to cite",
        f"- sem_search.data_sha256: `{card.hashes['sem_search.data_sha256']}`",
        "- epochs: 8",
        "- python 3.11.7",
    ):
        assert said in text, said


@pytest.mark.parametrize(("augment", "is_said"), [("dihedral", True), ("none", False)])
def test_an_answer_by_all_views_is_said_to_cost_more(card: ModelCard, augment: str, is_said: bool) -> None:
    assert COST_OF_VIEWS not in render_card(card, name="m", version="1"), "models from before there were views"
    text = render_card(replace(card, settings={**card.settings, "augment": augment}), name="m", version="1")
    assert (COST_OF_VIEWS in text) is is_said


@pytest.mark.parametrize("refit", [True, False])
def test_which_images_the_scored_heads_learnt_from_is_said(card: ModelCard, refit: bool) -> None:
    assert HEADS_TRAINED_AGAIN not in render_card(card, name="m", version="1"), "models from before there was refit"
    text = render_card(replace(card, settings={**card.settings, "refit": refit}), name="m", version="1")
    assert (HEADS_TRAINED_AGAIN in text) is refit


def test_folds_of_different_sizes_are_a_table(card: ModelCard) -> None:
    first, *others = card.folds
    text = render_card(replace(card, folds=(replace(first, n_test=8), *others)), name="m", version="1")
    assert "| 1    | 9               | 9                 | 8           |" in text
    assert "| 2    | 9               | 9                 | 9           |" in text


def test_the_most_important_comes_first(card: ModelCard) -> None:
    """Where MLflow's page has no room for all, what is cut is what matters least."""
    (images,) = card.confusions
    both = replace(card, confusions=(images, replace(images, unit="tiles")))
    text = render_card(both, name="m", version="1")
    heads = ["Warnings", "Scores", "Confusion of test images", "Confusion of test tiles", "Data", "Folds", "Settings"]
    places = [text.index(f"## {head}") for head in heads]
    assert places == sorted(places)


def test_what_there_is_not_is_not_headed(card: ModelCard) -> None:
    text = render_card(replace(card, warnings=(), findings=()), name="m", version="1")
    assert "Warnings" not in text
    assert "inspection" not in text


def test_a_score_without_an_interval_stands_alone(card: ModelCard) -> None:
    scores = tuple(replace(score, low=None, high=None) for score in card.scores)
    assert "| macro F-measure | 0.9100 |" in render_card(replace(card, scores=scores), name="m", version="1")


def test_citation_leads_back(card: ModelCard) -> None:
    text = cite(card, name="m", version="7")
    for said in ("m, version 7", card.study, card.run_id, "2025-01-02", "sem_search 0.1.0", "100135"):
        assert said in text
    assert card.hashes["sem_search.data_sha256"][:16] in text


@pytest.mark.parametrize("limit", [200, 700, 1500, 5000])
def test_a_shortened_card_is_within_its_limit_and_says_so(card: ModelCard, limit: int) -> None:
    text = render_card(card, name="m", version="1", limit=limit)
    assert len(text) <= limit
    assert text.startswith("# m, version 1")
    whole = render_card(card, name="m", version="1").rstrip()
    assert text.endswith(LEFT_OUT) == (len(whole) > limit)
    assert text.removesuffix(LEFT_OUT).rstrip() in whole


def test_tables_stand_in_columns_and_keep_their_bars() -> None:
    assert format_table(("a", "name"), [("1", "x|y")]).splitlines() == [
        "| a   | name |",
        "|-----|------|",
        "| 1   | x\\|y |",
    ]


def test_a_cell_cannot_pass_for_a_further_row() -> None:
    assert len(format_table(("class", "n"), [("a\n| evil | 99 |", "1")]).splitlines()) == 3
