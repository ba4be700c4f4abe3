"""How much of the winner's score is luck of the choice: the best of many cells is in part the luckiest.

Two estimates without that:

- BBC-CV (Tsamardinos, Greasidou and Borboudakis, Mach. Learn. 107 (2018) 1895): images are drawn with replacement, the
  best trial is chosen on those drawn and judged on those left out, many times over, without training. Each image is
  answered by the trials that were chosen without it, each with its share of the draws. (The paper averages the figure
  over the draws; an F-measure of the few images left out is biased.)
- folds left out: the trial is chosen on all folds but those with images of one test fold, and judged on that fold.
  Coarser: only as many choices as folds.

Only complete trials take part: a pruned trial has not answered all images. With `select_on="validation"` the choice is
made on validation tiles and judged on test tiles, which are the same images in other folds. All scores are of the heads
of the search, also those of a winner that is trained again afterwards.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sem_search.evaluation.answers import AnswerTable, number_groups, tabulate_answers
from sem_search.evaluation.intervals import compute_intervals
from sem_search.evaluation.metrics import compute_fold_scores
from sem_search.evaluation.resampling import count_draws, resample_figures
from sem_search.evaluation.statistics import Interval
from sem_search.records import FloatMatrix, IntVector, Split, StudyOutcome, TileTable, TrialOutcome

N_DRAWS = 1000
"""Each image is left out of about a third of them. The authors find 500 enough."""

TABLES_AT_ONCE = 4
"""With many images drawing costs most, which all share; with many classes the resampled confusion matrices do."""


@dataclass(frozen=True, kw_only=True)
class SelectionBias:
    """The winner's score before and after taking out what the choice put in; macro F-measures over tiles."""

    select_on: Split
    n_candidates: int
    """Complete trials, among which the choice was."""
    n_left_out: int
    """Pruned and failed trials, which could not be chosen."""
    winner: int
    """Number of the trial chosen in this split."""
    naive: float
    """The winner's score in the split that it was chosen on."""
    test: float
    """The winner's score on the test tiles; the same number with `select_on="test"`."""
    corrected: Interval
    """What the winner is expected to score on images that chose nothing (BBC-CV)."""
    fold_out: float
    """The same, by choices with one fold's images left out."""
    times_chosen: Mapping[int, float]
    """Trial number to the share of draws in which it was the best, the commonest first: how clear the choice was."""

    @property
    def is_known(self) -> bool:
        """Whether the correction says anything: not if all others that could have been chosen ended early or failed."""
        return self.n_candidates > 1 or not self.n_left_out

    @property
    def optimism(self) -> float:
        """By how much the naive score flatters."""
        return self.naive - self.corrected.value


def compute_selection_bias(
    study: StudyOutcome, *, select_on: Split, n_draws: int = N_DRAWS, seed: int = 0
) -> SelectionBias:
    """Return what choosing the best complete trial in one split did to its score.

    Args:
        study: With at least one complete trial.
        select_on: The split to choose on, whichever the study itself chose on.
        n_draws: Draws of images.
        seed: Of the draws.
    """
    candidates = get_candidates(study)
    folds = [trial.folds for trial in candidates]
    chosen_on = compute_fold_scores(folds, tiles=study.tiles, split=select_on)
    judged_on = compute_fold_scores(folds, tiles=study.tiles, split="test")
    scores = [float(folds.mean()) for folds in chosen_on]
    best = int(np.argmax(scores))
    winner = candidates[best]
    shares, chosen = _compute_shares(candidates, tiles=study.tiles, select_on=select_on, n_draws=n_draws, seed=seed)
    answers = _mix_answers(candidates, tiles=study.tiles, shares=shares)
    often = np.bincount(chosen, minlength=len(candidates)) / n_draws
    return SelectionBias(
        select_on=select_on,
        n_candidates=len(candidates),
        n_left_out=len(study.trials) - len(candidates),
        winner=winner.number,
        naive=max(scores),
        test=float(judged_on[best].mean()),
        corrected=compute_intervals(answers, seed=seed).f_measure,
        fold_out=_compute_fold_out_score(
            chosen_on.T,
            judged_on.T,
            is_free=_find_free_folds(winner, tiles=study.tiles, select_on=select_on),
        ),
        times_chosen={
            candidates[index].number: float(often[index])
            for index in np.argsort(-often, kind="stable")
            if often[index] > 0
        },
    )


