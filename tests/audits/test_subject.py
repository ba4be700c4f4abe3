"""Answers pooled over folds: one row per image, the same figures as the study's own."""

import dataclasses

import numpy as np
import pytest

from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.answers import compute_figures, number_groups
from sem_search.evaluation.metrics import compute_split_scores


def test_the_winner_pooled_scores_what_the_study_reports(subject: AuditSubject) -> None:
    figures = compute_figures(subject.pool_winner())
    scores = compute_split_scores(subject.winner, tiles=subject.tiles, split="test")
    assert float(figures.f_measure) == pytest.approx(scores.f_measure)
    assert float(figures.image_accuracy) == scores.image_accuracy
    assert scores.f_measure > 0.7, "the tiny network must have learnt something for audits to find"


def test_folds_groups_and_chance(subject: AuditSubject) -> None:
    assert sorted(set(subject.fold_of_image.tolist())) == [0, 1, 2]
    assert subject.largest_class_share == pytest.approx(1 / 3)
    assert number_groups(["b", "a", "b"]).tolist() == [1, 0, 1]
    assert len(subject.group_of_tile) == subject.tiles.n_tiles
    tiles = dataclasses.replace(subject.tiles, group_of_image=("one",) * 15)
    joined = dataclasses.replace(subject, outcome=dataclasses.replace(subject.outcome, tiles=tiles))
    assert np.unique(joined.pool_winner().group_of_row).tolist() == [0]
