"""Cells trained again: with nothing changed the winner is the winner."""

from dataclasses import replace

import numpy as np
import pytest

from sem_search.audits.retraining import list_splits, retrain_cells, retrain_winner
from sem_search.audits.subject import AuditSubject
from sem_search.errors import LeakError
from sem_search.records import Cell, TileSplits


def test_with_nothing_changed_it_answers_the_same(subject: AuditSubject) -> None:
    told: list[str] = []
    again = retrain_winner(subject, splits=list_splits(subject)[:1], name="again", show=told.append)
    assert np.array_equal(again[0].test_probabilities, subject.winner.folds[0].test_probabilities)
    assert np.array_equal(again[0].curves.training_loss, subject.winner.folds[0].curves.training_loss)
    assert told == ["again: fold 1 of 1"]


def test_a_winner_that_was_trained_again_is_compared_with_heads_that_are_trained_again(subject: AuditSubject) -> None:
    """On their training and validation tiles, as the winner's own were."""
    outcome = replace(subject.outcome, refitted=replace(subject.winner, is_refit=True))
    served = replace(subject, outcome=outcome)
    (again,) = retrain_winner(served, splits=list_splits(subject)[:1], name="again", show=lambda _: None)
    first = subject.winner.folds[0]
    assert np.array_equal(again.validation_probabilities, first.validation_probabilities)
    assert np.abs(again.test_probabilities - first.test_probabilities).max() > 1e-3


def test_each_cell_is_trained_as_it_would_be_alone(subject: AuditSubject) -> None:
    told: list[str] = []
    other = Cell(learning_rate=0.01, batch_size=16)
    (_, again) = retrain_cells(
        subject, cells=[other, subject.winner.cell], splits=list_splits(subject)[1:2], name="two", show=told.append
    )
    assert np.array_equal(again[0].test_probabilities, subject.winner.folds[1].test_probabilities)
    assert told == ["two: cell 1 of 2, 1 heads", "two: cell 2 of 2, 1 heads"]


def test_the_gate_against_leaks_holds_here_too(subject: AuditSubject, show) -> None:
    tiles = np.arange(subject.tiles.n_tiles)
    leaking = TileSplits(number=0, training=tiles[::3], validation=tiles[1::3], test=tiles[2::3])
    with pytest.raises(LeakError, match="Training refused"):
        retrain_winner(subject, splits=[leaking], name="leak", show=show)
