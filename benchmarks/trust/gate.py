"""How often does a winner that is no better take the champion's place, and how often one that is?"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.trust.selection import SPLITS, Grid, compute_worth, draw_study
from benchmarks.trust.tables import Table
from sem_search.deployment.registry.gate import GateRule, get_judging_split
from sem_search.evaluation.comparison import compare_trials
from sem_search.evaluation.metrics import compute_fold_f_measure
from sem_search.records import FoldOutcome, Split, StudyOutcome, TileTable, TrialOutcome

BETTER_BY = 0.5
"""Logits by which every cell of a better newcomer leads."""
N_EPOCHS = 5


@dataclass(frozen=True, kw_only=True)
class Contest(Grid):
    """The cells of two searches over the same images, the champion's first."""

    n_champion: int = 1
    better_by: float = 0.0
    n_epochs: int = 1
    """Of each cell, of which each fold keeps the one with the lowest log loss on its validation tiles."""

    def draw_strengths(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return the worth of each epoch of each cell."""
        is_new = np.arange(self.n_cells) >= self.n_champion * self.n_epochs
        return super().draw_strengths(rng) + self.better_by * is_new


def build_contest(
    n_champion: int, n_newcomer: int, *, likeness: float = 0.3, n_epochs: int = 1, images_per_class: int = 12
) -> Contest:
    """Return a contest between the best of so many equal cells and the best of so many."""
    return Contest(
        images_per_class=images_per_class,
        n_cells=(n_champion + n_newcomer) * n_epochs,
        kind="equal",
        likeness=likeness,
        strength=2.0,
        n_champion=n_champion,
        n_epochs=n_epochs,
    )


def simulate_gate(
    contest: Contest, *, n_studies: int, select_on: Split = "validation", seed: int = 0
) -> dict[Split, float]:
    """Return how often the newcomer would pass, judged on either split; the gate judges on one of them."""
    rng = np.random.default_rng(seed)
    rule, passed = GateRule(), dict.fromkeys(SPLITS, 0)
    for number in range(n_studies):
        study, _ = draw_study(contest, rng)
        trials = _keep_epochs(study, n_epochs=contest.n_epochs)
        scores = [_compute_objective(trial, tiles=study.tiles, split=select_on) for trial in trials]
        champion = trials[int(np.argmax(scores[: contest.n_champion]))]
        newcomer = trials[contest.n_champion + int(np.argmax(scores[contest.n_champion :]))]
        for split in SPLITS:
            compared = compare_trials(
                newcomer, champion, tiles=study.tiles, split=split, level=rule.level, n_resamples=400, seed=number
            )
            passed[split] += compared.f_measure.low > rule.margin
    return {split: count / n_studies for split, count in passed.items()}


def print_tables(*, n_studies: int) -> None:
    """Print how often equal and better newcomers pass the gate, by the sizes of the two searches."""
    rows = []
    for n_champion, n_newcomer in ((1, 1), (20, 20), (4, 20), (1, 20), (20, 4), (20, 1)):
        for likeness in (0.3, 0.8):
            contest = build_contest(n_champion, n_newcomer, likeness=likeness)
            row: list[str | float] = [str(n_newcomer), str(n_champion), f"{likeness:g}"]
            for better_by in (0.0, BETTER_BY):
                found = simulate_gate(replace(contest, better_by=better_by), n_studies=n_studies)
                row += [found[get_judging_split("validation")], found["validation"]]
            rows.append(row)
    worth = [compute_worth(2.0 + better_by, images_per_class=12) for better_by in (0.0, BETTER_BY)]
    columns = ["newcomer: best of", "champion: best of", "likeness", "equal passes", "equal, judged where chosen"]
    columns += ["better passes", "better, judged where chosen"]
    title = (
        f"Newcomers that pass the gate, chosen on validation tiles; a better one scores {worth[1] - worth[0]:.3f} more"
    )
    Table(title=title, columns=columns, rows=rows).show(percent=True)
    rows = []
    for n_champion, n_newcomer in ((1, 1), (20, 20), (1, 20)):
        contest = build_contest(n_champion, n_newcomer, likeness=0.8, n_epochs=N_EPOCHS)
        row = [str(n_newcomer), str(n_champion)]
        for better_by in (0.0, BETTER_BY):
            found = simulate_gate(replace(contest, better_by=better_by), n_studies=n_studies, select_on="test")
            row += [found[get_judging_split("test")], found["test"]]
        rows.append(row)
    del columns[2]
    title = f"Chosen on test tiles, each head kept at the best of {N_EPOCHS} epochs on validation tiles"
    Table(title=title, columns=columns, rows=rows).show(percent=True)


def _compute_objective(trial: TrialOutcome, *, tiles: TileTable, split: Split) -> float:
    """Return the mean over the folds of the macro F-measure over tiles."""
    return float(np.mean([compute_fold_f_measure(fold, tiles=tiles, split=split) for fold in trial.folds]))


def _keep_epochs(study: StudyOutcome, *, n_epochs: int) -> list[TrialOutcome]:
    """Return a trial of each cell, each fold at its best epoch."""
    cells = [study.trials[start : start + n_epochs] for start in range(0, len(study.trials), n_epochs)]
    labels = study.tiles.label_of_tile

    def compute_loss(fold: FoldOutcome) -> float:
        true = labels[fold.validation_tiles]
        return float(-np.log(fold.validation_probabilities[np.arange(len(true)), true]).mean())

    kept = []
    for epochs in cells:
        of_fold = zip(*(epoch.folds for epoch in epochs), strict=True)
        kept.append(replace(epochs[0], folds=tuple(min(folds, key=compute_loss) for folds in of_fold)))
    return kept
