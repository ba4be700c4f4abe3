"""When a cell is pruned between folds: a pruner is asked after each; within a fold, see `curve_extrapolation`.

Folds differ in difficulty far more than neighbouring cells differ in quality, so a cell is compared with the best cell
on the same folds. That is what the Wilcoxon signed-rank test does (Birattari et al. 2002 compare configurations in the
same way, with the Friedman test); a median over trials ignores the pairing.
"""

import optuna

from sem_search.settings import SearchSettings

EXTRAPOLATION = "extrapolation"
"""The value of `pruner` that prunes within a fold, too."""

WILCOXON_P = 0.2
"""Four folds in the wrong direction out of five are enough: at 0.1 hardly a cell can be pruned before its last fold.

docs/decisions/007-pruner.md gives the measurement: folds saved, and how often the best cell was kept.
"""

FIRST_STEPS = 2
"""Folds that every cell is granted: with fewer than three pairs the test cannot reach `WILCOXON_P`."""


def build_pruner(settings: SearchSettings) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner for `settings.pruner`; with `none` every cell trains all its folds."""
    if settings.pruner in (EXTRAPOLATION, "wilcoxon"):
        return optuna.pruners.WilcoxonPruner(p_threshold=WILCOXON_P, n_startup_steps=FIRST_STEPS)
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=FIRST_STEPS, n_warmup_steps=1)
    return optuna.pruners.NopPruner()
