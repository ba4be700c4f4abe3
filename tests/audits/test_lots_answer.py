"""What is said of lots: it follows the test, and nothing beside a verdict contradicts it."""

import dataclasses

import numpy as np
import pytest

from sem_search.audits.lots import LotsAudit
from sem_search.audits.lots_answer import describe_pair
from sem_search.evaluation.lots.scores import TileScorer
from sem_search.evaluation.lots.two_sample import LotPair
from sem_search.evaluation.statistics import Interval
from sem_search.tracking.report.answer_page import Table

NOTHING = np.zeros(0)

FOUND = LotPair(
    first="a",
    second="b",
    n_first=5,
    n_second=5,
    accuracy=Interval(value=1.0, low=0.592, high=1.0),
    auroc=1.0,
    p_value=0.01,
    adjusted_p_value=0.01,
    smallest_p_value=1 / 126,
    detectable_accuracy=None,
    n_tiles_of_image=4,
    n_tiles_left_out=0,
    tiles=NOTHING.astype(np.int64),
    scorer=TileScorer(weights=NOTHING[None], offsets=NOTHING, row_of_tile=NOTHING.astype(np.int64)),
    score_of_tile=NOTHING,
)
MISSED = dataclasses.replace(FOUND, p_value=1 / 18, adjusted_p_value=1 / 18, detectable_accuracy=0.85)
HOPELESS = dataclasses.replace(FOUND, n_first=4, n_second=4, p_value=0.1, adjusted_p_value=0.3, smallest_p_value=0.1)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (FOUND, "a and b differ, p = 0.010 (3 pairs considered): 100.0 % (59.2 to 100.0 %) of the images are assigned"),
        (
            MISSED,
            "100.0 % of 10 images are assigned to the right lot, but chance alone separates them as well (1 in 18 of "
            "their permutations). "
            "That is too often to rule out chance (3 pairs considered): take 10 or more images of each lot.",
        ),
        (dataclasses.replace(MISSED, n_first=12, n_second=10), "take twice as many images of each lot"),
        (dataclasses.replace(MISSED, detectable_accuracy=None), "would miss even a very large difference as a rule"),
        (
            dataclasses.replace(MISSED, accuracy=Interval(value=0.7, low=0.4, high=0.9), p_value=0.4),
            "but chance alone separates them as well (40 % of their permutations). With so many images a difference is "
            "found in four of five cases if 85 % of all images can be told apart.",
        ),
        (HOPELESS, "a and b: nothing can be said. With 8 images no p-value below 0.100 is possible (3 pairs"),
        (
            dataclasses.replace(FOUND, n_tiles_of_image=2, n_tiles_left_out=18),
            "Images of unlike size: 2 tiles of each were looked at, as many as the smallest has, and 18 tiles left out",
        ),
    ],
)
def test_words_follow_the_test(pair: LotPair, words: str) -> None:
    assert words in describe_pair(pair, n_pairs=3)
    assert "considered" not in describe_pair(pair, n_pairs=1)
    assert ("unlike size" in describe_pair(pair, n_pairs=3)) is (pair.n_tiles_left_out > 0)


@pytest.mark.parametrize(
    ("pairs", "light", "verdict"),
    [
        ((FOUND,), "plain", "Yes"),
        ((MISSED,), "unclear", "No difference was found"),
        ((HOPELESS,), "unclear", "Cannot tell"),
        ((FOUND, FOUND), "plain", "Yes"),
        ((FOUND, MISSED), "plain", "Some of them"),
        ((MISSED, HOPELESS), "unclear", "No difference was found"),
        ((HOPELESS, HOPELESS), "unclear", "Cannot tell"),
    ],
)
def test_the_last_word_is_of_all_pairs(pairs: tuple[LotPair, ...], light: str, verdict: str) -> None:
    answer = LotsAudit(pairs=pairs, telling=(), remarks=(), n_images=10, n_tiles=40).to_answer()
    assert (answer.light, answer.verdict) == (light, verdict)


def test_an_interval_stands_only_beside_a_difference() -> None:
    answer = LotsAudit(pairs=(FOUND, MISSED), telling=(), remarks=(), n_images=10, n_tiles=40).to_answer()
    (table,) = answer.overview
    assert isinstance(table, Table)
    assert [row.cells[1:] for row in table.rows] == [
        ("5 + 5", "100.0 % (59.2 to 100.0 %)", "1.000", "1 in 100", "0.010", "they differ"),
        ("5 + 5", "100.0 %", "1.000", "1 in 18", "0.056", "no difference found"),
    ]
    assert [section.heading for section in answer.sections] == ["Where no difference was found"]
    assert answer.sentence == "Of 2 pairs of lots a difference was found in 1."
