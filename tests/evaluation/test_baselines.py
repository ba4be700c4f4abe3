"""Baselines beside the winner, paired image by image."""

import numpy as np
import pytest

from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.baselines import Baseline, compare_baselines


def test_the_winner_s_own_answers_do_not_differ_and_poor_ones_clearly_do(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    winner, poor = build_trial(tiles, strength=3.0), build_trial(tiles, strength=0.0, seed=1)
    baselines = [
        Baseline(name=name, answers=tabulate_answers(trial, tiles=tiles, split="test"))
        for name, trial in (("logistic_all", winner), ("largest_class", poor))
    ]
    same, worse = compare_baselines(baselines, winner=winner, tiles=tiles)
    assert same.comparison is not None and worse.comparison is not None
    assert same.comparison.f_measure.value == 0
    assert not same.comparison.f_measure.is_clear
    assert worse.comparison.f_measure.low > 0
    assert worse.comparison.class_names == tiles.class_names


def test_what_cannot_be_fitted_keeps_its_reason(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    (one,) = compare_baselines(
        [Baseline(name="metadata", reason="nothing to learn from")], winner=build_trial(tiles), tiles=tiles
    )
    assert (one.name, one.comparison, one.reason) == ("metadata", None, "nothing to learn from")


def test_answers_of_other_folds_are_not_paired(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    other = tabulate_answers(build_trial(tiles, n_folds=3), tiles=tiles, split="test")
    assert not np.array_equal(
        other.fold_of_row, tabulate_answers(build_trial(tiles), tiles=tiles, split="test").fold_of_row
    )
    with pytest.raises(ValueError, match="must have the same images, folds and groups"):
        compare_baselines([Baseline(name="logistic_all", answers=other)], winner=build_trial(tiles), tiles=tiles)
