"""The choice made anew inside every fold: by images that judge nothing, and stated beside the other estimates."""

import dataclasses

import numpy as np
import pytest

from sem_search.audits.nested import NestedChoice, choose_inside_folds, list_inner_splits, score_inner_folds
from sem_search.audits.retraining import list_splits, retrain_cells
from sem_search.audits.subject import AuditSubject
from sem_search.evaluation.statistics import Interval
from sem_search.records import Cell, TrialOutcome


@pytest.fixture(scope="module")
def searched(subject: AuditSubject, show) -> AuditSubject:
    """The study with a second combination that learns nothing."""
    cell = Cell(learning_rate=1e-9, batch_size=16)
    (folds,) = retrain_cells(subject, cells=[cell], splits=list_splits(subject), name="idle", show=show)
    idle = TrialOutcome(number=1, cell=cell, state="complete", folds=folds)
    return dataclasses.replace(subject, outcome=dataclasses.replace(subject.outcome, trials=(subject.winner, idle)))


@pytest.fixture(scope="module")
def nested(searched: AuditSubject, show) -> NestedChoice:
    return choose_inside_folds(searched, show=show)


def test_what_judges_a_fold_has_no_part_in_its_choice(subject: AuditSubject) -> None:
    splits = list_inner_splits(subject)
    assert len(splits) == 3 * 2
    assert len({split.number for split in splits}) == len(splits)
    for place, split in enumerate(splits):
        fold = subject.folds.folds[place // 2]
        assert np.array_equal(split.test, subject.tiles.get_tiles_of(fold.test))
        assert not np.isin(split.training, split.test).any()
        assert not np.isin(split.validation, split.test).any()
        assert sorted([*split.training, *split.validation, *split.test]) == list(range(subject.tiles.n_tiles))


def test_the_better_combination_is_chosen_and_judged_by_the_study_s_own_heads(
    nested: NestedChoice, searched: AuditSubject
) -> None:
    assert nested.chosen == (searched.winner.cell,) * 3
    assert nested.n_trained == 2 * 6
    assert nested.score == pytest.approx(nested.bias.test)
    assert nested.score_of_fold.mean() == pytest.approx(nested.score)


def test_scores_inside_are_means_over_the_other_parts(searched: AuditSubject, show) -> None:
    folds = retrain_cells(
        searched, cells=[searched.winner.cell], splits=list_inner_splits(searched), name="inner", show=show
    )
    once = score_inner_folds(folds, tiles=searched.tiles, n_folds=3)
    assert once.shape == (3, 1)
    halves = [score_inner_folds([folds[0][at : at + 1]], tiles=searched.tiles, n_folds=1)[0, 0] for at in (0, 1)]
    assert once[0, 0] == pytest.approx(np.mean(halves))


@pytest.mark.parametrize(("high", "words"), [(1.0, "and the corrected score agree"), (0.1, "They do not agree: trust")])
def test_the_other_estimates_are_stated(nested: NestedChoice, high: float, words: str) -> None:
    bias = dataclasses.replace(nested.bias, corrected=Interval(value=0.05, low=0.0, high=high))
    text = dataclasses.replace(nested, bias=bias).to_text()
    assert words in text
    judged = dataclasses.replace(nested, bias=bias)
    assert judged.table.rows[1].cells == ("corrected score (BBC-CV)", f"0.050 (0.000 to {high:.3f})")
    assert f"Chosen most often: {nested.chosen[0].name}, in 3 of 3 folds." in text


def test_a_single_cell_needs_no_training(subject: AuditSubject) -> None:
    nested = choose_inside_folds(subject, show=lambda _: pytest.fail("nothing is to be trained"))
    assert nested.n_trained == 0
    assert nested.to_text().startswith("Only one cell was tried in full")
