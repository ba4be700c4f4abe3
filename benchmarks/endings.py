"""How often the extrapolation prunes cells that are truly better than the incumbent, and how often truly worse ones.

Curves are simulated: the expected accuracy rises to the cell's true one, and what a fold shows of it are its few tiles.
A tile is right or wrong for some epochs on end, as tiles are, and then drawn anew.
"""

import numpy as np
import optuna

from sem_search.records import EpochFigures
from sem_search.search.pruning.curve_extrapolation import FoldExtrapolation, Incumbent

N_EPOCHS, N_TILES = 100, 60
N_CELLS = 200

RISE_EPOCHS = 5.0
"""After as many epochs a cell has 63 % of its true accuracy."""

REDRAWN = 0.05
"""Share of the tiles that are drawn anew in each epoch."""

SHOWN = (0.8, 0.9, 0.95, 59 / 60, 1.0)
"""What the best cell's fold shows."""

MOST_TRUE = 0.96
"""The true accuracy of a best cell whose fold shows more: it was lucky there."""

BETTER_BY = (0.02, 0.0, -0.05, -0.1, -0.2)


def measure_endings() -> dict[str, float]:
    """Return the share of cells that are ended within a fold, by what the best cell shows there and their own truth."""
    return {
        f"endings.shown_{shown:.3f}.better_by_{better_by:+.2f}": simulate_endings(
            shown=shown, true=min(shown, MOST_TRUE) + better_by, n_cells=N_CELLS
        )
        for shown in SHOWN
        for better_by in BETTER_BY
    }


def simulate_endings(*, shown: float, true: float, n_cells: int, n_tiles: int = N_TILES, seed: int = 0) -> float:
    """Return the share of cells that the extrapolation prunes.

    Args:
        shown: Accuracy of the best cell on the fold.
        true: Accuracy that the cells would have over endlessly many tiles, in the end.
        n_cells: Simulated cells.
        n_tiles: Validation tiles of the fold.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    expected = true * (1 - np.exp(-np.arange(1, N_EPOCHS + 1) / RISE_EPOCHS))
    incumbent = Incumbent(trial=0, accuracy=shown)
    return sum(_is_ended(expected, incumbent=incumbent, n_tiles=n_tiles, rng=rng) for _ in range(n_cells)) / n_cells


def _is_ended(expected: np.ndarray, *, incumbent: Incumbent, n_tiles: int, rng: np.random.Generator) -> bool:
    fold = FoldExtrapolation(fold=0, n_epochs=len(expected), n_tiles=n_tiles)
    difficulty = rng.random(n_tiles)
    for accuracy in expected:
        redrawn = rng.random(n_tiles) < REDRAWN
        difficulty[redrawn] = rng.random(int(redrawn.sum()))
        share = float((difficulty < accuracy).mean())
        fold.add(EpochFigures(training_loss=1.0, training_accuracy=1.0, validation_loss=1.0, validation_accuracy=share))
        try:
            fold.check(incumbent)
        except optuna.TrialPruned:
            return True
    return False
