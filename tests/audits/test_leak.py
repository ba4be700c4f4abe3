"""The leak audit: a split over tiles, made on purpose and nowhere else."""

import dataclasses

import numpy as np
import pytest

from sem_search.audits import leak as room
from sem_search.audits.leak import LeakAudit, audit_leak, split_tiles
from sem_search.audits.retraining import list_splits
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.comparison import Difference


@pytest.fixture(scope="module")
def leak(subject: AuditSubject, show) -> LeakAudit:
    return audit_leak(subject, show=show)


def test_every_tile_is_tested_once_and_classes_are_dealt_alike(subject: AuditSubject) -> None:
    labels = subject.tiles.label_of_tile
    splits = split_tiles(labels, n_folds=3, seed=0)
    assert np.array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(60))
    for split in splits:
        parts = (split.training, split.validation, split.test)
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(60))
        assert all(set(np.bincount(labels[part])) <= {6, 7} for part in parts)


def test_the_split_does_leak(subject: AuditSubject) -> None:
    split = split_tiles(subject.tiles.label_of_tile, n_folds=3, seed=0)[0]
    of_tile = subject.tiles.image_of_tile
    assert np.intersect1d(of_tile[split.training], of_tile[split.test]).size > 5


def test_the_second_of_the_two_is_what_the_study_measured(subject: AuditSubject, leak: LeakAudit) -> None:
    answers = subject.pool_winner()
    right = np.take_along_axis(answers.tile_counts, answers.label_of_row[:, None], axis=1).sum()
    assert leak.comparison.tile_accuracy.second == pytest.approx(right / 60)
    assert 0 <= leak.comparison.tile_accuracy.first <= 1


def test_a_network_that_remembers_images_is_found(subject: AuditSubject, show, monkeypatch: pytest.MonkeyPatch) -> None:
    """It classifies a tile correctly if it was trained on another tile of the image, else answers the first class."""
    tiles = subject.tiles

    def take_groups(_: AuditSubject, *, groups: list[str]) -> None:
        assert len(set(groups)) == tiles.n_tiles

    def remember(subject: AuditSubject, *, splits, **_: object):
        outcomes = []
        for split, like in zip(splits, subject.winner.folds, strict=True):
            known = np.isin(tiles.image_of_tile[split.test], tiles.image_of_tile[split.training])
            answers = np.eye(3)[np.where(known, tiles.label_of_tile[split.test], 0)]
            outcomes.append(dataclasses.replace(like, test_tiles=split.test, test_probabilities=answers))
        return tuple(outcomes)

    honest = remember(subject, splits=list_splits(subject))
    monkeypatch.setattr(room, "build_trainer", take_groups)
    monkeypatch.setattr(room, "retrain_winner", remember)
    outcome = dataclasses.replace(subject.outcome, trials=(dataclasses.replace(subject.winner, folds=honest),))
    gap = audit_leak(dataclasses.replace(subject, outcome=outcome), show=show).comparison.tile_accuracy
    assert gap.second == pytest.approx(1 / 3)
    assert gap.first > 0.7
    assert gap.is_clear


@pytest.mark.parametrize(
    ("low", "words"), [(0.02, "is memory of single images"), (-0.01, "within what other images could have changed")]
)
def test_the_words_say_what_a_careless_split_would_have_claimed(leak: LeakAudit, low: float, words: str) -> None:
    gap = Difference(first=0.85, second=0.78, low=low, high=0.12)
    text = LeakAudit(comparison=dataclasses.replace(leak.comparison, f_measure=gap)).to_text()
    assert text.startswith("What a careless split would have claimed: F-measure 0.850")
    assert "0.780 was measured on images never seen" in text
    assert words in text


def test_the_claim_is_no_result(leak: LeakAudit) -> None:
    gap = Difference(first=0.85, second=0.78, low=0.02, high=0.12)
    leak = LeakAudit(comparison=dataclasses.replace(leak.comparison, f_measure=gap))
    assert (leak.row.cells[-1], leak.row.light) == ("F-measure of tiles +0.070: not a result", "plain")
    assert leak.table.rows[0].cells == ("F-measure, tiles", "0.850", "0.780", "+0.070 (+0.020 to +0.120)")
