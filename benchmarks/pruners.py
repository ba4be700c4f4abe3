"""Which pruner: how many folds each saves, and how often the best cell survives, over simulated studies.

A study's fold scores are simulated as quality of the cell + difficulty of the fold + noise. The qualities are those of
a learning-rate grid with one good region (Iwata, Hayashi et al. 2022, Figure 3, read off: far worse at 1e-1 and 1e-5,
nearly level between 1e-2 and 1e-3); fold difficulty varies more than neighbouring cells do.
"""

from collections.abc import Callable

import numpy as np
import optuna

from sem_search.records import Cell
from sem_search.search.pruning.pruners import FIRST_STEPS
from sem_search.search.trials.space import order_cells
from sem_search.settings import build_settings

N_STUDIES = 40
QUALITY = {1e-1: 0.35, 1e-2: 0.90, 1e-3: 0.90, 1e-4: 0.80, 1e-5: 0.50}
CELL_SPREAD, FOLD_SPREAD, NOISE = 0.015, 0.03, 0.015

PRUNERS: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=FIRST_STEPS, n_warmup_steps=1),
    "wilcoxon_p0.1": lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=FIRST_STEPS),
    "wilcoxon_p0.2": lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.2, n_startup_steps=FIRST_STEPS),
    "successive_halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
}


def measure_pruners() -> dict[str, float]:
    """Return, for each pruner, the share of folds trained and of the best mean score lost, over all studies."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    cells = order_cells(build_settings({"preset": "standard", "heads": "finetune"}))
    figures: dict[str, float] = {"pruners.studies": float(N_STUDIES)}
    for name, build_pruner in PRUNERS.items():
        results = [_run_study(_simulate_scores(cells, seed=seed), pruner=build_pruner()) for seed in range(N_STUDIES)]
        figures[f"pruners.{name}.share_of_folds"] = float(np.mean([share for share, _ in results]))
        figures[f"pruners.{name}.best_kept"] = float(np.mean([regret == 0 for _, regret in results]))
        figures[f"pruners.{name}.mean_regret"] = float(np.mean([regret for _, regret in results]))
    return figures


def _simulate_scores(cells: tuple[Cell, ...], *, seed: int) -> np.ndarray:
    """Return fold scores, shape (n_cells, 5)."""
    rng = np.random.default_rng(seed)
    quality = np.array([QUALITY[cell.learning_rate] for cell in cells]) + rng.normal(0, CELL_SPREAD, len(cells))
    folds = rng.normal(0, FOLD_SPREAD, 5)
    return np.clip(quality[:, None] + folds + rng.normal(0, NOISE, (len(cells), 5)), 0, 1)


def _run_study(scores: np.ndarray, *, pruner: optuna.pruners.BasePruner) -> tuple[float, float]:
    """Return the share of folds trained, and by how much the kept best falls short of the best of all."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    n_trained, best = 0, 0.0
    for row in scores:
        trial = study.ask()
        for fold, score in enumerate(row):
            n_trained += 1
            trial.report(float(score), step=fold)
            if fold + 1 < len(row) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(row.mean()))
            best = max(best, float(row.mean()))
    return n_trained / scores.size, float(scores.mean(axis=1).max()) - best