def get_candidates(study: StudyOutcome) -> tuple[TrialOutcome, ...]:
    """Return the complete trials, which have all folds, in order of their numbers."""
    candidates = (trial for trial in study.trials if trial.state == "complete")
    return tuple(sorted(candidates, key=lambda trial: trial.number))


def _compute_shares(
    candidates: Sequence[TrialOutcome], *, tiles: TileTable, select_on: Split, n_draws: int, seed: int
) -> tuple[FloatMatrix, IntVector]:
    """Return with what share each candidate answers each image, (n_candidates, n_images), and each draw's choice."""
    tables = [tabulate_answers(trial, tiles=tiles, split=select_on) for trial in candidates]
    some = [tables[start : start + TABLES_AT_ONCE] for start in range(0, len(tables), TABLES_AT_ONCE)]
    resampled = (figures for part in some for figures in resample_figures(part, n_resamples=n_draws, seed=seed))
    scores = np.stack([figures.f_measure for figures in resampled])
    chosen = scores.argmax(axis=0)
    is_left_out = count_draws(tables[0], n_resamples=n_draws, seed=seed) == 0
    is_choice = np.eye(len(candidates))[chosen]
    of_group = is_choice.T @ is_left_out
    shares = np.repeat(is_choice.mean(axis=0)[:, None], len(tiles.image_ids), axis=1)
    shares[:, tables[0].image_of_row] = (of_group / of_group.sum(axis=0))[:, tables[0].group_of_row]
    return shares, chosen


def _mix_answers(candidates: Sequence[TrialOutcome], *, tiles: TileTable, shares: FloatMatrix) -> AnswerTable:
    """Return the test answers of all candidates, each image's with the shares of its column.

    A whole image is predicted as what most of the shares predict.
    """
    tables = [tabulate_answers(trial, tiles=tiles, split="test") for trial in candidates]
    images = tables[0].image_of_row
    classes = np.arange(tables[0].n_classes)
    mixed = np.zeros((len(images), len(classes)))
    votes = np.zeros_like(mixed)
    for share, table in zip(shares, tables, strict=True):
        mixed += share[images, None] * table.tile_counts
        votes += share[images, None] * (table.answer_of_row[:, None] == classes)
    return dataclasses.replace(tables[0], tile_counts=mixed, answer_of_row=votes.argmax(axis=1))


def _compute_fold_out_score(chosen_on: FloatMatrix, judged_on: FloatMatrix, *, is_free: FloatMatrix) -> float:
    """Return the mean test score over folds, each of the candidate chosen without that fold's test images.

    Both scores have shape (n_folds, n_candidates).
    """
    inner = np.stack([chosen_on[free].mean(axis=0) for free in is_free])
    return float(judged_on[np.arange(len(judged_on)), inner.argmax(axis=1)].mean())


def _find_free_folds(trial: TrialOutcome, *, tiles: TileTable, select_on: Split) -> FloatMatrix:
    """Return for each fold which folds choose on none of the groups that it tests, shape (n_folds, n_folds)."""
    groups = number_groups(tiles.group_of_image)[tiles.image_of_tile]
    tested = [np.unique(groups[fold.test_tiles]) for fold in trial.folds]
    used = [np.unique(groups[fold.get_split(select_on)[0]]) for fold in trial.folds]
    return np.array([[not np.isin(mine, other).any() for other in used] for mine in tested])
