"""What choosing puts into a score, taken out again; and choices that cannot be made."""

import dataclasses

import numpy as np
import pytest

from sem_search.evaluation.answers import tabulate_answers
from sem_search.evaluation.metrics import compute_split_scores
from sem_search.evaluation.selection import _mix_answers, compute_selection_bias
from sem_search.records import StudyOutcome


@pytest.fixture(scope="module")
def lottery(build_tiles, build_trial) -> StudyOutcome:
    """Twelve cells of equal worth: the best of them is luck."""
    return build_study(build_tiles, build_trial, strengths=[1.0] * 12)


def build_study(build_tiles, build_trial, *, strengths, seed: int = 0) -> StudyOutcome:
    tiles = build_tiles(n_classes=3, images_per_class=9)
    trials = tuple(
        build_trial(tiles, n_folds=3, strength=strength, seed=1000 * seed + number, number=number)
        for number, strength in enumerate(strengths)
    )
    return StudyOutcome(
        name="lottery", backbone="tiny", select_on="validation", tiles=tiles, trials=trials, winner_number=0
    )


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_winner_is_the_best_on_the_split_asked_for(lottery, split) -> None:
    bias = compute_selection_bias(lottery, select_on=split, n_draws=100)
    scores = [compute_split_scores(trial, tiles=lottery.tiles, split=split).f_measure for trial in lottery.trials]
    winner = lottery.trials[bias.winner]
    assert bias.naive == max(scores) == scores[bias.winner]
    assert bias.test == compute_split_scores(winner, tiles=lottery.tiles, split="test").f_measure
    assert (bias.n_candidates, bias.n_left_out) == (12, 0)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_choosing_among_equals_is_seen_through(build_tiles, build_trial, split) -> None:
    naive, corrected, fold_out = [], [], []
    for seed in range(12):
        study = build_study(build_tiles, build_trial, strengths=[1.0] * 6, seed=seed)
        bias = compute_selection_bias(study, select_on=split, n_draws=100)
        worth = np.mean(
            [compute_split_scores(trial, tiles=study.tiles, split="test").f_measure for trial in study.trials]
        )
        naive.append(bias.naive - worth)
        corrected.append(bias.corrected.value - worth)
        fold_out.append(bias.fold_out - worth)
    assert np.mean(naive) > 0.05
    assert abs(np.mean(corrected)) < 0.4 * np.mean(naive)
    assert abs(np.mean(fold_out)) < 0.5 * np.mean(naive)


def test_how_clear_the_choice_was_is_told(lottery) -> None:
    bias = compute_selection_bias(lottery, select_on="test")
    assert bias.optimism == bias.naive - bias.corrected.value > 0
    assert max(bias.times_chosen.values()) < 0.9
    assert sum(bias.times_chosen.values()) == pytest.approx(1.0)
    shares = list(bias.times_chosen.values())
    assert shares == sorted(shares, reverse=True)


def test_a_single_cell_has_nothing_to_correct(build_tiles, build_trial) -> None:
    study = build_study(build_tiles, build_trial, strengths=[1.0])
    bias = compute_selection_bias(study, select_on="test", n_draws=100)
    assert bias.corrected.value == pytest.approx(bias.naive)
    assert bias.fold_out == pytest.approx(bias.naive)
    assert bias.times_chosen == {0: 1.0}


def test_a_clear_winner_keeps_its_score(build_tiles, build_trial) -> None:
    study = build_study(build_tiles, build_trial, strengths=[0.0, 0.3, 4.0, 0.2])
    bias = compute_selection_bias(study, select_on="validation", n_draws=100)
    assert bias.winner == 2
    assert bias.corrected.value == pytest.approx(bias.test)
    assert bias.fold_out == pytest.approx(bias.test)


def test_trials_that_are_not_complete_are_counted_but_not_chosen(lottery) -> None:
    best = compute_selection_bias(lottery, select_on="validation", n_draws=50).winner
    trials = [
        dataclasses.replace(trial, state="pruned", folds=trial.folds[:1]) if trial.number == best else trial
        for trial in lottery.trials
    ]
    bias = compute_selection_bias(
        dataclasses.replace(lottery, trials=tuple(trials)), select_on="validation", n_draws=50
    )
    assert bias.winner != best
    assert best not in bias.times_chosen
    assert (bias.n_candidates, bias.n_left_out) == (11, 1)


def test_draws_follow_the_seed(lottery) -> None:
    one, again, other = (compute_selection_bias(lottery, select_on="test", n_draws=50, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.corrected != other.corrected


def test_a_winner_that_was_trained_again_does_not_change_what_the_choice_has_added(lottery) -> None:
    perfect = dataclasses.replace(lottery.trials[1], number=0, is_refit=True)
    bias = compute_selection_bias(lottery, select_on="validation", n_draws=100)
    assert (
        compute_selection_bias(dataclasses.replace(lottery, refitted=perfect), select_on="validation", n_draws=100)
        == bias
    )
    assert bias.optimism == bias.naive - bias.corrected.value


def test_mixed_answers_of_whole_images_are_mixed_too(build_tiles, build_trial) -> None:
    tiles = build_tiles()
    candidates = [build_trial(tiles, strength=strength, seed=seed) for seed, strength in enumerate((3.0, 0.0))]
    tables = [tabulate_answers(trial, tiles=tiles, split="test") for trial in candidates]
    shares = np.zeros((2, len(tiles.image_ids)))
    shares[0, ::2], shares[1, 1::2] = 1.0, 1.0
    mixed = _mix_answers(candidates, tiles=tiles, shares=shares)
    for table, place in ((tables[0], 0), (tables[1], 1)):
        rows = mixed.image_of_row % 2 == place
        np.testing.assert_array_equal(mixed.answer_of_row[rows], table.answer_of_row[rows])
        np.testing.assert_array_equal(mixed.tile_counts[rows], table.tile_counts[rows])
